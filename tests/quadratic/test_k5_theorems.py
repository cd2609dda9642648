"""K_5 and the theorems of docs/k5.md: the code against K_5^* itself on tiny networks, which
`optimum` finds by a barrier method on dense matrices in NumPy that proves its own accuracy."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import Between, Slope, segment, selection
from starts import averaged_start
from strategies import between_sample, pooled_networks, quick, slope_networks

import lipbounds as lb
from lipbounds.linear.operators import Dense
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import BetweenStage, SlopeStage

SEEDS = st.integers(0, 2**32 - 1)
INTERVALS = [(0.0, 1.0), (-1.0, 1.0), (0.25, 1.0), (-0.5, 1.5), (0.0, 0.25), (1.0, 2.5)]
RELU = [(0.0, 1.0)]


@dataclass(frozen=True)
class Form:
    """Q(theta) = base + sum_j theta_j (a_j a_j^T - b_j b_j^T), theta = (mu, lambda, nu), in the
    variables (x, y_1, ..., y_L, s), which begin at `starts`."""

    a: np.ndarray
    b: np.ndarray
    base: np.ndarray
    starts: np.ndarray

    def __call__(self, theta):
        weighted = theta[:, None]
        return self.base + self.a.T @ (weighted * self.a) - self.b.T @ (weighted * self.b)

    def block(self, k):
        return slice(self.starts[k], self.starts[k + 1])


def form_of(weights, pairs):
    sizes = [weights[0].shape[1], *(len(radius) for _, radius in pairs), len(weights[-1])]
    starts = np.cumsum([0, *sizes])
    square = (starts[-1], starts[-1])
    form = Form(np.eye(starts[-1]), np.zeros(square), np.zeros(square), starts)
    for k, ((center, radius), w) in enumerate(zip(pairs, weights, strict=False), start=1):
        form.a[form.block(k), form.block(k - 1)] = -center @ w
        form.b[form.block(k), form.block(k - 1)] = radius @ w
    last = len(pairs) + 1
    form.base[form.block(last), form.block(last - 1)] = -weights[-1]
    form.base[form.block(last - 1), form.block(last)] = -weights[-1].T
    return form


def pairs_of(stages):
    return [stage.pair for stage in stages]


def least(q):
    """The least eigenvalue of q over its norm, in coordinates that even out the rows."""
    scale = np.sqrt(abs(q).max(1))
    scale[scale == 0] = 1
    values = np.linalg.eigvalsh(q / scale / scale[:, None])
    return values[0] / abs(values).max()


def recursions(weights, pairs, v, w, modulus=np.abs, floor=0.0):
    """r_k >= sum |A_{k<-j}| r_j and q_j >= sum |A_{k<-j}|^T q_k, r_0 >= v, q_{L+1} >= w."""
    last = len(pairs) + 1
    steps = [(k, j) for k in range(1, last + 1) for j in range(k)]
    size = {step: modulus(segment(weights, pairs, *step)) for step in steps}

    def lifted(x):
        return (1 + floor) * x + floor

    r, q = [lifted(v)], {last: lifted(w)}
    for k in range(1, last + 1):
        r.append(lifted(sum(size[k, j] @ r[j] for j in range(k))))
    for j in range(last - 1, -1, -1):
        q[j] = lifted(sum(size[k, j].T @ q[k] for k in range(j + 1, last + 1)))
    return r, [q[j] for j in range(last + 1)]


def stacked(r, q):
    """(mu, lambda, nu) = (q_0 / r_0, q_k / r_k, r_{L+1} / q_{L+1})."""
    return np.concatenate([*(b / a for a, b in zip(r[:-1], q[:-1], strict=True)), r[-1] / q[-1]])


def derivatives(form, z):
    """Of -log det Q, z = Q^-1: gradient, and the Hessian by elementwise squares."""
    az, bz = form.a @ z, form.b @ z
    aa, ab, bb = az @ form.a.T, az @ form.b.T, bz @ form.b.T
    return bb.diagonal() - aa.diagonal(), aa**2 - ab**2 - ab.T**2 + bb**2


def optimum(form, cost, theta, groups, gap):
    """inf of cost . theta / 2 over Q >= 0, from a strictly feasible theta.

    groups (N, g) of 0 and 1: theta = groups @ eta, equal multipliers. Returns the value, theta and
    the primal point of the last Newton step; theirs differ by at most `gap`, relatively.
    """
    eta = np.linalg.lstsq(groups, theta, rcond=None)[0]
    cost, order = groups.T @ cost, len(theta)
    t = order / (cost @ eta)
    assert np.linalg.eigvalsh(form(groups @ eta))[0] > 0
    for _ in range(50):
        for _ in range(100):
            z = np.linalg.inv(form(groups @ eta))
            first, second = derivatives(form, z)
            gradient, hessian = t * cost + groups.T @ first, groups.T @ second @ groups
            step = -eta * np.linalg.solve(eta[:, None] * hessian * eta, eta * gradient)
            decrement = math.sqrt(max(-step @ gradient, 0.0))
            if decrement < 0.05:
                break
            eta = eta + step / (1 + decrement)
        if order / t < gap * (cost @ eta):
            change = form(groups @ step) - form.base
            return cost @ eta / 2, groups @ eta, (z - z @ change @ z) / t
        t *= 8
    raise AssertionError("the barrier method has not converged")


def boxes(weights, pairs, v, w, gap=1e-6):
    """K_5^*(v, w) for v, w > 0, with multipliers and primal point."""
    form = form_of(weights, pairs)
    start = stacked(*recursions(weights, pairs, v, w, floor=1e-2))
    cost = np.concatenate([v**2, np.zeros(len(start) - len(v) - len(w)), w**2])
    return optimum(form, cost, start, np.eye(len(start)), gap)


def balls(weights, pairs, gap=1e-6):
    """K_5^*(2), with multipliers and primal point."""
    form = form_of(weights, pairs)
    start = layered(form, *norm_recursions(weights, pairs, 1e-2))
    first, last = form.block(0), form.block(len(pairs) + 1)
    unit = np.eye(len(start))
    groups = np.c_[unit[first].sum(0), unit[:, first.stop : last.start], unit[last].sum(0)]
    return optimum(form, unit[0] + unit[-1], start, groups, gap)


def norm_recursions(weights, pairs, floor=0.0):
    return recursions(weights, pairs, np.ones(1), np.ones(1), spectral, floor)


def spectral(matrix):
    return np.full((1, 1), np.linalg.norm(matrix, 2))


def layered(form, r, q):
    return np.repeat(stacked(r, q), np.diff(form.starts))


def random_network(rng, sizes, intervals=INTERVALS):
    """Gaussian weights over sqrt(fan-in), each neuron with an interval of its own."""
    weights = [rng.standard_normal((m, n)) / math.sqrt(n) for n, m in itertools.pairwise(sizes)]
    picks = [[intervals[rng.integers(len(intervals))] for _ in range(m)] for m in sizes[1:-1]]
    return weights, [Slope(*np.array(stage).T) for stage in picks]


def pooled_network(rng):
    """A slope stage of 8, two levels of maxima over windows of 4, a slope stage of 3."""
    sizes = [(8, 3), (3, 2), (1, 3)]
    first, middle, last = (rng.standard_normal(shape) / math.sqrt(shape[1]) for shape in sizes)
    slopes = [Slope(*np.array([INTERVALS[i] for i in rng.integers(0, 6, m)]).T) for m in (8, 3)]
    tree = [halved(8), halved(4)]
    weights = [first, np.eye(8), np.eye(4), middle, last]
    return weights, [slopes[0], *tree, slopes[1]]


def halved(size):
    """Maxima of neighbours."""
    return Between(selection(np.arange(0, size, 2), size), selection(np.arange(1, size, 2), size))


def row(weights, i):
    return [*weights[:-1], weights[-1][i : i + 1]]


def vertices(weights, stages):
    return oracles.vertex_jacobians(weights, stages)


def box_maximum(weights, stages, v, w):
    """D*(v, w): the greatest s^T J x over vertices J, |x| <= v, |s| <= w."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(w)))) * w
    return (abs(signs @ vertices(weights, stages)) @ v).max()


def feasible_with(weights, pairs, theta, slack=1e-9):
    return least(form_of(weights, pairs)(theta)) >= -slack


def random_ends(rng, weights):
    sizes = weights[0].shape[1], len(weights[-1])
    return [rng.uniform(0.1, 2, n) * (rng.random(n) < 0.8) for n in sizes]


@quick
@given(slope_networks(), pooled_networks(), SEEDS)
def test_averaged_start_is_strictly_feasible(slopes, pools, seed):
    rng = np.random.default_rng(seed)
    for sample in (slopes, between_sample(pools)):
        v, w = random_ends(rng, sample.weights)
        v, w = (torch.from_numpy(x).unsqueeze(0) for x in (v, w))
        given = averaged_start(sample.network, v, w)
        theta = np.concatenate([m[0].numpy() for m in (given.input, *given.stages, given.output)])
        assert (theta > 0).all() and feasible_with(sample.weights, pairs_of(sample.stages), theta)


@pytest.mark.parametrize("seed", range(5))
def test_averaged_start_has_about_the_value_of_k_4(seed):
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [4, 6, 5, 3], RELU)
    v, w = rng.uniform(0, 1, (2, 4)), rng.uniform(0, 1, (2, 3))
    given = averaged_start(lb.from_weights(weights), torch.from_numpy(v), torch.from_numpy(w))
    for i in range(2):
        k_4 = w[i] @ oracles.f_4(weights, stages, v[i])
        assert given.input[i].numpy() @ v[i] ** 2 == pytest.approx(k_4, rel=1e-4)
        assert given.output[i].numpy() @ w[i] ** 2 == pytest.approx(k_4, rel=1e-4)


def best_norm(weights, stages, norm):
    return oracles.norms_of(vertices(weights, stages), norm).max()


# K_5 as the package computes it


def network_of(weights, stages):
    """The network of these matrices and slopes."""
    parts = [
        Affine(Dense(torch.from_numpy(np.array(w, dtype=float))), torch.zeros(len(w)).double())
        for w in weights
    ]
    return Network(tuple(parts), tuple(map(stage_of, stages)))


def stage_of(stage):
    if isinstance(stage, Between):
        first, second = (torch.from_numpy(m.argmax(1)) for m in (stage.p, stage.q))
        return BetweenStage(first, second, stage.p.shape[1])
    return SlopeStage.mixed(
        [
            lb.Activation(
                "linear pieces", lambda z, a=a, b=b: torch.where(z > 0, b * z, a * z), a, b
            )
            for a, b in zip(stage.alpha.tolist(), stage.beta.tolist(), strict=True)
        ]
    )


def program(weights, stages, norm):
    """K_5^*: the greatest of the programs of the rows or columns, or the one in l2."""
    if norm == 2:
        return balls(weights, pairs_of(stages))[0]
    if norm == 1:
        return max(
            boxes(
                [w[:, i : i + 1], *rest], pairs_of(stages), np.ones(1), np.ones(len(weights[-1]))
            )[0]
            for w, *rest in [weights]
            for i in range(w.shape[1])
        )
    ones = np.ones(weights[0].shape[1])
    return max(
        boxes(row(weights, i), pairs_of(stages), ones, np.ones(1))[0]
        for i in range(len(weights[-1]))
    )


def k_5(weights, stages, norm):
    return lb.bound(network_of(weights, stages), "K_5", norm).upper


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_reached(seed, norm):
    rng = np.random.default_rng(seed)
    weights, stages = pooled_network(rng) if seed % 2 else random_network(rng, [3, 4, 3, 2])
    exact = program(weights, stages, norm)
    value = k_5(weights, stages, norm)
    assert value == pytest.approx(exact, rel=1e-5)
    assert best_norm(weights, stages, norm) <= value


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_of_a_box_is_reached(seed):
    """sqrt(mu nu) of each output, radii that differ."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    v = rng.uniform(0.2, 2, 3)
    moved = lb.sensitivity(network_of(weights, stages), v, "K_5").numpy()
    for i, value in enumerate(moved):
        alone = row(weights, i)
        exact = boxes(alone, pairs_of(stages), v, np.ones(1))[0]
        assert value == pytest.approx(exact, rel=1e-5)
        assert box_maximum(alone, stages, v, np.ones(1)) <= value


@pytest.mark.parametrize("seed", range(4))
def test_the_order(seed):
    """D* <= K_5 <= min(K_1, K_4); K_5 in l-infinity <= sqrt n times that in l2, for one output."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    for norm in (1, 2, math.inf):
        value = k_5(weights, stages, norm)
        assert best_norm(weights, stages, norm) <= value
        for name in ("K_1", "K_4"):
            assert value <= oracles.bound(name, weights, stages, norm) * (1 + 1e-6)
    one = row(weights, 0)
    assert k_5(one, stages, math.inf) <= math.sqrt(3) * k_5(one, stages, 2) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_submultiplicative_in_l2(seed):
    """Proposition 6."""
    rng = np.random.default_rng(seed)
    (w_1, s_1), (w_2, s_2) = random_network(rng, [3, 4, 3]), random_network(rng, [3, 4, 2])
    joined = k_5([w_1[0], w_2[0] @ w_1[1], w_2[1]], s_1 + s_2, 2)
    assert joined <= k_5(w_1, s_1, 2) * k_5(w_2, s_2, 2) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_transposition(seed):
    """K_5 in l1 is that in l-infinity of the transposed network."""
    weights, stages = random_network(np.random.default_rng(seed), [3, 4, 3, 2])
    there = k_5([a.T for a in reversed(weights)], stages[::-1], math.inf)
    assert k_5(weights, stages, 1) == pytest.approx(there, rel=1e-5)


def test_the_programs_of_k_5_may_exceed_k_2():
    """Three unit vectors at 120 degrees: their optimum is 3 / (2 sqrt 2), K_2 = D*_2 = 1. K_5 tries
    K_2 before them."""
    angles = 2 * np.pi / 3 * np.arange(3)
    weights = [np.c_[np.cos(angles), np.sin(angles)], np.ones((1, 3))]
    network = network_of(weights, [Slope(np.zeros(3), np.ones(3))])
    wanted = {"lipsdp_neuron": 3 / (2 * math.sqrt(2)), "K_2": 1, "K_5": 1}
    for name, value in wanted.items():
        assert lb.bound(network, name, 2).upper == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("norm", [1, math.inf])
@pytest.mark.parametrize("seed", range(4))
def test_exact_where_signs_are_coherent(seed, norm):
    """Proposition 8: sigma' A sigma >= 0 makes K_4 = K_5^* = D*."""
    rng = np.random.default_rng(seed)
    sizes = [3, 3, 3, 2]
    weights = [rng.uniform(0.1, 1, (m, n)) for n, m in itertools.pairwise(sizes)]
    signs = [rng.choice([-1, 1], n) for n in sizes]
    weights = [t[:, None] * a * s for a, s, t in zip(weights, signs, signs[1:], strict=False)]
    stages = [Slope(*np.sort(rng.uniform(0, 1, (2, n)), 0)) for n in sizes[1:-1]]
    exact = best_norm(weights, stages, norm)
    assert exact <= k_5(weights, stages, norm) <= exact * (1 + 1e-5)
    assert lb.bound(network_of(weights, stages), "K_4", norm).upper == pytest.approx(exact)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_chains_of_width_one(norm):
    """Proposition 9 (c): D* = K_5 = K_4 = K_* for hidden stages of one neuron."""
    weights, stages = random_network(np.random.default_rng(3), [3, 1, 1, 1, 2])
    exact = best_norm(weights, stages, norm)
    for name in ("K_5", "K_4", "K_star"):
        value = lb.bound(network_of(weights, stages), name, norm).upper
        assert exact <= value <= exact * (1 + 1e-5), name


@pytest.mark.parametrize("seed", range(6))
def test_one_hidden_stage_is_within_pi_halves(seed):
    """Proposition 10: pi/2 in l2, sqrt(pi/2) with one output, K_G in l-inf."""
    weights, stages = random_network(np.random.default_rng(seed), [3, 6, 2])
    one = row(weights, 0)
    for matrices, norm, ratio in (
        (weights, 2, math.pi / 2), (one, 2, math.sqrt(math.pi / 2)), (one, math.inf, 1.783)
    ):  # fmt: skip
        exact = best_norm(matrices, stages, norm)
        assert exact <= k_5(matrices, stages, norm) <= ratio * exact


def test_the_constant_of_one_output_is_approached():
    """Unit vectors all around, slopes [-1, 1]: sqrt d Gamma(d/2) over ... = 1.1107 in the plane, by
    the programs, which K_5 undercuts where K_2 does."""
    angles = np.pi / 12 * np.arange(12)
    weights = [np.c_[np.cos(angles), np.sin(angles)], np.ones((1, 12))]
    stages = [Slope(-np.ones(12), np.ones(12))]
    network, exact = network_of(weights, stages), best_norm(weights, stages, 2)
    value = lb.bound(network, "lipsdp_neuron", 2).upper
    assert value == pytest.approx(12 / math.sqrt(2), rel=1e-5)
    assert value / exact == pytest.approx(math.pi / (2 * math.sqrt(2)), rel=1e-2)
    assert exact <= lb.bound(network, "K_5", 2).upper <= exact * (1 + 1e-6)


def tree(levels, first, last):
    """Maxima over windows of 2^levels, and their weights."""
    stages = [halved(2**k) for k in range(levels, 0, -1)]
    return [first, *(np.eye(2**k) for k in range(levels - 1, 0, -1)), last], stages


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_window_of_w_entries(levels):
    """Proposition 11: sqrt w in l-inf for the program, w for K_4, 1 for K_*; 1 in l2."""
    w = 2**levels
    weights, stages = tree(levels, np.eye(w), np.ones((1, 1)))
    values = {
        name: lb.bound(network_of(weights, stages), name, math.inf).upper
        for name in ("geolip", "K_4", "K_star", "K_5")
    }
    expected = {"geolip": math.sqrt(w), "K_4": w, "K_star": 1, "K_5": 1}
    assert values == pytest.approx(expected, rel=1e-5)
    assert k_5(weights, stages, 2) == pytest.approx(1, rel=1e-5)


def test_maxima_in_l1():
    """One level on a number is exact, two lose up to sqrt 2; K_4 up to 2."""
    weights, stages = tree(1, np.array([[2.0], [-3.0]]), np.ones((1, 1)))
    assert k_5(weights, stages, 1) == pytest.approx(3, rel=1e-5)
    weights, stages = tree(2, np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.ones((1, 1)))
    assert k_5(weights, stages, 1) == pytest.approx(math.sqrt(2), rel=1e-5)
    assert lb.bound(network_of(weights, stages), "K_4", 1).upper == pytest.approx(2)
    assert best_norm(weights, stages, 1) == pytest.approx(1)

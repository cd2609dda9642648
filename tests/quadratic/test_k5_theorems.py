"""The theorems of docs/k5.md on random tiny networks: dense N x N matrices in NumPy, none of the
package's engines. `optimum` is K_5^* itself, by a barrier method that proves its own accuracy."""

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


# Section 1: the program and its dual.


@pytest.mark.parametrize("seed", range(6))
def test_the_primal_of_vectors_proves_the_optimum(seed):
    """Theorem 1: X is feasible for the problem with numbers replaced by vectors, and as good."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    v, w = rng.uniform(0.2, 2, 3), rng.uniform(0.2, 2, 2)
    form = form_of(weights, pairs_of(stages))
    value, theta, x = boxes(weights, pairs_of(stages), v, w, gap=1e-5)
    assert np.linalg.eigvalsh(x)[0] >= -1e-12 * np.trace(x)
    squares = ((form.a @ x) * form.a).sum(1) - ((form.b @ x) * form.b).sum(1)
    ends = np.concatenate([v**2, np.zeros(len(theta) - 5), w**2])
    assert (squares <= ends + 1e-9 * np.trace(x)).all()
    primal = -(form.base * x).sum() / 2
    assert value * (1 - 1e-5) <= primal <= value
    assert np.linalg.eigvalsh(form(theta))[0] > 0
    assert box_maximum(weights, stages, v, w) <= value


@pytest.mark.parametrize("seed", range(6))
def test_scaling_and_the_eliminated_form(seed):
    """(c mu, c lambda, nu / c) keeps Q >= 0; b^T M^-1 b is the least nu."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 1])
    form = form_of(weights, pairs_of(stages))
    theta = stacked(*recursions(weights, pairs_of(stages), np.ones(3), np.ones(1), floor=0.1))
    for c in (1e-3, 40.0):
        scaled = np.concatenate([c * theta[:-1], theta[-1:] / c])
        assert np.linalg.eigvalsh(form(scaled))[0] > 0
    m, b = form(theta)[:-1, :-1], -form.base[:-1, -1]
    for factor, sign in ((1 + 1e-6, 1), (1 - 1e-6, -1)):
        theta[-1] = factor * (b @ np.linalg.solve(m, b))
        assert sign * np.linalg.slogdet(form(theta))[0] > 0


@pytest.mark.parametrize("pooled", [False, True])
def test_the_least_mu_of_a_column(pooled):
    """c^T M'^-1 c less what stage 1 adds to x_k^2."""
    rng = np.random.default_rng(4)
    weights, stages = pooled_network(rng) if pooled else random_network(rng, [3, 4, 3, 2])
    weights = [weights[0][:, :1], *weights[1:]]
    (center, radius), *_ = pairs = pairs_of(stages)
    form = form_of(weights, pairs)
    theta = stacked(*recursions(weights, pairs, np.ones(1), np.ones(len(weights[-1])), floor=0.1))
    q = form(theta)
    squares = (center @ weights[0])[:, 0] ** 2 - (radius @ weights[0])[:, 0] ** 2
    own = theta[form.block(1)] @ squares
    least_mu = q[0, 1:] @ np.linalg.solve(q[1:, 1:], q[1:, 0]) - own
    assert abs(own) > 1e-3 * least_mu
    for factor, sign in ((1 + 1e-6, 1), (1 - 1e-6, -1)):
        theta[0] = factor * least_mu
        assert sign * np.linalg.slogdet(form(theta))[0] > 0


# Section 2: elimination.


def sigmas(weights, pairs, theta, starts):
    """The recursion of section 2, or None where tau - R H R^T is not positive definite."""
    sigma = np.diag(1 / theta[: starts[1]])
    for k, ((c, r), w) in enumerate(zip(pairs, weights, strict=False), start=1):
        h, tau = w @ sigma @ w.T, np.diag(1 / theta[starts[k] : starts[k + 1]])
        p = tau - r @ h @ r.T
        if np.linalg.eigvalsh(p)[0] <= 0:
            return None
        sigma = tau + c @ (h + h @ r.T @ np.linalg.solve(p, r @ h)) @ c.T
    return sigma


@pytest.mark.parametrize("pooled", [False, True])
def test_the_recursion_is_the_schur_complement(pooled):
    """Proposition 2: both when Q's part in (x, y) is positive definite and what its inverse is."""
    rng, seen = np.random.default_rng(5), set()
    for _ in range(40):
        weights, stages = pooled_network(rng) if pooled else random_network(rng, [3, 4, 3, 2, 2])
        pairs = pairs_of(stages)
        form = form_of(weights, pairs)
        ends = np.ones(weights[0].shape[1]), np.ones(len(weights[-1]))
        theta = stacked(*recursions(weights, pairs, *ends, floor=0.1))
        theta *= rng.uniform(0.1, 1, len(theta))
        last = form.starts[-2]
        m = form(theta)[:last, :last]
        sigma = sigmas(weights, pairs, theta, form.starts)
        positive = bool(np.linalg.eigvalsh(m)[0] > 0)
        assert positive == (sigma is not None)
        seen.add(positive)
        if positive:
            block = slice(form.starts[-3], last)
            np.testing.assert_allclose(np.linalg.inv(m)[block, block], sigma, rtol=1e-8, atol=1e-9)
    assert seen == {True, False}


def test_one_sided_slopes_and_linear_neurons_in_the_recursion():
    """C = R: Sigma = tau P^-1 tau; R_j = 0: Sigma is what it is at tau_j = 0, plus tau_j."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4))
    h, r = root @ root.T, np.diag(rng.uniform(0.1, 1, 4))
    tau = np.diag(1.1 * abs(r @ h @ r).sum(1))
    p = tau - r @ h @ r
    for c in (r, -r):
        sigma = tau + c @ (h + h @ r @ np.linalg.solve(p, r @ h)) @ c
        np.testing.assert_allclose(sigma, tau @ np.linalg.solve(p, tau), rtol=1e-10)
    weights, stages = (
        [root, rng.standard_normal((1, 4))],
        [Slope(*np.array([[0.5] * 4, [0.5] * 4]))],
    )
    linear = np.array([*np.ones(4), *np.full(4, 1e9), 1])
    sigma = sigmas(weights, pairs_of(stages), linear, [0, 4, 8])
    np.testing.assert_allclose(sigma, h / 4, rtol=1e-6, atol=1e-6)


# Section 3: order.


def feasible_with(weights, pairs, theta, slack=1e-9):
    return least(form_of(weights, pairs)(theta)) >= -slack


def random_ends(rng, weights):
    sizes = weights[0].shape[1], len(weights[-1])
    return [rng.uniform(0.1, 2, n) * (rng.random(n) < 0.8) for n in sizes]


@quick
@given(slope_networks(), pooled_networks(), SEEDS)
def test_super_solutions_are_feasible(slopes, pools, seed):
    """Theorem 3, zeros in v, w, weights and slopes included."""
    rng = np.random.default_rng(seed)
    for sample in (slopes, between_sample(pools)):
        pairs = pairs_of(sample.stages)
        v, w = random_ends(rng, sample.weights)
        for floor in (1e-6, 1e-2):
            theta = stacked(*recursions(sample.weights, pairs, v, w, floor=floor))
            assert feasible_with(sample.weights, pairs, theta, 1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_the_multipliers_of_k_4_have_its_value(seed):
    """Corollary 4, with equalities instead of floors."""
    rng = np.random.default_rng(seed)
    weights, stages = pooled_network(rng) if seed % 2 else random_network(rng, [3, 5, 4, 2])
    v, w = rng.uniform(0.1, 2, weights[0].shape[1]), rng.uniform(0.1, 2, len(weights[-1]))
    theta = stacked(*recursions(weights, pairs_of(stages), v, w))
    k_4 = w @ oracles.f_4(weights, stages, v)
    assert theta[: len(v)] @ v**2 == pytest.approx(k_4, rel=1e-12)
    assert theta[-len(w) :] @ w**2 == pytest.approx(k_4, rel=1e-12)
    assert feasible_with(weights, pairs_of(stages), theta, 1e-12)
    value, _, _ = boxes(weights, pairs_of(stages), v, w)
    assert value <= k_4 * (1 + 1e-6)


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


@quick
@given(slope_networks(), pooled_networks())
def test_the_multipliers_of_k_1_in_l2(slopes, pools):
    """Proposition 5 (a): one multiplier per stage."""
    for sample in (slopes, between_sample(pools)):
        pairs = pairs_of(sample.stages)
        k_1 = oracles.k_1(sample.weights, sample.stages, 2)
        r, q = norm_recursions(sample.weights, pairs, 1e-9)
        theta = layered(form_of(sample.weights, pairs), r, q)
        assert math.sqrt(theta[0] * theta[-1]) >= k_1 * (1 - 1e-12)
        r, q = norm_recursions(sample.weights, pairs)
        if min(*r, *q) > 0:
            theta = layered(form_of(sample.weights, pairs), r, q)
            assert math.sqrt(theta[0] * theta[-1]) == pytest.approx(k_1, rel=1e-9)
        assert feasible_with(sample.weights, pairs, theta)


@pytest.mark.parametrize("seed", range(10))
def test_perron_vectors_give_k_4_in_l2(seed):
    """Proposition 5 (b): mu and nu are multiples of the identity."""
    rng = np.random.default_rng(seed)
    weights, stages = pooled_network(rng) if seed % 2 else random_network(rng, [3, 5, 4, 2])
    eye = np.eye(weights[0].shape[1])
    matrix = np.array([oracles.f_4(weights, stages, e) for e in eye]).T
    u, sizes, vt = np.linalg.svd(matrix)
    theta = stacked(*recursions(weights, pairs_of(stages), abs(vt[0]), abs(u[:, 0])))
    n, m = len(eye), len(matrix)
    np.testing.assert_allclose([*theta[:n], *theta[-m:]], sizes[0], rtol=1e-9)
    assert feasible_with(weights, pairs_of(stages), theta)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_in_l2(seed):
    """D* <= K_5^* <= min(K_1, K_4, K_*); K_5^*(inf) <= sqrt n K_5^*(2) row by row."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    pairs = pairs_of(stages)
    value, theta, _ = balls(weights, pairs)
    assert best_norm(weights, stages, 2) <= value
    for name in ("K_1", "K_4"):
        assert value <= oracles.bound(name, weights, stages, 2) * (1 + 1e-6)
    in_l2 = balls(row(weights, 0), pairs)[0]
    in_linf = boxes(row(weights, 0), pairs, np.ones(3), np.ones(1))[0]
    assert in_linf <= math.sqrt(3) * in_l2 * (1 + 1e-6)
    uniform = [Slope(np.zeros(n), np.ones(n)) for n in (4, 3)]
    relu = balls(weights, pairs_of(uniform))[0]
    assert relu <= oracles.k_star(weights, uniform, 2) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_submultiplicative_in_l2(seed):
    """Proposition 6, by its multipliers and by its values."""
    rng = np.random.default_rng(seed)
    (w_1, s_1), (w_2, s_2) = random_network(rng, [3, 4, 3]), random_network(rng, [3, 4, 2])
    (k_1, t_1, _), (k_2, t_2, _) = (balls(w, pairs_of(s)) for w, s in ((w_1, s_1), (w_2, s_2)))
    joined = [w_1[0], w_2[0] @ w_1[1], w_2[1]]
    pairs = pairs_of(s_1 + s_2)
    (mu_1, nu_1), (mu_2, nu_2) = ((t[0], t[-1]) for t in (t_1, t_2))
    hidden = [mu_2 * nu_2 * nu_1 * t_1[3:7], nu_2 * t_2[3:7]]
    theta = np.concatenate([np.full(3, mu_1 * nu_1 * mu_2 * nu_2), *hidden, np.ones(2)])
    assert feasible_with(joined, pairs, theta)
    assert balls(joined, pairs)[0] <= k_1 * k_2 * (1 + 1e-6)


def best_norm(weights, stages, norm):
    return oracles.norms_of(vertices(weights, stages), norm).max()


def test_k_5_may_exceed_k_2():
    """Three unit vectors at 120 degrees: K_5^*(2) = 3 / (2 sqrt 2), K_2 = D*_2 = 1."""
    angles = 2 * np.pi / 3 * np.arange(3)
    weights = [np.c_[np.cos(angles), np.sin(angles)], np.ones((1, 3))]
    stages = [Slope(np.zeros(3), np.ones(3))]
    assert best_norm(weights, stages, 2) == pytest.approx(1)
    lam = math.sqrt(8)
    theta = np.array([3 / 8 * lam] * 2 + [lam] * 3 + [3 / lam])
    assert feasible_with(weights, pairs_of(stages), theta, 1e-12)
    exact = 3 / (2 * math.sqrt(2))
    assert math.sqrt(theta[0] * theta[-1]) == pytest.approx(exact, rel=1e-12)
    assert balls(weights, pairs_of(stages))[0] == pytest.approx(exact, rel=1e-5)


# Section 4: exactness, and what one hidden stage can lose.


@pytest.mark.parametrize("seed", range(8))
def test_exact_where_signs_are_coherent(seed):
    """Proposition 8: sigma' A sigma >= 0 makes K_4 = K_5^* = D*; no smaller nu is feasible."""
    rng = np.random.default_rng(seed)
    sizes = [3, 3, 3, 2]
    weights = [rng.uniform(0.1, 1, (m, n)) for n, m in itertools.pairwise(sizes)]
    signs = [rng.choice([-1, 1], n) for n in sizes]
    weights = [t[:, None] * a * s for a, s, t in zip(weights, signs, signs[1:], strict=False)]
    stages = [Slope(*np.sort(rng.uniform(0, 1, (2, n)), 0)) for n in sizes[1:-1]]
    v, w = rng.uniform(0.2, 1, 3), rng.uniform(0.2, 1, 2)
    k_4 = w @ oracles.f_4(weights, stages, v)
    assert box_maximum(weights, stages, v, w) == pytest.approx(k_4, rel=1e-12)
    theta = stacked(*recursions(weights, pairs_of(stages), v, w))
    assert feasible_with(weights, pairs_of(stages), theta, 1e-12)
    theta[-2:] *= 0.999
    assert not feasible_with(weights, pairs_of(stages), theta, 1e-6)


def test_k_4_is_the_optimum_only_where_signs_are_coherent():
    """Proposition 8, the other direction, by trying all signs."""
    rng, seen = np.random.default_rng(0), []
    for _ in range(60):
        weights = [rng.choice([-1.0, 0.0, 1.0], (3, 2)), rng.choice([-1.0, 1.0], (1, 3))]
        stages = [Slope(*np.array([INTERVALS[i] for i in rng.integers(0, 6, 3)]).T)]
        pairs = pairs_of(stages)
        a_10, a_20, a_21 = (segment(weights, pairs, *kj) for kj in ((1, 0), (2, 0), (2, 1)))
        # Signs x of the inputs, and each neuron's row its own; its column's sign is that of a_21.
        assert (a_21 != 0).all()
        rows = (np.concatenate([a_10, a_20]) * x for x in itertools.product([-1, 1], repeat=2))
        seen.append(any((abs(a.sum(1)) == abs(a).sum(1)).all() for a in rows))
        k_4 = oracles.f_4(weights, stages, np.ones(2))[0]
        exact = box_maximum(weights, stages, np.ones(2), np.ones(1))
        assert (exact >= k_4 * (1 - 1e-12)) == seen[-1]
    assert 10 < sum(seen) < 55


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_chains_of_width_one(norm):
    """Proposition 9 (c): D* = K_4 = K_* for hidden stages of one neuron."""
    rng = np.random.default_rng(3)
    weights, stages = random_network(rng, [3, 1, 1, 1, 2])
    exact = best_norm(weights, stages, norm)
    assert oracles.bound("K_4", weights, stages, norm) == pytest.approx(exact, rel=1e-12)
    assert oracles.k_star(weights, stages, norm) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_one_hidden_stage_is_within_pi_halves(seed):
    """Proposition 10: pi/2 in l2, sqrt(pi/2) with one output, K_G in l-inf."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 6, 2])
    pairs = pairs_of(stages)
    assert balls(weights, pairs)[0] <= math.pi / 2 * best_norm(weights, stages, 2)
    one = row(weights, 0)
    assert balls(one, pairs)[0] <= math.sqrt(math.pi / 2) * best_norm(one, stages, 2)
    value = boxes(one, pairs, np.ones(3), np.ones(1))[0]
    assert value <= 1.783 * best_norm(one, stages, math.inf)


def test_the_constant_of_one_output_is_approached():
    """Unit vectors all around, slopes [-1, 1]: sqrt d Gamma(d/2) over ... = 1.1107 in the plane."""
    angles = np.pi / 12 * np.arange(12)
    weights = [np.c_[np.cos(angles), np.sin(angles)], np.ones((1, 12))]
    stages = [Slope(-np.ones(12), np.ones(12))]
    value = balls(weights, pairs_of(stages))[0]
    assert value == pytest.approx(12 / math.sqrt(2), rel=1e-5)
    ratio = value / best_norm(weights, stages, 2)
    assert ratio == pytest.approx(math.pi / (2 * math.sqrt(2)), rel=1e-2)


# Section 5: max-pooling.


def tree(levels, first, last):
    """Maxima over windows of 2^levels, and their weights."""
    stages = [halved(2**k) for k in range(levels, 0, -1)]
    return [first, *(np.eye(2**k) for k in range(levels - 1, 0, -1)), last], stages


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_window_of_w_entries(levels):
    """Proposition 11: sqrt w in l-inf, 1 in l2; with (x + x' - y)^2 as the proof."""
    w = 2**levels
    weights, stages = tree(levels, np.eye(w), np.ones((1, 1)))
    pairs = pairs_of(stages)
    hidden = np.full(w - 1, 2 / math.sqrt(w))
    theta = np.concatenate([np.full(w, 1 / math.sqrt(w)), hidden, [math.sqrt(w)]])
    assert feasible_with(weights, pairs, theta, 1e-12)
    assert theta[:w].sum() == pytest.approx(math.sqrt(w)) == theta[-1]
    in_l2 = np.concatenate([np.ones(w), np.full(w - 1, 2.0), [1.0]])
    assert feasible_with(weights, pairs, in_l2, 1e-12)
    assert boxes(weights, pairs, np.ones(w), np.ones(1))[0] == pytest.approx(math.sqrt(w), rel=1e-5)
    assert balls(weights, pairs)[0] == pytest.approx(1, rel=1e-5)
    assert oracles.f_4(weights, stages, np.ones(w))[0] == pytest.approx(w)


def test_maxima_in_l1():
    """One level on a number is exact, two lose up to sqrt 2; K_4 up to 2."""
    one, stages = tree(1, np.array([[2.0], [-3.0]]), np.ones((1, 1)))
    assert boxes(one, pairs_of(stages), np.ones(1), np.ones(1))[0] == pytest.approx(3, rel=1e-5)
    two, stages = tree(2, np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.ones((1, 1)))
    value = boxes(two, pairs_of(stages), np.ones(1), np.ones(1))[0]
    assert value == pytest.approx(math.sqrt(2), rel=1e-5)
    assert oracles.f_4(two, stages, np.ones(1))[0] == pytest.approx(2)
    assert best_norm(two, stages, 1) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(8))
def test_reach_constraints_give_k_4_implicit(seed):
    """Proposition 12: valid, and as good as the implicit treatment."""
    rng = np.random.default_rng(seed)
    weights, stages = pooled_network(rng)
    pool = oracles.Pool(np.kron(np.eye(2), np.ones((1, 4))))
    whole, whole_stages = [weights[0], np.eye(8), *weights[3:]], [stages[0], pool, stages[3]]
    v, form = rng.uniform(0.2, 1, 3), form_of(weights, pairs_of(stages))
    implicit = oracles.f_4(whole, whole_stages, v)[0]
    rho = pool.pool(oracles.f_4([weights[0], np.eye(8)], [stages[0]], v))
    after = stacked(*recursions(weights[3:], pairs_of(stages[3:]), rho, np.ones(1)))
    kappa, root = after[:2], form.block(3)
    theta = np.concatenate([np.zeros(form.starts[4]), after[2:]])
    q = form(theta)
    q[root, root] += np.diag(kappa)
    assert least(q) >= -1e-12
    assert (kappa @ rho**2 + theta[-1]) / 2 == pytest.approx(implicit, rel=1e-9)
    # The mean of these and of K_4's own, explicit, is feasible, and a bound as well.
    own = stacked(*recursions(weights, pairs_of(stages), v, np.ones(1)))
    mixed = form((theta + own) / 2)
    mixed[root, root] += np.diag(kappa) / 2
    assert least(mixed) >= -1e-12
    bound = (own[:3] @ v**2 + kappa @ rho**2 + own[-1] + theta[-1]) / 4
    for _ in range(200):
        inner, outer = (np.diag(rng.uniform(stages[i].alpha, stages[i].beta)) for i in (0, 3))
        picks = np.kron(np.eye(2), np.ones((1, 4))) * rng.dirichlet(np.full(8, 0.1), 2)
        picks /= picks.sum(1, keepdims=True)
        y = picks @ inner @ weights[0]
        assert (abs(y) @ v <= rho * (1 + 1e-12)).all()
        assert (abs(weights[4] @ outer @ weights[3] @ y) @ v)[0] <= bound * (1 + 1e-12)


def test_windows_are_eliminated_one_by_one():
    """Section 5: without the windows' inner variables Q is block tridiagonal in the others, and
    each window adds to one diagonal entry of its root only."""
    rng = np.random.default_rng(0)
    weights, stages = pooled_network(rng)
    form = form_of(weights, pairs_of(stages))
    theta = stacked(*recursions(weights, pairs_of(stages), np.ones(3), np.ones(1), floor=0.1))
    q = form(theta)
    inner = np.arange(3, 15)  # y_1 and y_2; window 0 has the first half of each
    window = np.array([0] * 4 + [1] * 4 + [0] * 2 + [1] * 2)
    assert not q[np.ix_(inner, inner)][window[:, None] != window].any()
    outer = np.setdiff1d(np.arange(len(q)), inner)
    fill = q[np.ix_(outer, inner)] @ np.linalg.solve(
        q[np.ix_(inner, inner)], q[np.ix_(inner, outer)]
    )
    x, roots, rest = slice(0, 3), slice(3, 5), slice(5, None)
    assert fill[roots, roots][0, 1] == pytest.approx(0, abs=1e-12)
    assert not fill[rest].any()
    assert abs(fill[x, x]).min() > 0 and abs(fill[roots, x]).min() > 0
    inverse = np.linalg.inv(q)[np.ix_(outer, outer)]
    np.testing.assert_allclose(np.linalg.inv(q[np.ix_(outer, outer)] - fill), inverse, rtol=1e-8)


def test_carried_maxima_have_the_same_form():
    """Q of max(a, b) = b + ReLU(a - b), b carried exactly, is Q of the between stage."""
    rng = np.random.default_rng(1)
    first, last = rng.standard_normal((4, 3)), rng.standard_normal((2, 2))
    stage = halved(4)
    between = form_of([first, last], [stage.pair])
    split = np.r_[stage.p - stage.q, stage.q] @ first
    slopes = Slope(np.array([0.0, 0, 1, 1]), np.ones(4))
    carried = form_of([split, np.c_[last, last]], [slopes.pair])
    mu, lam, nu = rng.exponential(size=3), rng.exponential(size=2), rng.exponential(size=2)
    q = carried(np.concatenate([mu, lam, rng.exponential(size=2), nu]))
    # (x, y, s) -> (x, y - Q z, Q z, s)
    into = np.zeros((9, 7))
    into[:3, :3], into[7:, 5:], into[3:5, 3:5] = np.eye(3), np.eye(2), np.eye(2)
    into[5:7, :3] = stage.q @ first
    into[3:5, :3] = -stage.q @ first
    np.testing.assert_allclose(
        into.T @ q @ into, between(np.concatenate([mu, lam, nu])), rtol=1e-12, atol=1e-12
    )


# Section 6: invariances.


@pytest.mark.parametrize("seed", range(4))
def test_rescaling_and_permuting_neurons(seed):
    """sigma(t) -> e sigma(t / d), W -> d W before and W / e after: Q is congruent."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    form, d = form_of(weights, pairs_of(stages)), rng.choice([-1, 1], 4) * rng.uniform(0.1, 9, 4)
    e, order = d * rng.uniform(0.1, 9, 4), rng.permutation(4)
    ends = np.sort([e / d * stages[0].alpha, e / d * stages[0].beta], 0)
    scaled = [(d[:, None] * weights[0])[order], (weights[1] / e)[:, order], weights[2]]
    other = form_of(scaled, pairs_of([Slope(*ends[:, order]), stages[1]]))
    theta = rng.exponential(size=12)
    moved, change = theta.copy(), np.eye(12)
    moved[3:7] = (theta[3:7] / e**2)[order]
    change[3:7, 3:7] = np.diag(e)[order]
    np.testing.assert_allclose(change.T @ other(moved) @ change, form(theta), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_transposition(seed):
    """lambda -> 1 / (lambda R^2), mu and nu exchanged: one form is >= 0 where the other is."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 1])
    form = form_of(weights, pairs_of(stages))
    other = form_of([a.T for a in reversed(weights)], pairs_of(stages[::-1]))
    theta = stacked(*recursions(weights, pairs_of(stages), np.ones(3), np.ones(1), floor=0.1))
    m, b = form(theta)[:-1, :-1], -form.base[:-1, -1]
    least_nu = b @ np.linalg.solve(m, b)
    radii = [np.diag(r) for _, r in pairs_of(stages)]
    hidden = [theta[3:7], theta[7:10]]
    flipped = [1 / (h * r**2) for h, r in zip(hidden, radii, strict=True)][::-1]
    for factor, expected in ((1 + 1e-6, True), (1 - 1e-6, False)):
        transposed = np.concatenate([[factor * least_nu], *flipped, theta[:3]])
        assert bool(np.linalg.eigvalsh(other(transposed))[0] > 0) is expected
    here = boxes(weights, pairs_of(stages), np.ones(3), np.ones(1))[0]
    there = boxes([a.T for a in reversed(weights)], pairs_of(stages[::-1]), np.ones(1), np.ones(3))[
        0
    ]
    assert here == pytest.approx(there, rel=2e-6)


# Section 7: the barrier.


@pytest.mark.parametrize("pooled", [False, True])
def test_positive_multipliers_are_implied(pooled):
    """Proposition 15: Q > 0 has no multiplier <= 0, whatever the slopes."""
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        weights, stages = pooled_network(rng) if pooled else random_network(rng, [2, 2, 2, 1])
        pairs = pairs_of(stages)
        ends = np.ones(weights[0].shape[1]), np.ones(1)
        theta = stacked(*recursions(weights, pairs, *ends, floor=0.1))
        theta *= np.where(rng.random(len(theta)) < 0.1, rng.uniform(-0.2, 1), rng.uniform(0.9, 1.1))
        positive = bool(np.linalg.eigvalsh(form_of(weights, pairs)(theta))[0] > 0)
        assert (theta > 0).all() or not positive
        seen.add((positive, bool((theta > 0).all())))
    assert {(True, True), (False, False)} <= seen


@pytest.mark.parametrize("pooled", [False, True])
def test_derivatives_by_finite_differences(pooled):
    """Proposition 16, and those of b^T M^-1 b."""
    rng = np.random.default_rng(2)
    weights, stages = pooled_network(rng) if pooled else random_network(rng, [3, 4, 3, 1])
    form = form_of(weights, pairs_of(stages))
    ends = np.ones(weights[0].shape[1]), np.ones(1)
    theta = stacked(*recursions(weights, pairs_of(stages), *ends, floor=0.3))

    def log_det(t):
        sign, value = np.linalg.slogdet(form(t))
        assert sign > 0
        return -value

    def nu(t):
        m, b = form(t)[:-1, :-1], -form.base[:-1, -1]
        return b @ np.linalg.solve(m, b)

    gradient, hessian = derivatives(form, np.linalg.inv(form(theta)))
    check_derivatives(log_det, theta, gradient, hessian)
    m, b = form(theta)[:-1, :-1], -form.base[:-1, -1]
    w = np.linalg.solve(m, b)
    a, r = form.a[:, :-1], form.b[:, :-1]
    rows = (a @ w)[:, None] * a - (r @ w)[:, None] * r  # M_i w
    check_derivatives(
        nu, theta, (r @ w) ** 2 - (a @ w) ** 2, 2 * rows @ np.linalg.solve(m, rows.T), skip=1
    )


def check_derivatives(function, theta, gradient, hessian, skip=0):
    steps = 1e-3 * np.diag(theta)
    count = len(theta) - skip  # nu is none of the arguments of b^T M^-1 b
    first = np.array([function(theta + s / 50) - function(theta - s / 50) for s in steps])
    np.testing.assert_allclose(
        first[:count] / (2e-3 / 50), (theta * gradient)[:count], rtol=1e-5, atol=1e-6
    )
    for s, t in itertools.product(range(count), repeat=2):
        corners = [
            function(theta + x * steps[s] + y * steps[t])
            for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1))
        ]
        second = (corners[0] - corners[1] - corners[2] + corners[3]) / 4e-6
        assert second == pytest.approx(theta[s] * theta[t] * hessian[s, t], rel=1e-3, abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_any_newton_step_of_decrement_below_one_proves_a_gap(seed):
    """Proposition 17: X = (Z - Z dQ Z) / t is primal feasible, and the gap is as computed."""
    rng = np.random.default_rng(seed)
    weights, stages = random_network(rng, [3, 4, 3, 2])
    form = form_of(weights, pairs_of(stages))
    v, w = np.ones(3), np.ones(2)
    theta = stacked(*recursions(weights, pairs_of(stages), v, w, floor=0.1))
    cost = np.concatenate([v**2, np.zeros(7), w**2])
    t, seen = 2.0, 0
    for _ in range(40):
        z = np.linalg.inv(form(theta))
        gradient, hessian = derivatives(form, z)
        step = np.linalg.solve(hessian, -(t * cost + gradient))
        change = form(step) - form.base
        decrement = math.sqrt(step @ hessian @ step)
        assert decrement**2 == pytest.approx(np.trace(z @ change @ z @ change), rel=1e-6)
        if decrement < 1:
            seen += 1
            x = (z - z @ change @ z) / t
            assert np.linalg.eigvalsh(x)[0] > 0
            squares = ((form.a @ x) * form.a).sum(1) - ((form.b @ x) * form.b).sum(1)
            np.testing.assert_allclose(squares, cost, atol=1e-7 * np.trace(x))
            gap = cost @ theta + (form.base * x).sum()
            assert gap == pytest.approx((len(z) - np.trace(z @ change)) / t, rel=1e-6)
            assert 0 <= gap <= (len(z) + math.sqrt(len(z)) * decrement) / t * (1 + 1e-9)
        theta = theta + step / (1 + decrement)
    assert seen > 5

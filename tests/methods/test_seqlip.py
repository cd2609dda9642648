"""K_2 and its branch and bound against brute force over all vertices."""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from oracles import Pool, Slope, affine_of, pool_of
from strategies import slope_sample
from torch import nn

import lipbounds as lb
from lipbounds.linear.operators import Identity
from lipbounds.methods.maximum import vertex_maximum
from lipbounds.methods.seqlip import _power_lower
from lipbounds.networks.activations import leaky_relu
from lipbounds.networks.stages import SlopeStage


def all_signs(n):
    return np.array(list(itertools.product([-1.0, 1.0], repeat=n)))


def brute_maximum(x, a, y):
    return max(np.linalg.norm(x + (a * t) @ y, 2) for t in all_signs(a.shape[1]))


def halves(w):
    """U Sigma^{1/2} and Sigma^{1/2} V^T, by NumPy's SVD."""
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    return u * np.sqrt(s), np.sqrt(s)[:, None] * vt


def brute_k2(weights, stages):
    """The product over stages of the maximum over vertices; a pool splits it into chains."""
    pool = [isinstance(stage, Pool) for stage in stages]
    value, depth = 1.0, len(stages)
    for k, stage in enumerate(stages, start=1):
        if pool[k - 1]:
            value *= stage.factor(2)
            continue
        starts, ends = k == 1 or pool[k - 2], k == depth or pool[k]
        b = weights[k - 1] if starts else halves(weights[k - 1])[0]
        a = weights[k] if ends else halves(weights[k])[1]
        c, r = stage.pair
        value *= brute_maximum(a @ c @ b, a, r @ b)
    for i, w in enumerate(weights):
        if (i == 0 or pool[i - 1]) and (i == depth or pool[i]):
            value *= np.linalg.norm(w, 2)
    return value


@pytest.mark.parametrize("p, n, q", [(1, 1, 1), (3, 6, 2), (2, 8, 5), (7, 7, 7)])
@pytest.mark.parametrize("budget", [0, 2e4, 1e9])
def test_maximum_is_bracketed(p, n, q, budget):
    generator = torch.Generator().manual_seed(p * n)
    x, a, y = (
        torch.randn(5, *shape, generator=generator, dtype=torch.float64)
        for shape in ((p, q), (p, n), (n, q))
    )
    bracket = vertex_maximum(x, a, y, torch.full((5,), math.inf).double(), budget)
    for i in range(5):
        exact = brute_maximum(x[i].numpy(), a[i].numpy(), y[i].numpy())
        assert bracket.lower[i] <= exact * (1 + 1e-12)
        assert bracket.upper[i] >= exact
        assert bracket.upper[i] <= 3 * exact
        if budget == 1e9:
            assert bracket.upper[i] <= exact * (1 + 1e-9)
            assert bracket.lower[i] >= exact * (1 - 1e-9)


def exact_square(weights, slopes):
    """(max over T of || W_1 T W_0 ||)^2 of a network with one output, in rational arithmetic."""
    w0, (w1,) = ([[Fraction(x) for x in row] for row in w.tolist()] for w in weights)
    return max(
        sum(
            sum(a * t * b for a, t, b in zip(w1, ts, column, strict=True)) ** 2
            for column in zip(*w0, strict=True)
        )
        for ts in itertools.product(map(Fraction, slopes), repeat=len(w1))
    )


@pytest.mark.parametrize("seed", range(30))
def test_weights_that_cancel_do_not_lose_the_bound(seed):
    """W_1 all but orthogonal to the columns of W_0, slopes equal or nearly so."""
    rng = np.random.default_rng(seed)
    n, q = rng.integers(2, 5), rng.integers(1, 7)
    rank = min(n - 1, q)
    w0, w1 = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, q)), rng.normal(size=(1, n))
    basis = np.linalg.qr(w0)[0][:, :rank]
    weights = [w0, w1 - (w1 @ basis) @ basis.T]
    for slope in (1.0, 1 - 10.0 ** -rng.integers(4, 16)):
        network = lb.from_weights(weights, activation=leaky_relu(slope))
        result, square = lb.bound(network, "K_2", 2), exact_square(weights, (slope, 1.0))
        assert Fraction(float(result.lower)) ** 2 <= square <= Fraction(float(result.upper)) ** 2
        size = np.linalg.norm(weights[0]) * np.linalg.norm(weights[1])
        assert result.upper - result.lower <= 1e-10 * result.upper + 1e-12 * size


def precise_norm(matrix):
    """The spectral norm to 50 digits."""
    return max(mpmath.svd_r(matrix, compute_uv=False))


def precise_halves(weight):
    u, s, v = mpmath.svd_r(weight, full_matrices=False)
    root = mpmath.diag([mpmath.sqrt(x) for x in s])
    return u * root, root * v


def precise_k2(weights, slopes):
    """The product over stages of the maximum over the vertices, to 50 digits."""
    weights = [mpmath.matrix(w.tolist()) for w in weights]
    halves = [precise_halves(w) for w in weights[1:-1]]
    right = [weights[0], *(half[0] for half in halves)]
    left = [*(half[1] for half in halves), weights[-1]]
    if len(weights) == 1:
        return precise_norm(weights[0])
    return mpmath.fprod(
        max(
            precise_norm(a * mpmath.diag(vertex) * b)
            for vertex in itertools.product(map(mpmath.mpf, slopes), repeat=b.rows)
        )
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("sizes", [(3, 2), (3, 4), (2, 3, 2), (5, 3, 4), (3, 4, 3, 2)])
@pytest.mark.parametrize("slope", [0.0, 1 - 2.0**-40, 1.0])
def test_both_ends_against_fifty_digits(sizes, slope):
    rng = np.random.default_rng(len(sizes))
    weights = [rng.normal(size=(m, n)) for n, m in itertools.pairwise(sizes)]
    network = lb.from_weights(weights, activation=leaky_relu(slope))
    result = lb.bound(network, "K_2", 2)
    with mpmath.workdps(50):
        exact = precise_k2(weights, (slope, 1.0))
        assert result.lower <= exact <= result.upper
        assert result.upper - result.lower <= exact * mpmath.mpf(1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_lower_end_beside_an_identity(seed):
    """|| (C + T R) B || of a single column B: its square is rational, at every vertex."""
    rng = np.random.default_rng(seed)
    column = rng.normal(size=(int(rng.integers(1, 4000)), 1)) * 10.0 ** rng.integers(-3, 4)
    slopes = sorted(rng.uniform(-1, 2, size=2)) if seed % 3 else [0.7, 0.7]
    stage = SlopeStage.uniform(prelu_between(*slopes), len(column))
    right = torch.from_numpy(column)
    steepest = max(map(Fraction, slopes), key=abs)
    exact = sum(Fraction(x) ** 2 for x in column[:, 0].tolist()) * steepest**2
    for found in (
        _power_lower(Identity(len(column)), stage, right),
        _power_lower(right.mT.contiguous(), stage, Identity(len(column))),
    ):
        assert Fraction(1 - 1e-8) * exact <= Fraction(float(found)) ** 2 <= exact


@pytest.mark.parametrize("condition", [1e4, 1e6, 1e8, 1e10, 1e12])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_in_the_middle_may_be_ill_conditioned(condition, seed):
    """Singular vectors taken from W W^T are off by far more than rounding."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    middle = u @ np.diag([1, condition**-0.5, 1 / condition]) @ v
    weights = [rng.normal(size=(3, 2)), middle, rng.normal(size=(1, 3))]
    result = lb.bound(lb.from_weights(weights), "K_2", 2)
    with mpmath.workdps(50):
        exact = precise_k2(weights, (0.0, 1.0))
        assert result.lower <= exact <= result.upper
        assert result.upper - result.lower <= exact * mpmath.mpf(1e-9)


def prelu_between(alpha, beta):
    return lb.Activation("between", lambda z: z, alpha, beta)


@pytest.mark.parametrize("seed", range(20))
def test_the_lower_end_of_an_affine_map_alone(seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(int(rng.integers(1, 2000)), 1))
    weight = weight if seed % 2 else weight.T
    result = lb.bound(lb.from_weights([weight]), "K_2", 2)
    exact = sum(Fraction(x) ** 2 for x in weight.flatten().tolist())
    assert Fraction(result.lower) ** 2 <= exact <= Fraction(result.upper) ** 2
    assert result.upper - result.lower <= 1e-9 * result.upper


def test_rounding_of_the_center_is_counted():
    weights = [
        np.array([[0.410741663681376], [-0.9880071189627424]]),
        np.array([[-0.5820415066520821, -0.24197062165389727]]),
    ]
    value = lb.bound(lb.from_weights(weights, activation="identity"), "K_2", 2).upper
    assert Fraction(float(value)) ** 2 >= exact_square(weights, (1.0, 1.0))
    assert value <= 1e-14


def test_greedy_search_would_fall_short():
    """The example of docs/theory.md: a vertex no single flip improves has value 1, the maximum is
    sqrt(2)."""
    network = lb.from_weights([[[0.0, 1.0], [1.0, 1.0]], [[1.0, -1.0]]])
    exact, result = math.sqrt(2), lb.bound(network, "K_2", 2)
    assert exact <= result.upper <= exact * (1 + 1e-9)
    assert result.lower == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    "names",
    [["relu"] * 3, ["abs"] * 3, ["leaky"] * 3, ["sigmoid"] * 3, ["tanh", "hardswish", "relu"]],
)
def test_fully_connected_against_brute_force(names):
    sample = slope_sample(np.random.default_rng(3), (3, 5, 6, 4, 2), names)
    network = sample.network
    exact, result = brute_k2(sample.weights, sample.stages), lb.bound(network, "K_2", 2)
    assert exact <= result.upper <= exact * (1 + 1e-8)
    assert exact * (1 - 1e-8) <= result.lower <= exact * (1 + 1e-12)
    assert result.upper <= lb.bound(network, "K_star", 2).upper * (1 + 1e-9)


@pytest.mark.parametrize("treatment", lb.bounds(lb.from_weights([[[1.0]]])).treatment.unique())
def test_affine_network(treatment):
    network = lb.from_weights([[[3.0, 4.0]]])
    assert lb.bound(network, "K_2", 2, treatment).upper == pytest.approx(5, rel=1e-9)


@pytest.mark.parametrize("treatment", ["explicit", "implicit"])
@pytest.mark.parametrize("overlap", [0, 1])
def test_pools_against_brute_force(treatment, overlap):
    torch.manual_seed(overlap)
    side = 4 if overlap else 5
    layers = [
        nn.Conv2d(1, 1, 2), nn.MaxPool2d(2, 2 - overlap), nn.Conv2d(1, 2, 1), nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(8, 3)),
    ]  # fmt: skip
    first, middle, last = (
        affine_of(layer, shape)[0]
        for layer, shape in zip(layers[::2], [(1, side, side), (1, 2, 2), (2, 2, 2)], strict=True)
    )
    image = (1, side - 1, side - 1)
    member = pool_of(layers[1], image).member
    pool = Pool.over([np.flatnonzero(row) for row in member], member.shape[1])
    tree = pool.tree() if treatment == "explicit" else [pool]
    weights = [first, *(np.eye(len(one.p)) for one in tree[:-1]), middle, last]
    exact = brute_k2(weights, [*tree, Slope(np.zeros(8), np.ones(8))])
    network = lb.from_torch(nn.Sequential(*layers).eval(), (1, side, side))
    result = lb.bound(network, "K_2", 2, treatment)
    assert exact <= result.upper <= lb.bound(network, "K_star", 2, treatment).upper * (1 + 1e-9)
    assert result.lower <= exact * (1 + 1e-12)


def test_rank_deficient_and_zero_layers():
    w = np.outer([1.0, 2.0, 3.0], [1.0, -1.0])
    network = lb.from_weights([w, np.ones((3, 3)), w.T])
    relu = Slope(np.zeros(3), np.ones(3))
    exact = brute_k2([w, np.ones((3, 3)), w.T], [relu, relu])
    result = lb.bound(network, "K_2", 2)
    assert exact <= result.upper * (1 + 1e-12) and result.upper <= exact * (1 + 1e-6)
    zero = lb.from_weights([w, np.zeros((3, 3)), w.T])
    assert lb.bound(zero, "K_2", 2).upper == pytest.approx(0, abs=1e-12)


def test_ensemble_equals_its_members():
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=(4, *s)) for s in ((6, 3), (5, 6), (2, 5))]
    together = lb.bound(lb.from_weights(weights), "K_2", 2)
    for i in range(4):
        alone = lb.bound(lb.from_weights([w[i] for w in weights]), "K_2", 2)
        assert together.upper[i] == pytest.approx(alone.upper, rel=1e-9)


@pytest.mark.parametrize("budget", [0.0, 1e4])
def test_out_of_budget_ends_are_valid(budget):
    rng = np.random.default_rng(8)
    weights = [rng.normal(size=s) for s in ((9, 5), (8, 9), (4, 8))]
    network = lb.from_weights(weights)
    exact = brute_k2(weights, [Slope(np.zeros(n), np.ones(n)) for n in (9, 8)])
    result = lb.bound(network, "K_2", 2, budget=budget)
    assert result.lower <= exact <= result.upper <= lb.bound(network, "K_star", 2).upper
    assert result.upper > exact * (1 + 1e-6)  # it really ran out


def test_no_linearisation_exceeds_it():
    generator = torch.Generator().manual_seed(11)
    weights = [
        torch.randn(300, *s, generator=generator, dtype=torch.float64)
        for s in ((7, 4), (7, 7), (3, 7))
    ]
    values = torch.from_numpy(lb.bound(lb.from_weights(weights), "K_2", 2, budget=1e5).upper)
    for _ in range(50):
        j = weights[0]
        for w in weights[1:]:
            on = torch.randint(0, 2, (300, 7, 1), generator=generator).double()
            j = w @ (on * j)
        assert (torch.linalg.matrix_norm(j, 2) <= values * (1 + 1e-12)).all()


def test_options_and_norms_are_checked():
    network = lb.from_weights([[[1.0]], [[1.0]]])
    with pytest.raises(lb.UnsupportedError, match="K_2 is not defined for norm 1"):
        lb.bound(network, "K_2", 1)
    with pytest.raises(lb.UnsupportedError, match="K_4 has no option 'budget'"):
        lb.bound(network, "K_4", 2, budget=3)

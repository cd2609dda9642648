"""LiPopt: brute force over vertices, an independent linear program, orderings, certificates."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from oracles import Slope, f_4, norms_of, vertex_jacobians
from scipy.optimize import linprog
from strategies import (
    IMAGE,
    SLOPES,
    between_sample,
    pooled_sample,
    quick,
    slope_networks,
    slope_sample,
)
from torch import nn

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.operators import dense
from lipbounds.methods import krivine
from lipbounds.methods import lipopt as module
from lipbounds.methods.averaged import averaged
from lipbounds.networks.activations import hardswish, leaky_relu
from lipbounds.networks.averaged_map import averaged_map
from lipbounds.results import Status
from lipbounds.studies.cases.analytic import sawtooth, square


def lipopt(network, norm, **options):
    return module.lipopt(network, norm, **options).upper


NORMS = (1.0, math.inf)
CLOSE = 1e-6  # of the value: what HiGHS leaves to be paid for by the certificate


def path_value(network, norm):
    with pytest.MonkeyPatch.context() as context:
        context.setattr(module, "CLIQUE_COLUMNS", 0)
        return lipopt(network, norm)


def optimum(sample, norm):
    return float(norms_of(vertex_jacobians(sample.weights, sample.stages), norm).max())


def gaussian_sample(rng, sizes, zeros=0.2):
    """Mixed slopes, Gaussian weights, some of them zero: sums over paths do not cancel."""
    names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
    sample = slope_sample(rng, sizes, names)
    for i, affine in enumerate(sample.network.affines):
        weight = rng.standard_normal(affine.operator.shape)
        sample.weights[i] = weight * (rng.random(weight.shape) >= zeros)
        affine.operator.weight[:] = torch.from_numpy(sample.weights[i])
    return sample


def local_polytope(weights, stages):
    """max of the expected J t over distributions, one for each path, that agree where they meet.

    Written with path products and probabilities of slopes: no monomials, no certificates.
    """
    ends = [(-1.0, 1.0)] * weights[0].shape[1]
    domains = [ends, *(list(zip(s.alpha, s.beta, strict=True)) for s in stages)]
    scopes, costs = [], []
    for path in itertools.product(*(range(len(d)) for d in domains)):
        factors = [w[j, i] for w, i, j in zip(weights, path, (*path[1:], 0), strict=True)]
        if all(factors):
            slopes = [sorted(set(d[i])) for d, i in zip(domains, path, strict=True)]
            scopes.append(list(zip(range(len(path)), path, slopes, strict=True)))
            outcomes = itertools.product(*slopes)
            costs.append([math.prod(factors) * math.prod(outcome) for outcome in outcomes])
    starts = np.cumsum([0, *map(len, costs)])
    rows = [np.zeros(starts[-1]) for _ in scopes]
    for row, (a, b) in zip(rows, itertools.pairwise(starts), strict=True):
        row[a:b] = 1
    for (m, one), (n, other) in itertools.combinations(enumerate(scopes), 2):
        shared = [v for v in one if v in other]
        for outcome in itertools.product(*(v[2] for v in shared)):
            row = np.zeros(starts[-1])
            row[starts[m] : starts[m + 1]] = where(one, shared, outcome)
            row[starts[n] : starts[n + 1]] -= where(other, shared, outcome)
            rows.append(row)
    right = np.zeros(len(rows))
    right[: len(scopes)] = 1
    result = linprog(-np.concatenate([[], *costs]), A_eq=np.array(rows), b_eq=right)
    assert result.status == 0
    return -result.fun


def where(scope, shared, outcome):
    """1 for those outcomes of `scope` that have `outcome` at the shared variables."""
    places = [scope.index(v) for v in shared]
    full = itertools.product(*(v[2] for v in scope))
    return [float(all(f[i] == x for i, x in zip(places, outcome, strict=True))) for f in full]


@pytest.mark.parametrize("norm", NORMS)
@quick
@given(sample=slope_networks())
def test_is_between_the_optimum_and_k_4(sample, norm):
    exact = optimum(sample, norm)
    value, larger = lipopt(sample.network, norm), path_value(sample.network, norm)
    assert exact <= value * (1 + 1e-15)
    assert value <= larger * (1 + CLOSE)
    assert max(value, larger) <= float(averaged(sample.network, norm))


@pytest.mark.parametrize("sizes", [(3, 1), (2, 3, 1), (2, 2, 2, 1), (3, 2, 2, 1), (1, 2, 2, 2, 1)])
def test_is_the_maximum_over_consistent_path_distributions(sizes):
    rng = np.random.default_rng(sum(sizes))
    for _ in range(4):
        sample = gaussian_sample(rng, sizes)
        if optimum(sample, math.inf) == 0:
            continue
        expected = local_polytope(sample.weights, sample.stages)
        k_4 = f_4(sample.weights, sample.stages, np.ones(sizes[0]))[0]
        assert path_value(sample.network, math.inf) == pytest.approx(min(expected, k_4), rel=CLOSE)
        assert expected <= k_4 * (1 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_the_full_degree_is_exact(norm):
    """All variables but the last group's, and one of these: the cliques meet in one set."""
    rng = np.random.default_rng(3)
    for sizes in [(2, 3, 2), (3, 2, 2, 2), (2, 2, 2, 2, 2)]:
        for _ in range(3):
            sample = gaussian_sample(rng, sizes, zeros=0.0)
            exact = optimum(sample, norm)
            assert exact <= lipopt(sample.network, norm, degree=8) <= exact * (1 + CLOSE)


def test_a_higher_degree_is_never_larger():
    """Here paths give 3.5, cliques of the same degree 19/6, and D* = 3."""
    layers = [
        [[-1, 1, 1], [0, 1, -1], [-1, 0, -1]],
        [[0, -1, 1], [-1, 1, 0], [1, 0, 1]],
        [[-1, -1, 0]],
    ]
    network = lb.from_weights([np.array(w, dtype=float) for w in layers])
    values = [lipopt(network, math.inf, degree=degree) for degree in (None, 3, 7)]
    assert values == pytest.approx([19 / 6, 19 / 6, 3.0], rel=CLOSE)
    assert path_value(network, math.inf) == pytest.approx(3.5, rel=CLOSE)
    relu = [Slope(np.zeros(3), np.ones(3))] * 2
    assert norms_of(vertex_jacobians(list(map(np.array, layers)), relu), math.inf).max() == 3
    rng = np.random.default_rng(8)
    for _ in range(10):
        sample = slope_sample(rng, (2, 3, 3, 2), ["relu", "negative"])
        values = [lipopt(sample.network, math.inf, degree=degree) for degree in (3, 4, 5)]
        for lower, higher in itertools.pairwise(values):
            assert higher <= lower * (1 + CLOSE)
        assert optimum(sample, math.inf) <= values[-1] * (1 + 1e-15)


@pytest.mark.parametrize("norm", NORMS)
def test_one_hidden_stage_needs_paths_only(norm):
    """The other products of degree 2 join two variables that meet in no monomial."""
    rng = np.random.default_rng(6)
    gaps = []
    for _ in range(10):
        network = lb.from_weights([rng.standard_normal(shape) for shape in ((8, 5), (5, 8))])
        value = lipopt(network, norm)
        assert value == pytest.approx(lipopt(network, norm, degree=2), rel=CLOSE)
        gaps.append(value / lipopt(network, norm, degree=6))  # D*
    assert max(gaps) > 1.001


@pytest.mark.parametrize("norm", NORMS)
def test_known_values(norm):
    for level in (1, 2, 3, 4):
        assert 2**level <= lipopt(sawtooth(level), norm) <= 2**level * (1 + 1e-9)
    for level in (1, 2, 3):
        exact = 2 - 2.0**-level
        assert exact <= lipopt(square(level), norm) <= exact * (1 + 1e-9)


def test_l1_is_l_infinity_of_the_transpose():
    rng = np.random.default_rng(11)
    sample = gaussian_sample(rng, (3, 4, 2, 3))
    slopes = [leaky_relu(0.25), hardswish()]
    network = lb.from_weights(sample.weights, activation=slopes)
    turned = lb.from_weights([w.T.copy() for w in sample.weights[::-1]], activation=slopes[::-1])
    assert lipopt(network, 1.0) == pytest.approx(lipopt(turned, math.inf), rel=CLOSE)
    assert lipopt(network, 1.0) != pytest.approx(lipopt(network, math.inf), rel=0.01)


def test_depth_zero_dead_and_zero_networks():
    weight = np.array([[1.0, -2.0], [0.5, 0.25]])
    assert lipopt(lb.from_weights([weight]), math.inf) == pytest.approx(3.0, rel=1e-12)
    assert lipopt(lb.from_weights([weight]), 1.0) == pytest.approx(2.25, rel=1e-12)
    assert lipopt(lb.from_weights([weight, np.zeros((2, 2))]), 1.0) == 0.0
    dead = lb.from_weights([np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[3.0, 9.0], [0.0, 0.0]])])
    for degree in (None, 2, 5):
        assert lipopt(dead, math.inf, degree=degree) == pytest.approx(9.0, rel=1e-9)
    linear = lb.from_weights([weight, weight], activation="identity")
    assert lipopt(linear, math.inf) == pytest.approx(abs(weight @ weight).sum(1).max(), rel=1e-9)


def test_what_cancels_in_rounding_is_counted():
    """J = 1, computed as (1e16 + 1) - 1e16 = 0."""
    layers = [np.array([[1e16], [1.0], [-1e16]]), np.ones((1, 3))]
    network = lb.from_weights(layers, activation="identity")
    for degree in (None, 2):
        for norm in NORMS:
            assert lipopt(network, norm, degree=degree) >= 1.0


def test_the_value_is_the_greatest_over_rows():
    rng = np.random.default_rng(2)
    for _ in range(5):
        weights = [rng.standard_normal(s) for s in ((4, 3), (4, 4), (5, 4))]
        rows = [
            lipopt(lb.from_weights([*weights[:-1], weights[-1][[i]]]), math.inf) for i in range(5)
        ]
        value = lipopt(lb.from_weights(weights), math.inf)
        assert value == pytest.approx(max(rows), rel=CLOSE)


def test_rows_whose_k_4_is_no_greater_are_skipped(monkeypatch):
    solved = []

    def counted(*arguments, **options):
        solved.append(1)
        return linprog(*arguments, **options)

    monkeypatch.setattr(krivine, "linprog", counted)
    rng = np.random.default_rng(2)
    first, last = rng.standard_normal((6, 3)), rng.standard_normal((1, 6))
    scales = np.array([[0.01], [1.0], [0.02]])
    network = lb.from_weights([first, scales * last])
    assert lipopt(network, math.inf) > 0
    assert len(solved) == 1


@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 3, 2), (2, 2, 3, 2)])
def test_box_maximum_holds_for_random_polynomials(shape):
    rng = np.random.default_rng(len(shape))
    for _ in range(10):
        polynomial = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
        polynomial *= rng.random(shape) < 0.7
        exact = brute_maximum(polynomial)
        for clusters in (krivine.paths(polynomial), krivine.cliques(polynomial, len(shape))):
            value, _ = krivine.box_maximum(polynomial, clusters, 10.0)
            assert exact <= value
        everything = krivine.cliques(polynomial, sum(shape))
        value, _ = krivine.box_maximum(polynomial, everything, 10.0)
        assert value >= exact
        if len(shape) == 1:
            assert value == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_paths_are_the_monomials_that_divide_no_other():
    polynomial = np.zeros((3, 2, 3))  # variables 1, 2 | 3 | 4, 5
    for index in [(0, 0, 0), (1, 1, 2), (0, 0, 2), (2, 0, 1), (0, 1, 1)]:
        polynomial[index] = 1.0
    found = {tuple(row) for clusters in krivine.paths(polynomial) for row in clusters.tolist()}
    assert found == {(1, 3, 5), (2, 4), (3, 4)}
    found = {tuple(row) for one in krivine.cliques(polynomial, 3) for row in one.tolist()}
    assert found == {(1, 3), (1, 3, 5), (2, 3), (2, 3, 4)}


def brute_maximum(polynomial):
    """Over all vertices of the cube, one factor (1, x_1, ..., x_n) for each axis."""
    corners = [
        [np.array([1.0, *x]) for x in itertools.product((0.0, 1.0), repeat=size - 1)]
        for size in polynomial.shape
    ]
    best = -math.inf
    for choice in itertools.product(*corners):
        value = polynomial
        for factor in choice:
            value = np.tensordot(factor, value, 1)
        best = max(best, float(value))
    return best


@pytest.mark.parametrize("answer", ["nothing", "noise", "negative", "huge"])
def test_no_answer_of_the_solver_is_trusted(monkeypatch, answer):
    rng = np.random.default_rng(4)

    def dishonest(costs, **options):
        honest = linprog(costs, **options).x
        wrong = {
            "nothing": 0 * honest,
            "noise": honest + 0.1 * rng.standard_normal(len(honest)),
            "negative": honest - 1.0,
            "huge": 1e8 * honest,
        }
        return SimpleNamespace(x=wrong[answer], status=0)

    monkeypatch.setattr(krivine, "linprog", dishonest)
    for _ in range(20):
        polynomial = rng.standard_normal((3, 3, 2))
        value, _ = krivine.box_maximum(polynomial, krivine.paths(polynomial), 10.0)
        assert value >= brute_maximum(polynomial)


def test_every_row_counts_with_k_4_when_time_is_up(monkeypatch):
    network = lb.from_weights([np.array([[1.0, 2.0], [-3.0, 1.0]]), np.array([[1.0, 1.0]])])
    exact, k_4 = lipopt(network, math.inf), float(averaged(network, math.inf))
    assert exact < k_4 and module.lipopt(network, math.inf).status is Status.CONVERGED
    assert lipopt(network, math.inf, seconds=0.0) == k_4
    monkeypatch.setattr(krivine, "linprog", lambda *a, **o: SimpleNamespace(x=None, status=1))
    found = module.lipopt(network, math.inf)
    assert found.upper == k_4 and found.status is Status.TIME
    assert found.left == "1 of 1 rows not solved"


@pytest.mark.parametrize("status", [2, 3, 4])
def test_a_failure_of_the_solver_is_an_error(monkeypatch, status):
    failure = SimpleNamespace(x=None, status=status, message="no luck")
    monkeypatch.setattr(krivine, "linprog", lambda *a, **o: failure)
    with pytest.raises(LipboundsError, match="lipopt: HiGHS failed.*no luck"):
        lipopt(lb.from_weights([np.ones((2, 2)), np.ones((1, 2))]), math.inf)


def test_convolutions_give_the_same_in_both_treatments():
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    network = lb.from_torch(cnn.double(), IMAGE)
    for norm in NORMS:
        value = lipopt(network, norm)
        assert value == pytest.approx(lipopt(lb.explicit(network), norm), rel=CLOSE)
        matrices = [dense(affine.operator).numpy() for affine in network.affines]
        jacobians = vertex_jacobians(matrices, [Slope(np.zeros(4), np.ones(4))])
        assert norms_of(jacobians, norm).max() <= value <= float(averaged(network, norm))


def test_what_is_refused():
    layers = [np.ones((2, 2)), np.ones((1, 2))]
    ensemble = lb.from_weights([np.ones((3, *w.shape)) for w in layers])
    with pytest.raises(UnsupportedError, match="one network, not an ensemble"):
        lipopt(ensemble, math.inf)
    with pytest.raises(UnsupportedError, match="norm 2"):
        lipopt(lb.from_weights(layers), 2.0)
    pooled = pooled_sample(np.random.default_rng(0), ["slope", "pool"])
    with pytest.raises(UnsupportedError, match="stage 2, a max-pooling kept whole"):
        lipopt(pooled.network, math.inf)
    with pytest.raises(UnsupportedError, match="stage 2, a maximum of two entries"):
        lipopt(between_sample(pooled).network, math.inf)
    with pytest.raises(LipboundsError, match="degree 1 is less than 2"):
        lipopt(lb.from_weights(layers), math.inf, degree=1)


def test_too_large_programs_are_refused_before_they_are_built(monkeypatch):
    rng = np.random.default_rng(0)
    deep = lb.from_weights([rng.standard_normal((m, n)) for n, m in [(4, 12), *[(12, 12)] * 3]])
    monkeypatch.setattr(krivine, "_products", None)  # would fail if called
    columns = 2**4 * 4 * 12**3
    with monkeypatch.context() as context:
        context.setattr(krivine, "LARGEST_COLUMNS", columns - 1)
        context.setattr(module, "LARGEST_COLUMNS", 13**4)
        with pytest.raises(LipboundsError, match=f"{columns} columns is more than {columns - 1}"):
            lipopt(deep, math.inf)
    with pytest.raises(LipboundsError, match="columns"):
        lipopt(deep, math.inf, degree=6)
    wide = lb.from_weights([rng.standard_normal((600, 600)), rng.standard_normal((1, 600))])
    with pytest.raises(LipboundsError, match=f"{601**2} monomials"):
        lipopt(wide, math.inf)


def test_sparse_networks_give_small_programs(monkeypatch):
    """Two blocks that do not meet: clusters within each block only."""
    rng = np.random.default_rng(1)
    block = [rng.standard_normal(s) for s in ((3, 2), (3, 3), (1, 3))]
    double = [np.kron(np.eye(2), w) for w in block[:-1]] + [np.hstack([block[-1]] * 2)]
    for degree in (None, 3):
        single = lipopt(lb.from_weights(block), math.inf, degree=degree)
        both = lipopt(lb.from_weights(double), math.inf, degree=degree)
        assert both == pytest.approx(2 * single, rel=CLOSE)
    monkeypatch.setattr(module, "LARGEST_COLUMNS", 3 * 4 * 4)
    apart = lb.from_weights([np.kron(np.eye(2), w) for w in block])
    assert lipopt(apart, math.inf) == pytest.approx(single, rel=CLOSE)
    one = averaged_map(lb.from_weights(block), torch.ones(1, 2).double())
    assert 2 * single < 2 * float(one[0, 0])

"""The exact constant against enumerated pieces, brute force over all patterns, and attacks."""

import itertools
import math
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracles import norms_of, vertex_jacobians
from scipy.optimize import linprog
from strategies import SLOPES, slope_sample, small_cnns

import lipbounds as lb
from lipbounds.clock import now
from lipbounds.networks.rewrite import maxima_as_relu
from lipbounds.networks.stages import PoolStage
from lipbounds.results import Status
from lipbounds.studies.cases import analytic
from lipbounds.studies.cases.random import ensemble, gaussian
from lipbounds.truth.exact import problem, solved
from lipbounds.truth.milp import Relaxation
from lipbounds.truth.phases import FREE, chain
from lipbounds.truth.pieces import exact_lipschitz
from lipbounds.truth.witness import (
    _evaluate,
    _interior,
    _proves_empty,
    cell,
    lacks_interior,
    pattern_at,
)

NORMS = [1, math.inf]
BENT = ["relu", "abs", "identity", "leaky", "steep", "negative"]
NARROW = 1e-5  # the closing tolerance of the search, and some rounding


CANCELLING = lb.from_weights(  # R(x) - R(-x) - x = 0
    [[[1.0], [-1.0], [1.0]], [[1.0, -1.0, -1.0]]], activation=[["relu", "relu", "identity"]]
)


def exact(network, norm, radius=math.inf, center=None, **options):
    found = solved(problem(network, norm, radius, center), **options)
    return found.upper, found.lower, found.witness


def random_network(rng, sizes, kind="gaussian", offsets=1.0):
    """Mixed activations; Gaussian, small integers with zeros, or badly scaled."""
    weights = [rng.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    if kind == "integer":
        weights = [rng.integers(-2, 3, w.shape).astype(float) for w in weights]
    if kind == "scaled":
        weights = [w * 10.0 ** rng.integers(-3, 4, (len(w), 1)) for w in weights]
    biases = [offsets * rng.standard_normal(m) for m in sizes[1:]]
    names = [[SLOPES[name][2] for name in rng.choice(BENT, m)] for m in sizes[1:-1]]
    return lb.from_weights(weights, biases, names)


def random_box(rng, size):
    return rng.uniform(0.2, 2, size), rng.standard_normal(size)


def as_pairs(radius, center):
    return [(c - r, c + r) for c, r in zip(center, radius, strict=True)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(12))
def test_equals_the_enumerated_pieces(norm, seed):
    rng = np.random.default_rng(seed)
    inputs, depth = 1 + seed % 2, seed % 4
    network = random_network(rng, (inputs, *rng.integers(2, 5, depth), 2))
    radius, center = random_box(rng, inputs)
    pieces = exact_lipschitz(network, as_pairs(radius, center), norm)
    upper, lower, _ = exact(network, norm, radius, center)
    assert lower <= pieces * (1 + 1e-12) <= upper * (1 + 2e-12)
    assert upper - lower <= NARROW * upper


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["integer", "scaled"])
@pytest.mark.parametrize("seed", range(8))
def test_brackets_the_pieces_of_degenerate_networks(norm, kind, seed):
    """Ties, zero rows, dead neurons, no offsets: patterns of cells without interior abound."""
    rng = np.random.default_rng(seed)
    inputs = 1 + seed % 2
    sizes = (inputs, *rng.integers(1, 4, seed % 3), 2)
    network = random_network(rng, sizes, kind, offsets=float(seed % 3 > 0))
    radius, center = random_box(rng, inputs)
    pieces = exact_lipschitz(network, as_pairs(radius, center), norm)
    upper, lower, _ = exact(network, norm, radius, center)
    assert lower <= pieces * (1 + 1e-12)
    assert pieces <= upper * (1 + 1e-12)
    assert lower >= pieces * (1 - NARROW)
    assert upper <= lower * (1 + NARROW)
    assert upper <= float(lb.bound(network, "K_4", norm).upper) * (1 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_global_constant_equals_that_of_all_far_pieces(norm, seed):
    rng = np.random.default_rng(seed)
    inputs = 1 + seed % 2
    network = random_network(rng, (inputs, 4, 3, 2), offsets=float(seed > 0))
    pieces = exact_lipschitz(network, [(-1e4, 1e4)] * inputs, norm)
    upper, lower, _ = exact(network, norm)
    boxed, _, _ = exact(network, norm, 1.0)
    assert upper == pytest.approx(pieces, rel=NARROW)
    assert lower == pytest.approx(pieces, rel=NARROW)
    assert boxed <= upper * (1 + NARROW)


def test_the_global_constant_sees_what_is_far_away():
    """R(x - 50) + R(-x - 1000): slope -1, then 0, then 1; twice the first beyond the box."""
    network = lb.from_weights([[[1.0], [-1.0]], [[1.0, 3.0]]], [[-50.0, -1000.0], [0.0]])
    assert exact(network, 1, 10.0)[0] == 0
    assert exact(network, 1, 60.0)[:2] == pytest.approx((1, 1))
    assert exact(network, 1)[:2] == pytest.approx((3, 3))


@pytest.mark.parametrize("radius", [1.0, math.inf])
@pytest.mark.parametrize("norm", NORMS)
def test_the_upper_end_stands_alone(norm, radius, monkeypatch):
    """Where no witness is ever found. Without offsets and with; a cone around each of +-e_1, +-e_2
    in turn is the steepest, so that no face may be missing."""
    monkeypatch.setattr("lipbounds.truth.exact.find_witness", lambda *_: None)
    lines = np.array([[1.0, 0.1], [-1.0, 0.1], [0.1, 1.0], [0.1, -1.0]])
    for i, offset in ((0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (1, 0.3)):
        slopes = np.where(np.arange(4) == i, 9.0, 1.0)[None]
        network = lb.from_weights([lines, slopes], [np.full(4, offset), np.zeros(1)])
        pieces = exact_lipschitz(network, [(-min(radius, 99.0), min(radius, 99.0))] * 2, norm)
        upper, lower, witness = exact(network, norm, radius)
        assert upper == pytest.approx(pieces, rel=NARROW) and upper >= pieces * (1 - 1e-12)
        assert lower == 0 and witness is None
    for slopes in ([3.0, 1.0], [1.0, 3.0]):
        network = lb.from_weights([[[1.0], [-1.0]], [slopes]])
        assert exact(network, norm, radius)[0] == pytest.approx(3, rel=NARROW)


def brute_force(network, radius, norm):
    """Over all patterns of a network with one stage: those with interior, by a linear program."""
    (w, v), b = (a.operator.weight.numpy() for a in network.affines), network.affines[0].offset
    stage, best, inputs = network.stages[0], 0.0, w.shape[1]
    for pattern in itertools.product((0, 1), repeat=len(w)):
        sign = 2 * np.array(pattern) - 1
        rows = np.column_stack([-sign[:, None] * w, np.ones(len(w))])
        box = [(-radius, radius)] * inputs + [(None, 1)]
        found = linprog(-np.eye(inputs + 1)[-1], rows, sign * b.numpy(), bounds=box)
        if found.status == 0 and found.x[-1] > 1e-9:
            slopes = np.where(pattern, stage.evaluate(torch.ones(len(w))), 0)
            slopes = np.where(pattern, slopes, -stage.evaluate(-torch.ones(len(w))))
            best = max(best, np.linalg.norm(v @ (slopes[:, None] * w), norm))
    return best


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_brute_force_over_all_patterns(norm, seed):
    network = random_network(np.random.default_rng(seed), (4, 7, 3))
    upper, lower, _ = exact(network, norm, 0.5)
    assert (upper, lower) == pytest.approx((brute_force(network, 0.5, norm),) * 2, rel=NARROW)


@pytest.mark.parametrize("norm", NORMS)
def test_analytic_networks(norm):
    for network, value in ((analytic.square(3), 1.875), (analytic.sawtooth(4), 16.0)):
        upper, lower, _ = exact(network, norm, 0.5, [0.5])
        assert (upper, lower) == pytest.approx((value, value), rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_lies_between_attacks_and_the_relaxation_optimum(norm, seed):
    rng = np.random.default_rng(seed)
    sizes = (3, 5, 4, 2)
    sample = slope_sample(rng, sizes, [list(rng.choice(BENT, m)) for m in sizes[1:-1]])
    network = sample.network
    radius, center = random_box(rng, 3)
    upper, lower, _ = exact(network, norm, radius, center)
    assert upper - lower <= NARROW * upper
    assert lower <= norms_of(vertex_jacobians(sample.weights, sample.stages), norm).max() * (
        1 + 1e-12
    )
    points = torch.from_numpy(center + radius * rng.uniform(-1, 1, (2000, 3)))
    others = points.roll(1, 0)
    rise = torch.linalg.vector_norm(network(points) - network(others), norm, dim=1)
    secants = rise / torch.linalg.vector_norm(points - others, norm, dim=1)
    jacobians = torch.linalg.matrix_norm(network.jacobian(points), norm)
    assert float(torch.maximum(secants, jacobians).max()) <= upper * (1 + 1e-12)
    assert lower <= float(jacobians.max()) * 1.5  # the attack bites


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", [0.7, math.inf])
def test_the_witness_proves_the_lower_end(norm, radius):
    """In fractions, written out for one hidden stage of ReLUs."""
    rng = np.random.default_rng(0)
    w, v, b = rng.standard_normal((5, 3)), rng.standard_normal((2, 5)), rng.standard_normal(5)
    network = lb.from_weights([w, v], [b, np.ones(2)])
    _, lower, (x, y) = exact(network, norm, radius, None if radius == math.inf else [0.1, 0.2, 0.3])

    def f(point):
        point = [Fraction(p) for p in point.tolist()]
        hidden = [
            max(sum(Fraction(a) * p for a, p in zip(row, point, strict=True)) + Fraction(c), 0)
            for row, c in zip(w.tolist(), b.tolist(), strict=True)
        ]
        return [
            sum(Fraction(a) * h for a, h in zip(row, hidden, strict=True)) for row in v.tolist()
        ]

    def distance(one, other):
        parts = [abs(p - q) for p, q in zip(one, other, strict=True)]
        return sum(parts) if norm == 1 else max(parts)

    run = distance(*([Fraction(p) for p in point.tolist()] for point in (x, y)))
    assert distance(f(x), f(y)) >= Fraction(lower) * run > 0
    if radius < math.inf:
        for point in (x, y):
            for p, c in zip(point.tolist(), [0.1, 0.2, 0.3], strict=True):
                assert abs(Fraction(p) - Fraction(c)) <= Fraction(radius)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_max_pooling(norm, seed):
    """Against the pieces of the network in which maxima are carried neurons."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, (2, 5, 2))
    windows = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 2, 0]])
    pool = PoolStage(windows, 5)
    last = lb.from_weights([rng.standard_normal((2, 3))]).affines[0]
    network = lb.Network((network.affines[0], last), (pool,))
    pieces = exact_lipschitz(maxima_as_relu(lb.explicit(network)), [(-1.0, 1.0)] * 2, norm)
    upper, lower, _ = exact(network, norm, 1.0)
    assert (upper, lower) == pytest.approx((pieces, pieces), rel=NARROW)


@pytest.mark.parametrize("norm", NORMS)
def test_a_small_cnn(norm):
    """More neurons than the budget settles: both ends hold all the same."""
    network = lb.from_torch(small_cnns()["plain"], (1, 6, 6))
    points = torch.rand(500, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    attained = torch.linalg.matrix_norm(network.jacobian(points), norm).max()
    upper, lower, _ = exact(network, norm, 0.5, torch.full((1, 6, 6), 0.5), seconds=1.0)
    averaged = float(lb.bound(network, "K_4", norm, "explicit").upper)
    assert float(attained) * (1 - 1e-9) <= upper <= averaged * (1 + 1e-9)
    assert 0.3 * float(attained) < lower <= upper


@pytest.mark.parametrize("norm", NORMS)
def test_no_time_at_all(norm):
    network = random_network(np.random.default_rng(1), (3, 6, 5, 2))
    upper, lower, _ = exact(network, norm, 1.0)
    early, late, _ = exact(network, norm, 1.0, seconds=0.0)
    assert late <= lower <= upper <= early <= float(lb.bound(network, "K_4", norm).upper) * 1.001


def test_the_status_says_what_keeps_the_ends_apart():
    network = random_network(np.random.default_rng(1), (3, 6, 5, 2))
    assert lb.exact(network, 1, 1.0).status is Status.CONVERGED
    late = lb.exact(network, 1, 1.0, seconds=0.0)
    assert late.status is Status.TIME and late.left
    undecided = lb.exact(CANCELLING, 1, 1.0)
    assert undecided.status is Status.PRECISION and undecided.left == "no lower end"


def test_time_that_ends_within_a_program_is_time(monkeypatch):
    """Of a leaf too, which is closed with its bound."""
    solve = Relaxation.solve

    def slow(self, *arguments):
        found = solve(self, *arguments)
        monkeypatch.setattr("lipbounds.truth.exact.now", lambda: now() + 1e9)
        return found

    monkeypatch.setattr("lipbounds.truth.exact.Relaxation.solve", slow)
    assert solved(problem(CANCELLING, 1, 1.0)).status is Status.TIME


@pytest.mark.parametrize("radius", [1.0, math.inf])
def test_cancelling_kinks_give_no_false_lower_end(radius):
    upper, lower, witness = exact(CANCELLING, 1, radius)
    assert lower == 0 and witness is None
    assert 0 <= upper <= 1e-12


def test_a_kink_on_the_side_of_the_box_does_not_count():
    """R(x - 1) + R(3 - x) / 2 on |x - center| <= 1."""
    network = lb.from_weights([[[1.0], [-1.0]], [[1.0, 0.5]]], [[-1.0, 3.0], None])
    assert exact(network, 1, 1.0)[:2] == pytest.approx((0.5, 0.5))
    assert exact(network, 1, 1.0, [4.0])[:2] == pytest.approx((1, 1))


FAR = [*((1, seed) for seed in (3, 14, 27, 29)), *((math.inf, s) for s in (11, 14, 20, 27, 28, 29))]


@pytest.mark.parametrize(("norm", "seed"), FAR)
def test_directions_at_infinity_of_empty_cells_do_not_count(norm, seed):
    """Networks of which they are the steepest, by up to a factor of 8."""
    network = gaussian_with_offsets((2, 3, 3, 2), seed)
    boxed = exact(network, norm, radius=1e9)[1]
    upper, lower, _ = exact(network, norm)
    assert (upper, lower) == pytest.approx((boxed, boxed), rel=1e-6)


def gaussian_with_offsets(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = list(itertools.pairwise(sizes))
    weights = [torch.randn(m, n, generator=generator, dtype=torch.float64) for n, m in pairs]
    biases = [torch.randn(m, generator=generator, dtype=torch.float64) for m in sizes[1:]]
    return lb.from_weights(weights, biases)


EVERYWHERE = np.full(3, -math.inf), np.full(3, math.inf)


@pytest.mark.parametrize("kind", ["gaussian", "integer", "scaled"])
@pytest.mark.parametrize("seed", range(6))
def test_a_cell_with_interior_is_never_proven_to_have_none(kind, seed):
    """Those of random points, near and far, and around them; with zero rows and equal ones."""
    rng = np.random.default_rng(seed)
    network = chain(random_network(rng, (3, 5, 4, 2), kind, offsets=float(seed % 3 > 0)))
    for scale in (1e-2, 1.0, 1e6):
        for x in scale * rng.standard_normal((4, 3)):
            pattern = pattern_at(network, np.append(x, 1.0))
            z = cell(network, pattern)[0] @ np.append(x, 1.0)
            assert ((z > 1e-9 * scale) | (abs(z) < 1e-12 * scale)).all()
            assert not lacks_interior(network, pattern, EVERYWHERE)
            assert not lacks_interior(network, pattern, (x - 1e-3 * scale, x + 1e-3 * scale))
            pattern[1][:] = FREE
            assert not lacks_interior(network, pattern, EVERYWHERE)


@pytest.mark.parametrize("seed", range(6))
def test_which_patterns_have_cells_with_interior(seed):
    """Against the largest ball of a cell, by a linear program."""
    network = chain(gaussian_with_offsets((3, 3, 3, 1), seed))
    hull = np.array([-1e4, -1e4, -1e4, 1.0]), np.array([1e4, 1e4, 1e4, 1.0])
    empty = 0
    for bits in itertools.product((0, 1), repeat=6):
        pattern = [np.array(bits[:3]), np.array(bits[3:])]
        sides, _ = cell(network, pattern)
        ball = _interior(sides, hull)
        proven = lacks_interior(network, pattern, EVERYWHERE)
        assert proven == (ball is None)
        empty += proven
    assert 0 < empty < 64


def test_where_a_pre_activation_is_zero_both_of_its_phases_have_interior():
    network = chain(lb.from_weights([[[1.0], [0.0]], [[1.0, 1.0]]]))
    ends = EVERYWHERE[0][:1], EVERYWHERE[1][:1]
    for phases in itertools.product((0, 1), repeat=2):
        assert not lacks_interior(network, [np.array(phases)], ends)


def test_no_multipliers_prove_empty_what_is_not():
    sides = [[Fraction(1), Fraction(0)], [Fraction(-1), Fraction(1)]]  # 0 < x < 1
    touching = [sides[0], [Fraction(-1), Fraction(0)]]  # 0 < x < 0
    for y in itertools.product((Fraction(0), Fraction(1), Fraction(1, 3)), repeat=2):
        assert not _proves_empty(sides, list(y))
        assert _proves_empty(touching, list(y)) == all(y)


@pytest.mark.parametrize("norm", NORMS)
def test_affine_maps_and_dead_neurons(norm):
    w = np.random.default_rng(0).standard_normal((3, 4))
    for network, matrix in (
        (lb.from_weights([w]), w),
        (lb.from_weights([w, np.eye(3)], [-99 * np.ones(3), np.ones(3)]), 0 * w),
        (lb.from_weights([0 * w, np.eye(3)]), 0 * w),
    ):
        upper, lower, _ = exact(network, norm, 1.0)
        value = np.linalg.norm(matrix, norm)
        assert (upper, lower) == pytest.approx((value, value), rel=1e-9, abs=1e-12)


def test_refusals():
    network = lb.from_weights([[[1.0, 2.0]], [[1.0]]])
    with pytest.raises(lb.UnsupportedError, match="norm 1 and inf, not for 2"):
        exact(network, 2)
    with pytest.raises(lb.UnsupportedError, match="one network, not an ensemble"):
        exact(ensemble("gaussian", 2, 1, 3, 0), 1)
    with pytest.raises(lb.UnsupportedError, match="stage 1: the activation of neuron 0"):
        exact(lb.from_weights([[[1.0]], [[1.0]]], activation="tanh"), 1)
    with pytest.raises(lb.UnsupportedError, match="600 neurons with a kink; the limit is 500"):
        exact(lb.from_weights([np.ones((600, 1)), np.ones((1, 600))]), 1)
    for radius, center in ((0.0, None), (math.nan, None), ([1.0, math.inf], None), (1.0, [0.0])):
        with pytest.raises(lb.LipboundsError, match="box|radii"):
            exact(network, 1, radius, center)


@pytest.mark.parametrize(
    ("what", "scale", "slopes", "offset", "radius", "center"),
    [
        ("radius of size 4.94e-324", 1.0, "relu", 1.0, 5e-324, 0.0),
        ("radius of size 1e\\+300", 1.0, "relu", 1.0, 1e300, 0.0),
        ("center of size 1e-300", 1.0, "relu", 1.0, 1.0, 1e-300),
        ("weight of map 0 of size 1e-310", 1e-310, "relu", 1.0, 1.0, 0.0),
        ("weight of map 0 of size 1e\\+299", 1e299, "relu", 1.0, 1.0, 0.0),
        ("offset of map 0 of size 1e-299", 1.0, "relu", 1e-299, 1.0, 0.0),
        ("products .* of size 1e-340|products .* of size 0", 1e-170, "relu", 1.0, 1e-170, 0.0),
        ("products .* or", 1e170, "relu", 1.0, 1e170, 0.0),
    ],
)
def test_scales_that_underflow_or_overflow_are_refused(what, scale, slopes, offset, radius, center):
    network = lb.from_weights([[[scale]], [[1.0]]], [[offset], None], slopes)
    with pytest.raises(lb.UnsupportedError, match=what):
        exact(network, 1, radius, [center])


@pytest.mark.parametrize("scale", [1e-140, 1e140])
def test_scales_within_the_limits_are_kept(scale):
    network = lb.from_weights([[[scale]], [[3.0]]])
    assert exact(network, 1, 1.0)[:2] == pytest.approx((3 * scale,) * 2, rel=1e-6, abs=0)
    assert exact(network, 1, scale)[0] == pytest.approx(3 * scale, rel=1e-6, abs=0)


@pytest.mark.parametrize("first", [lb.from_weights([np.eye(2)]), lb.from_weights([[[1.0], [0.0]]])])
def test_the_offsets_of_a_maximum_are_not_rounded(first):
    """max(x + 2^53, y - 1): the difference of the offsets is no double."""
    shift = torch.tensor([2.0**53, -1.0], dtype=torch.float64)
    affine = replace(first.affines[0], offset=shift)
    last = lb.from_weights([np.ones((1, 1))]).affines[0]
    pool = PoolStage(torch.tensor([[0, 1]]), 2)
    links = chain(lb.Network((affine, last), (pool,)))
    assert {abs(v) for offset in links.offsets for v in offset.tolist()} == {0.0, 1.0, 2.0**53}
    for x in (-(2.0**53), -(2.0**53) - 2, 1.0):
        point = [Fraction(x)] * first.input_size
        other = point[-1] if first.input_size == 2 else 0
        assert _evaluate(links, point) == [max(point[0] + 2**53, other - 1)]


def test_without_highspy(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(lb.LipboundsError, match=r"pip install 'lipbounds\[solvers\]'"):
        exact(lb.from_weights([[[1.0]], [[1.0]]]), 1)


def test_too_many_roots_are_refused():
    network = lb.from_weights([torch.ones(2, 200), torch.ones(1, 2)], [torch.ones(2), None])
    with pytest.raises(lb.UnsupportedError, match="80200 roots of the tree"):
        exact(network, 1)
    assert exact(network, 1, radius=1.0, seconds=0)[0] < math.inf


def test_a_known_upper_bound_caps_the_upper_end():
    network = gaussian([3, 6, 6, 2], 0)
    free, found = exact(network, 1, seconds=0)[0], exact(network, 1)[0]
    cap = (free + found) / 2
    assert found < cap == exact(network, 1, seconds=0, cap=cap)[0] < free
    assert exact(network, 1, cap=cap)[0] == pytest.approx(found, rel=1e-5)


def test_the_search_begins_where_it_is_told():
    """On one side of the kink the slope is 3, on the other 0."""
    network = lb.from_weights([[[1.0]], [[3.0]]], [[-1000.0], None])
    assert exact(network, 1, radius=2000.0, seconds=0, start=torch.tensor([1500.0]))[1] == 3.0

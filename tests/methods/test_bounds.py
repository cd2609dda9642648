"""Bounds against 2^L oracles, known values, exact rational arithmetic, ensembles; bad requests."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NAMES, NORMS, Between, Pool, Slope, affine_of, pool_of
from strategies import (
    IMAGE,
    between_sample,
    matrix,
    pooled_networks,
    quick,
    slope_networks,
    small_cnns,
)
from torch import nn

import lipbounds as lb
from lipbounds.methods import sensitivity
from lipbounds.methods.registry import Method
from lipbounds.studies.cases import analytic
from lipbounds.studies.cases.random import ensemble


def check_against_oracles(sample, treatment="implicit"):
    for name, norm in itertools.product(NAMES, NORMS):
        exact = oracles.bound(name, sample.weights, sample.stages, norm)
        value = lb.bound(sample.network, name, norm, treatment).upper
        # Cancellation costs K_1 and K_4 rounding in proportion to products of norms.
        slack = 1e-11 * oracles.plain_product(sample.weights, sample.stages, norm)
        assert exact * (1 - 1e-12) <= value, (name, norm)
        assert value <= exact * (1 + 1e-9) + slack, (name, norm)


@quick
@given(slope_networks())
def test_slope_networks_equal_the_oracles(sample):
    check_against_oracles(sample)
    check_against_oracles(sample, "explicit")


@quick
@given(slope_networks(depths=(4, 6), width=2))
def test_deep_networks_equal_the_oracles(sample):
    check_against_oracles(sample)


@quick
@given(pooled_networks())
def test_implicit_pools_equal_the_oracles(sample):
    check_against_oracles(sample)


@quick
@given(pooled_networks())
def test_between_stages_equal_the_oracles(sample):
    explicit = between_sample(sample)
    check_against_oracles(explicit)
    check_against_oracles(replace(explicit, network=sample.network), "explicit")


GROUPS = [
    (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
    nn.ReLU(),
    (nn.Identity(),),
    nn.MaxPool2d(2),
    (nn.Conv2d(2, 2, 2, padding=1), nn.AvgPool2d(2, 1)),
    nn.ReLU(),
    (nn.Flatten(), nn.Linear(8, 3)),
]


def cnn_sample():
    """A CNN as a module, and its dense parts taken from torch one group of layers at a time."""
    torch.manual_seed(3)
    shape, weights, stages = IMAGE, [], []
    for group in GROUPS:
        module = nn.Sequential(*group) if isinstance(group, tuple) else group
        module.double().eval()
        if isinstance(group, tuple):
            weights.append(affine_of(module, shape)[0])
        elif isinstance(module, nn.MaxPool2d):
            stages.append(pool_of(module, shape))
        else:
            size = math.prod(shape)
            stages.append(Slope(np.zeros(size), np.ones(size)))
        shape = tuple(module(torch.zeros(1, *shape).double()).shape[1:])
    layers = [group if isinstance(group, tuple) else (group,) for group in GROUPS]
    return nn.Sequential(*itertools.chain(*layers)).eval(), weights, stages


def halved(member):
    """The tree of one 2 x 2 pool: (0, 1) and (2, 3) of each window, then the two winners."""
    picks = np.array([np.flatnonzero(row) for row in member])
    eye, pairs = np.eye(member.shape[1]), np.eye(2 * len(member))
    rows = [eye[picks[:, i::2].reshape(-1)] for i in (0, 1)]
    return [Between(*rows), Between(pairs[0::2], pairs[1::2])]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", NORMS)
def test_cnn_in_both_treatments_equals_the_oracles(name, norm):
    module, weights, stages = cnn_sample()
    network = lb.from_torch(module, IMAGE)
    exact = oracles.bound(name, weights, stages, norm)
    value = lb.bound(network, name, norm, "implicit").upper
    assert exact * (1 - 1e-13) <= value <= exact * (1 + 1e-9)
    at = next(i for i, stage in enumerate(stages) if isinstance(stage, Pool))
    tree = halved(stages[at].member)
    stages[at : at + 1] = tree
    weights[at + 1 : at + 1] = [np.eye(len(tree[0].p))]
    exact = oracles.bound(name, weights, stages, norm)
    value = lb.bound(network, name, norm, "explicit").upper
    assert exact * (1 - 1e-13) <= value <= exact * (1 + 1e-9)


# Known values of ../shared/spec/bounds.md and docs/theory.md, section 12


def subset_sum(weights, norm):
    """K_1 of a ReLU network in exact rational arithmetic, norm 1 or inf."""
    depth, total = len(weights) - 1, Fraction(0)
    rational = [to_fractions(w) for w in weights]
    for size in range(depth + 1):
        for cuts in itertools.combinations(range(1, depth + 1), size):
            term = Fraction(1, 2**depth)
            for j, k in itertools.pairwise((0, *cuts, depth + 1)):
                term *= norm_fraction(chain(rational[j:k]), norm)
            total += term
    return total


def to_fractions(array):
    return np.array([[Fraction(float(x)) for x in row] for row in np.atleast_2d(array)])


def chain(matrices):
    product = matrices[0]
    for w in matrices[1:]:
        product = w.dot(product)
    return product


def norm_fraction(m, norm):
    return abs(m).sum(0 if norm == 1 else 1).max()


def square_weights(m):
    """docs/theory.md, section 12."""
    inner = [
        np.array([[-2, -2, 0], [2, 2, 0], [4.0**-r, 4.0**-r, 1]]) for r in range(1, m)
    ]  # fmt: skip
    return [np.array([[2.0], [-2.0], [1.0]]), *inner, np.array([[4.0**-m, 4.0**-m, 1.0]])]


def values(network, name):
    return [lb.bound(network, name, norm).upper for norm in NORMS]


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_square_has_its_known_values(m):
    network = analytic.square(m)
    assert values(network, "K_4") == pytest.approx([2 - 2.0**-m] * 3, rel=1e-10)
    assert values(network, "K_3") == pytest.approx([m + 1] * 3, rel=1e-10)
    one, _, infinity = values(network, "K_star")
    assert infinity == pytest.approx(2 * 4.0 ** (m - 1) + 1, rel=1e-10)
    assert one == pytest.approx(5 * math.prod(4 + 4.0**-r for r in range(1, m)), rel=1e-10)
    one, _, infinity = values(network, "K_1")
    assert one == pytest.approx(float(subset_sum(square_weights(m), 1)), rel=1e-10)
    assert infinity == pytest.approx(float(subset_sum(square_weights(m), math.inf)), rel=1e-10)


TABLE = {  # m: K_1 in l1, l2, linf; K_* in l1, l2, linf, to the digits of docs/theory.md
    1: (3.0000, 2.0910, 2.0000, 5.0000, 3.1820, 3),
    2: (7.0625, 4.3207, 3.5312, 21.2500, 12.0968, 9),
    3: (15.5801, 9.2114, 6.9219, 86.3281, 48.2238, 33),
    6: (156.5524, 91.5456, 66.0023, 5553.3541, 3085.6234, 2049),
}


@pytest.mark.parametrize("m", TABLE)
def test_square_has_the_values_of_the_table(m):
    network = analytic.square(m)
    computed = values(network, "K_1") + values(network, "K_star")
    assert computed == pytest.approx(TABLE[m], abs=5.1e-5)


@pytest.mark.parametrize("level", [1, 2, 3, 5, 8])
def test_sawtooth_has_its_known_values(level):
    network = analytic.sawtooth(level)
    for name, base in (("K_1", 2), ("K_4", 2), ("K_star", 4), ("K_3", 4)):
        assert values(network, name) == pytest.approx([base**level] * 3, rel=1e-10)


def test_the_bounds_see_the_writing():
    shifted, split = analytic.square_shifted_tent(3), analytic.square_split_carry(3)
    assert values(shifted, "K_4") == pytest.approx([3.125] * 3, rel=1e-10)
    assert values(shifted, "K_3") == pytest.approx([8.125] * 3, rel=1e-10)
    assert values(split, "K_4") == pytest.approx([10.625] * 3, rel=1e-10)
    assert values(split, "K_3") == pytest.approx([15] * 3, rel=1e-10)


# Rounding: exact rational values of small networks are never undercut


class Rational:
    """K_*, K_1, K_3, K_4 for p = 1, inf in exact arithmetic, of the floats as they are."""

    def __init__(self, weights, alpha, beta):
        self.w = [to_fractions(w) for w in weights]
        low, high = ([to_fractions(stage)[0] for stage in ends] for ends in (alpha, beta))
        self.center = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        self.radius = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        self.depth = len(alpha)

    def segment(self, k, j):
        product = self.w[j]
        for i in range(j + 1, k):
            product = self.w[i].dot(self.center[i - 1][:, None] * product)
        return self.radius[k - 1][:, None] * product if k <= self.depth else product

    def slope(self, k):
        return abs(self.center[k]) + self.radius[k]

    def bounds(self, norm):
        star = math.prod(norm_fraction(w, norm) for w in self.w)
        star *= math.prod(max(self.slope(k)) for k in range(self.depth))
        totals, maps = [Fraction(1)], [to_fractions(np.eye(self.w[0].shape[1]))]
        for k in range(1, self.depth + 2):
            parts = [self.segment(k, j) for j in range(k)]
            totals.append(
                sum(norm_fraction(a, norm) * t for a, t in zip(parts, totals, strict=True))
            )
            maps.append(sum(abs(a).dot(m) for a, m in zip(parts, maps, strict=True)))
        absolute = abs(self.w[0])
        for k in range(self.depth):
            absolute = abs(self.w[k + 1]).dot(self.slope(k)[:, None] * absolute)
        return {
            "K_star": star,
            "K_1": totals[-1],
            "K_3": norm_fraction(absolute, norm),
            "K_4": norm_fraction(maps[-1], norm),
        }


def badly_scaled(rng):
    """Weights over sixteen orders of magnitude, many of whose products nearly cancel."""
    sizes = rng.integers(1, 4, rng.integers(2, 5))
    weights = []
    for n, m in itertools.pairwise(sizes):
        w = rng.standard_normal((m, n)) * 10.0 ** rng.integers(-8, 9, (m, n))
        if rng.random() < 0.5 and n > 1:
            w[:, 1] = -w[:, 0] * (1 + rng.integers(-2, 3) * 1e-16)
        if rng.random() < 0.5 and m > 1:
            w[1] = w[0] * (1 + rng.integers(-2, 3) * 1e-16)
        weights.append(w)
    return weights


@pytest.mark.parametrize("norm", [1, math.inf])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "silu", "sigmoid"])
def test_no_rational_value_is_undercut(name, norm):
    rng = np.random.default_rng(sum(map(ord, name)))
    tight = 0
    for _ in range(60):
        weights = badly_scaled(rng)
        network = lb.from_weights(weights, activation=name)
        alpha = [stage.alpha.tolist() for stage in network.stages]
        beta = [stage.beta.tolist() for stage in network.stages]
        exact = Rational(weights, alpha, beta).bounds(norm)
        for bound in NAMES:
            value = Fraction(lb.bound(network, bound, norm).upper)
            assert value >= exact[bound], bound
            majorant = exact["K_3"] if bound in ("K_3", "K_4") else exact["K_star"]
            assert value <= exact[bound] * (1 + Fraction(1, 10**12)) + majorant / 10**12
        tight += exact["K_4"] < exact["K_3"]
    assert name == "sigmoid" or tight > 5


@pytest.mark.parametrize("norm", NORMS)
def test_rounding_of_near_cancellation_in_depth_is_covered(norm):
    """J = 0 exactly, where floating-point segments need not be."""
    third = np.array([[1 / 3], [1 / 3], [-2 / 3]])
    ones = np.array([[0.1, 0.1, 0.1], [0.7, 0.7, 0.7], [1e8, 1e8, 1e8]])
    network = lb.from_weights([third, ones, ones.T @ ones], activation="identity")
    exact = np.zeros((3, 1))
    for name in NAMES:
        assert lb.bound(network, name, norm).upper >= np.linalg.norm(exact, norm)
    k_3, k_4 = (lb.bound(network, name, norm).upper for name in ("K_3", "K_4"))
    assert 0 < k_4 < 1e-10 * k_3


def test_deep_badly_scaled_networks_have_l2_bounds():
    """Forty small and forty large layers: every bound is 1, segments go down to 1e-200."""
    weights = [np.eye(3) * 1e-5] * 40 + [np.eye(3) * 1e5] * 40
    network = lb.from_weights(weights)
    for name in NAMES:
        assert lb.bound(network, name, 2).upper == pytest.approx(1, rel=1e-9)


# Ensembles, sensitivity, requests


@pytest.mark.parametrize("activation", ["relu", ["relu", "tanh", ["abs", "silu", "relu"]]])
def test_ensembles_equal_the_loop_over_members(activation):
    rng = np.random.default_rng(5)
    weights = [rng.standard_normal((7, 3, 3)) for _ in range(4)]
    weights[1][2] = 0
    network = lb.from_weights(weights, activation=activation)
    table = lb.bounds(network, names=NAMES)
    assert list(table.columns) == [
        "sample", "treatment", "norm", "bound", "value", "lower", "seconds", "reason",
    ]  # fmt: skip
    assert len(table) == 7 * len(NAMES) * 3
    for s in range(7):
        member = lb.from_weights([w[s] for w in weights], activation=activation)
        for name, norm in itertools.product(NAMES, NORMS):
            value = lb.bound(member, name, norm).upper
            whole = lb.bound(network, name, norm).upper
            assert whole.shape == (7,)
            assert whole[s] == pytest.approx(value, rel=1e-9, abs=1e-12)
            rows = table[(table["sample"] == s) & (table.norm == norm) & (table.bound == name)]
            assert rows.value.item() == whole[s]


@quick
@given(pooled_networks(), st.integers(0, 2**32 - 1))
def test_sensitivity_bounds_every_output(sample, seed):
    """|f(x) - f(x')| <= F_4(eps) entrywise for |x - x'| <= eps, and F_4 is the oracle's map."""
    rng = np.random.default_rng(seed)
    network = sample.network
    eps = rng.random(network.input_size) * rng.integers(0, 2, network.input_size)
    moved = lb.sensitivity(network, eps)
    expected = oracles.f_4(sample.weights, sample.stages, eps)
    majorant = oracles.f_3(sample.weights, sample.stages, eps)
    assert (moved.numpy() >= expected * (1 - 1e-13)).all()
    assert (moved.numpy() <= expected * (1 + 1e-9) + 1e-11 * majorant).all()
    x = torch.from_numpy(rng.standard_normal((200, network.input_size)) * 3)
    sign = torch.from_numpy(rng.choice([-1.0, 1.0, 0.3], x.shape))
    difference = (network(x + sign * torch.from_numpy(eps)) - network(x)).abs()
    assert (difference <= moved + 1e-12 * (1 + network(x).abs().max())).all()


def test_sensitivity_of_ensembles_and_images():
    network = ensemble("gaussian", 4, 2, 5, seed=0)
    eps = [0.1, 0.0, 2.0, 1.0]
    for s, moved in enumerate(lb.sensitivity(network, eps)):
        member = lb.from_weights([a.operator.weight[s] for a in network.affines])
        torch.testing.assert_close(moved, lb.sensitivity(member, eps))
    cnn = lb.from_torch(small_cnns()["overlap"], IMAGE)
    image = torch.rand(IMAGE, dtype=torch.float64)
    assert torch.equal(lb.sensitivity(cnn, image), lb.sensitivity(cnn, image.flatten()))
    for eps, message in (
        (torch.ones(3), "3 radii for 36 inputs"),
        (-image, "not negative"),
        (image * math.nan, "finite"),
    ):
        with pytest.raises(lb.LipboundsError, match=message):
            lb.sensitivity(cnn, eps)
    with pytest.raises(lb.LipboundsError, match="no 'K_1'; it has K_4, K_5"):
        lb.sensitivity(cnn, image, "K_1")
    with pytest.raises(lb.LipboundsError, match="K_4 has no option 'budget'; it has seconds"):
        lb.sensitivity(cnn, image, budget=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", NORMS)
def test_affine_networks_have_their_norm(name, norm):
    w = matrix(np.random.default_rng(8), 4, 3)
    value = lb.bound(lb.from_weights([w]), name, norm).upper
    assert value == pytest.approx(np.linalg.norm(abs(w) if name in ("K_3", "K_4") else w, norm))
    zero = lb.from_weights([w * 0, np.ones((2, 4))])
    assert lb.bound(zero, name, norm).upper == 0.0


def test_bounds_lists_each_pair_once():
    seen = []
    network = lb.from_torch(small_cnns()["plain"], IMAGE)
    table = lb.bounds(network, names=["K_4", "K_1"], norms=[1, math.inf], progress=seen.append)
    columns = ["treatment", "norm", "bound", "value", "lower", "seconds", "reason"]
    assert list(table.columns) == columns
    assert len(table) == len(seen) == 8
    assert set(table.treatment) == {"explicit", "implicit"}
    assert table.lower.isna().all() and (table.seconds >= 0).all()
    for result, row in zip(seen, table.itertuples(), strict=True):
        assert (result.name, result.norm, result.treatment) == (row.bound, row.norm, row.treatment)
        again = lb.bound(network, row.bound, row.norm, row.treatment)
        assert row.value == result.upper == again.upper and result.lower is None
    dense_network = lb.from_weights([np.eye(2), np.eye(2)])
    assert set(lb.bounds(dense_network, names=["K_3"]).treatment) == {"explicit"}
    both = lb.bounds(dense_network, ["K_3"], treatments=["implicit", "explicit"])
    assert len(both) == 6


REQUESTS = {
    "name": (dict(name="K_9"), "unknown bound 'K_9'; known are K_star, K_1"),
    "norm": (dict(name="K_4", norm=3), "norm 3 is not supported; take 1, 2 or math.inf"),
    "word": (dict(name="K_4", norm="inf"), "norm 'inf' is not supported"),
    "defined": (dict(name="K_2", norm=1), "K_2 is not defined for norm 1"),
    "treatment": (dict(name="K_4", treatment="both"), "unknown treatment 'both'"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_bad_requests_raise(case):
    arguments, message = REQUESTS[case]
    with pytest.raises(lb.UnsupportedError) as error:
        lb.bound(lb.from_weights([np.eye(2)]), **arguments)
    assert message in str(error.value)


def test_bad_tables_raise_before_any_work():
    network, seen = lb.from_weights([np.eye(2)]), []
    for arguments, message in (
        (dict(names=["K_4", "K_9"]), "unknown bound 'K_9'"),
        (dict(names=["K_4"], norms=[1, 5]), "norm 5"),
        (dict(names=[]), "no bounds"),
        (dict(names=["K_4"], norms=[]), "no norms"),
        (dict(names=["K_2"], norms=[1]), "none of"),
        (dict(treatments=[]), "no treatments"),
        (dict(treatments="explicit"), "treatments = 'explicit' must be a list"),
        (dict(treatments=["explicit", "both"]), "unknown treatment 'both'"),
    ):
        with pytest.raises(lb.LipboundsError, match=message):
            lb.bounds(network, progress=seen.append, **arguments)
    assert not seen


@pytest.mark.parametrize("radii", ["wide", None, [1.0, None], [[1.0], [1.0, 2.0]]])
def test_radii_that_are_no_numbers_raise(radii):
    with pytest.raises(lb.LipboundsError, match="^sensitivity: eps is not an array of numbers"):
        lb.sensitivity(lb.from_weights([np.eye(2)]), radii)


NOT_NETWORKS = {"module": nn.Linear(2, 2), "list": [np.eye(2)], "None": None}


@pytest.mark.parametrize("kind", NOT_NETWORKS)
def test_what_is_no_network_raises(kind):
    given, wanted = NOT_NETWORKS[kind], "{} takes a Network, not .*; make one with lb.from_torch"
    calls = {
        "bound": lambda: lb.bound(given, "K_4", 2),
        "bounds": lambda: lb.bounds(given),
        "sensitivity": lambda: lb.sensitivity(given, [1.0, 1.0]),
        "lower_bound": lambda: lb.lower_bound(given),
        "exact": lambda: lb.exact(given),
        "relaxation_optimum": lambda: lb.relaxation_optimum(given),
        "compare": lambda: lb.compare(given),
    }
    for function, call in calls.items():
        with pytest.raises(lb.LipboundsError, match=wanted.format(function)):
            call()


@pytest.mark.parametrize("function", [lb.bounds, lb.compare])
def test_one_word_or_number_is_no_list(function):
    network = lb.from_weights([np.eye(2)])
    for names in ("K_4", 4):
        with pytest.raises(lb.LipboundsError, match=rf"names = '?{names}'? must be a list, such"):
            function(network, names)
    for norms in (2, math.inf, np.array(2), "inf", None):
        with pytest.raises(lb.LipboundsError, match=r"norms = .* must be a list"):
            function(network, ["K_4"], norms)
    with pytest.raises(lb.UnsupportedError, match=r"unknown bound \['K_4'\]"):
        function(network, [["K_4"]])


SECONDS = [None, -1, -0.5, math.nan, -math.inf, True, "1", [1.0]]


@pytest.mark.parametrize("seconds", SECONDS)
def test_seconds_are_a_number_that_is_not_negative(seconds):
    network = lb.from_weights([np.eye(2), np.eye(2)])
    calls = [
        lambda: lb.bound(network, "K_5", 2, seconds=seconds),
        lambda: lb.bound(network, "geolip", 1, seconds=seconds),
        lambda: lb.bound(network, "best", 2, options={"K_5": {"seconds": seconds}}),
        lambda: lb.bounds(network, ["K_5"], options={"K_5": {"seconds": seconds}}),
        lambda: lb.sensitivity(network, [1.0, 1.0], "K_5", seconds=seconds),
        lambda: lb.lower_bound(network, 1, seconds=seconds),
        lambda: lb.exact(network, 1, seconds=seconds),
        lambda: lb.relaxation_optimum(network, 1, seconds=seconds),
        lambda: lb.compare(network, ["K_4"], [1], seconds=seconds),
    ]
    for call in calls:
        with pytest.raises(lb.LipboundsError, match="seconds = .* must be a number that is not"):
            call()


@pytest.mark.parametrize("name", [n for n in lb.BOUNDS if "seconds" in lb.BOUNDS[n].options])
def test_seconds_may_be_without_limit(name):
    network, norm = lb.from_weights([np.eye(2), np.eye(2)]), lb.BOUNDS[name].norms[-1]
    for seconds in (math.inf, np.float64(20), 20):
        assert lb.bound(network, name, norm, seconds=seconds).upper >= 1.0


def test_options_of_no_bound_raise_before_any_work():
    network, seen = lb.from_weights([np.eye(2)]), []
    for options, message in (
        ({"K_9": {}}, "options name the unknown bounds .'K_9'.; known are"),
        ({"budget": 1e8}, "options name the unknown bounds .'budget'."),
        ({"K_2": {"buget": 1e8}}, "K_2 has no option 'buget'; it has budget, seconds"),
        ({"K_2": 1e8}, "options of K_2 must be a dictionary"),
        ("K_2", "options = 'K_2' must be a dictionary"),
    ):
        with pytest.raises(lb.LipboundsError, match=message):
            lb.bounds(network, ["K_4", "K_2"], [2], options=options, progress=seen.append)
        with pytest.raises(lb.LipboundsError, match=message):
            lb.bound(network, "best", 2, names=["K_4", "K_2"], options=options)
    assert not seen


@pytest.mark.parametrize(
    "error", [torch.linalg.LinAlgError, np.linalg.LinAlgError, OverflowError, ZeroDivisionError]
)
def test_arithmetic_that_breaks_down_names_the_method(monkeypatch, error):
    def breaks(network, norm):
        raise error("at 1e308")

    network, wanted = lb.from_weights([np.eye(2)]), r"breaks in norm 2 .*\(at 1e308\); rescale"
    monkeypatch.setitem(lb.BOUNDS, "breaks", Method("breaks", breaks, ""))
    with pytest.raises(lb.LipboundsError, match=wanted):
        lb.bound(network, "breaks", 2)
    with pytest.raises(lb.LipboundsError, match=wanted):
        lb.BOUNDS["breaks"].upper(network, 2.0)
    assert lb.bound(network, "best", 2, names=["breaks", "K_4"]).winner == "K_4"
    monkeypatch.setattr(sensitivity, "averaged_map", breaks)
    with pytest.raises(lb.LipboundsError, match=r"sensitivity by K_4 .*\(at 1e308\); rescale"):
        lb.sensitivity(network, [1.0, 1.0])


def test_overflow_raises():
    with pytest.raises(lb.LipboundsError, match="overflows double precision"):
        lb.bound(lb.from_weights([np.eye(2) * 1e200] * 3), "K_star", 1)

"""Bounds at the ends of double precision, where squares and products vanish or overflow."""

import math
from fractions import Fraction

import pytest
import torch

import lipbounds as lb
from lipbounds.errors import LipboundsError
from lipbounds.linear.operators import Identity
from lipbounds.methods.registry import BOUNDS
from lipbounds.networks.network import Affine
from lipbounds.networks.scaling import balanced

I2, ONES = torch.eye(2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
CASES = [(1e-170, 1e170), (1e-150, 1.0), (1.0, 1e-150), (1e300, 1e-300), (1e-160, 1e-165),
         (5e-324, 1.0), (5e-324, 1e300), (1e-308, 1e-10), (1e200, 1e-80)]  # fmt: skip
METHODS = [(name, norm) for name, method in BOUNDS.items() for norm in method.norms]


def truth(first: float, last: float) -> Fraction:
    """|| last * ones(2, 2) . first * I ||, 2 of the product in every norm, reached by ReLU at any
    point of positive entries."""
    return 2 * Fraction(first) * Fraction(last)


@pytest.mark.parametrize("first, last", CASES)
@pytest.mark.parametrize("name, norm", METHODS)
def test_no_bound_falls_below_the_truth(name, norm, first, last):
    network = lb.from_weights([first * I2, last * ONES])
    value = lb.bound(network, name, norm).upper
    assert 0 < value < math.inf and Fraction(value) >= truth(first, last)
    if float(truth(first, last)) > 1e-290:
        assert value <= 2.1 * float(truth(first, last))


@pytest.mark.parametrize("first, last", CASES)
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_the_truth_lies_between_the_ends(norm, first, last):
    network = lb.from_weights([first * I2, last * ONES])
    exact = truth(first, last)
    optimum = lb.relaxation_optimum(network, norm)
    assert Fraction(optimum.lower) <= exact <= Fraction(optimum.upper)
    assert Fraction(lb.lower_bound(network, norm, seconds=1).lower) <= exact


@pytest.mark.parametrize("name", ["K_4", "K_5"])
@pytest.mark.parametrize("first, last", CASES)
def test_sensitivity_at_the_ends(name, first, last):
    network = lb.from_weights([first * I2, last * ONES])
    moved = lb.sensitivity(network, [1e-3, 1e-3], name)
    exact = Fraction(1e-3) * truth(first, last)
    assert all(Fraction(float(one)) >= exact for one in moved)


@pytest.mark.parametrize("name, norm", METHODS)
def test_an_overflow_is_refused(name, norm):
    with pytest.raises(LipboundsError, match="overflow"):
        lb.bound(lb.from_weights([1e300 * I2, 1e300 * ONES]), name, norm)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("name", ["K_star", "K_4", "K_5"])
def test_a_network_without_a_path_moves_not_at_all(name, norm):
    dead = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert lb.bound(lb.from_weights([0 * I2, ONES]), name, norm).upper == 0
    if name == "K_4":
        assert lb.bound(lb.from_weights([dead, I2 - dead]), name, norm).upper == 0


def test_each_network_of_an_ensemble_has_its_own_scale():
    sizes = torch.tensor([1e-200, 1.0, 1e200], dtype=torch.float64)[:, None, None]
    values = lb.bound(lb.from_weights([sizes * I2, ONES.expand(3, 2, 2)]), "K_1", 2).upper
    assert values == pytest.approx([2e-200, 2, 2e200], rel=1e-9)


def test_maps_are_scaled_exactly_and_at_most_1():
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(m, n, generator=generator, dtype=torch.float64) * size
        for m, n, size in ((7, 5, 1e-90), (4, 7, 1e90), (3, 4, 1.0))
    ]
    scale = balanced(lb.from_weights(weights, activation="abs"))
    total = 0
    for affine, weight in zip(scale.network.affines, weights, strict=True):
        scaled = affine.operator.weight
        ratio = weight / scaled
        assert (ratio == ratio[0, 0]).all() and math.frexp(float(ratio[0, 0]))[0] == 0.5
        assert max(scaled.abs().sum(0).max(), scaled.abs().sum(1).max()) <= 1
        total += math.frexp(float(ratio[0, 0]))[1] - 1
    assert int(scale.exponent) == total


def test_what_the_last_stage_enlarges_is_counted():
    """Slopes of 2^500 behind which no map is left that could be scaled down."""
    slopes = lb.Activation("steep", lambda z: z * 2.0**500, 0.0, 2.0**500)
    tiny = torch.tensor([[1.0, 0.0], [0.0, 2.0**-900]], dtype=torch.float64)
    first = lb.from_weights([tiny, I2], activation=slopes)
    last = Affine(Identity(2), first.affines[1].offset)
    network = lb.Network((first.affines[0], last), first.stages)
    scale = balanced(network)
    assert float(scale.slack.max()) == 2.0**21
    for norm in (1, 2, math.inf):
        assert lb.bound(network, "K_4", norm).upper >= 2.0**500

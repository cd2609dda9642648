"""The descent against conic solvers' optima, and its promises: feasible, never worse, anytime."""

import math
import time

import numpy as np
import pytest
import torch
from starts import averaged_start
from torch import nn

import lipbounds as lb
from lipbounds.errors import UnsupportedError
from lipbounds.networks.rewrite import explicit
from lipbounds.networks.stages import BetweenStage
from lipbounds.quadratic.form import Multipliers
from lipbounds.quadratic.layered import layered_start
from lipbounds.quadratic.structured.descent import descend
from lipbounds.quadratic.structured.elimination import Elimination
from lipbounds.quadratic.structured.proof import certified_pieces
from lipbounds.studies.cases.random import gaussian

NORMS = (1.0, 2.0, math.inf)


def cnn():
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)
    ).double()
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / 3
    return explicit(lb.from_torch(module, (1, 8, 8)))


def value(network, norm, given, pieces=None):
    elimination = Elimination(network, norm, given, pieces)
    return float(elimination.at(elimination.theta()).value)


@pytest.mark.parametrize("norm", NORMS)
def test_layered_start_is_feasible_with_the_products_value(norm):
    product = float(lb.bound(gaussian([6, 8, 7, 3], 0), "K_star").upper)
    given = layered_start(gaussian([6, 8, 7, 3], 0))
    found = value(gaussian([6, 8, 7, 3], 0), norm, given)
    assert math.isfinite(found)
    if norm == 2:
        assert found <= product * 1.01
    kinds = lb.from_weights([np.eye(4)] * 5, activation=["relu", "abs", "identity", "leaky_relu"])
    assert value(kinds, norm, layered_start(kinds)) < 10
    assert any(isinstance(stage, BetweenStage) for stage in cnn().stages)
    assert math.isfinite(value(cnn(), norm, layered_start(cnn())))


@pytest.mark.parametrize("norm", NORMS)
def test_the_start_does_not_depend_on_the_scales_of_neurons(norm):
    generator = torch.Generator().manual_seed(0)
    weights = [affine.operator.weight for affine in gaussian([6, 8, 7, 3], 0).affines]
    plain = value(lb.from_weights(weights), norm, layered_start(lb.from_weights(weights)))
    for k, size in enumerate((8, 7)):
        scale = 10 ** (12 * torch.rand(size, 1, generator=generator, dtype=torch.float64) - 6)
        weights[k], weights[k + 1] = scale * weights[k], weights[k + 1] / scale.mT
    rescaled = lb.from_weights(weights)
    assert value(rescaled, norm, layered_start(rescaled)) == pytest.approx(plain, rel=1e-6)


def test_near_the_optimum_of_a_conic_solver():
    pytest.importorskip("cvxpy")
    network = gaussian([6, 16, 16, 3], 0)
    found = descend(network, 2.0, layered_start(network), seconds=60, steps=600)
    solver = float(lb.bound(network, "lipsdp_neuron").upper)
    assert float(certified_pieces(network, 2.0, found)) <= 1.01 * solver


@pytest.mark.parametrize("norm", NORMS)
def test_improves_and_stays_proven(norm):
    for network in (gaussian([6, 8, 8, 3], 1), cnn()):
        start = layered_start(network)
        seen = {}
        found = descend(network, norm, start, seconds=60, steps=60, progress=seen.__setitem__)
        values = list(seen.values())
        assert list(seen) == list(range(1, 61))
        proven = certified_pieces(network, norm, found)
        assert float(proven.max()) == pytest.approx(min(values), rel=1e-6)
        assert float(proven.max()) < 0.98 * value(network, norm, start)
        total = {1: found.output.sum(), 2: found.input.max()}.get(norm, found.input.sum())
        own = found.input.max() if norm == 1 else found.output.max()
        assert float((total * own).sqrt()) == pytest.approx(min(values), rel=1e-9)


def test_a_piece_alone_is_better_served():
    network, row = gaussian([6, 8, 8, 3], 1), torch.tensor([0])
    start = layered_start(network)
    shared = descend(network, math.inf, start, seconds=60, steps=100)
    alone = descend(network, math.inf, start, row, seconds=60, steps=100)
    ours, theirs = (float(certified_pieces(network, math.inf, m)[0]) for m in (alone, shared))
    assert ours < theirs


@pytest.mark.parametrize("norm", NORMS)
def test_never_worse_than_the_start_and_anytime(norm):
    network = gaussian([6, 8, 8, 3], 2)
    start = layered_start(network)
    good = descend(network, norm, start, seconds=60, steps=100)
    again = descend(network, norm, good, seconds=60, steps=3)
    assert value(network, norm, again) <= value(network, norm, good) * (1 + 1e-9)
    began = time.monotonic()
    descend(network, norm, start, seconds=0.2)
    assert time.monotonic() - began < 5
    none = descend(network, norm, start, seconds=0.0, steps=5)
    assert value(network, norm, none) == pytest.approx(value(network, norm, start), rel=1e-9)


def test_a_start_outside_the_cone_comes_back():
    network = gaussian([6, 8, 8, 3], 2)
    ones = [torch.ones(1, n, dtype=torch.float64) for n in (6, 3)]
    good = averaged_start(network, *ones)
    bad = Multipliers(1e-9 * good.input[0], [m[0] for m in good.stages], good.output[0])
    assert descend(network, math.inf, bad, seconds=1, steps=5) is bad


def test_exact_equations_and_dead_neurons():
    weights = [np.ones((3, 2)), np.diag([1.0, 1.0, 0.0]), np.ones((2, 3))]
    network = lb.from_weights(weights, activation="identity")
    found = descend(network, math.inf, layered_start(network), seconds=30, steps=200)
    assert 4.0 <= float(certified_pieces(network, math.inf, found).max()) <= 4.1


def test_a_zero_network_keeps_its_start():
    network = lb.from_weights([np.zeros((2, 3)), np.zeros((2, 2))])
    start = layered_start(network)
    for norm in NORMS:
        assert descend(network, norm, start, seconds=1, steps=2) is start


def test_refusals():
    network = gaussian([2, 3, 1], 0)
    with pytest.raises(UnsupportedError):
        descend(network, 3.0, layered_start(network), seconds=1, steps=1)

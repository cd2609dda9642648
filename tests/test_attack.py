"""Soundness by attack: nothing sampled, ascended or enumerated ever exceeds a bound.

Thousands of small networks, as ensembles: secants at several scales, secants found by gradient
ascent, Jacobians, and vertices of the relaxation. And CNNs, in both treatments.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import NAMES, NORMS
from strategies import IMAGE, SLOPES, small_cnns

import lipbounds as lb
from lipbounds.linear.operators import dense

SAMPLES = 250
ROUNDING = 1e-9  # of secants: relative to a bound, with steps of at least 1e-4 of the points
CELLS = {  # sizes, activation
    "relu": ((3, 4, 2), "relu"),
    "relu deep": ((2, 3, 3, 2, 2), "relu"),
    "relu one input": ((1, 4, 4, 1), "relu"),
    "abs": ((2, 3, 3, 3), "abs"),
    "tanh": ((3, 3, 3, 1), "tanh"),
    "leaky": ((2, 4, 4, 2), SLOPES["negative"][2]),
    "steep": ((3, 2, 4, 2), SLOPES["steep"][2]),
    "hardswish": ((2, 3, 3, 2), "hardswish"),
    "gelu": ((3, 4, 3), "gelu"),
    "mixed": ((3, 4, 3, 2), [["relu", "abs", "identity", "tanh"], ["sigmoid", "silu", "selu"]]),
}  # fmt: skip


def cell_ensemble(name):
    """SAMPLES networks: Gaussian, with a third of small integers (ties, zeros), and biases."""
    sizes, activation = CELLS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    weights, biases = [], []
    for n, m in itertools.pairwise(sizes):
        w = rng.standard_normal((SAMPLES, m, n)) * 1.5
        w[::3] = rng.integers(-2, 3, w[::3].shape)
        weights.append(w)
        biases.append(rng.standard_normal((SAMPLES, m)))
    activation = activation if isinstance(activation, list) else [activation] * (len(sizes) - 2)
    return lb.from_weights(weights, biases, activation)


def all_bounds(network, norm, treatments=("implicit",)):
    return {
        (name, treatment): torch.as_tensor(lb.bound(network, name, norm, treatment).upper)
        for name, treatment in itertools.product(NAMES, treatments)
    }


def vector_norm(x, norm):
    return torch.linalg.vector_norm(x, norm, dim=-1)


def secants(function, x, d, norm):
    return vector_norm(function(x + d) - function(x), norm) / vector_norm(d, norm)


def ascended(function, x, d, norm, steps=25, rate=0.05):
    """Secants after normalised gradient ascent on their logarithm, in x and d."""
    length = vector_norm(d, norm).unsqueeze(-1)
    best = secants(function, x, d, norm)
    for _ in range(steps):
        x, d = x.detach().requires_grad_(True), d.detach().requires_grad_(True)
        value = secants(function, x, d, norm)
        best = torch.maximum(best, value.detach())
        gradients = torch.autograd.grad((value + 1e-12).log().sum(), (x, d))
        gradients = [torch.nan_to_num(g) for g in gradients]
        gx, gd = (g / (vector_norm(g, 2).unsqueeze(-1) + 1e-30) for g in gradients)
        x, d = x + rate * gx, d + rate * length * gd
        d = d * (length / vector_norm(d, norm).unsqueeze(-1))
    return best


def assert_below(attained, bounds, rounding):
    for key, value in bounds.items():
        assert bool((attained <= value * (1 + rounding)).all()), key


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_secants_of_ensembles(cell, norm):
    network = cell_ensemble(cell)
    bounds = all_bounds(network, norm)
    generator = torch.Generator().manual_seed(0)
    shape = (SAMPLES, 40, network.input_size)
    best = torch.zeros(SAMPLES, dtype=torch.float64)
    for scale in (1e-3, 0.1, 1.0, 30.0):
        x = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        d = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        d[:, ::4] *= torch.rand(d[:, ::4].shape, generator=generator) < 0.5  # along some axes
        d[..., 0] += (d == 0).all(-1) * scale
        best = torch.maximum(best, secants(network, x, d, norm).amax(1))
    x = torch.randn(SAMPLES, 8, shape[2], generator=generator, dtype=torch.float64)
    d = 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    best = torch.maximum(best, ascended(network, x, d, norm).amax(1))
    assert_below(best, bounds, ROUNDING)
    # The attack bites: somewhere it comes close to the best bound.
    least = torch.stack(list(bounds.values())).amin(0)
    assert float((best / least.clamp(min=1e-300)).max()) > 0.5


def vertex_jacobians(network, choices):
    """J for slopes alpha or beta: choices (v, N) of 0 and 1; (S, v, m, n)."""
    product = network.affines[0].operator.weight.unsqueeze(1)
    start = 0
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        bits = choices[:, start : start + stage.shape[0]].bool()
        start += stage.shape[0]
        slopes = torch.where(bits, stage.beta, stage.alpha)
        product = affine.operator.weight.unsqueeze(1) @ (slopes.unsqueeze(-1) * product)
    return product


@pytest.mark.parametrize("cell", CELLS)
def test_vertices_of_ensembles(cell):
    """All vertices of the relaxations, at most 2^8 each."""
    network = cell_ensemble(cell)
    neurons = sum(stage.shape[0] for stage in network.stages)
    choices = torch.arange(2**neurons).unsqueeze(1) >> torch.arange(neurons) & 1
    jacobians = vertex_jacobians(network, choices)
    for norm in NORMS:
        attained = torch.linalg.matrix_norm(jacobians, norm).amax(1)
        assert_below(attained, all_bounds(network, norm), 1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_jacobians_of_members(cell):
    """Jacobians at random points, by automatic differentiation of sums over an ensemble."""
    network = cell_ensemble(cell)
    x = torch.randn(SAMPLES, 30, network.input_size, dtype=torch.float64).requires_grad_(True)
    y = network(x)
    rows = [
        torch.autograd.grad(y[..., i].sum(), x, retain_graph=True)[0] for i in range(y.shape[-1])
    ]
    jacobians = torch.stack(rows, -2)
    for norm in NORMS:
        attained = torch.linalg.matrix_norm(jacobians, norm).amax(1)
        assert_below(attained, all_bounds(network, norm), 1e-12)


@pytest.mark.parametrize("name", small_cnns())
@pytest.mark.parametrize("norm", NORMS)
def test_cnns_in_both_treatments(name, norm):
    module = small_cnns()[name]
    network = lb.from_torch(module, IMAGE)
    bounds = all_bounds(network, norm, ("implicit", "explicit"))
    generator = torch.Generator().manual_seed(1)

    def function(x):
        return module(x.reshape(-1, *IMAGE))

    attained = []
    for scale in (1e-3, 0.1, 1.0, 30.0):
        x = torch.randn(300, 36, generator=generator, dtype=torch.float64)
        d = scale * torch.randn(300, 36, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            attained.append(secants(function, x, d, norm).max())
    x = torch.randn(40, 36, generator=generator, dtype=torch.float64)
    d = 0.1 * torch.randn(40, 36, generator=generator, dtype=torch.float64)
    attained.append(ascended(function, x, d, norm, steps=40).max())
    jacobians = network.jacobian(torch.randn(300, 36, generator=generator, dtype=torch.float64))
    attained.append(torch.linalg.matrix_norm(jacobians, norm).max())
    best = torch.stack(attained).max()
    assert_below(best, bounds, ROUNDING)
    assert float(best) > 0.1 * float(min(bounds.values()))


@pytest.mark.parametrize("name", small_cnns())
def test_random_vertices_of_cnns(name):
    """Slope stages at random vertices; each pool lets every window pick one of its entries."""
    network = lb.from_torch(small_cnns()[name], IMAGE)
    weights = [dense(affine.operator) for affine in network.affines]
    generator = torch.Generator().manual_seed(2)
    best = dict.fromkeys(NORMS, 0.0)
    for _ in range(200):
        product = weights[0]
        for stage, weight in zip(network.stages, weights[1:], strict=True):
            if stage.center is None:
                pick = torch.randint(
                    stage.windows.shape[1], (len(stage.windows), 1), generator=generator
                )
                product = product[stage.windows.gather(1, pick).squeeze(1)]
            else:
                bits = torch.rand(stage.shape[0], generator=generator) < 0.7
                product = torch.where(bits, stage.beta, stage.alpha).unsqueeze(1) * product
            product = weight @ product
        for norm in NORMS:
            best[norm] = max(best[norm], float(torch.linalg.matrix_norm(product, norm)))
    for norm in NORMS:
        attained = torch.tensor(best[norm], dtype=torch.float64)
        assert_below(attained, all_bounds(network, norm, ("implicit", "explicit")), 1e-12)


def test_attacks_find_what_is_too_small():
    """The checks above can fail: a value 1 % below the exact constant is exceeded."""
    network = lb.from_weights([[[[2.0], [-2.0]]], [[[-1.0, -1.0]]]])
    x = torch.full((1, 1, 1), 0.75, dtype=torch.float64)
    value = ascended(network, x, 0.1 * torch.ones_like(x), math.inf).amax(1)
    assert float(value) == pytest.approx(2, rel=1e-9)
    with pytest.raises(AssertionError):
        assert_below(value, {"too small": torch.tensor([1.98])}, ROUNDING)

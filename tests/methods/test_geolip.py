"""GeoLIP against the relaxation's vertices, known values, the primal problem, and bad requests."""

import math

import cvxpy
import numpy as np
import oracles
import pytest
import torch
from strategies import SLOPES, between_sample, pooled_sample, slope_sample

import lipbounds as lb
from lipbounds.errors import UnsupportedError
from lipbounds.linear.operators import Dense
from lipbounds.methods import geolip as module
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import PoolStage
from lipbounds.results import Status
from lipbounds.studies.cases import analytic


def geolip(network, norm, **options):
    return module.geolip(network, norm, **options).upper


def gaussian(sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(sizes, sizes[1:], strict=False)
    return [rng.standard_normal((m, n)) / math.sqrt(n) for n, m in pairs]


def random_sample(seed):
    rng = np.random.default_rng(seed)
    if seed % 3 == 2:
        return between_sample(pooled_sample(rng, ["slope", "pool"]))
    sizes = rng.integers(1, 4, rng.integers(2, 5))
    names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
    return slope_sample(rng, sizes, names)


@pytest.mark.parametrize("norm", [1, math.inf])
@pytest.mark.parametrize("seed", range(18))
def test_between_the_relaxation_optimum_and_grothendieck(seed, norm):
    """One hidden stage or none: at most K_G < 1.783 times the optimum for ReLU's hypercube."""
    sample = random_sample(seed)
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    exact = oracles.norms_of(jacobians, norm).max()
    value = float(geolip(sample.network, norm))
    assert exact <= value
    assert value <= 1.783 * exact or len(sample.stages) > 1
    if not sample.stages:
        assert value <= exact * (1 + 1e-5)


@pytest.mark.parametrize("norm", [1, math.inf])
def test_known_values(norm):
    assert geolip(analytic.sawtooth(4), norm) == pytest.approx(16, rel=1e-5)
    assert geolip(analytic.square(3), norm) == pytest.approx(1.875, rel=1e-5)
    linear = gaussian([3, 5, 2])
    value = float(geolip(lb.from_weights(linear, activation="identity"), norm))
    exact = np.linalg.norm(linear[1] @ linear[0], norm)
    assert exact <= value <= exact * (1 + 1e-4)
    assert geolip(lb.from_weights([np.zeros((2, 3)), np.ones((1, 2))]), norm) == 0


def natural_relaxation(weights, norm):
    """One hidden ReLU stage: max E[s w1 y] over moment matrices of (s, x, y) with E[s^2] <= 1,
    E[x_j^2] <= 1 and E[(y - z / 2)_j^2] <= E[(z / 2)_j^2]."""
    w0, w1 = weights if norm == math.inf else (weights[1].T, weights[0].T)
    n, best = w0.shape[1], 0.0
    h = len(w0)
    for row in w1:
        moments = cvxpy.Variable((1 + n + h, 1 + n + h), PSD=True)  # of (s, x, y)
        center = np.hstack([np.zeros((h, 1)), -w0 / 2, np.eye(h)])
        radius = np.hstack([np.zeros((h, 1)), w0 / 2, np.zeros((h, h))])
        constraints = [moments[i, i] <= 1 for i in range(1 + n)]
        constraints += [
            cvxpy.trace(moments @ (np.outer(c, c) - np.outer(r, r))) <= 0
            for c, r in zip(center, radius, strict=True)
        ]
        problem = cvxpy.Problem(cvxpy.Maximize(row @ moments[1 + n :, 0]), constraints)
        best = max(best, problem.solve(cvxpy.CLARABEL))
    return best


@pytest.mark.parametrize("norm", [1, math.inf])
def test_equals_the_primal_relaxation(norm):
    weights = gaussian([4, 8, 2])
    value = float(geolip(lb.from_weights(weights), norm))
    assert value == pytest.approx(natural_relaxation(weights, norm), rel=1e-5)


def test_ratios_of_two_hidden_stages():
    network = lb.from_weights(gaussian([6, 10, 10, 2]))
    assert geolip(network, math.inf) < 0.75 * lb.bound(network, "K_4", math.inf).upper


@pytest.mark.parametrize("norm", [1, math.inf])
def test_rows_that_cannot_matter_are_skipped(norm, monkeypatch):
    weights = gaussian([3, 6, 3])
    (weights[1] if norm == math.inf else weights[0].T)[1:] *= 1e-3
    solved = []
    original = module.solve

    def counted(form, *arguments):
        solved.append(form)
        return original(form, *arguments)

    monkeypatch.setattr(module, "solve", counted)
    value = geolip(lb.from_weights(weights), norm)
    assert len(solved) == 1
    alone = [w.copy() for w in weights]
    if norm == math.inf:
        alone[1] = alone[1][:1]
    else:
        alone[0] = alone[0][:, :1]
    assert value == pytest.approx(float(geolip(lb.from_weights(alone), norm)), rel=1e-6)


@pytest.mark.parametrize("norm", [1, math.inf])
def test_time_that_runs_out_leaves_k4(norm):
    network = lb.from_weights(gaussian([6, 16, 16, 3]))
    cheap = lb.bound(network, "K_4", norm).upper
    found = module.geolip(network, norm, seconds=0.0)
    assert found.upper == cheap and found.status is Status.TIME
    assert "programs not solved" in found.left
    assert float(geolip(network, norm, seconds=0.1)) <= cheap


def test_refusals():
    with pytest.raises(UnsupportedError, match="norms 1 and inf only"):
        geolip(lb.from_weights(gaussian([2, 3, 1])), 2)
    with pytest.raises(UnsupportedError, match="geolip takes one network, not an ensemble"):
        geolip(lb.from_weights([torch.ones(3, 1, 1)]), 1)
    with pytest.raises(UnsupportedError, match="geolip: a matrix inequality"):
        geolip(lb.from_weights(gaussian([784, 300, 1])), math.inf)
    pooled = pooled_sample(np.random.default_rng(0), ["pool"]).network
    with pytest.raises(UnsupportedError, match='treatment="explicit"'):
        geolip(pooled, math.inf)


@pytest.mark.parametrize("norm", [1, math.inf])
def test_a_network_whose_paths_cancel(norm):
    """max(x, x) - max(x, x): no path is zero, but all cancel, and K_4 is what rounding left."""
    equal = PoolStage(torch.tensor([[0, 1], [1, 0]]), 2)
    first = Affine(Dense(torch.full((2, 1), -2.0).double()), torch.zeros(2).double())
    last = Affine(Dense(torch.tensor([[-1.0, 1.0]]).double()), torch.zeros(1).double())
    network = lb.explicit(Network((first, last), (equal,)))
    assert 0 <= lb.bound(network, "geolip", norm).upper < 1e-9

"""ECLipsE: its recursion against a plain NumPy one, orderings, known values, bad requests."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SLOPES, between_sample, pooled_sample, quick, slope_networks, slope_sample

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.operators import Dense
from lipbounds.methods import eclipse as module
from lipbounds.methods.eclipse import eclipse_fast
from lipbounds.methods.product import product
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import PoolStage, SlopeStage
from lipbounds.results import Status
from lipbounds.studies.cases import analytic


def eclipse(network, norm, **options):
    return module.eclipse(network, norm, **options).upper


def gaussian(sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(sizes, sizes[1:], strict=False)
    return [rng.standard_normal((m, n)) / math.sqrt(n) for n, m in pairs]


def paper_fast(weights):
    """ECLipsE-Fast for ReLU as published: M_0 = I, lambda = 2 / || W M^-1 W^T ||, M = lambda I -
    lambda^2 / 4 W M^-1 W^T; the bound is sqrt(|| W_L M_L^-1 W_L^T ||)."""
    m = np.eye(weights[0].shape[1])
    for w in weights[:-1]:
        h = w @ np.linalg.solve(m, w.T)
        factor = 2 / np.linalg.norm(h, 2)
        m = factor * np.eye(len(h)) - factor**2 / 4 * h
    return math.sqrt(np.linalg.norm(weights[-1] @ np.linalg.solve(m, weights[-1].T), 2))


@pytest.mark.parametrize("sizes", [(4, 8, 1), (6, 16, 16, 3), (5, 20, 3, 20, 2), (3, 2)])
def test_fast_is_the_published_recursion(sizes):
    weights = gaussian(sizes)
    value = float(eclipse_fast(lb.from_weights(weights), 2))
    assert value == pytest.approx(paper_fast(weights), rel=1e-6)


@quick
@given(slope_networks())
def test_fast_between_the_relaxation_optimum_and_the_product(sample):
    """Mixed slopes, linear and dead neurons included; each linear one may add 1e-6."""
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    value = float(eclipse_fast(sample.network, 2))
    assert oracles.norms_of(jacobians, 2).max() <= value
    assert value <= oracles.plain_product(sample.weights, sample.stages, 2) * (1 + 1e-4)


@quick
@given(st.integers(0, 2**32 - 1))
def test_fast_with_between_stages(seed):
    sample = between_sample(pooled_sample(np.random.default_rng(seed), ["slope", "pool"]))
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    value = float(eclipse_fast(sample.network, 2))
    assert oracles.norms_of(jacobians, 2).max() <= value
    assert value <= oracles.plain_product(sample.weights, sample.stages, 2) * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_orderings(seed):
    rng = np.random.default_rng(seed)
    if seed % 3 == 2:
        sample = between_sample(pooled_sample(rng, ["slope", "pool"]))
    else:
        sizes = rng.integers(1, 4, rng.integers(2, 6))
        names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
        sample = slope_sample(rng, sizes, names)
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    value = float(eclipse(sample.network, 2))
    assert oracles.norms_of(jacobians, 2).max() <= value <= float(eclipse_fast(sample.network, 2))


def published(weights):
    """ECLipsE for ReLU: per stage max c with [[Lambda - c W_next^T W_next, Lambda K], [K^T Lambda,
    I]] >= 0, K K^T = W M^-1 W^T / 4."""
    import cvxpy as cp

    m = np.eye(weights[0].shape[1])
    for w, following in zip(weights, weights[1:], strict=False):
        h = w @ np.linalg.solve(m, w.T) / 4
        root = np.linalg.cholesky(h + 1e-12 * np.eye(len(h)))
        weight, c = cp.Variable(len(h), nonneg=True), cp.Variable()
        scaled = cp.diag(weight) @ root
        corner = cp.diag(weight) - c * following.T @ following
        matrix = cp.bmat([[corner, scaled], [scaled.T, np.eye(len(h))]])
        cp.Problem(cp.Maximize(c), [(matrix + matrix.T) / 2 >> 0]).solve(cp.CLARABEL)
        m = np.diag(weight.value) - weight.value[:, None] * h * weight.value
    return math.sqrt(np.linalg.norm(weights[-1] @ np.linalg.solve(m, weights[-1].T), 2))


@pytest.mark.parametrize("sizes", [(4, 8, 1), (6, 8, 8, 3), (8, 6, 6, 6, 2)])
def test_is_the_published_algorithm(sizes):
    """Where W has fewer columns than rows the optimal multipliers need not be unique."""
    weights = gaussian(sizes)
    value = float(eclipse(lb.from_weights(weights), 2))
    assert value == pytest.approx(published(weights), rel=2e-3)
    assert value < 0.95 * paper_fast(weights)


def test_known_values():
    assert eclipse(analytic.sawtooth(1), 2) == pytest.approx(2, rel=1e-4)
    weights = gaussian([3, 4, 2])
    exact = np.linalg.norm(weights[1] @ weights[0], 2)
    linear = lb.from_weights(weights, activation="identity")
    for method in (eclipse, eclipse_fast):
        assert exact <= float(method(linear, 2)) <= exact * (1 + 1e-4)
        assert method(lb.from_weights([np.zeros((2, 3)), np.ones((1, 2))]), 2) == 0
        norm = np.linalg.norm(weights[0], 2)
        assert norm <= float(method(lb.from_weights(weights[:1]), 2)) <= norm * (1 + 1e-6)


def test_no_time_or_a_failing_solver_leave_the_closed_form(monkeypatch):
    network = lb.from_weights(gaussian([6, 8, 8, 3]))
    fast = eclipse_fast(network, 2)
    found = module.eclipse(network, 2)
    assert found.upper < 0.95 * fast and found.status is Status.CONVERGED and not found.left
    found = module.eclipse(network, 2, seconds=0.0)
    assert found.upper == fast and found.status is Status.TIME
    assert found.left == "2 of 2 stages not solved"

    def failing(*arguments):
        raise LipboundsError("failed")

    monkeypatch.setattr(module, "solve", failing)
    found = module.eclipse(network, 2)
    assert found.upper == fast and found.status is Status.PRECISION


def test_wide_networks_take_no_solver():
    network = lb.from_weights(gaussian([784, 256, 256, 10]))
    value = float(eclipse_fast(network, 2))
    assert value < 0.8 * float(product(network, 2))
    with pytest.raises(UnsupportedError, match="eclipse: a matrix inequality"):
        eclipse(network, 2)


def test_refusals():
    network = lb.from_weights(gaussian([2, 3, 1]))
    for method in (eclipse, eclipse_fast):
        with pytest.raises(UnsupportedError, match=f"{method.__name__} is defined for norm 2 only"):
            method(network, 1)
        with pytest.raises(UnsupportedError, match="not an ensemble"):
            method(lb.from_weights([torch.ones(3, 1, 1)]), 2)
        pooled = pooled_sample(np.random.default_rng(0), ["pool"]).network
        with pytest.raises(UnsupportedError, match='treatment="explicit"'):
            method(pooled, 2)


def test_maxima_of_integers_on_the_edge_of_the_cone():
    """R H R^T has the eigenvalue h / 2 exactly here; tau in single precision is not above it."""
    windows = torch.tensor([[2, 3], [0, 1]])
    first = Affine(Dense(torch.tensor([[2.0], [-2], [-1], [1]]).double()), torch.zeros(4).double())
    last = Affine(Dense(torch.tensor([[1.0, -1]]).double()), torch.zeros(1).double())
    network = lb.explicit(Network((first, last), (PoolStage(windows, 4),)))
    stage, h = network.stages[0], 10 * torch.eye(4, dtype=torch.float64)
    assert module._closed_form(stage, h).dtype == torch.float64
    optimum = lb.relaxation_optimum(network, 2).upper
    for name in ("eclipse_fast", "eclipse"):
        assert optimum <= lb.bound(network, name, 2).upper <= lb.bound(network, "K_star", 2).upper


def test_multipliers_on_the_edge_are_moved_inside():
    stage = SlopeStage.uniform("relu", 2)
    h, edge = torch.ones(2, 2, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    tau, sigma = module._inside_the_cone(stage, h, edge)
    assert bool((tau == 1.0).all()) and bool((torch.linalg.eigvalsh(sigma) > 0).all())
    with pytest.raises(LipboundsError, match="not finite"):
        module._inside_the_cone(stage, torch.full((2, 2), math.inf).double(), edge)


def test_is_no_more_than_the_product_of_norms():
    weights = [np.diag([1.0, 1e-9]), np.array([[0.0, 1.0]]), np.array([[1.0]])]
    network = lb.from_weights(weights)
    worst = lb.bound(network, "K_star", 2).upper
    for value in (eclipse_fast(network, 2), eclipse(network, 2)):
        assert 1e-9 <= float(value) <= worst * (1 + 1e-9)

"""LipSDP against the relaxation's vertices, known values, the unsound variant, and bad requests."""

import math
import sys

import cvxpy
import numpy as np
import oracles
import pytest
import torch
from strategies import SLOPES, between_sample, pooled_sample, slope_sample

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.methods import lipsdp as module
from lipbounds.methods.eclipse import eclipse, eclipse_fast
from lipbounds.quadratic import conic as solvers
from lipbounds.results import Status
from lipbounds.studies.cases import analytic


def lipsdp_neuron(network, norm, **options):
    return module.lipsdp_neuron(network, norm, **options).upper


def lipsdp_layer(network, norm, **options):
    return module.lipsdp_layer(network, norm, **options).upper


def gaussian(sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(sizes, sizes[1:], strict=False)
    return lb.from_weights([rng.standard_normal((m, n)) / math.sqrt(n) for n, m in pairs])


def random_sample(seed):
    """Mixed slopes, linear and dead neurons, bad scales; every third with between stages."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 2:
        return between_sample(pooled_sample(rng, ["slope", "pool"]))
    sizes = rng.integers(1, 4, rng.integers(2, 6))
    names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
    return slope_sample(rng, sizes, names)


@pytest.mark.parametrize("seed", range(24))
def test_orderings(seed):
    sample = random_sample(seed)
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    exact = oracles.norms_of(jacobians, 2).max()
    neuron, layer = (float(f(sample.network, 2)) for f in (lipsdp_neuron, lipsdp_layer))
    assert exact <= neuron <= layer * (1 + 2e-4)
    assert neuron <= float(eclipse(sample.network, 2).upper) * (1 + 2e-4)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_sawtooth(level):
    assert lipsdp_neuron(analytic.sawtooth(level), 2) == pytest.approx(2**level, rel=1e-4)


def test_square():
    value = float(lipsdp_neuron(analytic.square(3), 2))
    assert 1.875 <= value <= 1.875 * (1 + 1e-5)


@pytest.mark.parametrize("method", [lipsdp_neuron, lipsdp_layer])
def test_a_linear_network_is_its_matrix(method):
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(s) for s in ((4, 3), (5, 4), (2, 5))]
    exact = np.linalg.norm(weights[2] @ weights[1] @ weights[0], 2)
    value = float(method(lb.from_weights(weights, activation="identity"), 2))
    assert exact <= value <= exact * (1 + 1e-4)
    value = float(method(lb.from_weights(weights[:1]), 2))
    norm = np.linalg.norm(weights[0], 2)
    assert norm <= value <= norm * (1 + 1e-6)


def test_one_hidden_neuron_layer_by_hand():
    """ReLU, orthogonal rows: LipSDP is || W_1 || || W_0 || where both attain it at one neuron."""
    network = lb.from_weights([[[3.0, 0.0], [0.0, 1.0]], [[2.0, 1.0]]])
    assert lipsdp_neuron(network, 2) == pytest.approx(math.sqrt(37), rel=1e-6)
    zero = lb.from_weights([[[0.0, 0.0]], [[2.0], [1.0]]])
    assert lipsdp_neuron(zero, 2) == 0.0


def test_layer_is_weaker():
    network = gaussian([6, 8, 8, 3])
    layer = float(lipsdp_layer(network, 2))
    assert 1.05 * lipsdp_neuron(network, 2) < layer < eclipse_fast(network, 2)


def test_the_network_variant_is_unsound():
    """f = R(2x) - R(2x + y) with the coupled multiplier T = (e_1 - e_2)(e_1 - e_2)^T: the matrix of
    the "Network" variant is negative semidefinite at L = 1, but Lip_2(f) = sqrt(5)."""
    w0, w1 = np.array([[2.0, 0.0], [2.0, 1.0]]), np.array([[1.0, -1.0]])
    t, claimed = np.array([[1.0, -1.0], [-1.0, 1.0]]), 1.0
    matrix = np.block([[-claimed * np.eye(2), w0.T @ t], [t @ w0, -2 * t + w1.T @ w1]])
    assert np.linalg.eigvalsh(matrix)[-1] <= 1e-12
    network = lb.from_weights([w0, w1])
    point = torch.tensor([-1.0, 3.0], dtype=torch.float64)
    assert np.linalg.norm(network.jacobian(point).numpy(), 2) == pytest.approx(math.sqrt(5))
    assert lipsdp_neuron(network, 2) >= math.sqrt(5)


def test_time_that_runs_out_leaves_a_valid_value():
    network = gaussian([6, 16, 16, 3])
    full = float(lipsdp_neuron(network, 2))
    for seconds in (0.0, 0.02):
        value = float(lipsdp_neuron(network, 2, seconds=seconds))
        assert full * (1 - 1e-6) <= value <= float(eclipse_fast(network, 2))
    assert module.lipsdp_neuron(network, 2).status is Status.CONVERGED
    assert module.lipsdp_neuron(network, 2, seconds=0.0).status is Status.TIME


def test_first_order_solver(monkeypatch):
    network = gaussian([4, 6, 6, 2])
    exact = float(lipsdp_neuron(network, 2))
    monkeypatch.setattr(solvers, "INTERIOR_POINT_WORK", 0)
    assert exact * (1 - 1e-6) <= float(lipsdp_neuron(network, 2)) <= exact * (1 + 3e-3)
    assert module.lipsdp_neuron(network, 2, seconds=0.0).status is Status.TIME


def test_what_the_solver_prints_is_not_on_stdout(monkeypatch, capsys):
    """SCS writes of its failures, asked or not; by Python's stdout."""
    original = cvxpy.Problem.solve

    def loud(*arguments, **options):
        print("ERROR: could not determine problem status.")
        return original(*arguments, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", loud)
    monkeypatch.setattr(solvers, "INTERIOR_POINT_WORK", 0)
    lipsdp_neuron(gaussian([4, 6, 6, 2]), 2)
    printed = capsys.readouterr()
    assert printed.out == "" and "ERROR" in printed.err


def test_wrong_multipliers_stay_sound(monkeypatch):
    """Whatever the solver says, the value is proven."""
    rng = np.random.default_rng(0)
    original = solvers.solve

    def disturbed(*arguments):
        solution = original(*arguments)
        for part in solution.multipliers.stages:
            part.mul_(torch.from_numpy(rng.uniform(0.5, 1.1, len(part))))
        return solution

    monkeypatch.setattr(module, "solve", disturbed)
    for seed in range(12):
        sample = random_sample(3 * seed)
        jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
        assert oracles.norms_of(jacobians, 2).max() <= float(lipsdp_neuron(sample.network, 2))


@pytest.mark.parametrize("status", ["infeasible", "unbounded", "solver_error"])
def test_a_failing_solver_is_named(monkeypatch, status):
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda *a, **k: None)
    monkeypatch.setattr(cvxpy.Problem, "status", property(lambda problem: status))
    with pytest.raises(LipboundsError, match=f"lipsdp_layer.*{status}"):
        lipsdp_layer(gaussian([2, 3, 1]), 2)


def test_refusals(monkeypatch):
    network = gaussian([2, 3, 1])
    with pytest.raises(UnsupportedError, match="lipsdp_neuron is defined for norm 2 only"):
        lipsdp_neuron(network, math.inf)
    with pytest.raises(UnsupportedError, match="not an ensemble"):
        lipsdp_neuron(lb.from_weights([torch.ones(3, 1, 1)]), 2)
    with pytest.raises(UnsupportedError, match="lipsdp_neuron: a matrix inequality with 1811 rows"):
        lipsdp_neuron(gaussian([784, 1017, 10]), 2)

    def without(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(LipboundsError, match=r"pip install 'lipbounds\[solvers\]'"):
        lipsdp_neuron(network, 2)


@pytest.mark.parametrize("name, norm", [("lipsdp_neuron", 2), ("eclipse", 2), ("geolip", 1)])
def test_without_cvxpy_the_error_says_what_to_install(monkeypatch, name, norm):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(LipboundsError, match=r"needs cvxpy: pip install 'lipbounds\[solvers\]'"):
        lb.bound(lb.from_weights([np.eye(2), np.ones((2, 2))]), name, norm)

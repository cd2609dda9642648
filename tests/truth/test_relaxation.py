"""The relaxation optimum against all vertices, and its search against the enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NORMS, bound, norms_of, vertex_jacobians
from strategies import between_sample, pooled_networks, quick, slope_networks

import lipbounds as lb
from lipbounds.clock import OutOfTime, processor_time
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.operators import dense
from lipbounds.methods.averaged import averaged
from lipbounds.networks.network import Network
from lipbounds.networks.stages import PoolStage
from lipbounds.results import Status
from lipbounds.studies.cases import analytic
from lipbounds.studies.cases.random import ensemble
from lipbounds.truth import relaxation, sign_ascent, sign_chain, sign_tree, tail_quadratic
from lipbounds.truth.enumeration import enumerated_optimum

SLOPES = [["relu", "abs", "hardswish", "tanh", "identity", "leaky_relu"]]


def gaussian(sizes, seed=0, activation="relu"):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((m, n)) / math.sqrt(n) for n, m in itertools.pairwise(sizes)]
    return Network.from_weights(weights, activation=activation)


def relaxation_optimum(network, norm, seconds=60.0):
    found = relaxation.relaxation_optimum(network, norm, seconds)
    return found.upper, found.lower


@pytest.fixture
def poor_ascent(monkeypatch):
    """One random vertex, so that what is found is found by the search; and every tree has a
    quadratic bound, not a good one."""
    monkeypatch.setattr(sign_tree, "STARTS", 1)
    monkeypatch.setattr(sign_ascent, "SWEEPS", 0)
    monkeypatch.setattr(sign_tree, "FEW_SIGNS", 0)
    monkeypatch.setattr(tail_quadratic, "STEPS", 15)


def check(sample, norm):
    """Both ends against the greatest norm over all vertices."""
    optimum = norms_of(vertex_jacobians(sample.weights, sample.stages), norm).max()
    upper, lower = relaxation_optimum(sample.network, norm)
    rounding = 1e-14 * bound("K_3", sample.weights, sample.stages, 1 if norm == 1 else math.inf)
    rounding *= 1 if norm != 2 else math.sqrt(max(sample.weights[0].shape[1], 1))
    assert lower <= optimum * (1 + 1e-12) + rounding and optimum * (1 - 1e-12) - rounding <= upper
    assert lower <= upper <= lower * (1 + 1e-9) + 1e3 * rounding


@quick
@given(slope_networks(), st.sampled_from(NORMS))
def test_all_vertices_of_slope_stages(sample, norm):
    check(sample, norm)


@quick
@given(pooled_networks(), st.sampled_from(NORMS))
def test_all_vertices_of_between_stages(sample, norm):
    explicit = between_sample(sample)
    if sum(len(stage.linearisations()) for stage in explicit.stages) < 64:
        check(explicit, norm)


@pytest.mark.usefixtures("poor_ascent")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "sizes, activation",
    [
        ((3, 6, 6, 2), "relu"),
        ((2, 6, 4), SLOPES),
        ((4, 6, 6, 1), SLOPES * 2),
        ((1, 3, 4, 3, 4), "abs"),
        ((5, 1, 7, 2), "leaky_relu"),
        ((4, 3), []),
    ],
)
def test_search_equals_enumeration(sizes, activation, norm, seed):
    network = gaussian(sizes, seed, activation)
    upper, lower = relaxation_optimum(network, norm)
    optimum = enumerated_optimum(network, norm)
    assert lower <= optimum * (1 + 1e-12) and optimum * (1 - 1e-12) <= upper
    assert upper <= lower * (1 + 1e-9)


@pytest.mark.usefixtures("poor_ascent")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("limits", [{"BATCH_ENTRIES": 1}, {"OPEN_ENTRIES": 0}])
def test_small_batches_and_depth_first_give_the_same(norm, limits, monkeypatch):
    for name, value in {**limits, "SMALL_BATCH": 1}.items():
        monkeypatch.setattr(relaxation, name, value)
    network = gaussian((3, 5, 5, 2), 5)
    upper, lower = relaxation_optimum(network, norm)
    assert lower <= enumerated_optimum(network, norm) * (1 + 1e-12)
    assert upper == pytest.approx(enumerated_optimum(network, norm), rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_any_budget_gives_valid_ends(norm, seconds):
    network = gaussian((4, 7, 7, 7, 2), 1)
    exact_upper, exact_lower = relaxation_optimum(network, norm)
    assert exact_upper <= exact_lower * (1 + 1e-9)
    upper, lower = relaxation_optimum(network, norm, seconds)
    assert 0 < lower <= exact_upper and exact_lower <= upper
    assert upper <= float(averaged(network, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_the_status_says_what_keeps_the_ends_apart(norm, monkeypatch):
    network = gaussian((4, 7, 7, 7, 2), 1)
    assert lb.relaxation_optimum(network, norm).status is Status.CONVERGED
    monkeypatch.setattr(sign_tree, "STARTS", 1)
    monkeypatch.setattr(sign_ascent, "SWEEPS", 0)
    late = lb.relaxation_optimum(network, norm, seconds=0.0)
    assert late.status is Status.TIME and late.left.startswith("a gap of")
    search = relaxation._SignSearch
    monkeypatch.setattr(search, "_improve", lambda *_: None)  # no vertex counts: all is rounding
    monkeypatch.setattr(search, "_without_closed", lambda self, nodes: nodes.where(slice(0, 0)))
    monkeypatch.setattr(search, "upper", lambda _: 1.0)
    lost = lb.relaxation_optimum(network, norm)
    assert lost.status is Status.PRECISION and lost.left == "no lower end"


@pytest.mark.parametrize("norm", NORMS)
def test_without_time_for_k_4_it_refuses_or_keeps_the_bound_that_it_has(norm, monkeypatch):
    def late(*_):
        raise OutOfTime("the limit of seconds is over before K_4")

    network = gaussian((4, 7, 2))
    monkeypatch.setattr(relaxation, "averaged_sums", late)
    monkeypatch.setattr(relaxation, "averaged", late)
    with pytest.raises(OutOfTime, match="before K_4"):
        lb.relaxation_optimum(network, norm)
    known = relaxation.relaxation_optimum(network, norm, cap=7.0)
    assert (known.upper, known.lower, known.status) == (7.0, 0.0, Status.TIME)


def test_l2_does_without_k_1_where_that_is_late(monkeypatch):
    def late(*_):
        raise OutOfTime("the limit of seconds is over before K_1")

    network = gaussian((4, 7, 7, 7, 2), 1)
    expected = relaxation_optimum(network, 2)
    monkeypatch.setattr(relaxation, "combettes_pesquet", late)
    assert relaxation_optimum(network, 2) == pytest.approx(expected, rel=1e-9)


def loose_and_tight_output():
    """Output 1, a single path, attains the optimum but output 0 has the greater K_4."""
    weights = [dense(affine.operator) for affine in gaussian((4, 8, 1)).affines]
    loose = Network.from_weights(weights)
    k4, optimum = float(averaged(loose, math.inf)), enumerated_optimum(loose, math.inf)
    assert k4 > 1.2 * optimum
    first, last = torch.zeros(9, 4).double(), torch.zeros(2, 9).double()
    first[:8], last[0, :8] = weights
    first[8, 0], last[1, 8] = 1.0, 0.9 * k4
    return Network.from_weights([first, last])


@pytest.mark.usefixtures("poor_ascent")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("network", [gaussian((3, 4, 4, 4)), loose_and_tight_output()])
def test_ends_are_valid_whenever_the_search_is_cut_off(norm, network, monkeypatch):
    optimum = enumerated_optimum(network, norm)
    for steps in range(24):
        clock = itertools.count()
        monkeypatch.setattr(
            relaxation._SignSearch, "_expired", lambda _, c=clock, n=steps: next(c) >= n
        )
        upper, lower = relaxation_optimum(network, norm)
        assert lower <= optimum * (1 + 1e-12) and optimum * (1 - 1e-12) <= upper


@pytest.mark.parametrize("norm", NORMS)
def test_a_hard_network_is_bracketed_by_its_open_nodes(norm, monkeypatch):
    monkeypatch.setattr(tail_quadratic, "STEPS", 50)
    network = gaussian((2, 24, 24, 24, 24, 2))
    with processor_time():  # the machine may be busy
        upper, lower = relaxation_optimum(network, norm, seconds=1.0)
    assert lower * (1 + 1e-9) < upper < min(float(averaged(network, norm)), 2 * lower)
    generator = torch.Generator().manual_seed(0)
    jacobians = dense(network.affines[0].operator).expand(2000, -1, -1)
    for affine in network.affines[1:]:
        slopes = torch.randint(0, 2, (2000, 24, 1), generator=generator, dtype=torch.float64)
        jacobians = dense(affine.operator) @ (slopes * jacobians)
    assert torch.linalg.matrix_norm(jacobians, norm).max() <= upper


@pytest.mark.parametrize("norm", NORMS)
def test_known_values(norm):
    for level in (1, 3, 6):
        for network, value in (
            (analytic.sawtooth(level), 2.0**level),
            (analytic.square(level), 2 - 2.0**-level),
        ):
            upper, lower = relaxation_optimum(network, norm)
            assert lower <= value <= upper <= lower * (1 + 1e-9)


def test_value_of_the_notes():
    """20-40-20 of shared/spec/k5.md, D* = 6.257: 60 signs, too many to be enumerated."""
    upper, lower = relaxation_optimum(gaussian((20, 40, 20)), math.inf)
    assert lower == pytest.approx(6.257, abs=5e-4) and upper <= lower * (1 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_permuting_neurons_changes_nothing(norm):
    network = gaussian((3, 7, 6, 2), 4)
    rng = np.random.default_rng(0)
    weights = [dense(a.operator).numpy() for a in network.affines]
    orders = [np.arange(3), rng.permutation(7), rng.permutation(6), np.arange(2)]
    permuted = Network.from_weights(
        [w[np.ix_(m, n)] for w, (n, m) in zip(weights, itertools.pairwise(orders), strict=True)]
    )
    ends = relaxation_optimum(permuted, norm)
    assert relaxation_optimum(network, norm) == pytest.approx(ends, rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_one_and_infinity_are_transposed(norm):
    network = gaussian((3, 5, 6, 2), 4)
    weights = [dense(a.operator).T for a in reversed(network.affines)]
    dual = {1: math.inf, math.inf: 1, 2: 2}[norm]
    transposed = relaxation_optimum(Network.from_weights(weights), dual)
    assert relaxation_optimum(network, norm) == pytest.approx(transposed, rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_scaled_weights(norm, scale):
    network = gaussian((3, 7, 7, 2), 2)
    weights = [scale * dense(a.operator) for a in network.affines]
    upper, lower = relaxation_optimum(Network.from_weights(weights), norm)
    assert upper <= lower * (1 + 1e-9)
    assert lower == pytest.approx(scale**3 * enumerated_optimum(network, norm), rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_and_dead_neurons(norm):
    zero = Network.from_weights([np.zeros((3, 2)), np.ones((1, 3))])
    assert relaxation_optimum(zero, norm) == (0.0, 0.0)
    dead = Network.from_weights([[[2.0], [0.0], [1.0]], [[1.0, 5.0, 0.0]]])
    upper, lower = relaxation_optimum(dead, norm)
    assert lower <= 2.0 <= upper <= lower * (1 + 1e-9)


def test_pools_ensembles_norms_and_sizes_are_refused(monkeypatch):
    network = gaussian((2, 4, 1))
    with pytest.raises(UnsupportedError, match="not an ensemble"):
        relaxation_optimum(ensemble("gaussian", 2, 1, 3, 0), 2)
    pool = PoolStage(torch.tensor([[0, 1], [2, 3]]), 4)
    pooled = gaussian((2, 2, 1)).affines[1]
    with pytest.raises(UnsupportedError, match="stage 1.*lipbounds.explicit"):
        relaxation_optimum(Network((network.affines[0], pooled), (pool,)), 2)
    with pytest.raises(UnsupportedError, match="norm 3"):
        relaxation_optimum(network, 3)
    monkeypatch.setattr(sign_chain, "MAXIMUM_ENTRIES", 15)
    with pytest.raises(LipboundsError, match="16 entries.*at most 15"):
        relaxation_optimum(network, 2)


def test_overflow_is_an_error():
    network = Network.from_weights([np.array([[1e200]])] * 2)
    for norm in NORMS:
        with pytest.raises(LipboundsError, match="overflow"):
            relaxation_optimum(network, norm)

"""The theorems of docs/theory.md as properties of random networks, and the counterexamples to what
is not a theorem."""

import math
from functools import partial

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import NAMES, NORMS, vertex_jacobians
from strategies import (
    SLOPES,
    between_sample,
    matrix,
    pooled_networks,
    quick,
    slope_networks,
    slope_sample,
)

import lipbounds as lb
from lipbounds.linear.operators import Dense
from lipbounds.methods.absolute import absolute_map
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import PoolStage, SlopeStage

SUMS = (1, math.inf)


def values(sample, norm, network=None):
    network = sample.network if network is None else network
    return {name: lb.bound(network, name, norm).upper for name in NAMES}


def below(small, large, k):
    """small <= large up to the rounding that the bounds themselves add."""
    return small <= large * (1 + 1e-9) + 1e-11 * k["K_star"] + 1e-11 * k["K_3"]


def optimum(sample, norm):
    """D*, or a good part of its vertices where there are many."""
    count = math.prod(len(stage.linearisations()) for stage in sample.stages)
    assume(count <= 2**13)
    return oracles.norms_of(vertex_jacobians(sample.weights, sample.stages), norm).max()


@quick
@given(slope_networks(), st.sampled_from(SUMS))
def test_slope_stages_l1_and_linf(sample, norm):
    """Theorems 9 and 11: D* <= K_4 <= min(K_1, K_3), K_3 <= K_*."""
    k = values(sample, norm)
    assert optimum(sample, norm) <= k["K_4"] * (1 + 1e-12)
    assert below(k["K_4"], k["K_1"], k)
    assert below(k["K_4"], k["K_3"], k)
    assert below(k["K_3"], k["K_star"], k)


@quick
@given(slope_networks(), st.sampled_from(NORMS))
def test_every_bound_is_above_the_relaxation_optimum(sample, norm):
    best = optimum(sample, norm)
    for name, value in values(sample, norm).items():
        assert best <= value * (1 + 1e-12), name


@quick
@given(pooled_networks(), st.sampled_from(NORMS), st.booleans())
def test_every_bound_is_above_every_vertex_with_pools(sample, norm, explicit):
    sample = between_sample(sample) if explicit else sample
    best = optimum(sample, norm)
    for name, value in values(sample, norm).items():
        assert best <= value * (1 + 1e-12), name


@quick
@given(slope_networks(uniform=True), st.sampled_from(NORMS))
def test_k_1_is_below_k_star_with_one_interval_per_stage(sample, norm):
    """Theorem 12."""
    k = values(sample, norm)
    assert below(k["K_1"], k["K_star"], k)


@quick
@given(slope_networks(), pooled_networks(), st.sampled_from(NORMS))
def test_k_4_is_below_k_3_in_all_norms(slopes, pools, norm):
    """Theorem 10."""
    for sample in (slopes, pools, between_sample(pools)):
        k = values(sample, norm)
        assert below(k["K_4"], k["K_3"], k)


@quick
@given(pooled_networks(uniform=True), st.sampled_from(NORMS))
def test_orderings_with_implicit_pools(sample, norm):
    """Theorems 9, 11 and 12."""
    k = values(sample, norm)
    assert below(k["K_1"], k["K_star"], k)
    if norm != 2:
        assert below(k["K_4"], k["K_1"], k)
        assert below(k["K_3"], k["K_star"], k)


@quick
@given(pooled_networks(), st.sampled_from(SUMS))
def test_orderings_with_between_stages(sample, norm):
    """Theorem 9, and theorem 11 for p = 1."""
    sample = between_sample(sample)
    k = values(sample, norm)
    assert below(k["K_4"], k["K_1"], k)
    assert below(k["K_4"], k["K_3"], k)
    if norm == 1:
        assert below(k["K_3"], k["K_star"], k)


@quick
@given(pooled_networks(), st.integers(0, 2**32 - 1))
def test_maps_are_ordered_monotone_homogeneous_and_subadditive(sample, seed):
    """F_4(v) <= F_3(v) entrywise (theorem 10), and section 8."""
    rng = np.random.default_rng(seed)
    n = sample.network.input_size
    v, w = (torch.from_numpy(rng.random(n) * rng.integers(0, 2, n)) for _ in range(2))
    for network in (sample.network, lb.explicit(sample.network)):
        f_3, f_4 = (
            (lambda x, net=network: absolute_map(net, x[None])[0]),
            (lambda x, net=network: lb.sensitivity(net, x)),
        )
        slack = 1e-11 * f_3(v + w)
        assert (f_4(v) <= f_3(v) + slack).all()
        for f in (f_3, f_4):
            assert (f(v) <= f(v + w) + slack).all()
            assert (f(v + w) <= f(v) + f(w) + slack).all()
            torch.testing.assert_close(f(4 * v), 4 * f(v), rtol=1e-14, atol=0)


@quick
@given(slope_networks(), pooled_networks())
def test_norms_of_k_4_come_from_its_map(slopes, pools):
    """K_4(inf) = max F(1); K_4(1) = max_k sum F(e_k), by columns or by the transposed map."""
    for network in (slopes.network, pools.network, lb.explicit(pools.network)):
        eye = np.eye(network.input_size)
        matrix = np.array([lb.sensitivity(network, e).numpy() for e in eye]).T
        k = {norm: lb.bound(network, "K_4", norm).upper for norm in NORMS}
        k_3 = {norm: lb.bound(network, "K_3", norm).upper for norm in NORMS}
        assert k[1] == pytest.approx(matrix.sum(0).max(), rel=1e-9, abs=1e-11 * k_3[1])
        assert k[2] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-9, abs=1e-11 * k_3[2])
        at_ones = float(lb.sensitivity(network, np.ones(len(eye))).max())
        assert k[math.inf] == pytest.approx(at_ones, rel=1e-12)
        if not network.has_pools:
            slack = 1e-11 * k_3[math.inf]
            assert at_ones == pytest.approx(matrix.sum(1).max(), rel=1e-9, abs=slack)


@quick
@given(slope_networks(depths=(1, 1)))
def test_one_hidden_stage_has_the_exact_suprema(sample):
    """Section 11: the entries of F_4's matrix are the suprema of |J_ij| over the vertices."""
    eye = np.eye(sample.network.input_size)
    matrix = np.array([lb.sensitivity(sample.network, e).numpy() for e in eye]).T
    exact = abs(vertex_jacobians(sample.weights, sample.stages)).max(0)
    majorant = np.array([oracles.f_3(sample.weights, sample.stages, e) for e in eye]).T
    assert (matrix >= exact * (1 - 1e-14)).all()
    assert (matrix <= exact * (1 + 1e-12) + 1e-12 * majorant).all()


def rebuilt(sample, weights, functions):
    biases = [affine.offset for affine in sample.network.affines]
    return Network.from_weights(weights, biases, functions)


def names_of(sample):
    """The activations of each neuron, from the stages' parts."""
    per_stage = []
    for stage in sample.network.stages:
        functions = [None] * stage.shape[0]
        for function, index in stage.parts:
            for neuron in torch.arange(stage.shape[0])[index].tolist():
                functions[neuron] = function
        per_stage.append(functions)
    return per_stage


@quick
@given(slope_networks(depths=(1, 3)), st.integers(0, 2**32 - 1), st.sampled_from(NORMS))
def test_permuting_neurons_changes_nothing(sample, seed, norm):
    rng = np.random.default_rng(seed)
    weights, functions = [w.copy() for w in sample.weights], names_of(sample)
    for k in range(sample.network.depth):
        order = rng.permutation(len(weights[k]))
        weights[k], weights[k + 1] = weights[k][order], weights[k + 1][:, order]
        functions[k] = [functions[k][i] for i in order]
    k, permuted = values(sample, norm), values(sample, norm, rebuilt(sample, weights, functions))
    for name in NAMES:
        slack = 1e-11 * k["K_star"]
        assert permuted[name] == pytest.approx(k[name], rel=1e-9, abs=slack), name


@quick
@given(pooled_networks(), st.integers(0, 2**32 - 1), st.sampled_from(NORMS))
def test_permuting_the_inputs_of_a_pool_changes_nothing(sample, seed, norm):
    rng = np.random.default_rng(seed)
    network = sample.network
    k = next(i for i, stage in enumerate(network.stages) if isinstance(stage, PoolStage))
    pool, affine = network.stages[k], network.affines[k]
    order = torch.from_numpy(rng.permutation(pool.shape[1]))
    affines, stages = list(network.affines), list(network.stages)
    affines[k] = Affine(Dense(affine.operator.weight[order]), affine.offset[order])
    stages[k] = PoolStage(torch.argsort(order)[pool.windows], pool.shape[1])
    permuted = Network(tuple(affines), tuple(stages))
    before, after = values(sample, norm), values(sample, norm, permuted)
    for name in NAMES:
        slack = 1e-11 * before["K_star"]
        assert after[name] == pytest.approx(before[name], rel=1e-9, abs=slack), name


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(NORMS))
def test_rescaling_homogeneous_neurons_leaves_k_3_and_k_4(seed, depth, norm):
    rng = np.random.default_rng(seed)
    kinds = ("relu", "abs", "leaky", "identity", "steep", "negative")
    sizes = rng.integers(1, 4, depth + 2)
    sample = slope_sample(rng, sizes, [list(rng.choice(kinds, size)) for size in sizes[1:-1]])
    weights = [w.copy() for w in sample.weights]
    biases = [affine.offset.numpy().copy() for affine in sample.network.affines]
    for k in range(depth):
        scale = 10.0 ** rng.uniform(-3, 3, len(weights[k]))
        weights[k] *= scale[:, None]
        biases[k] *= scale
        weights[k + 1] = weights[k + 1] / scale
    rescaled = Network.from_weights(weights, biases, names_of(sample))
    x = torch.from_numpy(rng.standard_normal((20, sizes[0])))
    error = (rescaled(x) - sample.network(x)).abs().max()
    assert float(error) <= 1e-9 * (1 + values(sample, math.inf)["K_3"]) * 10
    for name in ("K_3", "K_4"):
        before, after = (lb.bound(n, name, norm).upper for n in (sample.network, rescaled))
        majorant = lb.bound(sample.network, "K_3", norm).upper
        assert after == pytest.approx(before, rel=1e-9, abs=1e-10 * majorant), name


# What is not a theorem


def all_values(network):
    return {name: [lb.bound(network, name, norm).upper for norm in NORMS] for name in NAMES}


def test_rescaling_changes_k_star_and_k_1():
    """Section 11: one neuron scaled by 2."""
    even = lb.from_weights([[[1.0], [1.0]], [[1.0, 1.0]]])
    odd = lb.from_weights([[[2.0], [1.0]], [[0.5, 1.0]]])
    k, rescaled = ({n: v[2] for n, v in all_values(x).items()} for x in (even, odd))
    assert k == pytest.approx({"K_star": 2, "K_1": 2, "K_3": 2, "K_4": 2}, rel=1e-10)
    assert rescaled == pytest.approx({"K_star": 3, "K_1": 2.5, "K_3": 2, "K_4": 2}, rel=1e-10)


@pytest.mark.parametrize("second, k_1", [("abs", 2.0), ("relu", 1.5)])
def test_k_1_may_exceed_k_star_with_two_intervals_in_a_stage(second, k_1):
    """Section 10."""
    stage = SlopeStage.mixed(["identity", second])
    affine = Affine(Dense(torch.eye(2).double()), torch.zeros(2).double())
    k = all_values(Network((affine, affine), (stage,)))
    assert k["K_1"] == pytest.approx([k_1] * 3, rel=1e-10)
    for name in ("K_star", "K_3", "K_4"):
        assert k[name] == pytest.approx([1] * 3, rel=1e-10)


def test_k_3_and_k_4_may_exceed_k_star_and_k_1_in_l2():
    """Section 10."""
    network = lb.from_weights([[[1.0, 1.0], [1.0, -1.0]], np.eye(2)])
    k = {name: value[1] for name, value in all_values(network).items()}
    assert k == pytest.approx(
        {"K_star": math.sqrt(2), "K_1": math.sqrt(2), "K_3": 2, "K_4": 2}, rel=1e-10
    )


def test_k_1_and_k_3_cannot_be_compared():
    """Section 10: the saw-tooth and x^2, one level each."""
    sawtooth = lb.from_weights([[[2.0], [-2.0]], [[-1.0, -1.0]]])
    square = lb.from_weights([[[2.0], [-2.0], [1.0]], [[0.25, 0.25, 1.0]]])
    for norm, first, second in zip(NORMS, (2, 2, 2), (3, None, 2), strict=True):
        assert lb.bound(sawtooth, "K_1", norm).upper == pytest.approx(first, rel=1e-10)
        assert lb.bound(sawtooth, "K_3", norm).upper == pytest.approx(4, rel=1e-10)
        assert lb.bound(square, "K_3", norm).upper == pytest.approx(2, rel=1e-10)
        if second:
            assert lb.bound(square, "K_1", norm).upper == pytest.approx(second, rel=1e-10)


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_softmax_and_its_logarithm_have_these_constants(n, norm):
    """Proposition 22: Jacobians at random points are below, those near corners come close."""
    generator = torch.Generator().manual_seed(n)
    log_constant = {1: n - 1, 2: math.sqrt(n), math.inf: 2}[norm]
    scale = torch.logspace(-2, 2, 400, dtype=torch.float64).unsqueeze(1)
    z = scale * torch.randn(400, n, generator=generator, dtype=torch.float64)
    z[0], z[1] = 0.0, 0.0
    z[0, :2], z[1, 0] = 60.0, 60.0
    for function, constant in ((torch.softmax, 0.5), (torch.log_softmax, log_constant)):
        jacobians = torch.func.vmap(torch.func.jacrev(partial(function, dim=0)))(z)
        norms = torch.linalg.matrix_norm(jacobians, norm)
        assert constant * (1 - 1e-9) < float(norms.max()) <= constant * (1 + 1e-12)


def test_strategies_reach_every_kind_of_stage():
    """The properties above are about something: networks with mixed slopes where bounds differ."""
    rng = np.random.default_rng(0)
    strict = 0
    for _ in range(100):
        sizes = rng.integers(1, 4, 5)
        names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
        sample = slope_sample(rng, sizes, names)
        k = values(sample, 1)
        strict += k["K_4"] < 0.99 * min(k["K_1"], k["K_3"], k["K_star"])
    assert strict > 20
    assert matrix(rng, 3, 2).shape == (3, 2)

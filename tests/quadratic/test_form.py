"""The quadratic form against its definition, its certificate against dense eigenvalues."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import between_sample, pooled_sample, quick, slope_networks

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.networks.rewrite import input_column, output_row
from lipbounds.quadratic import form as quadratic
from lipbounds.quadratic.form import Form, Multipliers, certified, deficit

SEEDS = st.integers(0, 2**32 - 1)


def random_multipliers(form, rng):
    first, *stages, last = (torch.from_numpy(rng.exponential(size=n)) for n in form.widths)
    return Multipliers(first, stages, last)


def dense_form(sample, given):
    """Q as a NumPy matrix, entry by entry of the definition, unscaled."""
    widths = [w.shape[1] for w in sample.weights] + [sample.weights[-1].shape[0]]
    starts = np.cumsum([0, *widths])
    q = np.zeros((starts[-1], starts[-1]))
    parts = [given.input, *given.stages, given.output]
    first, *lambdas, last = (m.numpy() for m in parts)
    q[: widths[0], : widths[0]] = np.diag(first)
    for k, (w, stage) in enumerate(zip(sample.weights[:-1], sample.stages, strict=True)):
        center, radius = stage.pair
        for j in range(widths[k + 1]):
            a = np.zeros(starts[-1])
            a[starts[k + 1] + j] = 1
            b = np.zeros(starts[-1])
            a[starts[k] : starts[k + 1]] = -(center @ w)[j]
            b[starts[k] : starts[k + 1]] = (radius @ w)[j]
            q += lambdas[k][j] * (np.outer(a, a) - np.outer(b, b))
    q[starts[-2] :, starts[-3] : starts[-2]] -= sample.weights[-1]
    q[starts[-3] : starts[-2], starts[-2] :] -= sample.weights[-1].T
    q[starts[-2] :, starts[-2] :] += np.diag(last)
    return q


def assembled(form, given):
    diagonal, below = form.blocks(given)
    starts = np.cumsum([0, *form.widths])
    q = np.zeros((starts[-1], starts[-1]))
    for k, block in enumerate(diagonal):
        q[starts[k] : starts[k + 1], starts[k] : starts[k + 1]] = block.numpy()
    for k, block in enumerate(below):
        q[starts[k + 1] : starts[k + 2], starts[k] : starts[k + 1]] = block.numpy()
        q[starts[k] : starts[k + 1], starts[k + 1] : starts[k + 2]] = block.numpy().T
    return q


def samples(seed):
    rng = np.random.default_rng(seed)
    return between_sample(pooled_sample(rng, ["slope", "pool"])), rng


def check_form(sample, seed):
    rng = np.random.default_rng(seed)
    form = Form(sample.network, ball=bool(seed % 2))
    given = random_multipliers(form, rng)
    scales = np.concatenate([*(d.numpy() for d in form.scales), np.ones(form.widths[-1])])
    scales[-form.widths[-1] :] /= float(form.unit)
    live = np.concatenate([*(d.numpy() > 0 for d in form.kept), np.full(form.widths[-1], True)])
    expected = scales[:, None] * dense_form(sample, form.to_network(given)) * scales
    got = assembled(form, given)
    difference = abs(got - expected)[np.ix_(live, live)]
    assert difference.max() <= 1e-12 * float(form.row_sums(given).max())
    assert (abs(got).sum(1) <= form.row_sums(given).numpy() * (1 + 1e-12)).all()
    back = form.from_network(form.to_network(given))
    for ours, theirs in zip(back.stages, given.stages, strict=True):
        assert torch.equal(ours, theirs)


@quick
@given(slope_networks(), SEEDS)
def test_blocks_are_the_definition(sample, seed):
    check_form(sample, seed)


@quick
@given(SEEDS)
def test_blocks_are_the_definition_for_between_stages(seed):
    check_form(samples(seed)[0], seed)


@quick
@given(slope_networks(), SEEDS, st.floats(-6, 6))
def test_deficit_is_the_least_eigenvalue_from_above(sample, seed, size):
    form = Form(sample.network, ball=True)
    given = random_multipliers(form, np.random.default_rng(seed))
    given = Multipliers(given.input * 10**size, given.stages, given.output)
    exact = max(0.0, -float(np.linalg.eigvalsh(assembled(form, given))[0]))
    delta = float(deficit(form, given))
    rounding = 1e-12 * float(form.row_sums(given).max())
    assert exact - rounding <= delta <= 1.2 * exact + 10 * rounding + 1e-9


def test_deficit_in_exact_arithmetic():
    """W = 1, mu = nu = m: Q = [[m, -1/2], [-1/2, m]] at V = 2, least eigenvalue m - 1/2."""
    form = Form(lb.from_weights([[[1.0]]]), ball=True)
    assert float(form.unit) == 2.0
    for m in (0.0, 0.25, 0.5, 1.0):
        weight = torch.tensor([m], dtype=torch.float64)
        delta = float(deficit(form, Multipliers(weight, [], weight)))
        assert max(0.0, 0.5 - m) <= delta <= 1.11 * max(0.0, 0.5 - m) + 1e-12


def attack(network, norm, value, rng):
    """J at many points of the network never exceeds the bound."""
    points = torch.from_numpy(rng.standard_normal((64, network.input_size)) * 10)
    jacobians = network.jacobian(points).numpy()
    assert oracles.norms_of(jacobians, norm).max() <= value


@quick
@given(slope_networks(), SEEDS)
def test_any_multipliers_bound_the_relaxation_in_l2(sample, seed):
    rng = np.random.default_rng(seed)
    exact = oracles.norms_of(oracles.vertex_jacobians(sample.weights, sample.stages), 2).max()
    form = Form(sample.network, ball=True)
    value = float(certified(form, random_multipliers(form, rng)))
    assert exact <= value
    attack(sample.network, 2, value, rng)


@quick
@given(SEEDS)
def test_any_multipliers_bound_rows_and_columns(seed):
    sample, rng = samples(seed)
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    for i in range(sample.network.output_size):
        form = Form(output_row(sample.network, i), ball=False)
        exact = abs(jacobians[:, i]).sum(-1).max()
        assert exact <= float(certified(form, random_multipliers(form, rng)))
        assert exact <= float(form.cheap)
    for k in range(sample.network.input_size):
        form = Form(input_column(sample.network, k), ball=False)
        exact = abs(jacobians[:, :, k]).sum(-1).max()
        assert exact <= float(certified(form, random_multipliers(form, rng)))
        assert exact <= float(form.cheap)


@quick
@given(slope_networks(depths=(1, 3)), SEEDS)
def test_reach_holds_every_difference(sample, seed):
    rng = np.random.default_rng(seed)
    differences = rng.uniform(-1, 1, (100, sample.network.input_size))
    for ball in (True, False):
        x = (
            differences / np.linalg.norm(differences, axis=1, keepdims=True)
            if ball
            else differences
        )
        form = Form(sample.network, ball)
        for k, stages in enumerate(sample.stages, start=1):
            maps = oracles.vertex_jacobians([*sample.weights[:k], np.eye(len(stages.alpha))],
                                            sample.stages[:k])  # fmt: skip
            y = np.einsum("vij,sj->vsi", maps, x)
            assert (abs(y) <= form.scales[k].numpy() * (form.kept[k] > 0).numpy() + 1e-300).all()
            scaled = np.linalg.norm(y / form.scales[k].numpy(), axis=-1) ** 2
            assert scaled.max() <= float(form.moving)


def test_negative_and_nan_multipliers_are_clipped():
    form = Form(lb.from_weights([[[1.0]], [[1.0]]]), ball=True)
    one = torch.ones(1, dtype=torch.float64)
    for bad in (-5.0, math.nan, math.inf):
        value = certified(form, Multipliers(one, [bad * one], one))
        assert value == certified(form, Multipliers(one, [0 * one], one))
        assert value >= 1.0


def test_a_dead_neuron_leaves_the_form():
    network = lb.from_weights([[[1.0], [0.0]], [[1.0, 1.0]]], activation="relu")
    form = Form(network, ball=False)
    assert form.kept[1].tolist()[1] == 0.0
    assert form.centers[0][1].tolist() == [0.0]
    assert form.last[0, 1] == 0.0


def test_extreme_scales():
    weights = [np.array([[1e-120], [1e60]]), np.array([[1e120, 1e-60]])]
    network = lb.from_weights(weights, activation="abs")
    for ball in (True, False):
        form = Form(network, ball)
        one = torch.ones(1, dtype=torch.float64)
        value = float(certified(form, Multipliers(one, [torch.ones(2).double()], one)))
        assert 2.0 <= value < 100
    with pytest.raises(LipboundsError, match="overflows"):
        Form(lb.from_weights([np.array([[1e200]])] * 2), ball=False)


def test_refusals():
    with pytest.raises(UnsupportedError, match="lipsdp takes one network, not an ensemble"):
        quadratic.single(lb.from_weights([torch.ones(3, 1, 1)]), "lipsdp")
    pooled = pooled_sample(np.random.default_rng(0), ["pool"]).network
    with pytest.raises(UnsupportedError, match='treatment="explicit"'):
        quadratic.single(pooled, "lipsdp")

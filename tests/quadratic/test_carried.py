"""Values carried past a layer: the recursion against dense matrices, optima against a conic solver,
every proof against the vertices."""

import math

import cvxpy as cp
import numpy as np
import oracles
import pytest
import torch
from strategies import SLOPES, slope_sample

import lipbounds as lb
from lipbounds.networks.rewrite import merged
from lipbounds.quadratic.layered import layered_start
from lipbounds.quadratic.newton.barrier import Barrier
from lipbounds.quadratic.newton.feasibility import certified
from lipbounds.quadratic.newton.mixed_forms import MixedForms
from lipbounds.quadratic.newton.programs import _forms, _theta

NORMS = (1.0, 2.0, math.inf)
NETWORKS = {
    "one": ([3, 4, 4, 2], [["relu", "identity", "abs", "tanh"]] * 2),
    "scaled": ([2, 3, 3, 3], [["steep", "identity", "leaky"], ["identity", "hardswish", "abs"]]),
    "more than inputs": ([2, 5, 5, 3], [["identity"] * 4 + ["relu"]] * 2),
    "a stage of them": ([3, 4, 3, 4, 2], [["relu"] * 4, ["identity"] * 3, ["negative"] * 4]),
    "at the ends": ([3, 4, 3, 4, 2], [["identity"] * 4, ["steep"] * 3, ["identity"] * 4]),
    "in one stage": ([3, 4, 4, 2], [["relu"] * 4, ["relu", "identity", "identity", "relu"]]),
}


def sample(name, seed=0):
    return slope_sample(np.random.default_rng(seed), *NETWORKS[name])


def residual(blocks, width, seed=0):
    """x + V sigma(W x) `blocks` times, then two outputs; the trunk is carried."""
    rng, unit = np.random.default_rng(seed), np.eye(width)
    weights, trunk = [], unit
    for _ in range(blocks):
        weights.append(np.r_[unit, rng.standard_normal((width, width))] @ trunk)
        trunk = np.c_[unit, rng.standard_normal((width, width)) / 2]
    weights.append(rng.standard_normal((2, width)) @ trunk)
    names = ["identity"] * width + ["relu"] * width
    slopes = oracles.Slope(*(np.array([SLOPES[n][end] for n in names]) for end in (0, 1)))
    return lb.from_weights(weights, activation=[names] * blocks), weights, [slopes] * blocks


def piece_of(weights, norm, piece):
    """The matrices of one output row or input column."""
    first, *_, last = weights
    if norm == math.inf:
        return [*weights[:-1], last[[piece]]]
    return [first[:, [piece]], *weights[1:]] if norm == 1 else weights


def rows_of(weights, stages):
    """l and h of every multiplier, as rows over (x, free neurons, s), and the coupling of s."""
    inputs, outputs = weights[0].shape[1], weights[-1].shape[0]
    free = [stage.alpha != stage.beta for stage in stages]
    side = inputs + sum(int(mask.sum()) for mask in free) + outputs
    unit = np.eye(side)
    reach, at = unit[:inputs], inputs
    lows, highs = [unit[:inputs]], [unit[:inputs]]
    for weight, stage, mask in zip(weights, stages, free, strict=False):
        low, high = (slope[:, None] * (weight @ reach) for slope in (stage.alpha, stage.beta))
        own = unit[at : at + mask.sum()]
        lows.append(own - low[mask])
        highs.append(own - high[mask])
        reach = low.copy()
        reach[mask], at = own, at + len(own)
    ends = unit[at:]
    coupling = ends.T @ weights[-1] @ reach
    lows, highs = (np.concatenate([*part, ends]) for part in (lows, highs))
    return lows, highs, coupling + coupling.T


def form(rows, theta):
    low, high, coupling = rows
    product = low.T @ (theta[:, None] * high)
    return (product + product.T) / 2 - coupling


def program(network, norm, piece=0):
    """The form of one piece and a start well inside."""
    first = torch.tensor([0])
    forms = _forms(network, None, norm, first, torch.tensor([piece]))
    assert isinstance(forms, MixedForms)
    return forms, _theta(layered_start(network, 0.25), forms, first)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_recursion_is_elimination_in_the_dense_form(name, norm):
    """log det, what is left of the last block, and the products that a Newton step is made of."""
    one = sample(name)
    forms, theta = program(one.network, norm)
    rows = rows_of(piece_of(one.weights, norm, 0), one.stages)
    q = form(rows, theta[0].numpy())
    end = np.zeros(len(q), bool)
    end[forms.end] = True
    positive, log_determinant, rest = forms.eliminated(theta)
    assert bool(positive)
    assert float(log_determinant) == pytest.approx(np.linalg.slogdet(q[~end][:, ~end])[1])
    side = q[~end][:, end]
    schur = q[end][:, end] - side.T @ np.linalg.solve(q[~end][:, ~end], side)
    expected = np.diag(theta[0].numpy()[end]) - schur
    assert np.allclose(rest[0], expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
    positive, whole = forms.inverse(theta)
    low, high, _ = rows
    inverse = np.linalg.inv(q)
    for found, (a, b) in zip(forms.gram(whole), ((low, low), (low, high), (high, high)),
                             strict=True):  # fmt: skip
        expected = a @ inverse @ b.T
        assert np.allclose(found[0], expected, rtol=1e-8, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize("norm", NORMS)
def test_moments_are_the_derivatives_of_log_det(norm):
    one = sample("scaled")
    forms, theta = program(one.network, norm)
    rows = rows_of(piece_of(one.weights, norm, 0), one.stages)
    moments = forms.gram(forms.inverse(theta)[1])[1][0].diagonal()
    at = theta[0].numpy()
    for j, moment in enumerate(moments):
        step = np.eye(len(at))[j] * 1e-4 * at[j]
        up, down = (np.linalg.slogdet(form(rows, at + sign * step))[1] for sign in (1, -1))
        assert float(moment) * at[j] == pytest.approx((up - down) / 2e-4, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_positive_is_what_the_eigenvalues_say(name, norm):
    one, rng = sample(name, 2), np.random.default_rng(3)
    forms, theta = program(one.network, norm)
    rows = rows_of(piece_of(one.weights, norm, 0), one.stages)
    seen = set()
    for spread in (0.1, 0.5, 1, 1.5, 2, 3):
        for _ in range(5):
            moved = theta * torch.exp(spread * torch.from_numpy(rng.standard_normal(theta.shape)))
            q = form(rows, moved[0].numpy())
            scale = 1 / np.sqrt(np.abs(q.diagonal()))
            least = np.linalg.eigvalsh(scale[:, None] * q * scale)[0]
            if abs(least) > 1e-9:
                seen.add(least > 0)
                assert bool(Barrier(forms).positive(moved)) == bool(forms.inverse(moved)[0])
                assert bool(Barrier(forms).positive(moved)) == (least > 0)
    assert seen == {True, False}


def conic(weights, stages, norm):
    """min (sum mu + sum nu) / 2, in l2 of their greatest entries, over Q >= 0, by Clarabel."""
    rows = rows_of(weights, stages)
    side, inputs, outputs = len(rows[0]), weights[0].shape[1], weights[-1].shape[0]
    theta = cp.Variable(side)
    product = rows[0].T @ cp.diag(theta) @ rows[1]
    q = (product + product.T) / 2 - rows[2]
    ends = [cp.max, cp.max] if norm == 2 else [cp.sum, cp.sum]
    value = (ends[0](theta[:inputs]) + ends[1](theta[side - outputs :])) / 2
    problem = cp.Problem(cp.Minimize(value), [q >> 0])
    problem.solve(solver=cp.CLARABEL, tol_gap_rel=1e-9, tol_gap_abs=1e-9, tol_feas=1e-10)
    return problem.value


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("blocks", "width"), [(1, 3), (2, 3), (3, 2)])
def test_residual_networks_reach_the_optimum(blocks, width, norm):
    network, weights, stages = residual(blocks, width)
    pieces = {1: width, 2: 1}.get(norm, 2)
    optima = [conic(piece_of(weights, norm, i), stages, norm) for i in range(pieces)]
    value = lb.bound(network, "K_5", norm).upper
    assert value == pytest.approx(max(optima), rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_every_iterate_is_above_every_vertex(seed, norm):
    network, weights, stages = residual(2, 2 + seed % 2, seed)
    piece = seed % 2
    jacobians = oracles.vertex_jacobians(piece_of(weights, norm, piece), stages)
    optimum = oracles.norms_of(jacobians, norm).max()
    forms, theta = program(network, norm, piece)
    barrier = Barrier(forms)
    point = barrier.first(theta)
    for _ in range(40):
        value = float(certified(forms, point.theta, (theta,)))
        assert optimum * (1 - 1e-12) <= value < math.inf
        point, _, stuck = barrier.advance(point)
        if bool(stuck):
            break


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_in_two_stages_is_that_layer(norm):
    """Half of the neurons first, the others carried, then the other half: the same form."""
    rng, half = np.random.default_rng(0), ["relu"] * 3
    weights = [rng.standard_normal(shape) for shape in ((6, 4), (6, 6), (3, 6))]
    unit, wait = np.eye(6), ["identity"] * 3
    stages = [[*half, *wait], [*wait, *half]]
    apart = [weights[0], unit, weights[1], unit, weights[2]]
    two = lb.from_weights(apart, activation=stages * 2)
    forms, _ = program(merged(two), norm)
    inputs, outputs = {1: (1, 3), 2: (4, 3)}.get(norm, (4, 1))
    assert forms.side == inputs + 12 + outputs
    expected = lb.bound(lb.from_weights(weights), "K_5", norm).upper
    assert lb.bound(two, "K_5", norm).upper == pytest.approx(expected, rel=1e-6)

"""Intervals of points and tangents against samples; and the chains themselves."""

import numpy as np
import pytest
import torch
from strategies import small_cnns
from test_exact import random_network

import lipbounds as lb
from lipbounds.truth.phases import (
    FREE,
    Infeasible,
    chain,
    columns_of_jacobian,
    point_ranges,
    rows_of_jacobian,
    tangent_ranges,
)
from lipbounds.truth.witness import cell, pattern_at


def points_of(chain, x):
    """z_k and y_k at one point (x, t)."""
    z, y, pattern = [], [x[:-1]], pattern_at(chain, x)
    for weight, offset, switch, phase in zip(
        chain.weights, chain.offsets, chain.switches, pattern, strict=False
    ):
        z.append(weight @ y[-1] + x[-1] * offset)
        y.append(switch.slopes(phase) * z[-1])
    return z, y[1:], pattern


def inside(value, interval):
    slack = 1e-12 * (1 + np.abs(value))
    return (value >= interval[0] - slack).all() and (value <= interval[1] + slack).all()


@pytest.mark.parametrize("tangents_of", [rows_of_jacobian, columns_of_jacobian])
@pytest.mark.parametrize("kind", ["gaussian", "integer", "scaled"])
@pytest.mark.parametrize("seed", range(4))
def test_enclosures(tangents_of, kind, seed):
    """Of all sampled points, and their tangents, that are in the decided phases of one of them."""
    rng = np.random.default_rng(seed)
    links = chain(random_network(rng, (2, 4, 4, 2), kind))
    tangents = tangents_of(links)
    low, high = np.array([-1.0, -0.5, 0.2]), np.array([0.5, 1.0, 1.0])
    samples = [points_of(links, low + (high - low) * rng.random(3)) for _ in range(200)]
    phases = [
        np.where(switch.linear | (rng.random(4) < 0.3), p, FREE)
        for switch, p in zip(links.switches, samples[0][2], strict=True)
    ]
    decided = [p.copy() for p in phases]
    at_points = point_ranges(links, (low, high), phases)
    at_tangents = tangent_ranges(tangents, 1, phases)
    kept = 0
    for z, y, pattern in samples:
        if any(((d != FREE) & (d != p)).any() for d, p in zip(decided, pattern, strict=True)):
            continue
        kept += 1
        for k in range(2):
            assert inside(z[k], at_points.z[k]) and inside(y[k], at_points.y[k])
            assert (((phases[k] == FREE) | (phases[k] == pattern[k])) | (z[k] == 0)).all()
        jacobian = cell(links, pattern)[1]
        line = jacobian[1] if tangents_of is rows_of_jacobian else jacobian[:, 1]
        assert inside(line, at_tangents.output)
    assert kept > 0


def test_intervals_keep_what_cancels_across_layers():
    """x - x through two layers of positive neurons: interval arithmetic alone would give 6."""
    network = lb.from_weights([[[1.0], [1.0]], [[1.0, -1.0]], [[1.0]]], [[2.0, 2.0], [0.0], [0.0]])
    links = chain(network)
    box = np.array([-1.0, 1.0]), np.array([1.0, 1.0])
    assert np.abs(point_ranges(links, box, links.undecided()).z[1]).max() < 1e-12


def test_intervals_reach_the_ends():
    """R(x) over [-1, 1] covers [0, 1], and 2 x + 1 there [-1, 3]."""
    slope = lb.from_weights(
        [[[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]]],
        [[0.0, 1.0], [0.0, 0.0], [0.0]],
        [["relu", "identity"], "abs"],
    )
    links = chain(slope)
    box = np.array([-1.0, 1.0]), np.array([1.0, 1.0])
    low, high = point_ranges(links, box, links.undecided()).z[1]
    assert (low <= [0, -1]).all() and (high >= [1, 3]).all()
    assert low == pytest.approx([0, -1]) and high == pytest.approx([1, 3])


def test_contradicting_phases_are_infeasible():
    """R(x) and R(-x - 1) are never on together; x in [1, 2] decides both."""
    links = chain(lb.from_weights([[[1.0], [-1.0]], [[1.0, 1.0]]], [[0.0, -1.0], [0.0]]))
    box = np.array([1.0, 1.0]), np.array([2.0, 1.0])
    phases = links.undecided()
    point_ranges(links, box, phases)
    assert phases[0].tolist() == [1, 0]
    with pytest.raises(Infeasible):
        point_ranges(links, box, [np.array([FREE, 1])])


@pytest.mark.parametrize("name", ["plain", "two pools"])
def test_chains_of_cnns_compute_the_network(name):
    """Pools are trees of maxima, each a carried neuron."""
    network = lb.from_torch(small_cnns()[name], (1, 6, 6))
    links = chain(network)
    for x in torch.randn(5, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        _, y, pattern = points_of(links, np.append(x.numpy(), 1.0))
        assert links.weights[-1] @ y[-1] + links.offsets[-1] == pytest.approx(network(x).numpy())
        assert cell(links, pattern)[1] == pytest.approx(network.jacobian(x).numpy())

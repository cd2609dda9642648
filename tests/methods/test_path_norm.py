"""The l1 path norm: every path by itself, and its place among the bounds."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from strategies import pooled_networks, quick, slope_networks
from torch import nn

import lipbounds as lb
from lipbounds.methods.path_norm import factored_path_norm


def by_paths(weights, stages):
    """The sum over all paths, one neuron per layer, of the product of what lies on it."""
    factors = [abs(weights[0])]
    for weight, stage in zip(weights[1:], stages, strict=True):
        center, radius = stage.pair
        factors += [abs(center) + abs(radius), abs(weight)]
    sizes = [factors[0].shape[1], *(factor.shape[0] for factor in factors)]
    return sum(
        math.prod(f[b, a] for f, (a, b) in zip(factors, itertools.pairwise(path), strict=True))
        for path in itertools.product(*map(range, sizes))
    )


@quick
@given(slope_networks(depths=(0, 2)))
def test_is_the_sum_over_all_paths(sample):
    wanted = by_paths(sample.weights, sample.stages)
    for norm in oracles.NORMS:
        assert lb.bound(sample.network, "path_norm", norm).upper == pytest.approx(wanted, rel=1e-9)
    assert float(factored_path_norm(sample.network, 2)) == pytest.approx(wanted, rel=1e-9)


@quick
@given(slope_networks())
def test_relation_to_k_3(sample):
    """K_3 <= path norm <= m K_3 in l-infinity, n K_3 in l1; and K_3 <= path norm in l2."""
    path = lb.bound(sample.network, "path_norm", 1).upper
    k_3 = {norm: lb.bound(sample.network, "K_3", norm).upper for norm in oracles.NORMS}
    assert max(k_3.values()) <= path * (1 + 1e-12)
    assert path <= sample.network.output_size * k_3[math.inf] * (1 + 1e-12)
    assert path <= sample.network.input_size * k_3[1] * (1 + 1e-12)


@quick
@given(pooled_networks())
def test_is_above_every_entrywise_sum_with_pools(sample):
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    largest = abs(jacobians).sum((1, 2)).max()
    assert largest <= lb.bound(sample.network, "path_norm", 2).upper * (1 + 1e-12)


@quick
@given(pooled_networks())
def test_by_factors_it_is_no_less(sample):
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    whole = lb.bound(sample.network, "path_norm", 2).upper
    value = float(factored_path_norm(sample.network, 2))
    assert max(abs(jacobians).sum((1, 2)).max(), whole * (1 - 1e-12)) <= value * (1 + 1e-12)


def test_composed_maps_are_taken_factor_by_factor():
    """Two convolutions that cancel: the product's path norm is 0, its factors' is not."""
    ahead, behind = nn.Conv1d(1, 2, 1, bias=False), nn.Conv1d(2, 1, 1, bias=False)
    ahead.weight.data, behind.weight.data = torch.ones(2, 1, 1), torch.tensor([[[3.0], [-3]]])
    network = lb.from_torch(nn.Sequential(ahead, behind), (1, 4))
    assert lb.bound(network, "path_norm", 1).upper < 1e-12
    assert float(factored_path_norm(network, 1)) == pytest.approx(24)


def test_ensemble():
    weights = [np.array([[[1.0], [-2]], [[3], [0]]]), np.array([[[1.0, 1]], [[2, 5]]])]
    value = lb.bound(lb.from_weights(weights), "path_norm", 1).upper
    np.testing.assert_allclose(value, [3, 6])
    np.testing.assert_allclose(factored_path_norm(lb.from_weights(weights), 1), [3, 6])

"""LipLT against its recursion on dense matrices, and against K_1."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from strategies import pooled_networks, quick, slope_networks

import lipbounds as lb


def recursion(weights, stages):
    totals = [1.0]
    for k in range(1, len(weights) + 1):
        total, product = 0.0, weights[k - 1]
        for j in range(k - 1, -1, -1):
            total += np.linalg.norm(product, 2) * totals[j]
            if j:
                product = product @ stages[j - 1].pair[0] @ weights[j - 1]
        radius = np.linalg.norm(stages[k - 1].pair[1], 2) if k <= len(stages) else 1.0
        totals.append(radius * total)
    return totals[-1]


@quick
@given(slope_networks())
def test_is_its_recursion_and_at_least_k_1(sample):
    value = lb.bound(sample.network, "liplt", 2).upper
    assert value == pytest.approx(recursion(sample.weights, sample.stages), rel=1e-7, abs=1e-9)
    assert lb.bound(sample.network, "K_1", 2).upper <= value * (1 + 1e-9) + 1e-12


@quick
@given(slope_networks(uniform=True))
def test_is_k_1_with_one_interval_per_stage(sample):
    value = lb.bound(sample.network, "liplt", 2).upper
    assert value == pytest.approx(lb.bound(sample.network, "K_1", 2).upper, rel=1e-9)


def test_is_greater_than_k_1_with_two_intervals():
    """|z| has radius 1 and the identity 0: the norm of R A sees that, the greatest radius not."""
    network = lb.from_weights([[[1.0], [3.0]], [[1.0, 1.0]]], None, [["abs", "identity"]])
    assert lb.bound(network, "K_1", 2).upper == pytest.approx(3 + np.sqrt(2))
    assert lb.bound(network, "liplt", 2).upper == pytest.approx(3 + np.sqrt(20))


@quick
@given(pooled_networks())
def test_is_above_every_vertex_with_pools(sample):
    largest = oracles.norms_of(oracles.vertex_jacobians(sample.weights, sample.stages), 2).max()
    assert largest <= lb.bound(sample.network, "liplt", 2).upper * (1 + 1e-12)


def test_other_norms_raise():
    with pytest.raises(lb.UnsupportedError, match="liplt is not defined for norm 1"):
        lb.bound(lb.from_weights([[[1.0]]]), "liplt", 1)

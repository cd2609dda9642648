"""Networks cut into parts: against the definition, between K_3 and K_4, and within a time."""

from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from oracles import NORMS
from strategies import IMAGE, between_sample, pooled_networks, quick, slope_networks, small_cnns

import lipbounds as lb
from lipbounds import clock
from lipbounds.linear import operators
from lipbounds.linear.operators import Dense
from lipbounds.methods import averaged, costs
from lipbounds.methods.absolute import absolute
from lipbounds.methods.monotone import norm_from_map
from lipbounds.networks.cut import Parts
from lipbounds.results import Status
from lipbounds.studies.cases.random import gaussian

ROUNDING = 1 + 1e-12


def cut(length):
    """The map of the network cut at every stage whose number `length` divides, as it is defined."""

    def one_map(weights, stages, v):
        part = ([weights[0]], [])
        for k, (weight, stage) in enumerate(zip(weights[1:], stages, strict=True), start=1):
            if k % length:
                part = (part[0] + [weight], part[1] + [stage])
                continue
            v = oracles.f_4(*part, v)
            pooled = isinstance(stage, oracles.Pool)
            v = stage.pool(v) if pooled else sum(map(abs, stage.pair)) @ v
            part = ([weight], [])
        return oracles.f_4(*part, v)

    return one_map


def value(network, length, norm):
    parts = Parts(network, length)
    return float(norm_from_map(network, norm, parts.forward, parts.adjoint))


def check(sample):
    for norm in NORMS:
        jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
        optimum = oracles.norms_of(jacobians, norm).max()
        found = {}
        for length in range(1, sample.network.depth + 2):
            found[length] = value(sample.network, length, norm)
            wanted = oracles.norm_from_map(cut(length), sample.weights, sample.stages, norm)
            assert found[length] == pytest.approx(wanted, rel=1e-9, abs=1e-12)
            assert optimum <= found[length] * ROUNDING
        for short in found:
            for long in range(2 * short, len(found) + 1, short):
                assert found[long] <= found[short] * ROUNDING + 1e-300, (short, long)
        ends = (
            float(absolute(sample.network, norm)),
            float(averaged.averaged(sample.network, norm)),
        )
        assert (found[1], found[len(found)]) == pytest.approx(ends, rel=1e-11, abs=1e-300)


@quick
@given(slope_networks(depths=(0, 4)))
def test_slope_stages(sample):
    check(sample)


@quick
@given(pooled_networks())
def test_pools_and_maxima(sample):
    check(sample)
    check(between_sample(sample))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", small_cnns())
def test_convolutions(name, norm):
    network = lb.from_torch(small_cnns()[name], IMAGE)
    affines = tuple(
        replace(affine, operator=Dense(operators.dense(affine.operator)))
        for affine in network.affines
    )
    other = replace(network, affines=affines)
    for length in (1, 2, 3):
        assert value(network, length, norm) == pytest.approx(value(other, length, norm), rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_ensembles(norm):
    weights = [torch.randn(5, m, n).double() for n, m in ((3, 4), (4, 4), (4, 4), (4, 2))]
    parts = Parts(ensemble := lb.from_weights(weights), 2)
    values = norm_from_map(ensemble, norm, parts.forward, parts.adjoint)
    alone = [value(lb.from_weights([w[i] for w in weights]), 2, norm) for i in range(5)]
    np.testing.assert_allclose(values, alone, rtol=1e-12)


class Stopped:
    """A clock that goes on by a second whenever it is asked, so that limits do not depend on the
    machine."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 1.0
        return self.seconds


@pytest.mark.parametrize("norm", NORMS)
def test_more_time_gives_longer_segments_and_never_a_greater_value(norm, monkeypatch):
    network = gaussian([4, *[6] * 9, 3], 0)
    monkeypatch.setattr(costs, "SPEED", 1.0)
    monkeypatch.setattr(clock, "now", Stopped())
    found = [averaged.averaged_within(network, norm, seconds) for seconds in range(5, 400, 5)]
    values = [float(one.upper) for one in found]
    assert all(b <= a * ROUNDING for a, b in zip(values, values[1:], strict=False))
    assert values[0] == pytest.approx(float(absolute(network, norm)), rel=1e-12)
    assert values[-1] == pytest.approx(float(averaged.averaged(network, norm)), rel=1e-12)
    assert found[0].reason == "stopped by time: segments of at most 1 of 10 layers"
    reasons = [one.left for one in found if one.status is Status.TIME]
    assert list(dict.fromkeys(reasons)) == [
        f"segments of at most {length} of 10 layers" for length in (1, 2, 4, 8)
    ]
    assert found[-1].status is Status.CONVERGED and len(set(values)) == 5


def test_too_little_time_for_k_3_is_too_little(monkeypatch):
    network = gaussian([40, 80, 80, 40], 0)
    found = lb.bound(network, "K_4", 2, seconds=0.0)
    assert found.upper == lb.bound(network, "K_3", 2).upper and found.status is Status.TIME
    monkeypatch.setattr(operators, "BLOCK_ENTRIES", 64)
    with pytest.raises(lb.LipboundsError, match="K_4 in norm 2: the limit of seconds is over"):
        lb.bound(network, "K_4", 2, seconds=0.0)

"""The influence of each input against the oracle's F_4 and pairs of points."""

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import between_sample, pooled_networks, quick, slope_networks, small_cnns

import lipbounds as lb
from lipbounds.studies.cases.random import gaussian


def check(sample, seed):
    """At least the column sums of F_4 in exact order, and what pairs of points attain."""
    rng = np.random.default_rng(seed)
    network = sample.network
    chosen = rng.permutation(network.output_size)[: rng.integers(1, network.output_size + 1)]
    found = lb.influence(network, chosen.tolist()).numpy()
    units = np.eye(network.input_size)
    expected = [oracles.f_4(sample.weights, sample.stages, e)[chosen].sum() for e in units]
    majorant = [oracles.f_3(sample.weights, sample.stages, e).sum() for e in units]
    assert (found >= np.array(expected) * (1 - 1e-13)).all()
    assert (found <= np.array(expected) * (1 + 1e-9) + 1e-11 * np.array(majorant)).all()
    x = torch.from_numpy(rng.standard_normal((50, 1, network.input_size)) * 3)
    steps = torch.eye(network.input_size, dtype=torch.float64) * rng.choice([-2.0, 0.1, 1.0])
    ends = network((x + steps).flatten(0, 1)).reshape(50, network.input_size, -1)
    moved = (ends - network(x.squeeze(1)).unsqueeze(1)).abs()[..., chosen].sum(-1).amax(0)
    size = 1 + float(ends.abs().max())
    assert (moved.numpy() <= found * float(steps.abs().max()) + 1e-12 * size).all()


@quick
@given(slope_networks(), st.integers(0, 2**32 - 1))
def test_of_slope_stages(sample, seed):
    check(sample, seed)


@quick
@given(pooled_networks(), st.integers(0, 2**32 - 1))
def test_of_pools_in_both_treatments(sample, seed):
    check(sample, seed)
    check(between_sample(sample), seed)


@pytest.mark.parametrize("treatment", ("explicit", "implicit"))
def test_the_greatest_is_K_4_in_l1(treatment):
    network = lb.from_torch(small_cnns()["average"], (1, 6, 6))
    form = lb.explicit(network) if treatment == "explicit" else network
    greatest = float(lb.influence(form).max())
    assert greatest == pytest.approx(lb.bound(network, "K_4", 1, treatment).upper, rel=1e-12)


def test_at_the_ends_of_double_precision():
    units = torch.eye(2, dtype=torch.float64)
    found = lb.influence(lb.from_weights([1e-170 * units, 1e170 * units + 1e170]))
    assert (found >= 3).all() and (found <= 3 * (1 + 1e-12)).all()
    assert (lb.influence(lb.from_weights([1e-200 * units, 1e-200 * units])) > 0).all()


def test_of_ensembles():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 2, 4))]
    found = lb.influence(lb.from_weights(weights))
    for s in range(3):
        torch.testing.assert_close(found[s], lb.influence(lb.from_weights([w[s] for w in weights])))


def test_outputs_are_any_whole_numbers():
    network = gaussian([2, 4, 3], 0)
    assert torch.equal(lb.influence(network, np.array([0, 2])), lb.influence(network, [0, 2]))


@pytest.mark.parametrize("outputs", ([], [3], [-1], ["a"], [0.5], 1))
def test_outputs_that_there_are_not(outputs):
    with pytest.raises(lb.LipboundsError, match="numbers 0 to 2"):
        lb.influence(gaussian([2, 4, 3], 0), outputs)


def test_a_limit_of_time():
    network = lb.from_torch(small_cnns()["overlap"], (1, 6, 6))
    with pytest.raises(lb.LipboundsError, match="limit of seconds is over"):
        lb.influence(network, seconds=0)

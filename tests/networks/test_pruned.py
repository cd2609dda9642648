"""Dead neurons: what leaving them out changes is at most what is added for them."""

import math

import numpy as np
import pytest
import torch

import lipbounds as lb
from lipbounds.networks.pruned import pruned
from lipbounds.networks.scaling import evened

NORMS = (1.0, 2.0, math.inf)
RNG = np.random.default_rng(0)


def with_dead_neurons(size, activation="relu"):
    """5-6-6-3, two neurons of each stage with weights of `size` in and out."""
    weights = [RNG.normal(size=shape) for shape in ((6, 5), (6, 6), (3, 6))]
    for k in (0, 1):
        weights[k][:2] *= size
        weights[k + 1][:, :2] *= size
    return lb.from_weights(weights, activation=activation)


def jacobians(network, masks):
    """J for 0 and 1 as slopes, by `masks` of the neurons."""
    product = network.affines[0].operator.weight
    for mask, affine in zip(masks, network.affines[1:], strict=True):
        product = affine.operator.weight @ (mask.unsqueeze(-1) * product)
    return product


@pytest.mark.parametrize("norm", NORMS)
def test_the_difference_is_within_the_slack(norm):
    """At a size where it can be seen: the share that may go is made large."""
    network = with_dead_neurons(1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lipbounds.networks.pruned.NEGLIGIBLE", 1e-5)
        fewer, slack = pruned(network, norm)
    assert [stage.shape[0] for stage in fewer.stages] == [4, 4] and slack > 0
    worst = 0.0
    for _ in range(200):
        masks = [torch.from_numpy(RNG.integers(0, 2, 6).astype(float)) for _ in range(2)]
        whole = jacobians(network, masks)
        rest = jacobians(fewer, [mask[2:] for mask in masks])
        worst = max(worst, float(torch.linalg.matrix_norm(whole - rest, norm)))
    assert 0 < worst <= float(slack)


def test_nothing_else_goes():
    for size in (1.0, 1e-4):
        network = with_dead_neurons(size)
        fewer, slack = pruned(network, 2.0)
        assert [stage.shape[0] for stage in fewer.stages] == [6, 6] and float(slack) == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_K_5_with_dead_neurons_is_that_without(norm):
    network = with_dead_neurons(1e-17)
    value = lb.bound(network, "K_5", norm)
    alive = [affine.operator.weight.numpy() for affine in network.affines]
    alive = [alive[0][2:], alive[1][2:, 2:], alive[2][:, 2:]]
    other = lb.bound(lb.from_weights(alive), "K_5", norm)
    assert str(value.status) == "converged"
    assert other.upper <= value.upper * (1 + 1e-6) and value.upper <= other.upper * (1 + 1e-6)


def test_sensitivity_with_dead_neurons():
    network = with_dead_neurons(1e-17)
    moved = lb.sensitivity(network, [1.0] * 5, "K_5")
    assert (moved <= lb.sensitivity(network, [1.0] * 5) * (1 + 1e-9)).all()
    assert float(moved.max()) == pytest.approx(lb.bound(network, "K_5", math.inf).upper, rel=1e-4)


def test_prelu_keeps_its_own_slopes():
    slopes = torch.linspace(0.1, 0.6, 6).double()
    activation = lb.Activation(
        "prelu", lambda z: torch.where(z >= 0, z, slopes * z), slopes, torch.ones(6).double()
    )
    network = with_dead_neurons(1e-17, activation)
    fewer, _ = pruned(network, 2.0)
    assert torch.equal(fewer.stages[0].alpha, slopes[2:])
    assert torch.equal(fewer.stages[0].evaluate(-torch.ones(4).double()), -slopes[2:])


def test_evening_is_exact():
    weights = [RNG.normal(size=(4, 5)) * 2.0**-30, RNG.normal(size=(3, 4)) * 2.0**50]
    network = lb.from_weights(weights)
    even, exponent = evened(network)
    assert all(
        0.2 < float(torch.linalg.matrix_norm(a.operator.weight, 2)) < 2 for a in even.affines
    )
    assert torch.equal(
        torch.from_numpy(weights[1]) @ torch.from_numpy(weights[0]),
        even.affines[1].operator.weight @ even.affines[0].operator.weight * 2.0 ** int(exponent),
    )

"""K_1 with segments on a torus: against dense circular convolutions, K_1 and linearisations."""

import math

import numpy as np
import pytest
import torch
from convolutions import MODULES, RESIDUAL, WITHOUT_PADDING, circulant, network_of
from torch import nn

import lipbounds as lb
from lipbounds.linear import rows
from lipbounds.methods import combettes_pesquet as k_1
from lipbounds.methods import costs
from lipbounds.networks.plane import Plane
from lipbounds.results import Status

ROUNDING = 1 + 1e-12


def by_definition(network):
    """K_1 with the stages of the plane as dense matrices on their tori."""
    plane = Plane(network)
    totals, maps = [1.0], {}
    for j, size in plane.sizes.items():
        one = plane.maps[j]
        shape = (one.image_shape[0], *size)
        maps[j] = circulant(one.kernel.numpy(), shape, one.stride, one.dilation, one.groups)
    for k in range(1, network.depth + 2):
        chain = plane.chain(k)
        if chain is None:
            every = slice(0, k_1.radius(network, k).shape[0])
            blocks = k_1.pulled_back(network, k, every)
            value = sum(float(block.spectral_norm()) * totals[j] for j, block in blocks)
        else:
            value, matrix = 0.0, None
            for j in range(k - 1, k - 1 - len(chain), -1):
                matrix = maps[j] if matrix is None else matrix @ maps[j]
                radius = 1.0
                if k <= network.depth and plane.stages[k - 1] is not None:
                    radius = each(plane.stages[k - 1].radius, maps[k - 1].shape[0])[:, None]
                value += np.linalg.norm(radius * matrix, 2) * totals[j]
                if j > k - len(chain):
                    matrix = matrix * each(plane.stages[j - 1].center, matrix.shape[1])
        cut = k <= network.depth and network.stages[k - 1].center is None
        totals.append(value * (network.stages[k - 1].norm(2.0) if cut else 1.0))
    return totals[-1]


def each(channels, size):
    return np.repeat(channels.numpy(), size // len(channels))


@torch.no_grad()
@pytest.mark.parametrize("name", MODULES | RESIDUAL)
def test_the_torus_by_its_definition(name):
    network = network_of(name)
    value = float(k_1.on_a_torus(network))
    assert value == pytest.approx(by_definition(network), rel=1e-8)
    # where values are carried K_* knows more of the blocks
    assert name in RESIDUAL or value < lb.bound(network, "K_star", 2).upper


@torch.no_grad()
@pytest.mark.parametrize("name", WITHOUT_PADDING)
def test_no_segment_without_padding_is_longer_than_its_torus(name):
    network = network_of(name)
    assert k_1.combettes_pesquet(network, 2.0) <= k_1.on_a_torus(network) * ROUNDING


@torch.no_grad()
@pytest.mark.parametrize("name", MODULES)
def test_above_every_linearisation(name):
    network = network_of(name)
    bound = k_1.on_a_torus(network) * ROUNDING
    generator = torch.Generator().manual_seed(1)
    for step in range(60):
        rows = torch.eye(network.output_size, dtype=torch.float64)
        for k in range(network.depth, 0, -1):
            rows, stage = network.affines[k].operator.adjoint(rows), network.stages[k - 1]
            if stage.entrywise:
                drawn = torch.rand(stage.shape[1], generator=generator) < (step % 5 + 1) / 5
                rows = rows * torch.where(drawn, *reversed(stage.slopes()))
            else:
                at = torch.randn(stage.shape[1], generator=generator).double()
                rows = stage.pullback(at, rows)
        rows = network.affines[0].operator.adjoint(rows)
        assert torch.linalg.matrix_norm(rows, 2) <= bound, step


@torch.no_grad()
def test_kernels_larger_than_their_torus_are_folded():
    """Three convolutions of five pixels on an image of five."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2, 2, 5, padding=2) for _ in "abc"]
    module = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2]).double()
    network = lb.from_torch(module, (2, 5, 5))
    assert set(Plane(network).sizes.values()) == {(9, 9)}
    assert float(k_1.on_a_torus(network)) == pytest.approx(by_definition(network), rel=1e-8)


def test_within_a_time(monkeypatch):
    network = network_of("padded")
    whole = lb.bound(network, "K_1", 2)
    with torch.no_grad():
        wanted = float(k_1.on_a_torus(network))
    monkeypatch.setattr(costs, "SPEED", 1.0)  # everything is dear
    monkeypatch.setattr(costs, "HOPELESS", math.inf)
    found = lb.bound(network, "K_1", 2, seconds=1000.0)
    assert found.upper == pytest.approx(min(whole.upper, wanted), rel=1e-9)
    monkeypatch.setattr(k_1, "combettes_pesquet", stop)
    found = lb.bound(network, "K_1", 2, seconds=1000.0)
    assert found.upper == pytest.approx(wanted, rel=1e-9) and found.status is Status.TIME
    assert found.reason == "stopped by time: segments with the edges of images"
    with monkeypatch.context() as other:
        other.setattr(k_1, "product", lambda *_: torch.zeros((), dtype=torch.float64))
        assert lb.bound(network, "K_1", 2, seconds=1000.0).upper < 1e-100, "the less of the two"
    with pytest.raises(lb.LipboundsError, match="K_1 in norm 1: the limit of seconds"):
        lb.bound(network, "K_1", 1, seconds=1000.0)


def test_what_no_limit_stops_is_not_begun(monkeypatch):
    """The Gram matrix of a segment on 64 x 64 pixels is half a minute, of which none is watched."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(3 if k == 0 else 8, 8, 3, padding=1) for k in range(3)]
    module = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2]).double()
    network = lb.from_torch(module, (3, 64, 64))
    monkeypatch.setattr(k_1, "combettes_pesquet", lambda *_: pytest.fail("begun"))
    found = lb.bound(network, "K_1", 2, seconds=60.0)
    assert found.status is Status.TIME and found.upper <= lb.bound(network, "K_star", 2).upper


@pytest.mark.parametrize("name", MODULES)
def test_gram_matrices_too_large_are_not_formed(name, monkeypatch):
    """Absolute sums stand for them, and with convolutions the torus before those."""
    network = network_of(name)
    whole = lb.bound(network, "K_1", 2).upper
    for module in (rows, k_1):
        monkeypatch.setattr(module, "LARGEST_GRAM", 2)
    found = lb.bound(network, "K_1", 2)
    assert whole * (1 - 1e-9) <= found.upper and found.status is Status.CONVERGED
    if costs.by_fourier(network, 2.0):
        with torch.no_grad():
            assert found.upper <= float(k_1.on_a_torus(network)) * ROUNDING


def stop(*_):
    raise k_1.OutOfTime("the limit of seconds is over")

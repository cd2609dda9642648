"""F_4 without the edges of images: against F_4 itself, linearisations, and its definition."""

import math

import numpy as np
import pytest
import torch
from convolutions import (
    LEAKY,
    MODULES,
    RELU,
    RESIDUAL,
    WITHOUT_PADDING,
    circulant,
    conv,
    network_of,
    of_layers,
)
from torch import nn

import lipbounds as lb
from lipbounds.methods import averaged, costs
from lipbounds.networks import plane
from lipbounds.networks.averaged_map import averaged_map
from lipbounds.networks.plane import plane_columns, plane_sums, reached
from lipbounds.results import Status

ROUNDING = 1 + 1e-12


def f_4(network):
    return averaged_map(network, torch.ones(1, network.input_size, dtype=torch.float64))[0]


@pytest.mark.parametrize("name", MODULES | RESIDUAL)
def test_reaches_what_convolutions_lead_to(name):
    assert reached(network_of(name)) == (MODULES | RESIDUAL)[name][0]


@torch.no_grad()
@pytest.mark.parametrize("name", WITHOUT_PADDING)
def test_without_padding_it_is_f_4(name):
    network = network_of(name)
    torch.testing.assert_close(plane_sums(network), f_4(network), rtol=1e-11, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", MODULES | RESIDUAL)
def test_above_every_linearisation(name):
    """Slopes at the ends of their intervals, drawn and then improved neuron by neuron."""
    network = network_of(name)
    bound, columns = plane_sums(network) * ROUNDING, plane_columns(network) * ROUNDING
    generator = torch.Generator().manual_seed(1)
    signs = [torch.randint(2, (s.shape[1],), generator=generator) for s in network.stages]
    for step in range(300):
        rows = torch.eye(network.output_size, dtype=torch.float64)
        for k in range(network.depth, -1, -1):
            rows = network.affines[k].operator.adjoint(rows)
            if k == 0:
                break
            stage = network.stages[k - 1]
            if stage.entrywise:
                rows = rows * torch.where(signs[k - 1] == 1, *reversed(stage.slopes()))
            else:  # a pool picks the largest of a drawn vector
                rows = stage.pullback(
                    torch.randn(stage.shape[1], generator=generator).double(), rows
                )
        assert bool((rows.abs().sum(1) <= bound).all()), step
        assert bool(rows.abs().sum(0).max() <= columns), step
        share = 0.5 if step < 150 else 0.05
        signs = [
            torch.where(torch.rand(len(s), generator=generator) < share, 1 - s, s) for s in signs
        ]


@torch.no_grad()
def test_far_from_the_edges_it_is_f_4():
    """Of the network with slopes widened to hold 0, in the middle of a large image."""
    torch.manual_seed(2)
    one, two, three = conv(2, 3, padding=1), conv(3, 3, padding=1, stride=2), conv(3, 2, padding=1)
    made = []
    for slope in (0.25, 0.0):
        leaky = nn.LeakyReLU(slope)
        module = nn.Sequential(one, leaky, two, leaky, three).double()
        made.append(lb.from_torch(module, (2, 31, 31)))
    found = plane_sums(made[0]).reshape(2, 16, 16)
    wanted = f_4(made[1]).reshape(2, 16, 16)
    assert bool((found == found[:, :1, :1]).all())
    torch.testing.assert_close(found[:, 8, 8], wanted[:, 8, 8], rtol=1e-12, atol=0)
    assert bool((f_4(made[0]).reshape(2, 16, 16) <= found * ROUNDING).all())


@torch.no_grad()
def test_columns_of_a_large_image_without_strides_are_those_of_f_4():
    torch.manual_seed(3)
    layers = [conv(2, 3), RELU, conv(3, 3, dilation=2), LEAKY, conv(3, 4, 1), RELU, conv(4, 2)]
    network = lb.from_torch(nn.Sequential(*layers).double(), (2, 21, 21))
    wanted = averaged.averaged(network, 1.0)
    torch.testing.assert_close(plane_columns(network), wanted, rtol=1e-10, atol=0)
    strided = nn.Sequential(conv(2, 3, stride=2), RELU, conv(3, 2, 2)).double()  # one stage: phases
    network = lb.from_torch(strided, (2, 21, 21))
    wanted = averaged.averaged(network, 1.0)
    assert wanted <= plane_columns(network) * ROUNDING <= 2 * wanted


@torch.no_grad()
def test_columns_of_one_strided_convolution():
    """By the phases of the positions."""
    for layer in (conv(2, 3, 5, stride=2), conv(2, 2, (3, 4), stride=(3, 2), padding=2)):
        network = lb.from_torch(layer.double(), (2, 30, 30))
        wanted = lb.bound(network, "K_star", 1).upper
        assert float(plane_columns(network)) == pytest.approx(wanted, rel=1e-10)


@torch.no_grad()
def test_kernels_longer_than_the_torus_go_around_it():
    """Three convolutions of five pixels on an image of five: F_4 of dense circulant matrices."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2, 3, 5, padding=2), nn.Conv2d(3, 2, 5, padding=2, stride=2)]
    convs.append(nn.Conv2d(2, 2, 5, padding=2))
    module = nn.Sequential(convs[0], LEAKY, convs[1], RELU, convs[2]).double()
    network = lb.from_torch(module, (2, 5, 5))
    made = plane.Plane(network)
    assert made.sizes == {0: (14, 14), 1: (14, 14), 2: (7, 7)}
    maps = [
        circulant(c.weight.numpy(), (c.in_channels, *made.sizes[j]), c.stride, (1, 1), 1)
        for j, c in enumerate(convs)
    ]
    # the second convolution reads beyond the image, the leaky slopes to hold 0 are [0, 1]
    moved = [np.ones(maps[0].shape[1])]
    for k in range(3):
        through, total = maps[k], abs(maps[k]) @ moved[k]
        for j in range(k - 1, -1, -1):
            through = through * 0.5 @ maps[j]
            total = total + abs(through) @ moved[j]
        moved.append(total * (0.5 if k < 2 else 1.0))
    found = plane_sums(network)
    np.testing.assert_allclose(
        found.reshape(2, -1)[:, 0], moved[-1].reshape(2, -1).max(1), rtol=1e-9
    )
    assert bool((f_4(network) <= found * ROUNDING).all())
    assert lb.bound(network, "K_4", 1).upper <= plane_columns(network) * ROUNDING


def test_what_it_does_not_reach_has_its_own_segments():
    dense = lb.from_weights([torch.randn(4, 3), torch.randn(4, 4), torch.randn(2, 4)])
    with torch.no_grad():
        torch.testing.assert_close(plane_sums(dense), f_4(dense), rtol=0, atol=0)
    slopes = torch.nn.PReLU(3 * 49)  # one for each pixel
    slopes.weight.data.uniform_(0, 1)
    layers = [conv(2, 3), nn.Flatten(), slopes, nn.Linear(147, 2)]
    network = of_layers(layers)
    assert reached(network) == 0
    with torch.no_grad():
        torch.testing.assert_close(plane_sums(network), f_4(network), rtol=1e-12, atol=0)


@torch.no_grad()
def test_scales_and_blocks_of_rows_do_not_matter(monkeypatch):
    network = network_of("widened")
    once, columns = plane_sums(network), plane_columns(network)
    monkeypatch.setattr("lipbounds.linear.operators.BLOCK_ENTRIES", 500)
    torch.testing.assert_close(plane_sums(network), once, rtol=1e-11, atol=0)
    torch.testing.assert_close(plane_columns(network), columns, rtol=1e-11, atol=0)


@pytest.mark.parametrize("norm, name", [(math.inf, "plane_sums"), (1, "plane_columns")])
def test_k_4_within_a_time_takes_it_first(norm, name, monkeypatch):
    network = network_of("padded")
    with torch.no_grad():
        wanted = float(getattr(plane, name)(network).max())
    assert wanted < lb.bound(network, "K_3", norm).upper
    monkeypatch.setattr(costs, "SPEED", 1.0)  # everything is dear
    monkeypatch.setattr(averaged, "Parts", stop)
    found = lb.bound(network, "K_4", norm, seconds=1000.0)
    assert found.upper == pytest.approx(wanted, rel=1e-9) and found.status is Status.TIME
    monkeypatch.setattr(plane, name, stop)
    found = lb.bound(network, "K_4", norm, seconds=1000.0)
    assert found.upper == lb.bound(network, "K_3", norm).upper


def test_in_l1_it_needs_no_pass_for_each_input(monkeypatch):
    """As K_3 does where there are pools."""
    network = network_of("pooled")
    monkeypatch.setattr(costs, "SPEED", 1.0)
    monkeypatch.setattr(averaged, "absolute", stop)
    monkeypatch.setattr(averaged, "Parts", stop)
    with torch.no_grad():
        wanted = float(plane.plane_columns(network))
    found = lb.bound(network, "K_4", 1, seconds=1000.0)
    assert found.upper == pytest.approx(wanted, rel=1e-9) and found.status is Status.TIME
    monkeypatch.setattr(plane, "plane_columns", stop)
    with pytest.raises(lb.LipboundsError, match="limit of seconds"):
        lb.bound(network, "K_4", 1, seconds=1000.0)


def stop(*_):
    raise averaged.OutOfTime("the limit of seconds is over")

"""What the conversion itself rounds is counted: bounds hold for the module, not only for the
doubles that it became."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.networks.scaling import balanced

LAYERS = 40
NORMS = (1, 2, math.inf)


def exact_scale(variance, eps, weight):
    """weight / sqrt(variance + eps) to 50 digits."""
    with mpmath.workdps(50):
        return mpmath.mpf(weight) / mpmath.sqrt(mpmath.mpf(variance) + mpmath.mpf(eps))


def scales_rounded_down():
    """LAYERS batch norms of one channel, of 2000 drawn those whose scale in double falls shortest
    of the exact one; the exact product, to 50 digits, and that of the doubles."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2000, 2, generator=generator, dtype=torch.float64) + 0.5
    computed = (drawn[:, 0] + 1e-5).rsqrt() * drawn[:, 1]
    with mpmath.workdps(50):
        exact = [exact_scale(v, 1e-5, w) for v, w in drawn.tolist()]
        short = [float((e - c) / e) for e, c in zip(exact, computed.tolist(), strict=True)]
        worst = sorted(range(len(short)), key=short.__getitem__)[-LAYERS:]
        assert min(short[i] for i in worst) > 2.0**-53
        product = mpmath.fprod(exact[i] for i in worst)
    layers = []
    for variance, weight in drawn[worst].tolist():
        layer = nn.BatchNorm1d(1).double()
        layer.running_var.fill_(variance)
        nn.init.constant_(layer.weight, weight)
        layers.append(layer)
    return layers, product, math.prod(Fraction(float(computed[i])) for i in worst)


def below(fraction):
    """The greatest double that is at most it."""
    value = float(fraction)
    return value if Fraction(value) <= fraction else math.nextafter(value, 0.0)


def counted(network, value):
    """What becomes of the least bound that the network of doubles might have, shape ()."""
    scale = balanced(network)
    unscaled = torch.tensor(value, dtype=torch.float64) * 2.0 ** -int(scale.exponent)
    return float(scale.upper(unscaled))


@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU()])
def test_batch_norms_in_a_row(activation):
    layers, exact, converted = scales_rounded_down()
    pairs = [one for layer in layers for one in (layer, activation)]
    network = lb.from_torch(nn.Sequential(*pairs).eval(), (1,))
    for form in (network, lb.explicit(network)):
        assert below(converted) < exact <= counted(form, below(converted))
    names = ["K_star", "K_3", "K_4"] + ["K_5"] * isinstance(activation, nn.Identity)
    for name, norm in [(name, norm) for name in names for norm in NORMS]:
        value = lb.bound(network, name, norm).upper
        assert exact <= value <= exact * (1 + 1e-8)
    (moved,) = lb.sensitivity(network, [1.0])
    assert exact <= float(moved) <= exact * (1 + 1e-11)


def column_sums(third, size=5):
    """Of the LAYERS-th power of the tridiagonal matrix of entries `third`: exact for fractions."""
    sums = [Fraction(1)] * size
    for _ in range(LAYERS):
        padded = [Fraction(0), *sums, Fraction(0)]
        sums = [third * sum(padded[i : i + 3]) for i in range(size)]
    return sums


@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU()])
def test_average_poolings_in_a_row(activation):
    """1/3 is rounded down, LAYERS times."""
    pairs = [one for _ in range(LAYERS) for one in (nn.AvgPool1d(3, 1, 1), activation)]
    network = lb.from_torch(nn.Sequential(*pairs), (1, 5))
    exact, converted = (max(column_sums(third)) for third in (Fraction(1, 3), Fraction(1 / 3)))
    for form in (network, lb.explicit(network)):
        assert below(converted) < exact <= Fraction(counted(form, below(converted)))
    names = ["K_3", "K_4"] + ["K_5"] * isinstance(activation, nn.Identity)
    for name, norm in [(name, norm) for name in names for norm in (1, math.inf)]:
        value = lb.bound(network, name, norm).upper
        assert exact <= Fraction(value) <= exact * Fraction(1 + 1e-8)


@pytest.mark.parametrize(
    "layers, roundings",
    [
        ([nn.AvgPool2d(2)], 0),  # 1/4 is a double
        ([nn.AvgPool2d(3)], 1),
        ([nn.AvgPool2d(2, padding=1, count_include_pad=False)], 0),  # windows of 1, 2 and 4
        ([nn.AvgPool2d(3, padding=1, count_include_pad=False)], 1),
        ([nn.AdaptiveAvgPool2d(3)], 0),  # windows of 4
        ([nn.AdaptiveAvgPool2d(2)], 1),
        ([nn.BatchNorm2d(1), nn.ReLU(), nn.BatchNorm2d(1)], 8),
        ([nn.Conv2d(1, 1, 2), nn.ReLU(), nn.MaxPool2d(2)], 0),
    ],
)
def test_only_what_is_rounded_counts(layers, roundings):
    network = lb.from_torch(nn.Sequential(*layers).eval(), (1, 6, 6))
    assert network.roundings == lb.explicit(network).roundings == roundings
    if not roundings:
        assert float(balanced(network).slack.max()) < 1e-140


def test_in_a_deep_network_they_do_not_outweigh_an_l2_bound():
    """Row sums of all paths do: 30 layers of 32 channels, of norms about 1."""
    torch.manual_seed(0)
    layers = []
    for _ in range(30):
        linear, norm = nn.utils.parametrizations.orthogonal(nn.Linear(32, 32)), nn.BatchNorm1d(32)
        layers += [linear, norm, nn.ReLU()]
    network = lb.from_torch(nn.Sequential(*layers).double().eval(), (32,))
    assert float(balanced(network).conversion.sum()) * 2.0 ** float(balanced(network).exponent) > 10
    for name in ("K_star", "K_5"):
        assert lb.bound(network, name, 2, seconds=5).upper < 1.001
    best = lb.bound(network, "best", 2, names=["K_star", "K_3"])
    assert best.upper < 1.001 and best.winner == "K_star"

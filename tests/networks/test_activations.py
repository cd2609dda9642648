"""Slope intervals on dense grids of secants: they hold every slope, and none is slack."""

import math

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.networks import activations as act
from lipbounds.networks.activations import ACTIVATIONS, activation, derivative

CASES = {
    **{name: (make(), None) for name, make in ACTIVATIONS.items()},
    "leaky_relu steep": (act.leaky_relu(2.5), nn.LeakyReLU(2.5)),
    "leaky_relu negative": (act.leaky_relu(-0.5), nn.LeakyReLU(-0.5)),
    "prelu": (act.prelu(torch.tensor([0.3]).double()), nn.PReLU(1, 0.3)),
    "prelu steep": (act.prelu(torch.tensor([-2.0]).double()), nn.PReLU(1, -2.0)),
    "hardtanh wide": (act.hardtanh(-2.0, 0.5), nn.Hardtanh(-2.0, 0.5)),
    "clamp": (act.clamp(-1.0, 0.7), nn.Hardtanh(-1.0, 0.7)),
    "clamp above": (act.clamp(max_val=0.2), lambda z: z.clamp(max=0.2)),
    "softshrink wide": (act.softshrink(1.5), nn.Softshrink(1.5)),
    "softplus sharp": (act.softplus(3.0), nn.Softplus(3.0)),
    "elu steep": (act.elu(2.5), nn.ELU(2.5)),
    "elu flat": (act.elu(0.5), nn.ELU(0.5)),
    "elu negative": (act.elu(-1.5), nn.ELU(-1.5)),
    "celu": (act.celu(0.4), nn.CELU(0.4)),
}
MODULES = {
    "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(),
    "hardtanh": nn.Hardtanh(), "relu6": nn.ReLU6(), "softplus": nn.Softplus(),
    "softsign": nn.Softsign(), "elu": nn.ELU(), "selu": nn.SELU(), "celu": nn.CELU(),
    "silu": nn.SiLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh"),
    "mish": nn.Mish(), "hardswish": nn.Hardswish(), "abs": torch.abs, "identity": nn.Identity(),
    "hardsigmoid": nn.Hardsigmoid(), "log_sigmoid": nn.LogSigmoid(), "softshrink": nn.Softshrink(),
}  # fmt: skip
ROUNDING = 1e-10  # of a secant slope over 1e-3, with values up to 40


def fine_grid():
    """Steps of 1e-3, with far tails; no point is a kink."""
    tail = torch.logspace(math.log10(41), 5, 400, dtype=torch.float64)
    middle = torch.linspace(-40, 40, 80001, dtype=torch.float64) + 1e-4 * math.pi
    return torch.cat([-tail.flip(0), middle, tail])


def around(points):
    """Steps of 1e-7 beside each point: slopes that are only approached there."""
    steps = torch.arange(-5, 6, dtype=torch.float64) * 1e-7 + 0.5e-7
    return (torch.tensor(points, dtype=torch.float64).unsqueeze(1) + steps).flatten()


def secants(function, z, w):
    return (function(z) - function(w)) / (z - w)


def interval(function):
    return float(function.alpha), float(function.beta)


@pytest.mark.parametrize("name", CASES)
def test_interval_holds_all_secants_and_is_not_slack(name):
    function, _ = CASES[name]
    low, high = interval(function)
    z, local = fine_grid(), around((0.0, *function.kinks))
    near = secants(function.function, z[1:], z[:-1])
    assert low - ROUNDING <= near.min() and near.max() <= high + ROUNDING
    at_kinks = secants(function.function, local[1:], local[:-1])
    assert low - 1e-8 <= at_kinks.min() and at_kinks.max() <= high + 1e-8
    assert min(near.min(), at_kinks.min()) <= low + 1e-6
    assert max(near.max(), at_kinks.max()) >= high - 1e-6
    coarse = torch.linspace(-12, 12, 1201, dtype=torch.float64) + 1e-3
    for shift in range(1, 1201, 7):
        far = secants(function.function, coarse[shift:], coarse[:-shift])
        assert low - ROUNDING <= far.min() and far.max() <= high + ROUNDING


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh", "mish", "selu"])
def test_irrational_ends_are_exact_to_rounding(name):
    """The extrema of the derivative, refined around the grid's best point: ends hold them, and
    exceed them by less than 1e-14."""
    function, _ = CASES[name]
    low, high = interval(function)
    for end, sign in ((low, -1), (high, 1))[name == "selu" :]:  # selu has alpha = 0
        center, width = 0.0, 8.0
        for _ in range(12):
            z = torch.linspace(center - width, center + width, 4001, dtype=torch.float64)
            slopes = sign * derivative(function.function, z)
            center, width = float(z[slopes.argmax()]), width / 100
        slack = sign * end - float(slopes.max())
        assert -1e-14 < slack < 1e-14


def test_ends_in_decimals_of_the_theory():
    decimals = {
        "silu": 1.09983932012886692, "gelu": 1.12890414518515479,
        "gelu_tanh": 1.12899306865877177, "mish": 1.08849816125172786,
        "selu": 1.75809934084737686,
    }  # fmt: skip
    for name, high in decimals.items():
        assert 0 <= activation(name).beta - high < 4e-15
    assert -4e-15 < activation("mish").alpha + 0.11252612238946256 <= 0
    for name in ("silu", "gelu", "gelu_tanh"):
        assert -4e-15 < activation(name).alpha - (1 - decimals[name]) <= 0


@pytest.mark.parametrize("name", CASES)
def test_function_equals_torch(name):
    function, module = CASES[name]
    module = MODULES[name] if module is None else module
    module = module.double() if isinstance(module, nn.Module) else module
    z = torch.cat([fine_grid()[::37], torch.tensor(function.kinks, dtype=torch.float64)])
    with torch.no_grad():
        assert torch.equal(function.function(z), module(z))


@pytest.mark.parametrize("name", CASES)
def test_kinks_are_where_the_slope_jumps(name):
    """One-sided slopes on a grid of step h that passes every kink differ by O(h) elsewhere."""
    function, _ = CASES[name]
    h = 1e-5
    points = torch.arange(-80000, 80001, dtype=torch.float64) * 1e-4
    right = secants(function.function, points + h, points)
    left = secants(function.function, points, points - h)
    jumps = {round(float(z), 6) for z in points[(right - left).abs() > 1e-3]}
    smooth = name == "elu" or name.startswith("celu")  # listed though C1 for these parameters
    assert jumps == (set() if smooth else set(function.kinks))


def test_derivative_is_the_slope():
    z = fine_grid()[::101].clamp(-8, 8)
    for function, _ in CASES.values():
        h = 1e-6
        slope = secants(function.function, z + h, z - h)
        torch.testing.assert_close(derivative(function.function, z), slope, atol=1e-6, rtol=0)


def test_prelu_has_one_slope_per_neuron():
    slopes = torch.tensor([-0.5, 0.25, 3.0]).double()
    function = act.prelu(slopes)
    z = torch.tensor([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]]).double()
    assert torch.equal(function.function(z), torch.stack([-2 * slopes, z[1]]))
    assert function.alpha.tolist() == [-0.5, 0.25, 1.0]
    assert function.beta.tolist() == [1.0, 1.0, 3.0]


def test_names_and_parameters_are_checked():
    custom = act.leaky_relu(0.3)
    assert activation(custom) is custom
    assert activation("gelu").name == "gelu"
    with pytest.raises(lb.UnsupportedError, match="unknown activation 'swish'.*relu"):
        activation("swish")
    for make in (act.softplus, act.celu):
        for value in (0.0, -1.0, math.nan):
            with pytest.raises(lb.LipboundsError, match="must be positive"):
                make(value)


def test_softplus_with_a_visible_step_raises():
    """PyTorch's softplus jumps down by about exp(-threshold) / beta at threshold / beta: with a low
    threshold no slope interval holds its secants."""
    with pytest.raises(lb.LipboundsError, match="threshold"):
        act.softplus(1.0, threshold=0.5)


@pytest.mark.parametrize(
    ("alpha", "beta", "message"),
    [
        (1.0, 0.0, "alpha must not exceed beta"),
        (torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.25]), "alpha must not exceed beta"),
        (torch.tensor([0.0, 2.0]), 1.0, "alpha must not exceed beta"),
        (math.nan, 1.0, "must be finite"),
        (0.0, math.inf, "must be finite"),
        (torch.tensor([0.0, math.nan]), torch.ones(2), "must be finite"),
        (torch.zeros(2), torch.ones(3), r"shapes \(2,\) and \(3,\)"),
        ("0", 1.0, "must be numbers"),
        (None, 1.0, "must be numbers"),
    ],
)
def test_slopes_that_are_no_interval_raise(alpha, beta, message):
    with pytest.raises(lb.LipboundsError, match=f"mine: slopes (.|\n)*{message}"):
        lb.Activation("mine", torch.relu, alpha, beta)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_parameters_that_are_no_number_raise(value):
    """Python's min and max drop a NaN, which would leave the interval of other parameters."""
    makers = [act.leaky_relu, act.elu, act.celu, act.softplus]
    makers.append(lambda slope: act.prelu(torch.tensor([slope])))
    for make in makers:
        with pytest.raises(lb.LipboundsError, match=f"{value}"):
            make(value)
    for make in (act.hardtanh, lambda threshold: act.softplus(1.0, threshold)):
        if math.isnan(value):
            with pytest.raises(lb.LipboundsError, match="nan"):
                make(value)

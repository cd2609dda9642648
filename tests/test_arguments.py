"""What a user may pass by mistake: one sentence that names the function and the argument."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import lipbounds as lb

NET = lb.from_weights([[[1.0, 2.0], [3.0, -1.0]], [[1.0, 1.0]]])
BEYOND = 10**400  # a whole number that no floating-point number reaches

BOUNDS = {
    "budget": ("K_2", [None, math.nan, -1, "a", True, BEYOND]),
    "degree": ("lipopt", ["a", 2.5, 0, True, BEYOND]),
    "seconds": ("K_4", [None, math.nan, -1, "a", True, BEYOND]),
    "progress": ("K_5", [3, "a"]),
}


@pytest.mark.parametrize(
    "option, value", [(option, v) for option, (_, values) in BOUNDS.items() for v in values]
)
def test_options_of_bounds(option, value):
    name = BOUNDS[option][0]
    norm = 1 if name == "lipopt" else 2
    with pytest.raises(lb.LipboundsError, match=f"^{name}: {option} = .{{1,80}} must be"):
        lb.bound(NET, name, norm, **{option: value})
    with pytest.raises(lb.LipboundsError, match=f"^{name}: {option} = .{{1,80}} must be"):
        lb.bounds(NET, [name], [norm], options={name: {option: value}})


@pytest.mark.parametrize("value", [math.inf, np.float64(3), np.int64(0)])
def test_numbers_of_other_types_are_numbers(value):
    assert lb.bound(NET, "K_4", 2, seconds=max(value, 1)).upper > 0
    assert lb.bound(NET, "path_norm", 2, seconds=value).upper > 0


def test_an_endless_budget_closes_the_bracket():
    found = lb.bound(NET, "K_2", 2, budget=math.inf)
    assert found.status is lb.Status.CONVERGED and found.upper <= found.lower * (1 + 1e-9)


CASES = {
    "exact: radius": lambda x: lb.exact(NET, 1, radius=x),
    "exact: center": lambda x: lb.exact(NET, 1, radius=1.0, center=x),
    "lower_bound: points": lambda x: lb.lower_bound(NET, 2, points=x),
    "sensitivity: eps": lambda x: lb.sensitivity(NET, x),
    "input": lambda x: NET(x),
    "W0": lambda x: lb.from_weights([x]),
    "b0": lambda x: lb.from_weights([[[1.0]]], [x]),
}
NO_NUMBERS = {
    "a word": "a",
    "complex": 1j,
    "complex NumPy": np.ones(2) * 1j,
    "complex tensor": torch.ones(2, dtype=torch.complex64),
    "ragged": [[1.0, 2.0], [1.0]],
    "beyond double": [BEYOND, BEYOND],
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.ones(2, device="meta"),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_arrays(what, kind):
    with pytest.raises(lb.LipboundsError, match=f"^{what} is not an array of numbers: "):
        CASES[what](NO_NUMBERS[kind])


@pytest.mark.parametrize(
    "points", [3.0, [], [[]], [1.0, 2.0], [[1.0, 2.0, 3.0]], [[1.0, math.nan]], [[1.0, math.inf]]]
)
def test_points_that_do_not_fit(points):
    for call in (lb.lower_bound, lambda *args, **more: lb.compare(*args, ["K_4"], [2], **more)):
        with pytest.raises(lb.LipboundsError, match="^lower_bound: points "):
            call(NET, points=points)


@pytest.mark.parametrize("seed", ["a", 1.5, None, True, BEYOND, 2**64])
def test_seeds(seed):
    with pytest.raises(lb.LipboundsError, match="^lower_bound: seed = .{1,80} must be a whole"):
        lb.lower_bound(NET, 2, seed=seed)
    with pytest.raises(lb.LipboundsError, match="^lower_bound: seed"):
        lb.compare(NET, ["K_4"], [2], seed=seed)


@pytest.mark.parametrize("function", [lb.exact, lb.relaxation_optimum, lb.lower_bound, lb.compare])
@pytest.mark.parametrize("seconds", [BEYOND, math.nan, "a"])
def test_seconds(function, seconds):
    with pytest.raises(lb.LipboundsError, match=f"^{function.__name__}: seconds = "):
        function(NET, seconds=seconds)


@pytest.mark.parametrize("cap", [BEYOND, math.nan, "a", -1.0, np.ones(2)])
def test_caps(cap):
    with pytest.raises(lb.LipboundsError, match="^exact: cap = "):
        lb.exact(NET, 1, cap=cap)


def test_progress_that_cannot_be_called():
    for function, call in (
        ("bounds", lambda: lb.bounds(NET, ["K_4"], [2], progress=3)),
        ("compare", lambda: lb.compare(NET, ["K_4"], [2], 1, progress=3)),
        ("K_5", lambda: lb.sensitivity(NET, [1, 1], "K_5", progress=3)),
    ):
        with pytest.raises(
            lb.LipboundsError, match=f"^{function}: progress = 3 must be a function"
        ):
            call()


@pytest.mark.parametrize("norm", [BEYOND, math.nan, None, "a", True, np.ones(2), 3])
def test_norms(norm):
    for call in (
        lambda: lb.bound(NET, "K_4", norm),
        lambda: lb.bounds(NET, ["K_4"], [norm]),
        lambda: lb.lower_bound(NET, norm),
        lambda: lb.relaxation_optimum(NET, norm),
        lambda: lb.exact(NET, norm),
    ):
        with pytest.raises(lb.UnsupportedError, match="^norm .* is not supported; take 1, 2 or"):
            call()


@pytest.mark.parametrize("network", [3, None, nn.ReLU(), [[[1.0]]]])
def test_what_is_no_network(network):
    for function in (
        lambda n: lb.bound(n, "K_4"), lb.bounds, lambda n: lb.sensitivity(n, [1]), lb.explicit,
        lb.exact, lb.lower_bound, lb.relaxation_optimum, lb.compare,
    ):  # fmt: skip
        with pytest.raises(lb.LipboundsError, match="takes a Network, not"):
            function(network)


@pytest.mark.parametrize("biases", [3, "a", [1, 2, 3]])
def test_biases(biases):
    with pytest.raises(lb.LipboundsError, match="bias|b0"):
        lb.from_weights([[[1.0]]], biases=biases)


def test_no_values_are_made_on_the_meta_device():
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    for call in (
        lambda: lb.from_torch(module, (2,)),
        lambda: lb.from_weights([[[1.0]]]),
        lambda: lb.bound(NET, "K_4"),
        lambda: lb.lower_bound(NET),
        lambda: lb.exact(NET, 1),
        lambda: lb.relaxation_optimum(NET),
        lambda: lb.sensitivity(NET, [1, 1]),
    ):
        with torch.device("meta"), pytest.raises(lb.LipboundsError, match="meta device"):
            call()
    assert lb.from_torch(module, (2,)).depth == 1

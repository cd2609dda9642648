"""Random graphs of operations, as a module of torch and exported to ONNX by both exporters: what is
imported computes the same, and its bounds hold for the module's own Jacobians."""

import logging
import math
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import quick
from torch import nn

import lipbounds as lb

IMAGE = (2, 5, 4)
METHODS = ("K_star", "K_1", "K_3", "K_4")
LARGEST = 500  # entries of an array; a step to a larger one is left out

# What makes one array of another: the layer for its shape (C, H, W), by the numbers drawn.
LAYERS = {
    "convolution": lambda c, _: nn.Conv2d(c, 2, 3, padding=1),
    "strided": lambda c, _: nn.Conv2d(c, 3, 2, stride=2, padding=1, bias=False),
    "grouped": lambda c, _: nn.Conv2d(c, 2 * c, 3, padding=2, dilation=2, groups=c),
    "transposed": lambda c, _: nn.ConvTranspose2d(c, 2, 2, stride=2),
    "batch norm": lambda c, _: batch_norm(c),
    "max pool": lambda *_: nn.MaxPool2d(2, stride=1, padding=1),
    "average pool": lambda *_: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    "prelu": lambda c, k: nn.PReLU(c, init=0.25 * (k - 1)),
    "leaky": lambda _, k: nn.LeakyReLU(0.25 * (k - 2)),
    "relu": lambda *_: nn.ReLU(),
    "tanh": lambda *_: nn.Tanh(),
    "elu": lambda _, k: nn.ELU(0.5 + k),
    "hard swish": lambda *_: nn.Hardswish(),
    "clipped": lambda _, k: nn.Hardtanh(-0.5 * k - 0.5, 0.5),
    "features": lambda c, _: Last(c),
}
MOVES = {
    "halves of the channels": lambda x: x[:, : (x.shape[1] + 1) // 2],
    "every other row": lambda x: x[:, :, ::2],
    "transposed image": lambda x: x.transpose(2, 3),
    "reshaped": lambda x: x.reshape(len(x), x.shape[2], x.shape[1], x.shape[3]),
    "padded": lambda x: F.pad(x, (1, 0, 0, 2)),
    "doubled": lambda x: torch.cat([x, -x], 1),
    "scaled": lambda x: 0.5 * x + torch.arange(x.shape[3], dtype=x.dtype),
    "mean of the rows": lambda x: x.mean(2, keepdim=True),
    "absolute value": torch.abs,
    "sorted channels": lambda x: x.sort(1)[0] if x.shape[1] < 5 else x,
}
PAIRS = {
    "sum": torch.add,
    "difference": torch.sub,
    "maximum": torch.maximum,
    "maximum and minimum": lambda x, y: torch.cat([torch.max(x, y), torch.min(x, y)], 1),
    "side by side": lambda x, y: torch.cat([x, y], 1),
}


def batch_norm(channels):
    layer = nn.BatchNorm2d(channels)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    return layer


class Last(nn.Module):
    """A linear map of the channels."""

    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(channels, 2)

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Graph(nn.Module):
    """steps: (name, place of its input, place of the second one or a number), places counted back
    from the last array, which is the output. Arrays of different shapes are no pair: then the first
    is its own partner."""

    def __init__(self, steps, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.steps, self.layers, x = [], nn.ModuleList(), [torch.zeros(1, *IMAGE)]
        for name, first, second in steps:
            one, other = -1 - first % len(x), -1 - second % len(x)
            layer = LAYERS[name](x[one].shape[1], second) if name in LAYERS else nn.Identity()
            self.layers.append(layer.eval())
            if name in PAIRS and x[one].shape != x[other].shape:
                other = one
            self.steps.append((name, one, other))
            made = self.step(len(self.steps) - 1, x).detach()
            if made.numel() > LARGEST:
                self.steps[-1] = ("absolute value", one, one)
            x.append(self.step(len(self.steps) - 1, x).detach())

    def step(self, k, x):
        name, one, other = self.steps[k]
        if name in LAYERS:
            return self.layers[k](x[one])
        return MOVES[name](x[one]) if name in MOVES else PAIRS[name](x[one], x[other])

    def forward(self, x):
        arrays = [x]
        for k in range(len(self.steps)):
            arrays.append(self.step(k, arrays))
        return arrays[-1].flatten(1)


@st.composite
def graphs(draw):
    names = st.sampled_from([*LAYERS, *MOVES, *PAIRS])
    step = st.tuples(names, st.integers(0, 2), st.integers(0, 4))
    return Graph(draw(st.lists(step, min_size=2, max_size=8)), draw(st.integers(0, 99))).eval()


def check(network, module, tolerance):
    """Values, and bounds against the norms of the module's Jacobians."""
    module = module.double()
    for scale in (0.1, 1.0, 10.0):
        x = scale * torch.randn(4, *IMAGE, dtype=torch.float64)
        expected = module(x).detach()
        size = float(expected.abs().max()) + 1
        assert torch.allclose(network(x), expected, rtol=0, atol=tolerance * size)
        jacobians = torch.autograd.functional.jacobian(lambda x: module(x).sum(0), x)
        jacobians = jacobians.flatten(2).movedim(1, 0)
        for norm in (1, 2, math.inf):
            attained = float(torch.linalg.matrix_norm(jacobians, norm).max())
            for name in METHODS:
                upper = float(lb.bound(network, name, norm).upper)
                assert attained <= upper * (1 + tolerance) + 1e-300, (name, norm)


@settings(quick, max_examples=15)
@given(graphs())
def test_as_a_module(module):
    network = lb.from_torch(module, IMAGE)
    check(network, module, 1e-12)


@pytest.mark.parametrize("dynamo", [False, True])
@settings(quick, max_examples=8, phases=[Phase.generate])
@given(module=graphs())
def test_as_an_onnx_file(dynamo, module):
    """Its exporters fold constants, so that weights differ by roundings."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, example = Path(folder) / "graph.onnx", torch.zeros(1, *IMAGE, dtype=torch.float64)
        logging.disable(logging.CRITICAL)
        torch.onnx.export(
            module.double(), (example,), path, opset_version=18 if dynamo else 13, dynamo=dynamo
        )
        logging.disable(logging.NOTSET)
        network = lb.from_onnx(path)
    check(network, module, 1e-6)

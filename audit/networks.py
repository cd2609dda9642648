"""Families of seeded random networks, as chains of raw arrays and as the package's networks.

A chain is a list of ("affine", W, b), ("slope", a) for z -> max(z, 0) + a min(z, 0), one a per
neuron, and ("pool", windows) for maxima over lists of indices. The oracles take nothing else. Of
what is a sum or a product of layers, W and b are the exact ones, Fractions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import lipbounds as lb
from lipbounds.networks.activations import absolute, leaky_relu, prelu, relu

from .oracles import rational


@dataclass(frozen=True)
class Case:
    """`chains`: one per member of an ensemble, else one. `build` makes the package's network."""

    family: str
    chains: list[list[tuple]]
    build: Callable
    ensemble: bool = False

    @property
    def pooled(self):
        return any(kind == "pool" for kind, *_ in self.chains[0])


def gaussian(rng):
    return dense(rng, "gaussian", lambda m, n, k: rng.standard_normal((m, n)))


def integers(rng):
    """Small integers with zero and duplicated rows and columns."""

    def matrix(m, n, k):
        w = rng.integers(-2, 3, (m, n)).astype(float)
        w[rng.integers(m)] = rng.choice([0.0, 1.0]) * w[rng.integers(m)]
        w[:, rng.integers(n)] = rng.choice([-1.0, 0.0, 1.0]) * w[:, rng.integers(n)]
        return w

    return dense(rng, "integers", matrix)


def cancelling(rng):
    """W_1 W_0 is zero but for rounding or a small rest, though both are not."""
    n, m, rest = rng.integers(1, 4, 3)
    size = int(rng.integers(1, 4))
    half = rng.standard_normal((size, n))
    after = rng.standard_normal((m, size))
    rest = 10.0 ** -rng.integers(2, 17) * rng.standard_normal((size, n)) * rng.integers(2)
    weights = [np.vstack([half, half + rest]), np.hstack([after, -after])]
    if rng.integers(2):
        weights.append(rng.standard_normal((2, m)))
    return from_dense(rng, "cancelling", weights, slopes(rng, weights))


def near_linear(rng):
    """All slopes within 10^-k of one another."""
    gap = 10.0 ** -rng.integers(1, 17)
    weights = sized(rng, lambda m, n, k: rng.standard_normal((m, n)))
    a = [np.full(len(w), 1 - gap * rng.choice([-1, 1])) for w in weights[:-1]]
    return from_dense(rng, "near_linear", weights, a)


def mixed(rng):
    """PReLU with slopes of both signs and of size above one, some of them 0 or 1."""
    weights = sized(rng, lambda m, n, k: rng.standard_normal((m, n)))
    a = [rng.choice([0.0, 1.0, *rng.uniform(-3, 3, 4)], len(w)) for w in weights[:-1]]
    return from_dense(rng, "mixed", weights, a)


def absolutes(rng):
    weights = sized(rng, lambda m, n, k: rng.integers(-3, 4, (m, n)) / 2)
    return from_dense(rng, "absolutes", weights, [np.full(len(w), -1.0) for w in weights[:-1]])


def scaled(rng):
    """Layers, and sometimes rows, from 1e-8 to 1e8."""
    power, rows = rng.integers(-8, 9, 9), rng.integers(2)

    def matrix(m, n, k):
        row = 10.0 ** (rows * rng.integers(-8, 9, (m, 1)))
        return rng.standard_normal((m, n)) * 10.0 ** power[k] * row

    return dense(rng, "scaled", matrix)


EXTREMES = (-323, -308, -300, -170, -160, -150, -100, 0, 100, 150, 155, 160, 170, 300, 307)


def extreme(rng):
    """Layers to the ends of double precision; often the product is of size one again."""
    first = int(rng.choice(EXTREMES))
    powers = [first, int(rng.choice([-first, first, 0, int(rng.choice(EXTREMES))])), 0, 0]

    def matrix(m, n, k):
        with np.errstate(all="ignore"):
            return np.clip(rng.uniform(-1, 1, (m, n)), -1, 1) * 10.0 ** float(
                np.clip(powers[k], -323, 307)
            )

    weights = sized(rng, matrix)
    return from_dense(rng, "extreme", weights, slopes(rng, weights), biased=False)


def ensemble(rng):
    """S networks at once, each a family's own in scale."""
    count, sizes = int(rng.integers(1, 4)), rng.integers(1, 4, rng.integers(2, 5))
    power = 10.0 ** (rng.integers(2) * rng.integers(-8, 9, (count, 1, 1)))
    weights = [
        rng.standard_normal((count, m, n)) * power * rng.integers(0, 2, (count, m, n))
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    a = slopes(rng, [w[0] for w in weights])
    chains = [chain_of([w[s] for w in weights], [0 * w[s, :, 0] for w in weights], a)
              for s in range(count)]  # fmt: skip
    functions = [[function(v) for v in stage] for stage in a]
    return Case("ensemble", chains, lambda: lb.from_weights(weights, None, functions), True)


def pooling(rng):
    """Conv1d, slopes and MaxPool1d of any kernel, stride, padding and dilation, in any order."""
    shape, chain, layers = (int(rng.integers(1, 3)), int(rng.integers(3, 7))), [], []
    start = shape
    shape = add_convolution(rng, shape, chain, layers)
    for kind in rng.permutation(["slope", "pool"] + ["slope"] * int(rng.integers(2))):
        add = add_pool if kind == "pool" else add_slope
        shape = add(rng, shape, chain, layers)
    if rng.integers(2):
        shape = add_convolution(rng, shape, chain, layers)
        shape = add_slope(rng, shape, chain, layers)
    add_linear(rng, shape, chain, layers)
    module = nn.Sequential(*layers).double().eval()
    return Case("pooling", [chain], lambda: lb.from_torch(module, start))


class Branches(nn.Module):
    """z = act(first(x)), y = outer(inner(z)) + beside(z), and z itself where `skip`; then act and
    last, or last alone where `acts` has one."""

    def __init__(self, layers, acts, skip):
        super().__init__()
        self.first, self.inner, self.outer, self.beside, self.last = layers
        self.acts, self.skip = nn.ModuleList(acts), skip

    def forward(self, x):
        z = self.acts[0](self.first(x))
        y = self.outer(self.inner(z)) + self.beside(z)
        y = y + z if self.skip else y
        return self.last(self.acts[1](y) if len(self.acts) > 1 else y)


def branches(rng):
    """Layers in parallel, whose sum often cancels but for a rounding, by torch.export."""
    n, h, k, out = (int(size) for size in rng.integers(1, 4, 4))
    skip = bool(rng.integers(2))
    m = h if skip else int(rng.integers(1, 4))
    sizes = (h, n), (k, h), (m, k), (m, h), (out, m)
    weights = [rng.standard_normal(size) * 10.0 ** rng.integers(-4, 5) for size in sizes]
    rest = rng.choice([0.0, 1e-17, 1e-9, 1.0]) * rng.standard_normal((m, h))
    if rng.integers(4):
        product = weights[2] @ weights[1]
        weights[3] = (rest - 1) * product - (np.eye(m) if skip else 0)
    scale = rng.integers(2)
    biases = [scale * rng.standard_normal(len(w)) for w in weights]
    a = [np.full(size, rng.choice([0.0, 0.25, -1.0, 1.0])) for size in (h, m)]
    acts = [nn.LeakyReLU(float(v[0])) for v in a[: int(rng.integers(1, 3))]]
    exact = [rational(w) for w in weights]
    whole = exact[2] @ exact[1] + exact[3] + (rational(np.eye(m)) if skip else 0)
    offset = exact[2] @ rational(biases[1]) + rational(biases[2]) + rational(biases[3])
    chain = [("affine", weights[0], biases[0]), ("slope", a[0]), ("affine", whole, offset)]
    if len(acts) > 1:
        chain += [("slope", a[1]), ("affine", weights[4], biases[4])]
    else:
        chain[-1] = ("affine", exact[4] @ whole, exact[4] @ offset + rational(biases[4]))
    module = Branches([linear(*pair) for pair in zip(weights, biases, strict=True)], acts, skip)
    return Case("branches", [chain], lambda: lb.from_torch(module.eval(), (n,)))


def linear(weight, bias):
    return filled(nn.Linear(*weight.shape[::-1]), weight, bias)


def filled(layer, weight, bias):
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


FAMILIES = (
    gaussian, integers, cancelling, near_linear, mixed, absolutes, scaled, extreme, ensemble,
    pooling, branches,
)  # fmt: skip


def sized(rng, matrix):
    """Weights of one to three hidden stages with eight neurons at most."""
    sizes = [int(s) for s in rng.integers(1, 4, rng.integers(3, 6))]
    sizes[1:-1] = sizes[1:-1] if len(sizes) < 5 else [min(s, 2) for s in sizes[1:-1]]
    pairs = zip(sizes, sizes[1:], strict=False)
    return [matrix(m, n, k) for k, (n, m) in enumerate(pairs)]


def slopes(rng, weights):
    choices = (0.0, 0.0, 0.01, 0.25, -1.0, -0.5, 2.5, 1.0, 1 - 1e-9)
    if rng.integers(2):
        return [np.full(len(w), rng.choice(choices)) for w in weights[:-1]]
    return [rng.choice(choices, len(w)) for w in weights[:-1]]


def dense(rng, family, matrix):
    weights = sized(rng, matrix)
    return from_dense(rng, family, weights, slopes(rng, weights))


def from_dense(rng, family, weights, a, biased=True):
    scale = rng.integers(2) if biased else 0
    biases = [scale * rng.standard_normal(len(w)) for w in weights]
    whole = bool(rng.integers(2))  # one function per stage, or a list of one per neuron
    functions = [stage_function(v) if whole else [function(s) for s in v] for v in a]
    chain = chain_of(weights, biases, a)
    return Case(family, [chain], lambda: lb.from_weights(weights, biases, functions))


def chain_of(weights, biases, a):
    chain = [("affine", weights[0], biases[0])]
    for w, b, stage in zip(weights[1:], biases[1:], a, strict=True):
        chain += [("slope", stage), ("affine", w, b)]
    return chain


def function(a):
    return relu() if a == 0 else absolute() if a == -1 else leaky_relu(float(a))


def stage_function(a):
    return function(a[0]) if len(set(a)) == 1 else prelu(torch.from_numpy(np.array(a)))


def add_convolution(rng, shape, chain, layers):
    """A Conv1d, and its matrix written out entry by entry."""
    (channels, length), out = shape, int(rng.integers(1, 3))
    kernel, pad = int(rng.integers(1, min(3, length) + 1)), int(rng.integers(2))
    stride = int(rng.integers(1, 3))
    new = (length + 2 * pad - kernel) // stride + 1
    matrix = np.zeros((out * new, channels * length))
    weight = rng.standard_normal((out, channels, kernel))
    bias = rng.standard_normal(out)
    for o, c, i, k in np.ndindex(out, channels, new, kernel):
        place = i * stride + k - pad
        if 0 <= place < length:
            matrix[o * new + i, c * length + place] = weight[o, c, k]
    layers.append(filled(nn.Conv1d(channels, out, kernel, stride, pad), weight, bias))
    chain.append(("affine", matrix, np.repeat(bias, new)))
    return out, new


def add_slope(rng, shape, chain, layers):
    """ReLU, LeakyReLU or a PReLU with one slope per channel."""
    a = rng.choice([0.0, 0.0, -1.0, 0.25, 2.5, *rng.uniform(-3, 3, 3)], shape[0])
    layer = nn.PReLU(shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(a))
    if len(set(a)) == 1:
        layer = nn.LeakyReLU(float(a[0])) if a[0] else nn.ReLU()
    layers.append(layer)
    chain.append(("slope", np.repeat(a, shape[1])))
    return shape


def add_pool(rng, shape, chain, layers):
    """A MaxPool1d, and its windows listed; padding belongs to none."""
    channels, length = shape
    kernel = int(rng.integers(1, min(4, length) + 1))
    dilation = int(rng.integers(1, 3)) if 2 * (kernel - 1) < length else 1
    pad, stride = int(rng.integers(0, kernel // 2 + 1)), int(rng.integers(1, 4))
    new = (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    places = [
        [p for k in range(kernel) if 0 <= (p := i * stride + k * dilation - pad) < length]
        for i in range(new)
    ]
    windows = [[c * length + p for p in window] for c in range(channels) for window in places]
    layers.append(nn.MaxPool1d(kernel, stride, pad, dilation))
    chain.append(("pool", windows))
    return channels, new


def add_linear(rng, shape, chain, layers):
    size, out = shape[0] * shape[1], int(rng.integers(1, 4))
    weight, bias = rng.standard_normal((out, size)), rng.standard_normal(out)
    layers += [nn.Flatten(), linear(weight, bias)]
    chain.append(("affine", weight, bias))

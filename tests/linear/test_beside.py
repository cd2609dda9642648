"""Maps beside one another as one convolution: against the maps themselves."""

import itertools
import math

import pytest
import torch

from lipbounds.linear import beside
from lipbounds.linear.beside import as_one_convolution, most_factors
from lipbounds.linear.beyond import reads_beyond, zero_beyond
from lipbounds.linear.blocks import Blocks, Sum
from lipbounds.linear.operators import Composition, Convolution, Diagonal, Identity, Sparse

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def convolution(outputs, inputs, taps, image=(6, 7), **options):
    groups = options.get("groups", 1)
    return Convolution(normal(outputs, inputs // groups, *taps), (inputs, *image), **options)


def blocks(parts):
    heights, widths = {}, {}
    for (i, j), part in parts.items():
        heights[i], widths[j] = part.shape
    return Blocks(parts, *([sizes[k] for k in range(len(sizes))] for sizes in (heights, widths)))


def channelwise(channels, positions):
    return Diagonal(normal(channels).repeat_interleave(positions))


def placed(channels, among, first, positions):
    """Channels put among others, from the `first` on."""
    columns = torch.arange(channels * positions)
    ones = torch.ones(len(columns), dtype=torch.float64)
    shape = among * positions, channels * positions
    return Sparse(columns + first * positions, columns, ones, shape)


same = {"padding": (1, 1, 1, 1)}
CASES = {
    "carried": {(0, 0): convolution(3, 2, (3, 3), **same), (1, 0): Identity(84)},
    "added": {(0, 0): convolution(2, 3, (3, 3), **same), (0, 1): channelwise(2, 42)},
    "strided": {
        (0, 0): convolution(3, 2, (3, 3), (8, 8), stride=(2, 2), **same),
        (1, 0): convolution(2, 2, (1, 1), (8, 8), stride=(2, 2)),
    },
    "of other sizes": {
        (0, 0): convolution(2, 4, (5, 3), padding=(1, 1, 2, 2), groups=2),
        (1, 1): convolution(1, 2, (1, 2), padding=(1, 0, 0, 0)),
        (1, 0): Composition([channelwise(1, 42), convolution(1, 4, (3, 1), padding=(0, 0, 1, 1))]),
    },
    "dilated": {
        (0, 0): convolution(2, 2, (3, 3), padding=(2, 2, 1, 1), dilation=(1, 2)),
        (0, 1): convolution(2, 1, (2, 2), padding=(0, 1, 1, 0)),
    },
    "concatenated": {
        (0, 0): Composition([convolution(2, 5, (3, 3), **same), placed(3, 5, 0, 42)]),
        (0, 1): Composition([convolution(2, 5, (3, 3), **same), placed(2, 5, 3, 42)]),
    },
    "in another order": {
        (0, 0): Composition(
            [
                channelwise(4, 42),
                placed(2, 4, 1, 42),
                convolution(2, 3, (1, 3), padding=(1, 1, 0, 0)),
            ]
            + [channelwise(3, 42)]
        ),
        (0, 1): Composition([placed(3, 4, 1, 42), channelwise(3, 42)]),
    },
    "carried alone": {(0, 0): Identity(42), (1, 1): channelwise(2, 42)},
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_map(name):
    operator = blocks(CASES[name])
    one = as_one_convolution(operator, (6, 7) if name == "carried alone" else None)
    x, y = normal(4, operator.shape[1]), normal(4, operator.shape[0])
    torch.testing.assert_close(one.apply(x), operator.apply(x))
    torch.testing.assert_close(one.adjoint(y), operator.adjoint(y))
    assert most_factors(operator) == max(len(part.factors) for part in CASES[name].values())


UNLIKE = {
    "two images": {(0, 0): convolution(1, 1, (1, 1), (6, 7)), (1, 0): convolution(1, 1, (2, 1))},
    "strides": {
        (0, 0): convolution(2, 2, (3, 3), (2, 2), padding=(1, 1, 1, 1)),
        (1, 0): convolution(2, 2, (3, 3), (2, 2), padding=(1, 2, 1, 2), stride=(2, 2)),
    },
    "a diagonal": {(0, 0): Diagonal(normal(42)), (1, 0): convolution(1, 1, (1, 1))},
    "carried past a stride": {
        (0, 0): convolution(2, 1, (1, 1), (6, 7), stride=(1, 2)),
        (1, 0): Identity(42),
    },
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_none(name):
    assert as_one_convolution(blocks(UNLIKE[name])) is None


@pytest.mark.parametrize("moved", ["turned", "twice", "of other sizes"])
def test_what_is_placed_otherwise_is_none(moved):
    rows, values = torch.arange(84), torch.ones(84, dtype=torch.float64)
    columns = {"turned": rows.roll(1), "twice": rows % 42}.get(moved, rows)
    values[1] = 2.0 if moved == "of other sizes" else 1.0
    placed_ = Sparse(rows, columns, values, (84, 84))
    parts = {(0, 0): Composition([convolution(1, 2, (1, 1)), placed_])}
    assert as_one_convolution(blocks(parts)) is None


def test_sums_and_large_kernels_are_none(monkeypatch):
    parts = CASES["carried"]
    summed = Sum([convolution(2, 2, (3, 3), **same), Identity(84)])
    assert as_one_convolution(summed) is None
    assert as_one_convolution(blocks({(0, 0): summed, (1, 0): parts[0, 0]})) is None
    monkeypatch.setattr(beside, "LARGEST_KERNEL", 10)
    assert as_one_convolution(blocks(parts)) is None


OPTIONS = [
    {"stride": (s, t), "padding": pads, "dilation": d, "groups": g}
    for s, t, pads, d, g in itertools.product(
        (1, 2), (1, 3), [(0, 0, 0, 0), (1, 0, 2, 1), (0, 3, 0, 0)], [(1, 1), (2, 1)], (1, 2)
    )
]


@pytest.mark.parametrize("taps", [(1, 1), (2, 3), (3, 1)])
def test_what_lies_beyond_an_image(taps):
    """By a torus that holds the image and its padding: what is changed beyond the image reaches
    an entry inside only through channels that read beyond it; and where nothing is there, nothing
    is beyond the output's image in the channels that are said to be zero."""
    for options in OPTIONS:
        one = convolution(4, 2, taps, (5, 4), **options)
        one.kernel[1, :, -1:] = 0.0
        one.kernel[2:, :, :, :-1] = 0.0
        torus = wrapped(one)
        beyond = torch.ones(2, *torus.image_shape[1:], dtype=torch.bool)
        beyond[:, :5, :4] = False
        kept = tuple(slice(n) for n in one.out_shape[1:])
        for channel in range(2):
            x = torch.where(beyond, normal(*beyond.shape), 0.0)
            x[1 - channel] = 0.0
            inside = torus.apply(x.reshape(1, -1)).reshape(torus.out_shape)[(slice(None), *kept)]
            assert bool(reads_beyond(one)[channel]) == bool((inside != 0).any())
        for zero in itertools.product([False, True], repeat=2):
            zero = torch.tensor(zero)
            x = torch.where(beyond & zero[:, None, None], 0.0, normal(*beyond.shape))
            made = torus.apply(x.reshape(1, -1)).reshape(torus.out_shape).clone()
            made[(slice(None), *kept)] = 0.0
            assert not bool(made[zero_beyond(one, zero)].any())


def wrapped(one):
    """The circular convolution on a torus, its first entry that of the image, as a padded one."""
    sizes = []
    for axis in (0, 1):
        first, last = one.padding[2 - 2 * axis : 4 - 2 * axis]
        stride = one.stride[axis]
        needed = one.image_shape[1 + axis] + max(first, last)
        needed = max(needed, stride * one.out_shape[1 + axis])
        sizes.append(-(-needed // stride) * stride)
    return Circular(one, sizes)


class Circular:
    """y[i] = sum_t k_t x[(s i + d t - p) mod N], from its definition."""

    def __init__(self, one, sizes):
        self.one, self.image_shape = one, (one.image_shape[0], *sizes)
        out = [n // s for n, s in zip(sizes, one.stride, strict=True)]
        self.out_shape = one.out_shape[0], *out

    def apply(self, x):
        one = self.one
        x = x.reshape(self.image_shape)
        kernel = beside.full_kernel(one.kernel, one.groups)
        y = torch.zeros(self.out_shape, dtype=torch.float64)
        left, _, top, _ = one.padding
        for a, b in itertools.product(*map(range, kernel.shape[2:])):
            rows = torch.arange(y.shape[1]) * one.stride[0] + a * one.dilation[0] - top
            columns = torch.arange(y.shape[2]) * one.stride[1] + b * one.dilation[1] - left
            read = x[:, rows % x.shape[1]][:, :, columns % x.shape[2]]
            y += torch.einsum("oc,cyx->oyx", kernel[:, :, a, b], read)
        return y.reshape(1, -1)


def test_a_stage_behind_a_convolution_of_the_whole_image_reads_nothing_beyond():
    one = convolution(3, 2, (6, 7))
    assert not bool(reads_beyond(one).any())
    assert not bool(zero_beyond(one, torch.ones(2, dtype=torch.bool)).any())
    assert math.prod(one.out_shape) == 3

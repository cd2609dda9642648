"""Maps beside one another as one convolution of all of their channels.

A residual block reads an image and the image that is carried past it: side by side these are one
image of more channels, and what acts on them is a convolution whose kernel is zero in between.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Blocks
from .operators import Composition, Convolution, Diagonal, Identity, Operator, Sparse
from .torus import Pair

LARGEST_KERNEL = 2**25  # entries of a kernel that is mostly zero: 256 MiB


def as_one_convolution(operator: Operator, image: Pair | None = None) -> Convolution | None:
    """The same map as one convolution, up to a rounding of its kernel for each other factor; None
    where it is none, or its kernel would have more than LARGEST_KERNEL entries. Of sums there is
    none: where terms cancel, their roundings would not be relative to what is left.

    image: the height and width of what it reads, where they are known.
    """
    if not isinstance(operator, Blocks):
        return operator.as_convolution
    found = [_convolution_in(part) for part in operator.parts.values()]
    known = [one for one in found if one is not None]
    if not known and image is None:
        return None
    sides = known[0] if known else Convolution(torch.ones(1, 1, 1, 1), (1, *image))
    return _Frame(sides.image_shape[1:], sides.out_shape[1:], sides.stride).whole(operator)


def _convolution_in(operator: Operator) -> Convolution | None:
    """The map as a convolution, but for a matrix in front of it that may place channels among
    others, as concatenations do."""
    if len(operator.factors) > 1 and isinstance(operator.factors[-1], Sparse):
        return Composition(operator.factors[:-1]).as_convolution
    return operator.as_convolution


def most_factors(operator: Operator) -> int:
    """Of a part: an entry of the one kernel has as many roundings at most."""
    parts = operator.parts.values() if isinstance(operator, Blocks) else [operator]
    return max((len(part.factors) for part in parts), default=1)


class _Unlike(Exception):
    """A part that does not read and write the others' images."""


@dataclass(frozen=True)
class _Taps:
    """A kernel (outputs, inputs, height, width), neither grouped nor dilated; first: what its first
    tap reads along each axis, at the position 0."""

    kernel: Tensor
    first: Pair

    @property
    def last(self) -> Pair:
        return tuple(a + n - 1 for a, n in zip(self.first, self.kernel.shape[2:], strict=True))


@dataclass(frozen=True)
class _Frame:
    """Of all parts: the (height, width) that they read and write, and their stride."""

    image: Pair
    out: Pair
    stride: Pair

    def whole(self, blocks: Blocks) -> Convolution | None:
        try:
            taps = self._taps(blocks)
        except _Unlike:
            return None
        left, top = -taps.first[1], -taps.first[0]
        beyond = [
            max(0, (m - 1) * s + last - (n - 1))
            for m, s, last, n in zip(self.out, self.stride, taps.last, self.image, strict=True)
        ]
        shape = taps.kernel.shape[1], *self.image
        made = Convolution(taps.kernel, shape, self.stride, (left, beyond[1], top, beyond[0]))
        return made if made.out_shape[1:] == self.out and made.shape == blocks.shape else None

    def _taps(self, blocks: Blocks) -> _Taps:
        heights = [self._channels(n, self.out) for n in blocks.heights]
        widths = [self._channels(n, self.image) for n in blocks.widths]
        parts = [(place, self._single(part)) for place, part in blocks.parts.items()]
        return _placed(parts, heights, widths, blocks.device)

    def _channels(self, size: int, sides: Pair) -> int:
        if size % math.prod(sides):
            raise _Unlike
        return size // math.prod(sides)

    def _single(self, operator: Operator) -> _Taps:
        if isinstance(operator, Identity | Diagonal):
            return self._pointwise(operator)
        one = _convolution_in(operator)
        if one is None or (one.image_shape[1:], one.out_shape[1:], one.stride) != (
            self.image,
            self.out,
            self.stride,
        ):
            raise _Unlike
        left, _, top, _ = one.padding
        kernel = undilated(full_kernel(one.kernel, one.groups), one.dilation)
        if isinstance(operator.factors[-1], Sparse):
            kernel = kernel[:, self._channels_read(operator.factors[-1])]
        return _Taps(kernel, (-top, -left))

    def _channels_read(self, placed: Sparse) -> Tensor:
        """Which of its rows' channels each channel of its columns is placed in, whole."""
        size = math.prod(self.image)
        (rows, columns), values = placed.coo.indices(), placed.coo.values()
        channels = self._channels(placed.shape[1], self.image)
        if len(values) != placed.shape[1] or not bool((values == 1).all()):
            raise _Unlike
        rows = rows[columns.argsort()].reshape(channels, size)
        there = torch.arange(size, device=rows.device)
        if not bool((rows == rows[:, :1] + there).all() and (rows[:, 0] % size == 0).all()):
            raise _Unlike
        if not bool((columns.sort().values == torch.arange(len(columns))).all()):
            raise _Unlike
        return rows[:, 0] // size

    def _pointwise(self, operator: Identity | Diagonal) -> _Taps:
        if self.stride != (1, 1) or self.out != self.image:
            raise _Unlike
        channels = self._channels(operator.shape[0], self.image)
        each = torch.ones(channels, 1, dtype=torch.float64, device=operator.device)
        if isinstance(operator, Diagonal):
            each = operator.diagonal.reshape(channels, -1)
        if not bool((each == each[:, :1]).all()):
            raise _Unlike
        return _Taps(torch.diag(each[:, 0])[:, :, None, None], (0, 0))


def _placed(
    parts: list[tuple[Pair, _Taps]], heights: list[int], widths: list[int], device
) -> _Taps:
    """Each in its channels, the taps of all where they read the same."""
    first = tuple(min([0, *(taps.first[axis] for _, taps in parts)]) for axis in (0, 1))
    last = tuple(max([0, *(taps.last[axis] for _, taps in parts)]) for axis in (0, 1))
    sides = [b - a + 1 for a, b in zip(first, last, strict=True)]
    if sum(heights) * sum(widths) * math.prod(sides) > LARGEST_KERNEL:
        raise _Unlike
    whole = torch.zeros(sum(heights), sum(widths), *sides, dtype=torch.float64, device=device)
    for (i, j), taps in parts:
        row, column = sum(heights[:i]), sum(widths[:j])
        at = [slice(row, row + heights[i]), slice(column, column + widths[j])]
        for own, a, n in zip(taps.first, first, taps.kernel.shape[2:], strict=True):
            at.append(slice(own - a, own - a + n))
        whole[tuple(at)] = taps.kernel
    return _Taps(whole, first)


def full_kernel(kernel: Tensor, groups: int) -> Tensor:
    """(c', c, kh, kw), zero between groups."""
    if groups == 1:
        return kernel
    outputs, inputs, *taps = kernel.shape
    found = kernel.new_zeros(outputs, groups * inputs, *taps)
    for group, (rows, own) in enumerate(
        zip(found.chunk(groups), kernel.chunk(groups), strict=True)
    ):
        rows[:, group * inputs : (group + 1) * inputs] = own
    return found


def undilated(kernel: Tensor, dilation: Pair) -> Tensor:
    """The same kernel with zeros between its taps."""
    if dilation == (1, 1):
        return kernel
    sides = [d * (n - 1) + 1 for d, n in zip(dilation, kernel.shape[2:], strict=True)]
    found = kernel.new_zeros(*kernel.shape[:2], *sides)
    found[:, :, :: dilation[0], :: dilation[1]] = kernel
    return found

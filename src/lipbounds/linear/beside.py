"""Maps beside one another as one convolution of all of their channels.

A residual block reads an image and the image that is carried past it: side by side these are one
image of more channels, and what acts on them is a convolution whose kernel is zero in between.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Blocks
from .operators import Convolution, Diagonal, Identity, Operator, Sparse
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
    """The one that is among the factors."""
    found = [one for one in operator.factors if isinstance(one, Convolution)]
    return found[0] if len(found) == 1 else None


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
        """A convolution with maps of channels before and behind it, or such maps alone."""
        one, factors = _convolution_in(operator), list(reversed(operator.factors))
        if one is None and (self.stride != (1, 1) or self.out != self.image):
            raise _Unlike
        if one is None:
            channels = self._channels(operator.shape[0], self.image)
            eye = torch.eye(channels, dtype=torch.float64, device=operator.device)
            taps, place = _Taps(eye[:, :, None, None], (0, 0)), len(factors)
        else:
            taps, place = self._taps_of(one), factors.index(one)
        kernel = taps.kernel
        for factor in reversed(factors[:place]):
            kernel = _Channels.of(factor, self.image).in_front_of(kernel)
        for factor in factors[place + 1 :]:
            kernel = _Channels.of(factor, self.out).behind(kernel)
        return _Taps(kernel, taps.first)

    def _taps_of(self, one: Convolution) -> _Taps:
        if (one.image_shape[1:], one.out_shape[1:], one.stride) != (
            self.image,
            self.out,
            self.stride,
        ):
            raise _Unlike
        left, _, top, _ = one.padding
        return _Taps(undilated(full_kernel(one.kernel, one.groups), one.dilation), (-top, -left))


@dataclass(frozen=True)
class _Channels:
    """A map that makes each channel a multiple of one of its input's: as diagonals do, and matrices
    that place channels among others. read, factor (c',): of which, or -1, and how often; inputs: of
    how many."""

    read: Tensor
    factor: Tensor
    inputs: int

    @classmethod
    def of(cls, operator: Operator, sides: Pair) -> "_Channels":
        size = math.prod(sides)
        count, inputs = (n // size for n in operator.shape)
        if isinstance(operator, Convolution) or [n % size for n in operator.shape] != [0, 0]:
            raise _Unlike
        rows = columns = torch.arange(operator.shape[0], device=operator.device)
        if isinstance(operator, Identity):
            values = torch.ones(len(rows), dtype=torch.float64, device=operator.device)
        elif isinstance(operator, Diagonal):
            values = operator.diagonal
        elif isinstance(operator, Sparse):
            (rows, columns), values = operator.coo.indices(), operator.coo.values()
        else:
            raise _Unlike
        own = rows // size
        read = torch.full((count,), -1, device=rows.device).index_put((own,), columns // size)
        factor = values.new_zeros(count).index_put((own,), values)
        whole = torch.isin(torch.bincount(own, minlength=count), rows.new_tensor([0, size])).all()
        alike = rows % size == columns % size
        alike &= (read[own] == columns // size) & (factor[own] == values)
        if not bool(whole and alike.all()):
            raise _Unlike
        return cls(read, factor, inputs)

    def behind(self, kernel: Tensor) -> Tensor:
        """The kernel (c, ...) of a map, of this one behind it: (c', ...)."""
        made = kernel.new_zeros(len(self.read), *kernel.shape[1:])
        some = self.read >= 0
        made[some] = kernel[self.read[some]] * self.factor[some, None, None, None]
        return made

    def in_front_of(self, kernel: Tensor) -> Tensor:
        """The kernel (o, c', ...) of a map, of this one before it: (o, c, ...). Each channel is to
        be read once, or terms would have to be added."""
        some = self.read >= 0
        if len(self.read[some].unique()) < int(some.sum()):
            raise _Unlike
        made = kernel.new_zeros(len(kernel), self.inputs, *kernel.shape[2:])
        made[:, self.read[some]] = kernel[:, some] * self.factor[some, None, None]
        return made


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

"""Pooling windows as tables of flat input indices, for max and average pooling alike."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..errors import ShapeError


def sliding(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int | tuple[int, int]],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Windows that slide over each channel of an image (C, H, W), or of an array of any number of
    axes behind the channels, as PyTorch places them; padding: of each axis, on both sides or
    (before, after).

    Returns (windows, inside, out_shape): windows (m, w) of flat indices, `inside` (m, w) False
    where an entry lies in the padding (its index is then that of another entry of the window).
    """
    sides = [(p, p) if isinstance(p, int) else p for p in padding]
    starts = [
        torch.arange(_positions(*axis, ceil_mode)) * axis[2] - axis[3][0]
        for axis in zip(shape[1:], kernel, stride, sides, dilation, strict=True)
    ]
    reach = [torch.arange(k) * d for k, d in zip(kernel, dilation, strict=True)]
    axes = [
        (start.unsqueeze(1) + offset.unsqueeze(0), size)
        for start, offset, size in zip(starts, reach, shape[1:], strict=True)
    ]
    ranges = [(index, (index >= 0) & (index < size)) for index, size in axes]
    return _table(ranges, shape)


@dataclass(frozen=True)
class Sliding:
    """How windows slide, along (height, width); `padding` in front, `reach` from the first entry of
    the first window to the last one of the last, inside the image or not."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    reach: tuple[int, int]
    out_shape: tuple[int, int, int]


def recognised(windows: Tensor, shape: Sequence[int]) -> Sliding | None:
    """How the `windows` (m, w) of a (C, H, W) image slide, all channels alike and without dilation;
    None where they do not."""
    channels, height, width = shape
    windows = windows.cpu()
    if len(windows) % channels:
        return None
    first = windows[: len(windows) // channels]  # of one channel
    row, column = first // width, first % width
    axes = [_axis(row.amin(1), row.amax(1)), _axis(column.amin(1), column.amax(1))]
    if None in axes or int(first.max()) >= height * width:
        return None
    kernel, stride, padding, count = zip(*axes, strict=True)
    found = []
    for size, k, s, p, m in zip((height, width), kernel, stride, padding, count, strict=True):
        index = torch.arange(m)[:, None] * s - p + torch.arange(k)
        inside = (index >= 0) & (index < size)
        if not bool(inside.any(1).all()):
            return None
        found.append((index, inside))
    again, _, out_shape = _table(found, shape)
    if again.shape != windows.shape or not torch.equal(again, windows):
        return None
    reach = tuple((m - 1) * s + k for k, s, m in zip(kernel, stride, count, strict=True))
    return Sliding(kernel, stride, padding, reach, out_shape)


def _axis(low: Tensor, high: Tensor) -> tuple[int, int, int, int] | None:
    """Kernel, stride, padding and number of windows along an axis on which they cover low to high,
    were they to slide."""
    low, high = torch.unique(torch.stack([low, high], 1), dim=0).unbind(1)
    kernel, count = int((high - low).max()) + 1, len(low)
    if count == 1:
        return kernel, kernel, 0, 1
    stride = int(max((low[1:] - low[:-1]).max(), (high[1:] - high[:-1]).max()))
    return kernel, stride, max(0, kernel - 1 - int(high[0])), count


def adaptive(shape: Sequence[int], output: Sequence[int]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Windows of adaptive pooling: output i averages inputs floor(i n/m) to ceil((i+1) n/m)."""
    ranges = []
    for size, count in zip(shape[1:], output, strict=True):
        i = torch.arange(count)
        start, end = i * size // count, ((i + 1) * size + count - 1) // count
        index = start.unsqueeze(1) + torch.arange(int((end - start).max())).unsqueeze(0)
        ranges.append((index, index < end.unsqueeze(1)))
    return _table(ranges, shape)


def padded_counts(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    """Entries of each window that lie in the image or its declared padding, (m,): what average
    pooling divides by when the padding counts."""
    counts = []
    for axis in zip(shape[1:], kernel, stride, padding, strict=True):
        size, k, s, p = axis
        start = torch.arange(_positions(size, k, s, (p, p), 1, ceil_mode)) * s - p
        counts.append((start + k).clamp(max=size + p) - start)
    together = reduce(lambda a, b: torch.outer(a, b).flatten(), counts)
    return together.repeat(shape[0])


def _positions(size: int, k: int, s: int, p: tuple[int, int], d: int, ceil_mode: bool) -> int:
    span = size + sum(p) - d * (k - 1) - 1
    if span < 0:
        raise ShapeError(f"pooling window of {k} does not fit {size} pixels")
    count = (span + s - 1 if ceil_mode else span) // s + 1
    if ceil_mode and (count - 1) * s >= size + p[0]:
        count -= 1  # PyTorch: the last window must start in the image or its left padding
    return count


def _table(
    ranges: Sequence[tuple[Tensor, Tensor]], shape: Sequence[int]
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Combine the axes' index ranges (positions, entries) into one table over all channels."""
    channels, sizes = shape[0], shape[1:]
    index, inside = ranges[0]
    for size, (more, more_inside) in zip(sizes[1:], ranges[1:], strict=True):
        index = _blocks(index * size, more, torch.add)
        inside = _blocks(inside, more_inside, torch.logical_and)
    if not bool(inside.any(1).all()):
        raise ShapeError("a pooling window lies entirely in the padding")
    some = index.gather(1, inside.int().argmax(1, keepdim=True))
    index = torch.where(inside, index, some)
    offset = (torch.arange(channels) * math.prod(sizes))[:, None, None]
    windows = (index.unsqueeze(0) + offset).reshape(-1, index.shape[1])
    return windows, inside.repeat(channels, 1), (channels, *(len(each) for each, _ in ranges))


def _blocks(one: Tensor, other: Tensor, combined: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Every row of one with every row of the other, entry with entry, in row-major order."""
    both = combined(one[:, None, :, None], other[None, :, None, :])
    return both.reshape(len(one) * len(other), -1)

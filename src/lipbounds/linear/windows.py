"""Pooling windows as tables of flat input indices, for max and average pooling alike."""

from collections.abc import Sequence

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
    """Windows that slide over each channel of a (C, H, W) image, as PyTorch places them; padding:
    of each axis, on both sides or (before, after).

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
    return (counts[0].unsqueeze(1) * counts[1].unsqueeze(0)).flatten().repeat(shape[0])


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
    """Combine the two axes' index ranges (positions, entries) into one table over all channels."""
    (row, row_in), (column, column_in) = ranges
    channels, height, width = shape
    out_shape = (channels, len(row), len(column))
    flat = row[:, None, :, None] * width + column[None, :, None, :]
    inside = row_in[:, None, :, None] & column_in[None, :, None, :]
    flat, inside = (x.reshape(len(row) * len(column), -1) for x in (flat, inside))
    if not bool(inside.any(1).all()):
        raise ShapeError("a pooling window lies entirely in the padding")
    some = flat.gather(1, inside.int().argmax(1, keepdim=True))
    flat = torch.where(inside, flat, some)
    offset = (torch.arange(channels) * height * width)[:, None, None]
    windows = (flat.unsqueeze(0) + offset).reshape(-1, flat.shape[1])
    return windows, inside.repeat(channels, 1), out_shape

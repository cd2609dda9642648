"""W W^T or W^T W, whichever is smaller, of maps too large to be formed themselves.

Of a matrix by the blocks of one triangle; of a convolution from the products of its kernel's taps,
of which each pixel takes those that meet there; of others column by column. In floating point each
is within gamma(2 terms + max(m, n)) M^T M of the exact one entry by entry, M being the majorant.
"""

import itertools
import math

import torch
from torch import Tensor

from ..clock import watched
from .operators import Convolution, Dense, Operator, identity_rows, slices

TRIANGLE = 8  # blocks of one triangle: what is above the others is symmetric and not computed


def gram(operator: Operator, scale: Tensor) -> Tensor:
    """W W^T for m <= n, else W^T W, over scale^2; exactly symmetric."""
    convolution = by_taps(operator)
    if convolution is not None:
        product = _of_taps(convolution, scale)
    elif isinstance(operator, Dense):
        product = _of_matrix(operator, scale)
    else:
        product = _of(operator, scale)
    return (product + product.mT) / 2


def by_taps(operator: Operator) -> Convolution | None:
    """The convolution that the operator is, where its Gram matrix is had from its taps."""
    convolution = operator.as_convolution
    return convolution if convolution is not None and convolution.groups == 1 else None


def taps_cost(convolution: Convolution) -> int:
    """Multiply-adds of that: each pair of taps, multiplied once and added at each pixel."""
    outputs, inputs, height, width = convolution.kernel.shape
    few, *sizes = _side(convolution)
    many = inputs if _of_rows(convolution) else outputs
    return (height * width * few) ** 2 * (many + math.prod(sizes))


def _of_rows(convolution: Convolution) -> bool:
    """Whether W W^T is the smaller one."""
    return convolution.shape[0] <= convolution.shape[1]


def _side(convolution: Convolution) -> tuple[int, int, int]:
    """Channels, height and width of the images that the smaller one is a map of."""
    return convolution.out_shape if _of_rows(convolution) else convolution.image_shape


def _of(operator: Operator, scale: Tensor) -> Tensor:
    """By blocks of columns."""
    m, n = operator.shape
    side, forth, back = (m, operator.adjoint, operator.apply)
    if n < m:
        side, forth, back = (n, operator.apply, operator.adjoint)
    parts = [
        back(forth(identity_rows(side, rows, operator.device) / scale)) / scale
        for rows in watched(list(slices(side, max(m, n))), "a layer's Gram matrix")
    ]
    return torch.cat(parts, -2)


def _of_matrix(operator: Dense, scale: Tensor) -> Tensor:
    """Blocks of rows, each with those from it on; what it leaves below the diagonal is copied."""
    m, n = operator.shape
    rows = operator.weight if m <= n else operator.weight.mT
    side, long = rows.shape
    step = -(-side // TRIANGLE)
    product = rows.new_zeros(side, side)
    for part in watched(list(slices(long, side)), "a layer's Gram matrix"):
        block = rows[:, part] / scale
        for first in range(0, side, step):
            product[first : first + step, first:] += block[first : first + step] @ block[first:].mT
    for first in range(0, side, step):
        end = first + step
        product[end:, first:end] = product[first:end, end:].mT
    return product


def _of_taps(convolution: Convolution, scale: Tensor) -> Tensor:
    """sum over pixels of K_a^T K_b (or K_a K_b^T) where taps a and b meet."""
    taps = (convolution.kernel / scale).flatten(2)
    taps = taps.permute(2, 0, 1) if _of_rows(convolution) else taps.permute(2, 1, 0)
    few, _, width = _side(convolution)
    pixels = math.prod(_side(convolution)[1:])
    vertical, horizontal = (_meetings(convolution, axis) for axis in (0, 1))
    places = list(itertools.product(range(len(vertical)), range(len(horizontal))))
    total = taps.new_zeros(pixels, pixels, few, few)
    for a, (y, x) in watched(list(enumerate(places)), "a convolution's Gram matrix"):
        meeting = torch.einsum("ci,bdi->bcd", taps[a], taps)  # with all taps b
        for b, (v, u) in enumerate(places):
            both = zip(vertical[y][v], horizontal[x][u], strict=True)
            one, other = ((row[:, None] * width + column).flatten() for row, column in both)
            total[one, other] += meeting[b]
    return total.permute(2, 0, 3, 1).reshape(few * pixels, few * pixels)


def _meetings(convolution: Convolution, axis: int) -> list[list[tuple[Tensor, Tensor]]]:
    """Along an axis, the pixels (p, q) of the smaller side that taps a and b link by one pixel of
    the other side, for each a and b."""
    linked = [_linked(convolution, axis, tap) for tap in range(convolution.kernel.shape[2 + axis])]
    return [[(a[both := (a >= 0) & (b >= 0)], b[both]) for b in linked] for a in linked]


def _linked(convolution: Convolution, axis: int, tap: int) -> Tensor:
    """For each pixel of the other side that of the smaller one which the tap links to it, or -1."""
    pad = (convolution.padding[2], convolution.padding[0])[axis]
    size, count = convolution.image_shape[1 + axis], convolution.out_shape[1 + axis]
    outputs = torch.arange(count, device=convolution.device)
    reads = outputs * convolution.stride[axis] - pad + tap * convolution.dilation[axis]
    inside = (reads >= 0) & (reads < size)
    if not _of_rows(convolution):
        return torch.where(inside, reads, -1)
    readers = torch.full((size,), -1, device=convolution.device)
    readers[reads[inside]] = outputs[inside]
    return readers

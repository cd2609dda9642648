"""W W^T or W^T W, whichever is smaller, of maps too large to be formed themselves.

Of a matrix by the blocks of one triangle; of a convolution from the products of its kernel's taps,
of which each pixel takes those that meet there; of others column by column. In floating point each
is within gamma(2 terms + max(m, n)) M^T M of the exact one entry by entry, M being the majorant.
"""

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
    few, many = inputs, outputs
    pixels = convolution.image_shape[1] * convolution.image_shape[2]
    if convolution.shape[0] <= convolution.shape[1]:
        few, many = outputs, inputs
        pixels = convolution.out_shape[1] * convolution.out_shape[2]
    return (height * width * few) ** 2 * (many + pixels)


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
    outputs, inputs, *size = convolution.kernel.shape
    rows = convolution.shape[0] <= convolution.shape[1]
    taps = (convolution.kernel / scale).flatten(2)
    taps = taps.permute(2, 0, 1) if rows else taps.permute(2, 1, 0)  # (taps, few, many)
    shape = convolution.out_shape if rows else convolution.image_shape
    pixels, few = shape[1] * shape[2], shape[0]
    product = taps.new_zeros(pixels, pixels, few, few)
    for a in watched(list(range(len(taps))), "a convolution's Gram matrix"):
        meeting = torch.einsum("ci,bdi->bcd", taps[a], taps)  # with all taps b
        for b in range(len(taps)):
            one, other = _meetings(convolution, divmod(a, size[1]), divmod(b, size[1]), rows)
            product[one, other] += meeting[b]
    return product.permute(2, 0, 3, 1).reshape(few * pixels, few * pixels)


def _meetings(convolution: Convolution, a, b, rows: bool) -> tuple[Tensor, Tensor]:
    """Pixels (p, q), of the outputs or of the inputs, that taps a and b link by one of the other
    kind."""
    pairs = []
    left, _, top, _ = convolution.padding
    for axis, pad in ((0, top), (1, left)):
        stride, dilation = convolution.stride[axis], convolution.dilation[axis]
        count, size = convolution.out_shape[1 + axis], convolution.image_shape[1 + axis]
        out = torch.arange(count, device=convolution.device)
        at = out * stride - pad + a[axis] * dilation  # the input that tap a reads for each output
        beside = at - (a[axis] - b[axis]) * dilation
        if rows:  # the output that reads `at` by tap b
            other = (at + pad - b[axis] * dilation).div(stride, rounding_mode="floor")
            links = other * stride - pad + b[axis] * dilation == at
            keep = links & (at >= 0) & (at < size) & (other >= 0) & (other < count)
            pairs.append((out[keep], other[keep], count))
        else:
            keep = (at >= 0) & (at < size) & (beside >= 0) & (beside < size)
            pairs.append((at[keep], beside[keep], size))
    (one_y, other_y, _), (one_x, other_x, width) = pairs
    one = (one_y[:, None] * width + one_x).flatten()
    return one, (other_y[:, None] * width + other_x).flatten()

"""What one layer becomes, from its numbers: an affine map, a stage, or neither.

Shapes are of one input, without the batch dimension: (features,), (channels, length) or (channels,
height, width). Weights are in float64 here; what is not of the right size raises ShapeError.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from reprlib import repr as short

import torch
from torch import Tensor

from ..errors import LipboundsError, ShapeError
from ..linear.operators import Convolution, Dense, Diagonal, average_pooling
from ..linear.windows import adaptive, padded_counts, sliding
from ..networks import activations as act
from ..networks.activations import Activation
from ..networks.network import Affine
from ..networks.stages import PoolStage, SlopeStage

Shape = tuple[int, ...]
Sizes = int | Sequence[int]


LARGEST_INPUT = 2**31  # entries: 16 GiB of float64
# What numbers that do not belong together raise in torch and NumPy.
MISFITS = (
    ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What one layer becomes: an affine map, a stage, or neither; and the shape it gives.
    `roundings`: of each entry of the map, where it is computed from what the layer holds."""

    shape: Shape
    affine: Affine | None = None
    stage: SlopeStage | PoolStage | None = None
    roundings: int = 0


def linear(weight: Tensor, bias: Tensor | None, shape: Shape) -> Piece:
    """W x + b for a vector x."""
    outputs, inputs = weight.shape
    if len(shape) != 1 or shape[0] != inputs:
        fits = len(shape) > 1 and math.prod(shape) == inputs
        hint = "; is a Flatten missing?" if fits else f", not {_sized(shape)}"
        raise ShapeError(f"takes a vector of {inputs}{hint}")
    offset = weight.new_zeros(outputs) if bias is None else bias
    return Piece((outputs,), Affine(Dense(weight), offset))


def _sized(shape: Shape) -> str:
    return f"of {shape[0]}" if len(shape) == 1 else f"an array of {' x '.join(map(str, shape))}"


def convolution(
    kernel: Tensor,
    bias: Tensor | None,
    shape: Shape,
    stride: Sizes = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: Sizes = 1,
    groups: int = 1,
) -> Piece:
    """kernel (C', C/groups, k) or (C', C/groups, kh, kw); padding (left, right, top, bottom) with
    zeros."""
    axes = kernel.ndim - 2
    if len(shape) != axes + 1 or shape[0] != kernel.shape[1] * groups:
        channels = kernel.shape[1] * groups
        raise ShapeError(f"takes {channels} channels of {axes}-dimensional images")
    kernel = kernel if axes == 2 else kernel.unsqueeze(2)
    operator = Convolution(
        kernel, image(shape), pair(stride, 1, axes), padding, pair(dilation, 1, axes), groups
    )
    bias = kernel.new_zeros(len(kernel)) if bias is None else bias
    offset = bias.repeat_interleave(math.prod(operator.out_shape[1:]))
    return Piece(unimage(operator.out_shape, axes), Affine(operator, offset))


def same_padding(kernel: Sequence[int], dilation: Sizes) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) of 'same' padding, split as PyTorch splits it."""
    axes = len(kernel)
    sizes = zip(pair(dilation, 1, axes), pair(kernel, 1, axes), strict=True)
    total = [d * (k - 1) for d, k in sizes]
    top, left = (t // 2 for t in total)
    return (left, total[1] - left, top, total[0] - top)


def batch_norm(
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shape: Shape,
) -> Piece:
    """(x - mean) / sqrt(variance + eps) weight + bias, by channels."""
    if shape[0] != len(mean):
        raise ShapeError(f"takes {len(mean)} channels")
    _require_positive(variance, eps)
    # At most 3.5 u on each entry of the scale: the sum's rounding is halved by the root, the root
    # and its inverse give one each (or two together, on a GPU), so does the weight.
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    offset = -mean * scale
    if bias is not None:
        offset = offset + bias
    pixels = math.prod(shape[1:])
    scale, offset = (x.repeat_interleave(pixels) for x in (scale, offset))
    return Piece(shape, Affine(Diagonal(scale), offset), roundings=4)


def _require_positive(variance: Tensor, eps: float) -> None:
    lowest = float(variance.min())
    if lowest + eps <= 0:
        kind = "a negative entry" if lowest < 0 else "the entry"
        raise LipboundsError(
            f"running_var has {kind} {lowest:.3g}, and eps is {eps}; a variance plus eps must be "
            "positive: load the right statistics, or let the layer see data in training mode"
        )


def max_pool(
    shape: Shape,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    axes: int,
    device,
) -> Piece:
    check_pool(shape, kernel, padding, axes)
    windows, _, out = sliding(
        image(shape),
        pair(kernel, 1, axes),
        pair(stride, 1, axes),
        pair(padding, 0, axes),
        pair(dilation, 1, axes),
        ceil_mode,
    )
    stage = PoolStage(windows.to(device), math.prod(shape))
    return Piece(unimage(out, axes), stage=stage)


def average_pool(
    shape: Shape,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    axes: int,
    device,
) -> Piece:
    """divisor: instead of the entries of each window, of which count_include_pad says whether those
    in the padding count."""
    check_pool(shape, kernel, padding, axes)
    array = image(shape)
    kernel, stride = pair(kernel, 1, axes), pair(stride, 1, axes)
    padding = pair(padding, 0, axes)
    windows, inside, out = sliding(array, kernel, stride, padding, (1,) * len(kernel), ceil_mode)
    divisors = inside.sum(1)
    if count_include_pad:
        divisors = padded_counts(array, kernel, stride, padding, ceil_mode)
    if divisor:
        divisors = torch.full_like(divisors, divisor)
    return _averages(windows, inside, divisors, shape, unimage(out, axes), device)


def check_pool(shape: Shape, kernel: Sizes, padding: Sizes, axes: int) -> None:
    _check_axes(shape, axes)
    sizes = zip(pair(kernel, 1, axes), pair(padding, 0, axes), strict=True)
    if any(p < 0 or 2 * p > k for k, p in sizes):
        raise LipboundsError(f"padding {padding} must be at most half the window")


def _check_axes(shape: Shape, axes: int) -> None:
    if len(shape) != axes + 1:
        raise ShapeError(f"takes channels of {axes}-dimensional images")


def adaptive_average_pool(shape: Shape, output, axes: int, device) -> Piece:
    windows, inside, out = adaptive(shape, adaptive_output(shape, output, axes))
    return _averages(windows, inside, inside.sum(1), shape, out, device)


def adaptive_max_pool(shape: Shape, output, axes: int, device) -> Piece:
    windows, _, out = adaptive(shape, adaptive_output(shape, output, axes))
    return Piece(out, stage=PoolStage(windows.to(device), math.prod(shape)))


def adaptive_output(shape: Shape, output, axes: int) -> tuple[int, ...]:
    _check_axes(shape, axes)
    given = output
    output = (output,) * axes if isinstance(output, int) else tuple(output)
    output = tuple(n if m is None else m for m, n in zip(output, shape[1:], strict=True))
    if min(output) < 1:
        raise LipboundsError(f"output_size {given} must be positive")
    return output


def _averages(windows, inside, divisor, shape: Shape, out: Shape, device) -> Piece:
    operator = average_pooling(
        windows.to(device), inside.to(device), divisor.to(device, torch.float64), math.prod(shape)
    )
    offset = torch.zeros(operator.shape[0], dtype=torch.float64, device=device)
    mantissa, _ = torch.frexp(divisor.double())
    return Piece(out, Affine(operator, offset), roundings=int(bool((mantissa != 0.5).any())))


def activated(function: Activation, shape: Shape, device) -> Piece:
    return Piece(shape, stage=SlopeStage.uniform(function, math.prod(shape), device))


def prelu(slopes: Tensor, shape: Shape) -> Piece:
    """slopes: (1,), or one for each channel."""
    if len(slopes) not in (1, shape[0]):
        raise ShapeError(f"has {len(slopes)} slopes for {shape[0]} channels")
    slopes = slopes.expand(shape[0]) if len(slopes) == 1 else slopes
    each = slopes.repeat_interleave(math.prod(shape[1:]))
    return activated(act.prelu(each), shape, slopes.device)


def pair(value: Sizes, fill: int, axes: int = 2) -> tuple[int, ...]:
    """(vertical, horizontal), of three axes as many; a one-dimensional layer works on images of
    height 1."""
    if isinstance(value, int):
        return (fill, value) if axes == 1 else (value,) * axes
    value = tuple(value)
    return pair(value[0], fill, axes) if len(value) == 1 else value


def image(shape: Shape) -> Shape:
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def unimage(shape: Shape, axes: int) -> Shape:
    return (shape[0], shape[2]) if axes == 1 else tuple(shape)


def checked_shape(input_shape) -> Shape:
    try:
        if any(isinstance(n, bool) for n in input_shape):
            raise TypeError
        shape = tuple(index(n) for n in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1 or math.prod(shape) > LARGEST_INPUT:
        raise LipboundsError(
            f"input_shape {short(input_shape)} must be a sequence of positive integers, the shape "
            "of one input (of 2^31 entries at most) without the batch dimension, for instance "
            "(1, 28, 28) or (4,)"
        )
    return shape

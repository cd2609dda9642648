"""What a convolution of a zero-padded image reads beyond it, and leaves there, on a torus or plane
where values beyond an image are not zero by themselves."""

import torch
from torch import Tensor

from .operators import Convolution


def reads_beyond(one: Convolution) -> Tensor:
    """Which input channels it reads beyond the image for an entry of its output's image, (c,)."""
    outside = []
    for axis, reads in enumerate(_reads(one)):
        furthest = (one.out_shape[1 + axis] - 1) * one.stride[axis] + reads
        outside.append((reads < 0) | (furthest > one.image_shape[1 + axis] - 1))
    outside = outside[0][:, None] | outside[1]
    hit = ((one.kernel != 0) & outside).any(3).any(2)  # (outputs, inputs of a group)
    return hit.reshape(one.groups, -1, hit.shape[1]).any(1).reshape(-1)


def zero_beyond(one: Convolution, zero: Tensor) -> Tensor:
    """Which channels of its output are zero beyond the image where the channels `zero` (c,) of its
    input are: those that read nothing else, and beyond the image only there. On a torus, whose
    positions are as many times the output's as the stride says."""
    apart, covered = [], True
    for axis, reads in enumerate(_reads(one)):
        stride = one.stride[axis]
        apart.append((reads >= 0) & (reads < stride))
        covered &= stride * one.out_shape[1 + axis] >= one.image_shape[1 + axis]
    if not covered:
        return torch.zeros(one.out_shape[0], dtype=torch.bool, device=zero.device)
    fits = apart[0][:, None] & apart[1]
    read = one.kernel != 0
    by_groups = zero.reshape(one.groups, 1, -1).expand(-1, one.out_shape[0] // one.groups, -1)
    allowed = by_groups.reshape(one.out_shape[0], -1, 1, 1) & fits
    return (~read | allowed).flatten(1).all(1)


def _reads(one: Convolution) -> tuple[Tensor, Tensor]:
    """What the taps read at position 0, along each axis."""
    left, _, top, _ = one.padding
    taps = one.kernel.shape[2:]
    device = one.device
    return tuple(
        torch.arange(n, device=device) * d - before
        for n, d, before in zip(taps, one.dilation, (top, left), strict=True)
    )

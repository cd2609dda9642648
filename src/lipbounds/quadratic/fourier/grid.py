"""The frequencies of a torus, one of two conjugate ones, and symbols on them.

A grid of size (N_1, N_2) has the frequencies 2 pi (k_1 / N_1, k_2 / N_2), 0 <= k_1 < N_1 and
0 <= k_2 <= N_2 / 2: arrays are (N_1, N_2 // 2 + 1, ...). At -omega a real system's symbols are
conjugate.
"""

import math

import torch
from torch import Tensor

from ...linear.operators import slices
from ...linear.torus import Pair, roots


def half(size: Pair) -> Pair:
    """How many frequencies an array has along its first two dimensions."""
    return size[0], size[1] // 2 + 1


def weights(size: Pair, device: torch.device | str = "cpu") -> Tensor:
    """How many of all frequencies each stands for, 2 or 1, (N_1, N_2 // 2 + 1)."""
    found = torch.full(half(size), 2.0, dtype=torch.float64, device=device)
    found[:, 0] = 1.0
    if size[1] % 2 == 0:
        found[:, -1] = 1.0
    return found


def whole(values: Tensor, size: Pair) -> Tensor:
    """Values at all frequencies, (N_1, N_2, ...)."""
    back = torch.arange(size[1] // 2 + 1, size[1], device=values.device)
    mirrored = (-torch.arange(size[0], device=values.device)) % size[0]
    others = values[mirrored][:, size[1] - back]
    return torch.cat([values, others.conj()], 1)


def folded(values: Tensor, size: Pair, stride: Pair) -> Tensor:
    """The mean over the frequencies that alias to each of the coarser torus: of covariances, what
    every `stride`-th position leaves of them."""
    if stride == (1, 1):
        return values
    return _by_aliases(values, size, (size[0] // stride[0], size[1] // stride[1])).mean((0, 2))


def aliased(values: Tensor, size: Pair, coarse: Pair) -> Tensor:
    """Values at all frequencies that alias to each of a coarser torus, (k, a, ...): the k of `half`
    in a row, and a = a_1 a_2 aliases, of frequency m + M q at q = (q_1, q_2)."""
    every = _by_aliases(values, size, coarse).movedim((1, 3), (0, 1))
    return every.flatten(2, 3).flatten(0, 1)


def _by_aliases(values: Tensor, size: Pair, coarse: Pair) -> Tensor:
    """(a_1, M_1, a_2, M_2 // 2 + 1, ...)."""
    ratio = size[0] // coarse[0], size[1] // coarse[1]
    every = whole(values, size)
    every = every.reshape(ratio[0], coarse[0], ratio[1], coarse[1], *values.shape[2:])
    return every[:, :, :, : half(coarse)[1]]


def sampled(maps: Tensor, ratio: Pair, stride: Pair) -> Tensor:
    """Rows of the aliases (k, a, m, n), `ratio` of them, behind taking every `stride`-th position:
    the sum of those that alias, over the root of how many they are, (k, a / s, m, n)."""
    count = [r // s for r, s in zip(ratio, stride, strict=True)]
    parts = maps.reshape(len(maps), stride[0], count[0], stride[1], count[1], *maps.shape[2:])
    return parts.sum((1, 3)).flatten(1, 2) / math.sqrt(math.prod(stride))


def symbol(kernel: Tensor, size: Pair, dilation: Pair = (1, 1)) -> Tensor:
    """sum_t k_t exp(i omega . t) of a cross-correlation's kernel (c', c, kh, kw), complex
    (N_1, N_2 // 2 + 1, c', c). Each entry is a sum of kh kw products with roots of unity."""
    outputs, inputs, *taps = kernel.shape
    vertical, horizontal = (
        roots(torch.arange(n, device=kernel.device), size[axis], taps[axis], dilation[axis])
        for axis, n in enumerate(half(size))
    )
    flat = kernel.reshape(outputs * inputs, *taps).to(vertical.dtype)
    rows = [
        torch.einsum("yt,xs,cts->yxc", vertical[block], horizontal, flat)
        for block in slices(len(vertical), 2 * len(horizontal) * len(flat))
    ]
    return torch.cat(rows).reshape(*half(size), outputs, inputs)

"""The proof in floating point that multipliers are feasible: Q(theta) >= 0, and what they prove.

D Q D >= 0 is proven, D of powers of two that make its diagonal about 1, whatever its entries'
rounding errors. Here theta is an interior point, so that no deficit is left over.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...arithmetic.definite import semidefinite
from ...arithmetic.rounding import gamma, outward
from ...clock import left as seconds_left
from ...linear.norms import power_of_two
from .forms import Forms

BACK = (1e-8, 1e-6, 1e-4, 1e-2, 0.1, 0.5, 1.0)  # shares of the way back to an interior point


def certified(forms: Forms, theta: Tensor, interior: Sequence[Tensor]) -> Tensor:
    """What theta (b, N) proves: sqrt(mu nu), mu and nu the cost of the input's and output's
    multipliers, (b,), rounded outward.

    Where no proof succeeds, theta goes as far as need be towards the points `interior`, one after
    the other, each (b, N) and feasible; inf where none of them has a proof either.
    """
    values = torch.full((len(theta),), torch.inf, dtype=theta.dtype, device=theta.device)
    left = torch.arange(len(theta), device=theta.device)
    ways = [(theta, 0.0), *((point, share) for point in interior for share in BACK)]
    for point, share in ways:
        part = forms.select(left)
        tried = (1 - share) * theta[left] + share * point[left]
        proven = feasible(part, tried)
        values[left[proven]] = _value(part, tried)[proven]
        left = left[~proven]
        if not len(left) or seconds_left() <= 0:
            break
    return values


def _value(forms: Forms, theta: Tensor) -> Tensor:
    ends = []
    for block in (forms.slices[0], forms.slices[-1]):
        part = theta[:, block]
        total = part.amax(-1) if forms.tied else part @ forms.cost[block]
        ends.append(outward(total, part.shape[-1] + 4))
    return outward((ends[0] * ends[1]).sqrt(), 8)


def feasible(forms: Forms, theta: Tensor) -> Tensor:
    """Whether Q(theta) >= 0 is proven, (b,)."""
    diagonal, below = forms.blocks(theta)
    entries = torch.cat([block.diagonal(dim1=-2, dim2=-1) for block in diagonal], -1)
    usable = (torch.isfinite(theta) & (theta > 0)).all(-1) & torch.isfinite(entries).all(-1)
    scale = power_of_two(torch.where(usable.unsqueeze(-1), entries, 1.0).clamp(min=1e-300).rsqrt())
    sizes = [block.shape[-1] for block in diagonal]
    parts = scale.split(sizes, -1)
    diagonal = [d.unsqueeze(-1) * b * d.unsqueeze(-2) for b, d in zip(diagonal, parts, strict=True)]
    below = [
        lower.unsqueeze(-1) * b * upper.unsqueeze(-2)
        for b, upper, lower in zip(below, parts, parts[1:], strict=False)
    ]
    natural = torch.cat(parts[::-1] if forms.backward else parts, -1)
    terms = 2 * forms.terms + 2 * max(sizes)
    rounding = outward(forms.row_sums(theta, natural).amax(-1), terms) * gamma(terms)
    diagonal = [torch.where(usable[:, None, None], block, 0.0) for block in diagonal]
    return semidefinite(diagonal, below, rounding) & usable

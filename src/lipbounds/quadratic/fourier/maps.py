"""A torus's maps at the frequencies of its coarsest level, where a finer level's variables are
there once for each frequency that aliases to it: (k, n, m), n and m counting (alias, channel).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .elimination import TorusElimination
from .embedding import Filter, Slopes
from .grid import aliased, half, sampled


@dataclass(frozen=True)
class Maps:
    """C W and R W of a stage, from the stage before or the input; aliases: how many the stage's own
    level has."""

    center: Tensor
    radius: Tensor
    aliases: int


def stage_maps(elimination: TorusElimination) -> tuple[list[Maps], Tensor]:
    """Of the stages in turn, and W behind the last of them."""
    torus, found = elimination.torus, []
    coarse, channels = torus.sizes[-1], torus.channels
    through = _identity(elimination, torus.sizes[0], channels)
    for place, (step, size) in enumerate(zip(torus.steps, torus.sizes, strict=False)):
        ratio = size[0] // coarse[0], size[1] // coarse[1]
        if isinstance(step, Filter):
            through = aliased(elimination.symbols[place], size, coarse) @ through
            through, channels = sampled(through, ratio, step.stride), step.kernel.shape[0]
            continue
        if isinstance(step, Slopes):
            ends = [through * end[:, None] for end in (step.center, step.radius)]
        else:
            phases = [x.expand(*half(size), 1, 1) for x in elimination.symbols[place]]
            ends = [sampled(aliased(x, size, coarse) * through, ratio, step.stride) for x in phases]
        center, radius = (end.flatten(1, 2) for end in ends)
        found.append(Maps(center, radius, ends[0].shape[1]))
        through = _identity(elimination, torus.sizes[place + 1], channels)
    return found, through.flatten(1, 2)


def _identity(elimination: TorusElimination, size: tuple[int, int], channels: int) -> Tensor:
    """(k, a, c, a c)."""
    coarse = elimination.torus.sizes[-1]
    aliases = math.prod(size) // math.prod(coarse)
    eye = torch.eye(aliases * channels, dtype=torch.complex128, device=elimination.device)
    each = eye.reshape(aliases, channels, -1)
    return each.expand(math.prod(half(coarse)), -1, -1, -1)


def block_diagonal(values: Tensor, size: tuple[int, int], coarse: tuple[int, int]) -> Tensor:
    """Covariances of a level, (N_1, N_2 // 2 + 1, c, c), at each coarse frequency (k, a c, a c):
    different aliases are not correlated."""
    each = aliased(values, size, coarse)
    count, aliases, channels, _ = each.shape
    found = each.new_zeros(count, aliases, channels, aliases, channels)
    place = torch.arange(aliases, device=values.device)
    found[:, place, :, place] = each.movedim(1, 0)
    return found.flatten(3).flatten(1, 2)

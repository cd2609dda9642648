"""The forms Q where some neurons of a stage are linear: carried along, maxima of one entry, or
maxima of two equal ones.

A linear neuron's equation y_j = (C z)_j is exact. In `quadratic.newton.forms` it would want an
infinite multiplier; here y_j is substituted, and what it carries reaches all later stages: one
block holds all of Q but the input's or output's variables, at the price of the cube of its side.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...arithmetic.rounding import gamma
from ...linear.operators import dense
from ...networks.network import Network
from ...networks.stages import BetweenStage, Stage
from .forms import Forms, times


@dataclass(frozen=True)
class MixedForms(Forms):
    """Variables v = (x, free neurons, s), N of each; the term of a multiplier is (l^T v)(h^T v), l
    and h the rows of `lows`[0] and `highs`[0], (b, N, N); `last` (b, d, N - d) is v -> W_L y_L.
    `majorants`: of |l| and |h|, and of `last`."""

    counts: tuple[int, int, int]  # of inputs, neurons left, outputs

    @cached_property
    def sizes(self) -> list[int]:
        """Of the groups x, free neurons, s."""
        return list(self.counts)

    def blocks(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Q cut into the end block and the rest."""
        product = self.lows[0].mT @ (theta.unsqueeze(-1) * self.highs[0])
        whole = (product + product.mT) / 2
        outputs = self.slices[-1]
        whole[..., outputs, : outputs.start] -= self.last
        whole[..., : outputs.start, outputs] -= self.last.mT
        if self.backward:
            first, second = slice(self.sizes[0], None), self.end
        else:
            first, second = slice(0, outputs.start), outputs
        parts = [whole[..., first, first], whole[..., second, second]]
        return parts, [whole[..., second, first]]

    def natural(self, whole: Tensor) -> Tensor:
        return whole.roll((self.sizes[0],) * 2, (-2, -1)) if self.backward else whole

    def gram(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = self.lows[0] @ whole, self.highs[0] @ whole
        return low @ self.lows[0].mT, low @ self.highs[0].mT, high @ self.highs[0].mT

    @cached_property
    def free(self) -> Tensor:
        free = (self.lows[0] != self.highs[0]).any(-1)
        free[..., self.slices[0]] = free[..., self.slices[-1]] = True
        return free

    @cached_property
    def coincident(self) -> bool:
        """Whether a neuron left in is linear, up to rounding, in some of the programs."""
        apart = (self.highs[0] - self.lows[0]).abs()
        still = (apart <= gamma(self.terms) * self.majorants[0]).all(-1)
        return bool(still[..., self.slices[1]].any())

    def row_sums(self, theta: Tensor, scale: Tensor) -> Tensor:
        terms, last = self.majorants
        outputs = self.slices[-1]
        total = times(terms.mT, theta * times(terms, scale))
        total[:, outputs] += times(last, scale[:, : outputs.start])
        total[:, : outputs.start] += times(last.mT, scale[:, outputs])
        return scale * total


def mixed_forms(
    network: Network, samples: Tensor, entry: Tensor, exit: Tensor, backward: bool
) -> MixedForms:
    """Of inputs entry^T x and outputs `exit` f, unit vectors (b, n_0, m) and (b, d, n_out), of the
    networks `samples` (b,) of an ensemble; of cost 0. backward: as of Forms."""

    def of_samples(matrix: Tensor) -> Tensor:
        return matrix[samples] if matrix.ndim > 2 else matrix

    inputs, outputs = entry.shape[-1], exit.shape[-2]
    terms = sum(affine.operator.terms + 4 for affine in network.affines)
    before = inputs + sum(stage.shape[0] for stage in network.stages)
    unit = torch.eye(before + outputs, dtype=torch.float64, device=network.device)
    reach = entry @ unit[:inputs]  # y_{k-1} as a map of v, (b, n_{k-1}, N), and a majorant of it
    size, start, masks = reach, inputs, []
    lows, highs, sizes = ([unit[:inputs].expand(len(entry), -1, -1)] for _ in range(3))
    for stage, affine in zip(network.stages, network.affines, strict=False):
        weight, majorant = (of_samples(dense(o)) for o in _both(affine.operator))
        low, high, most = _ends(stage, weight @ reach, majorant @ size)
        mask = ((high - low).abs() > gamma(terms) * most).any(-1).any(0)
        own = unit[start : start + int(mask.sum())]
        lows.append(own - low[:, mask])
        highs.append(own - high[:, mask])
        sizes.append(own + most[:, mask])
        reach, size = low.clone(), most.clone()
        reach[:, mask], size[:, mask] = own, own
        start += len(own)
        masks.append(mask)
    own = unit[before:].expand(len(entry), -1, -1)
    weight, majorant = (of_samples(dense(o)) for o in _both(network.affines[-1].operator))
    last, largest = (exit @ weight @ reach)[..., :start], (exit @ majorant @ size)[..., :start]
    used = torch.ones(before + outputs, dtype=torch.bool, device=network.device)
    used[start:before] = False  # room for the neurons that were substituted
    lows, highs, sizes = (torch.cat([*part, own], 1)[..., used] for part in (lows, highs, sizes))
    cost = torch.zeros(start + outputs, dtype=torch.float64, device=network.device)
    counts = inputs, start - inputs, outputs
    return MixedForms(
        [lows], [highs], last, [sizes, largest], terms, cost, False, backward, masks, counts
    )


def has_linear_neurons(network: Network) -> bool:
    """Whether a stage has neurons of one linearisation only."""
    return any(
        bool((stage.first == stage.second).any())
        if isinstance(stage, BetweenStage)
        else bool((stage.alpha == stage.beta).any())
        for stage in network.stages
    )


def _ends(stage: Stage, z: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(C - R) z, (C + R) z, and a majorant of both, from one of z."""
    if isinstance(stage, BetweenStage):
        first, second = stage.first, stage.second
        return z[:, first], z[:, second], torch.maximum(size[:, first], size[:, second])
    low, high = stage.alpha.unsqueeze(-1), stage.beta.unsqueeze(-1)
    return low * z, high * z, torch.maximum(low.abs(), high.abs()) * size


def _both(operator):
    return operator, operator.majorant()

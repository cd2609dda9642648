"""The forms Q where some neurons of a stage are linear: carried along, maxima of one entry, or
maxima of two equal ones.

A linear neuron's equation y_j = (C z)_j is exact. In `quadratic.newton.forms` it would want an
infinite multiplier; here y_j is substituted. What it carries reaches all later stages, so that Q is
dense: the proof of a bound takes it so, in two blocks. Newton's method goes along the chain, in
`quadratic.newton.carried`, at the price of one without linear neurons.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...arithmetic.rounding import gamma
from ...linear.operators import Operator, dense
from ...networks.network import Network
from .carried import CarriedChain
from .forms import Forms, times


@dataclass(frozen=True)
class MixedForms(Forms):
    """y_k are the neurons with multipliers, and `lows`, `highs`, `last` and `majorants` maps of all
    variables before: (x, y_1, ..., y_{k-1}). `chain`: the same stage by stage."""

    chain: CarriedChain

    def blocks(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Q cut into the end block and the rest."""
        whole = torch.diag_embed(theta)
        *places, outputs = self.slices[1:]
        for place, low, high in zip(places, self.lows, self.highs, strict=True):
            past, weight = slice(place.start), theta[:, place].unsqueeze(-1)
            side = 0.5 * weight * (high if low is None else low + high)
            whole[:, place, past] -= side
            whole[:, past, place] -= side.mT
            if low is not None:
                product = low.mT @ (weight * high)
                whole[:, past, past] += (product + product.mT) / 2
        whole[:, outputs, : outputs.start] -= self.last
        whole[:, : outputs.start, outputs] -= self.last.mT
        first = slice(self.sizes[0], None) if self.backward else slice(outputs.start)
        return [whole[:, part, part] for part in (first, self.end)], [whole[:, self.end, first]]

    def eliminated(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.chain.eliminated(theta)

    def inverse(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain.inverse(theta)

    def gram(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.chain.gram(whole)

    def _with_maps(self, change: Callable[[Tensor], Tensor]) -> "MixedForms":
        return replace(super()._with_maps(change), chain=self.chain.changed(change))

    @cached_property
    def free(self) -> Tensor:
        apart = [
            (high if low is None else high != low).any(-1)
            for low, high in zip(self.lows, self.highs, strict=True)
        ]
        first, last = (
            torch.ones(*self.last.shape[:-2], size, dtype=torch.bool, device=self.last.device)
            for size in (self.sizes[0], self.sizes[-1])
        )
        return torch.cat([first, *apart, last], -1)

    def row_sums(self, theta: Tensor, scale: Tensor) -> Tensor:
        *places, outputs = self.slices[1:]
        total = theta * scale
        for place, majorant in zip(places, self.majorants, strict=False):
            past, weight = slice(place.start), theta[:, place]
            ahead = times(majorant, scale[:, past])
            total[:, place] += weight * ahead
            total[:, past] += times(majorant.mT, weight * (scale[:, place] + ahead))
        last, past = self.majorants[-1], slice(outputs.start)
        total[:, outputs] += times(last, scale[:, past])
        total[:, past] += times(last.mT, scale[:, outputs])
        return scale * total


def mixed_forms(
    network: Network, samples: Tensor, entry: Tensor, exit: Tensor, backward: bool
) -> MixedForms:
    """Of inputs entry^T x and outputs `exit` f, unit vectors (b, n_0, m) and (b, d, n_out), of the
    networks `samples` (b,) of an ensemble; of cost 0. backward: as of Forms."""

    def both(operator: Operator) -> list[Tensor]:
        matrices = dense(operator), dense(operator.majorant())
        return [m[samples] if m.ndim > 2 else m for m in matrices]

    terms = sum(affine.operator.terms + 4 for affine in network.affines)
    nothing = torch.zeros(len(entry), 0, 0, dtype=torch.float64, device=network.device)
    reach = size = nothing  # u_{k-1} as a map of the variables before y_{k-1}, and a majorant of it
    lows, highs, majorants, masks = [], [], [], []
    near = [], [], []  # maps of w_{k-1} to the ends of y_k, and to u_k
    order = slice(None)  # of the neurons of stage k - 1 in w_{k-1}
    for k, (stage, affine) in enumerate(zip(network.stages, network.affines, strict=False)):
        weights = [w[..., order] if k else w @ entry for w in both(affine.operator)]
        ends = stage.ends()
        steps = *ends.of(weights[0]), ends.size(weights[1])
        reaches = reach, reach, size
        low, high, most = (_substituted(m, r) for m, r in zip(steps, reaches, strict=True))
        apart = (high - low).abs()
        free = (apart > gamma(terms) * most).any(-1).any(0)
        linear = most.any(-1).any(0) & ~free
        near[0].append(_unless_zero(steps[0][..., free, :]))
        near[1].append(steps[1][..., free, :])
        near[2].append(steps[0][..., linear, :])
        lows.append(_unless_zero(low[:, free]))
        highs.append(high[:, free])
        majorants.append(most[:, free])
        masks.append(free)
        # What is not quite linear may be anything in between: an error like those of rounding.
        reach = low[:, linear]
        size = most[:, linear] + 2 * apart[:, linear] / gamma(terms)
        order = torch.cat([free.nonzero(), linear.nonzero()])[:, 0]
    weights = both(network.affines[-1].operator)
    weights = [exit @ (w[..., order] if network.depth else w @ entry) for w in weights]
    last, most = (_substituted(m, r) for m, r in zip(weights, (reach, size), strict=True))
    cost = last.new_zeros(last.shape[-1] + last.shape[-2])
    chain = CarriedChain(*near, weights[0], backward)
    majorants.append(most)
    return MixedForms(lows, highs, last, majorants, terms, cost, False, backward, masks, chain)


def _substituted(matrix: Tensor, reach: Tensor) -> Tensor:
    """A map (..., m, n) of w = (y, u), u = `reach` (b, c, v) of the variables before y, as one of
    those and y, (b, m, v + n - c)."""
    free = matrix.shape[-1] - reach.shape[-2]
    before = matrix[..., free:] @ reach
    return torch.cat([before, matrix[..., :free].expand(*before.shape[:-1], free)], -1)


def _unless_zero(matrix: Tensor) -> Tensor | None:
    return matrix if bool(matrix.any()) else None


def has_linear_neurons(network: Network) -> bool:
    """Whether a stage has neurons of one linearisation only."""
    return any(bool(stage.ends().met.any()) for stage in network.stages)

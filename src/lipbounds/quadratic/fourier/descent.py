"""Adam on the logarithms of the multipliers on a torus.

    phi = t nu - log det Q(tau, nu), mu = 1,

with the least nu for each t (see `quadratic.structured.elimination`, `quadratic.structured.descent`
for what this is), the gap falling over the run; every iterate is feasible, the best one is kept.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...clock import left, now
from ..adam import FIRST_GAP, LAST_GAP, SHORTEST_STEP, Moments
from ..ends import settled
from .elimination import TorusElimination, TorusPoint

RATE, LAST_RATE = 0.4, 0.04  # of the logarithms, per step, at the start and at the end


def descend(
    elimination: TorusElimination,
    logs: Tensor,
    steps: int,
    rate: float = RATE,
    gap: float = FIRST_GAP,
) -> Tensor:
    """log tau of the least value met in `steps` steps, fewer where time is over before; `logs`
    themselves, which must be feasible, where none is less. rate and gap: at the first step."""
    least, best = math.inf, logs
    moments, here, began = Moments(logs), _Here.at(elimination, logs), now()
    for count in range(1, steps + 1):
        share = count / steps
        value, slope = here.slope(gap * (LAST_GAP / gap) ** share)
        if value < least:
            least, best = value, here.logs.detach()
        along = -rate * (LAST_RATE / RATE) ** share * moments.direction(slope)
        following, ahead = here.moved(along)
        if following is None or left() <= (now() - began) / count:
            break
        here = following
        moments.stopped(ahead)
    else:
        if float(here.point.value.detach()) < least:
            best = here.logs.detach()
    return best


@dataclass(frozen=True)
class _Here:
    """A feasible point, with all that its derivatives need."""

    elimination: TorusElimination
    logs: Tensor
    point: TorusPoint

    @classmethod
    def at(cls, elimination: TorusElimination, logs: Tensor) -> "_Here | None":
        """None where it is not feasible."""
        logs = logs.detach().requires_grad_(True)
        with torch.enable_grad():
            point = elimination.at(logs)
        usable = point is not None and bool(torch.isfinite(point.value))
        return cls(elimination, logs, point) if usable else None

    def moved(self, along: Tensor) -> "tuple[_Here | None, float]":
        """The first of the halves of a step that is feasible, and its share; None if none is."""
        ahead = 1.0
        while ahead > SHORTEST_STEP:
            found = _Here.at(self.elimination, self.logs.detach() + ahead * along)
            if found is not None:
                return found, ahead
            ahead /= 2
        return None, 0.0

    def slope(self, gap: float) -> tuple[float, Tensor]:
        """The value, and the derivatives of phi, once."""
        point, top = self.point, self.point.gains.detach().max()
        with torch.enable_grad():
            t = self.elimination.count / (gap * top.clamp(min=1e-300))
            # The nu that makes phi least: its derivatives are those with nu as it is.
            nu = settled(point.gains.detach(), t, point.copies)
            phi = -point.log_determinant - (point.copies * (nu - point.gains).log()).sum()
            (slope,) = torch.autograd.grad(phi, self.logs)
        return float(top.clamp(min=0.0).sqrt()), slope

"""Adam on the logarithms of the multipliers on a torus.

    phi = t nu - log det Q(tau, nu), mu = 1,

with the least nu for each t (see `quadratic.structured.elimination`, `quadratic.structured.descent`
for what this is), the gap falling over the run; every iterate is feasible, the best one is kept.
"""

import math

import torch
from torch import Tensor

from ...clock import left
from .elimination import TorusElimination, TorusPoint

RATE, LAST_RATE = 0.4, 0.04  # of the logarithms, per step, at the start and at the end
FIRST_GAP, LAST_GAP = 1.0, 3e-3  # relative, of nu on the central path
MOMENTUM, MEMORY = 0.9, 0.99
SHORTEST_STEP = 2.0**-30


def descend(
    elimination: TorusElimination,
    logs: Tensor,
    steps: int,
    rate: float = RATE,
    gap: float = FIRST_GAP,
) -> Tensor:
    """log tau of the least value met in `steps` steps, fewer where time is over before; `logs`
    themselves, which must be feasible, where none is less."""
    least, best = math.inf, logs
    mean, square = torch.zeros_like(logs), torch.zeros_like(logs)
    for count in range(1, steps + 1):
        share = count / steps
        value, slope = _slope(elimination, logs, gap * (LAST_GAP / gap) ** share)
        if value < least:
            least, best = value, logs
        if left() <= 0:
            break
        mean = torch.lerp(slope, mean, MOMENTUM)
        square = torch.lerp(slope.square(), square, MEMORY)
        deviation = (square / (1 - MEMORY**count)).sqrt().clamp(min=1e-300)
        along = -rate * (LAST_RATE / RATE) ** share * mean / (1 - MOMENTUM**count) / deviation
        ahead = _ahead(elimination, logs, along)
        if ahead == 0.0:
            break
        logs, mean = logs + ahead * along, ahead * mean
    return best


def _ahead(elimination: TorusElimination, logs: Tensor, along: Tensor) -> float:
    """The first of the halves of a step that is feasible; 0 where none is."""
    ahead = 1.0
    with torch.no_grad():
        while ahead > SHORTEST_STEP:
            point = elimination.at(logs + ahead * along)
            if point is not None and bool(torch.isfinite(point.value)):
                return ahead
            ahead /= 2
    return 0.0


def _slope(elimination: TorusElimination, logs: Tensor, gap: float) -> tuple[float, Tensor]:
    """The value, and the derivatives of phi."""
    logs = logs.detach().requires_grad_(True)
    with torch.enable_grad():
        point = elimination.at(logs)
        top = point.gains.detach().max()
        t = elimination.count / (gap * top.clamp(min=1e-300))
        nu = _outputs(point, t)
        phi = t * nu - point.log_determinant - (point.copies * (nu - point.gains).log()).sum()
        (slope,) = torch.autograd.grad(phi, logs)
    return float(top.clamp(min=0.0).sqrt()), slope


def _outputs(point: TorusPoint, t: Tensor) -> Tensor:
    """The nu > gains with sum copies / (nu - gains) = t, by Newton's method from the left."""
    gains = point.gains.detach()
    nu = gains.max() + 1 / t
    for _ in range(60):
        near = point.copies / (nu - gains)
        nu = nu + (near.sum() - t) / (near / (nu - gains)).sum()
    return nu

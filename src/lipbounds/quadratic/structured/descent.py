"""Descent on the multipliers of the form Q, for networks too large for Newton's method.

Adam (Kingma and Ba, ICLR 2015) on the logarithms of the multipliers, for the barrier function of
`quadratic.structured.elimination` whose gap falls over the run. The multipliers of a deep network
move by orders of magnitude, stage by stage together, along the cone's edge; equal steps in all
logarithms do that. Diagonally scaled quasi-Newton and Newton-CG steps are stopped by the edge
instead (measurements: docs/k5.md). Every iterate is feasible; the best one is kept.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...clock import left, limited, now
from ...linear.norms import checked_norm
from ...networks.network import Network
from ..adam import FIRST_GAP, LAST_GAP, SHORTEST_STEP, Moments
from ..form import Multipliers, single
from .elimination import Eliminated, Elimination

RATE, LAST_RATE = 0.1, 0.01  # of the logarithms, per step, at the start and at the end
UNBALANCED = 0.02  # of the scale's logarithm, beyond which the ends are balanced anew


def descend(
    network: Network,
    norm: float,
    start: Multipliers,
    pieces: Tensor | None = None,
    *,
    seconds: float = math.inf,
    steps: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Multipliers:
    """Multipliers shared by the pieces that make the greatest of their bounds small.

    norm inf: pieces are output rows, the bound of row i is sqrt(sum mu . nu_i) with nu_i its least
    multiplier; norm 1: input columns, sqrt(mu_k . sum nu); norm 2: one piece, sqrt(mu nu). `pieces`
    are their indices, None for all. In the result nu (norm 1: mu) is the greatest of the pieces'.

    The schedule is laid out for `steps` steps, or for `seconds` where they are None; it ends with
    `seconds`, and any limit of time around it, in either case. `start` must be strictly feasible up
    to the pieces' own multiplier; the result is never worse, and is `start` where it is not
    feasible. progress(step, value) is called after each step.
    Its values are not rounded outward: `proof.certified_pieces` proves what multipliers are worth.
    Raises UnsupportedError for another norm, an ensemble, or a pool kept whole.
    """
    norm, network = checked_norm(norm), single(network, "k5")
    elimination = Elimination(network, norm, start, None if norm == 2 else pieces)
    if not bool(elimination.live.any()):
        return start
    theta = elimination.theta()
    point = elimination.at(theta) if bool((theta > 0).all()) else None
    if point is None or not bool(point.value > 0):
        return start
    walk, began = _Walk(elimination, theta.log(), point), now()
    with limited(seconds):
        for step in itertools.count(1):
            share = (now() - began) / max(seconds, 1e-9) if steps is None else step / steps
            if share > 1 or left() <= 0 or not walk.step(share):
                break
            if progress:
                progress(step, float(walk.point.value))
    return _settled(elimination, *walk.best)


class _Walk:
    """The current point and the best one, with Adam's moments."""

    def __init__(self, elimination: Elimination, logs: Tensor, point: Eliminated):
        self.elimination, self.logs, self.point = elimination, logs, point
        self.best = logs, point
        self.moments = Moments(logs)

    def step(self, share: float) -> bool:
        """One step, `share` of the run being over; False where none is feasible any more."""
        self._balance()
        # N / (2 t value) is the gap.
        gap = FIRST_GAP * (LAST_GAP / FIRST_GAP) ** share
        t = self.elimination.count / (2 * gap * self.point.value)
        slope = self.elimination.gradient(self.point, t)
        rate = RATE * (LAST_RATE / RATE) ** share
        return self._move(-rate * self.moments.direction(slope))

    def _move(self, along: Tensor) -> bool:
        ahead = 1.0
        while ahead > SHORTEST_STEP:
            logs = self.logs + ahead * along
            point = self.elimination.at(logs.exp())
            if point is not None and bool(torch.isfinite(point.value)):
                self._keep(logs, point)
                self.moments.stopped(ahead)
                return True
            ahead /= 2
        return False

    def _balance(self) -> None:
        """All multipliers times a number, which leaves the value and equals the two ends."""
        scale = (self.point.least.max() / self.point.total).log() / 2
        if float(scale.abs()) > UNBALANCED:
            point = self.elimination.at((self.logs + scale).exp())
            if point is not None:
                self._keep(self.logs + scale, point)

    def _keep(self, logs: Tensor, point: Eliminated) -> None:
        self.logs, self.point = logs, point
        if bool(point.value < self.best[1].value):
            self.best = logs, point


def _settled(elimination: Elimination, logs: Tensor, point: Eliminated) -> Multipliers:
    """The multipliers with those of the pieces' own variable at their greatest least value."""
    found = elimination.multipliers(logs.exp())
    own = point.least.max().clamp(min=0)
    if elimination.norm == 1:
        return Multipliers(torch.ones_like(found.input) * own, found.stages, found.output)
    return Multipliers(found.input, found.stages, torch.ones_like(found.output) * own)

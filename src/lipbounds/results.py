"""What every method returns: the two ends that it proves, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from torch import Tensor

CLOSED = 1 + 1e-5  # upper end over lower end, up to which a bracket counts as one number


class Status(StrEnum):
    """How a method ended: with all it can prove, or stopped by one of its limits, or because in
    double precision no step gains any more."""

    CONVERGED = "converged"
    TIME = "time"
    STEPS = "steps"
    MEMORY = "memory"
    PRECISION = "precision"

    @classmethod
    def worst(cls, statuses: Iterable[Status]) -> Status:
        """Of parts that together make a bound."""
        order = (cls.MEMORY, cls.TIME, cls.STEPS, cls.PRECISION, cls.CONVERGED)
        return min(statuses, key=order.index, default=cls.CONVERGED)


@dataclass(frozen=True)
class Bound:
    """Proven: Lip_p(f) <= `upper`, in the norm p = `norm`.

    lower: the method's own lower end, where it has one: of K_2's maximum, of the relaxation optimum
        D*, or of Lip_p itself for `exact` and `lower_bound` (whose upper end is infinite); only the
        last two are lower bounds of Lip_p.
    status, left: how the method ended; where a limit stopped it, what it left undone, in words.
    winner: what `best` or K_5 owes its value to. witness: two points (x, y) of the input space
        whose secant || f(x) - f(y) ||_p / || x - y ||_p attains `lower`.
    name, norm, treatment, seconds: what was asked for, and the time it took.
    For an ensemble, `upper`, `lower` and `winner` are arrays with one entry per network. A method
    returns tensors of shape `network.batch_shape`, and leaves the last line to what ran it.
    """

    upper: float | np.ndarray | Tensor
    lower: float | np.ndarray | Tensor | None = None
    status: Status = Status.CONVERGED
    left: str = ""
    winner: str | np.ndarray | None = None
    witness: tuple[Tensor, Tensor] | None = None
    name: str = ""
    norm: float = math.nan
    treatment: str = "implicit"
    seconds: float = math.nan

    @classmethod
    def of_parts(cls, upper: float | Tensor, statuses: Sequence[Status], parts: str) -> Bound:
        """Of several `parts` (their name in the plural), that ended by `statuses`."""
        unsolved = len(statuses) - statuses.count(Status.CONVERGED)
        left = f"{unsolved} of {len(statuses)} {parts} not solved" if unsolved else ""
        return cls(upper, None, Status.worst(statuses), left)

    @classmethod
    def of_ends(
        cls,
        upper: float,
        lower: float,
        late: bool,
        witness: tuple[Tensor, Tensor] | None = None,
    ) -> Bound:
        """Of a search for one number that lies between two ends. late: whether its time was over
        before it was done; else what keeps the ends apart is rounding."""
        if upper <= lower * CLOSED:
            return cls(upper, lower, witness=witness)
        left = f"a gap of {upper / lower - 1:.2g}" if lower > 0 else "no lower end"
        return cls(upper, lower, Status.TIME if late else Status.PRECISION, left, witness=witness)

    @property
    def reason(self) -> str:
        """Why it may not be the last word: the limit that stopped the method; else empty."""
        if self.status is Status.CONVERGED:
            return ""
        return f"stopped by {self.status}" + (f": {self.left}" if self.left else "")

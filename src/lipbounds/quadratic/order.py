"""What is known of each piece - output row, input column - of each network, and which of them to
go on with: the greatest, until another one is."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..clock import left, now

LEAD = 0.98  # of the next greatest piece's bound, below which a piece waits

Enough = Callable[[Tensor, Tensor, Tensor], Tensor]


class Pieces:
    """uppers (S, pieces): proven bounds. floors (S,): an estimate from below of each network's
    greatest, which spares the pieces that are less. steps: of each piece, at most. by: what is at
    work; winners (S,): what each network's bound is owed to. owed (S, 1): what is added to every
    bound but those by `counting`, which count it themselves."""

    def __init__(self, uppers: Tensor, steps: float = math.inf):
        self.uppers, self.steps = uppers, steps
        self.by, self.winners = "", np.full(len(uppers), "", dtype=object)
        self.owed, self.counting = torch.zeros_like(uppers[:, :1]), ()
        self.told: Callable[[Tensor], None] | None = None  # of each better bound
        self.waiting = torch.ones_like(uppers, dtype=torch.bool)
        self.stalled = torch.zeros_like(self.waiting)  # that wait no more, but are not solved
        self.spent = torch.zeros_like(uppers, dtype=torch.long)  # steps of each piece alone
        self.floors = torch.zeros_like(uppers[:, 0])
        self.clock = now()  # when the step began
        self.pace = 0.0  # seconds of the last step
        self.entry = 0.0  # of the last first step of some pieces, with all that comes before it
        self.proof = 0.0  # and of the last proof, which are kept back for the next

    @property
    def bound(self) -> Tensor:
        return self.uppers.amax(-1)

    @property
    def count(self) -> int:
        return self.uppers.numel()

    @property
    def over(self) -> bool:
        """Whether there is no time for another step and its proof."""
        return left() <= self.pace + self.proof

    @property
    def open(self) -> Tensor:
        """Those that may raise their network's bound, (S, pieces)."""
        return self.waiting & self._count

    @property
    def given_up(self) -> Tensor:
        """The same of those that no step improves, though they are not solved."""
        return self.stalled & ~self.waiting & self._count

    @property
    def _count(self) -> Tensor:
        return (self.uppers > self.floors.unsqueeze(-1)) & (self.uppers > 0)

    def greatest(self, size: int) -> tuple[Tensor, Tensor] | None:
        """Up to `size` open pieces that have steps left, the greatest first; None where there are
        none, or no time for a step."""
        self.clock, self.pace = now(), max(self.pace, self.entry)
        self.entry = 0.0
        chosen = self.open & (self.spent < self.steps)
        if self.over or not bool(chosen.any()):
            return None
        rank = torch.where(chosen, self.uppers, -1.0).argsort(-1, descending=True).argsort(-1)
        samples, indices = chosen.nonzero(as_tuple=True)
        first = rank[samples, indices].argsort(stable=True)[:size]
        return samples[first], indices[first]

    def finished(self, samples: Tensor, indices: Tensor) -> Enough:
        """For `minimised`: whether a piece cannot be its network's greatest, or is not now, or time
        is up."""
        others = self.open & (self.spent < self.steps)
        others[samples, indices] = False
        following = LEAD * torch.where(others, self.uppers, 0.0).amax(-1)

        def enough(running: Tensor, values: Tensor, lower: Tensor) -> Tensor:
            owners = samples[running]
            self.floors.scatter_reduce_(0, owners, lower, "amax")
            least = torch.maximum(self.floors, following)[owners]
            return (values < least) | self.late(running, values, lower)

        return enough

    def late(self, running: Tensor, values: Tensor, lower: Tensor) -> Tensor:
        """For `minimised`: whether there is no time for another step like the last."""
        before, self.clock = self.clock, now()
        self.pace = self.clock - before
        self.entry = self.entry or self.pace
        return torch.full_like(values, self.over, dtype=torch.bool)

    def improve(self, samples: Tensor, indices: Tensor, values: Tensor) -> None:
        """Proven bounds."""
        before = self.bound.clone()
        values = values + self.owed[samples, 0]
        self.uppers[samples, indices] = torch.minimum(self.uppers[samples, indices], values)
        self._tell(before)

    def _tell(self, before: Tensor) -> None:
        lower = self.bound < before
        if not bool(lower.any()):
            return
        self.winners[lower.reshape(len(self.winners), -1).any(1).cpu().numpy()] = self.by
        if self.told is not None:
            self.told(self.bound)

    def cap(self, values: Tensor) -> None:
        """Proven bounds (S,) of all pieces of each network, or (S, pieces) of each piece."""
        before = self.bound.clone()
        owed = 0.0 if self.by in self.counting else self.owed
        self.uppers = torch.minimum(self.uppers, owed + values.reshape(len(self.uppers), -1))
        self._tell(before)


class EachPiece(Pieces):
    """The same where every piece counts for itself, (S, pieces)."""

    @property
    def bound(self) -> Tensor:
        return self.uppers

    def finished(self, samples: Tensor, indices: Tensor) -> Enough:
        return self.late

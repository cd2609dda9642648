"""What is known of each piece - output row, input column - of each network, and which of them to
go on with: the greatest, until another one is."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..clock import now

LEAD = 0.98  # of the next greatest piece's bound, below which a piece waits

Enough = Callable[[Tensor, Tensor, Tensor], Tensor]


class Pieces:
    """uppers (S, pieces): proven bounds. floors (S,): an estimate from below of each network's
    greatest, which spares the pieces that are less."""

    def __init__(self, uppers: Tensor, deadline: float):
        self.uppers, self.deadline = uppers, deadline
        self.told: Callable[[Tensor], None] | None = None  # of each better bound
        self.waiting = uppers > 0
        self.spent = torch.zeros_like(uppers, dtype=torch.long)  # Newton steps
        self.floors = torch.zeros_like(uppers[:, 0])
        self.clock = now()  # when the step began
        self.pace = 0.0  # seconds of the last step

    @property
    def bound(self) -> Tensor:
        return self.uppers.amax(-1)

    @property
    def count(self) -> int:
        return self.uppers.numel()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - now()

    def open(self, size: int) -> tuple[Tensor, Tensor] | None:
        """Up to `size` pieces that may raise their network's bound, the greatest first; None where
        there are none, or no time for a step."""
        self.clock = now()
        self.waiting &= self.uppers > self.floors.unsqueeze(-1)
        if self.left <= self.pace or not bool(self.waiting.any()):
            return None
        rank = torch.where(self.waiting, self.uppers, -1.0).argsort(-1, descending=True).argsort(-1)
        samples, indices = self.waiting.nonzero(as_tuple=True)
        first = rank[samples, indices].argsort(stable=True)[:size]
        return samples[first], indices[first]

    def finished(self, samples: Tensor, indices: Tensor) -> Enough:
        """For `minimised`: whether a piece cannot be its network's greatest, or is not now, or time
        is up."""
        others = self.waiting.clone()
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
        return torch.full_like(values, self.left <= self.pace, dtype=torch.bool)

    def improve(self, samples: Tensor, indices: Tensor, values: Tensor) -> None:
        """Proven bounds."""
        before = self.bound.clone()
        self.uppers[samples, indices] = torch.minimum(self.uppers[samples, indices], values)
        if self.told is not None and bool((self.bound < before).any()):
            self.told(self.bound)

    def improve_all(self, values: Tensor) -> None:
        """Proven bounds of all pieces of a single network."""
        each = torch.arange(self.count, device=values.device)
        self.improve(torch.zeros_like(each), each, values)


class EachPiece(Pieces):
    """The same where every piece counts for itself, (S, pieces)."""

    @property
    def bound(self) -> Tensor:
        return self.uppers

    def finished(self, samples: Tensor, indices: Tensor) -> Enough:
        return self.late

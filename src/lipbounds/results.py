"""What the methods return: one upper bound, or one lower bound with its witness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

NEARLY = 0.9


def stopped(seconds, limit: float):
    """Whether a method that took so long may have been stopped by its limit: those that go by steps
    leave off where the next would not end in time."""
    return seconds >= NEARLY * limit


@dataclass(frozen=True)
class Bound:
    """A proven upper bound `value` >= Lip_p(f).

    `lower` is the method's own lower end, where it has one: of K_2's maximum, of the relaxation
    optimum D*, or of Lip_p itself for `exact`; only the last is a lower bound of Lip_p. `winner` is
    the method that `best` owes its value to. `witness`, of `exact`: points (x, y) whose secant
    attains `lower`. For an ensemble, `value`, `lower` and `winner` are arrays with one entry per
    network.
    """

    name: str
    norm: float
    treatment: str
    value: float | np.ndarray
    lower: float | np.ndarray | None
    seconds: float
    winner: str | np.ndarray | None = None
    witness: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class LowerBound:
    """A proven lower bound `value` <= || f(x) - f(y) ||_p / || x - y ||_p <= Lip_p(f) with its
    witness (x, y), two points of the input space as vectors."""

    name: str
    norm: float
    value: float
    witness: tuple[Tensor, Tensor]
    seconds: float

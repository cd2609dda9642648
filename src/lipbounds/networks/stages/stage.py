"""What every stage answers, and the two ends of its neurons."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UnsupportedError
from ...linear.operators import Operator
from ..activations import Activation

STIFF = 1e-6  # r (r + |c|) of a neuron with one slope c only, in units of c^2: it should be 0


@dataclass(frozen=True)
class Ends:
    """y_j lies between low_j z_a and high_j z_b, a = first_j and b = second_j; all four (m,)."""

    low: Tensor
    first: Tensor
    high: Tensor
    second: Tensor

    def of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The two ends for z (..., n, d), a linear map of d variables: both (..., m, d)."""
        low, high = self.low.unsqueeze(-1), self.high.unsqueeze(-1)
        return low * z[..., self.first, :], high * z[..., self.second, :]

    def size(self, z: Tensor) -> Tensor:
        """The greater of the absolute values of both ends, for z >= 0 (..., n, d)."""
        low, high = self.low.abs().unsqueeze(-1), self.high.abs().unsqueeze(-1)
        return torch.maximum(low * z[..., self.first, :], high * z[..., self.second, :])

    @property
    def met(self) -> Tensor:
        """The linear neurons (m,): those whose ends are the same, so that y_j = (C z)_j."""
        return (self.low == self.high) & ((self.first == self.second) | (self.low == 0))


class Stage(ABC):
    """A map R^n -> R^m with its pair (C, R); `shape` is (m, n).

    It answers whatever a bound, the truth or K_5 asks of it: what a new kind of stage cannot answer
    it refuses by `refused`, and no one asks for its type.
    """

    shape: tuple[int, int]
    entrywise: bool  # whether y_j depends on z_j alone, so that there are slopes
    parts: tuple[tuple[Activation, Tensor | slice], ...] = ()  # activations and their neurons
    center: Operator | None  # C, or None for C = 0, which cuts every segment here
    radius: Operator  # R

    @abstractmethod
    def evaluate(self, z: Tensor) -> Tensor:
        """The stage itself, (..., n) -> (..., m)."""

    @abstractmethod
    def pullback(self, z: Tensor, y: Tensor) -> Tensor:
        """y^T J(z) for z (..., n) and rows y (..., r, m); returns (..., r, n)."""

    @abstractmethod
    def differentiable(self, z: Tensor, error: Tensor, constant: Tensor) -> Tensor:
        """Whether (...) the stage is surely differentiable at inputs within `error` of z, entries
        flagged in `constant` not moving at all near this point; all three (..., n)."""

    @abstractmethod
    def spread(self, bound: Tensor) -> Tensor:
        """From a bound on |R z| (..., rows of R) to one on |e| (..., m)."""

    @abstractmethod
    def majorant(self, v: Tensor) -> Tensor:
        """(|C| + |R|) v >= |S v'| for all |v'| <= v, (..., n) -> (..., m)."""

    def majorant_adjoint(self, w: Tensor) -> Tensor:
        """(|C| + |R|)^T w for w >= 0, (..., m) -> (..., n): v with w^T |y| <= v^T |z|."""
        return self.center.absolute().adjoint(w) + self.radius.absolute().adjoint(w)

    @abstractmethod
    def norm(self, norm: float) -> float:
        """s(p) >= sup over T of || C + T R ||_p."""

    @abstractmethod
    def partition(self, norm: float) -> list[tuple[Tensor | None, float]]:
        """A partition of the neurons into (I, s_I) with || (S z)_I ||_p <= s_I || z_I ||_p for
        every linearisation S; (None, s) alone for all of them."""

    @abstractmethod
    def ends(self) -> Ends:
        """The two ends of each neuron; UnsupportedError where it has other than two."""

    @abstractmethod
    def slopes(self) -> tuple[Tensor, Tensor]:
        """(alpha, beta), both (m,), where y_j depends on z_j alone; else UnsupportedError."""

    @abstractmethod
    def closed_form(self) -> tuple[Tensor, Tensor]:
        """(tau (m,), gain): the ellipsoid |z|^2 <= h leads to |y|^2 <= gain h with the multipliers
        1 / (tau h), as ECLipsE-Fast has it (see `lipbounds.methods.eclipse`)."""

    @abstractmethod
    def common_radius(self) -> "Stage":
        """The same with its greatest radius at every neuron, where radii may differ."""

    @abstractmethod
    def tree(self) -> list["Stage"]:
        """Stages of two ends that make up this one, with identities between them."""

    @abstractmethod
    def still(self, z: Tensor, constant: Tensor) -> Tensor:
        """The neurons (..., m) that surely do not move near z, as its entries flagged in `constant`
        do not; both (..., n)."""

    @abstractmethod
    def softened(self, z: Tensor, v: Tensor, h: Tensor) -> Tensor:
        """J v at z, with kinks made smooth over a width h: (N, n), (N, n), (N, 1) -> (N, m)."""

    @abstractmethod
    def gap(self, z: Tensor, picks: Tensor) -> Tensor:
        """What changes sign where a neuron passes its kink, (N, 1), for z (N, n); picks (N, 3) are
        random integers that choose the neuron, and its two entries in a pool."""

    def refused(self, needs: str) -> UnsupportedError:
        """The error for who asks a stage of this kind for what it has not."""
        return UnsupportedError(f"a {self.kind} {needs}")

    @property
    @abstractmethod
    def kind(self) -> str:
        """As messages name it."""

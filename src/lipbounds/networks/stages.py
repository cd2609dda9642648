"""Stages: what stands between two affine maps, as the pair (C, R) of docs/theory.md.

For any two inputs, the difference z of a stage's inputs becomes y = C z + e with |e| <= |R z|
entrywise. Slope stages and between stages are such pairs. A pool stage keeps max-pooling whole
(the implicit treatment): it cuts segments, acting as C = 0 with e bounded by the pool of |z|.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.rounding import outward
from ..errors import LipboundsError, UnsupportedError
from ..linear.operators import Diagonal, Identity, Operator, Sparse
from .activations import Activation, activation, derivative

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

    @abstractmethod
    def norm(self, norm: float) -> float:
        """s(p) >= sup over T of || C + T R ||_p."""

    @abstractmethod
    def blocks(self, norm: float) -> list[tuple[Tensor | None, float]]:
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


class SlopeStage(Stage):
    """Activations applied neuron by neuron, neuron j with secant slopes in [alpha_j, beta_j].

    C = diag((alpha + beta) / 2), R = diag((beta - alpha) / 2), rounded so that C +- R holds the
    interval. `parts` pairs each activation with the indices of its neurons.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Activation, Tensor | slice]],
        size: int,
        device: torch.device | str = "cpu",
    ):
        self.parts, self.shape = tuple(parts), (size, size)
        self.alpha = torch.full((size,), math.nan, dtype=torch.float64, device=device)
        self.beta = self.alpha.clone()
        for function, index in self.parts:
            self.alpha[index], self.beta[index] = function.alpha, function.beta
        if not bool(torch.isfinite(self.alpha).all() & torch.isfinite(self.beta).all()):
            raise LipboundsError("slope stage: a neuron has no activation, or not a finite slope")

    @classmethod
    def uniform(cls, function: str | Activation, size: int, device="cpu") -> "SlopeStage":
        """The same activation on all neurons."""
        return cls([(activation(function), slice(None))], size, device)

    @classmethod
    def mixed(cls, functions: Sequence[str | Activation], device="cpu") -> "SlopeStage":
        """One activation per neuron."""
        groups: dict[int, tuple[Activation, list[int]]] = {}
        named = {name: activation(name) for name in functions if isinstance(name, str)}
        for neuron, function in enumerate(functions):
            one = named[function] if isinstance(function, str) else activation(function)
            groups.setdefault(id(one), (one, []))[1].append(neuron)
        parts = [(one, torch.tensor(index, device=device)) for one, index in groups.values()]
        return cls(parts, len(functions), device)

    @cached_property
    def center(self):
        return Diagonal((self.alpha + self.beta) / 2)

    @cached_property
    def radius(self):
        center = self.center.diagonal
        half = torch.maximum(self.beta - center, center - self.alpha)
        exact = (center + half == self.beta) & (center - half == self.alpha)
        return Diagonal(torch.where(exact, half, outward(half, 1)))

    def evaluate(self, z):
        if len(self.parts) == 1 and isinstance(self.parts[0][1], slice):
            return self.parts[0][0].function(z)
        y = torch.empty_like(z)
        for function, index in self.parts:
            y[..., index] = function.function(z[..., index])
        return y

    def pullback(self, z, y):
        return y * derivative(self.evaluate, z).unsqueeze(-2)

    def differentiable(self, z, error, constant):
        clear = torch.ones(z.shape[:-1], dtype=torch.bool, device=z.device)
        for function, index in self.parts:
            for kink in function.kinks:
                distance = (z[..., index] - kink).abs()
                clear &= ((distance > error[..., index]) | constant[..., index]).all(-1)
        return clear

    def spread(self, bound):
        return bound

    def majorant(self, v):
        return v * self._greatest_slopes

    def norm(self, norm):
        return float(self._greatest_slopes.max())

    def blocks(self, norm):
        """The neurons of slopes [1, 1], which carry a value on, apart from the others."""
        carried = (self.alpha == 1) & (self.beta == 1)
        if bool(carried.all()) or not bool(carried.any()):
            return [(None, self.norm(norm))]
        parts = (part.nonzero().flatten() for part in (carried, ~carried))
        return [(part, float(self._greatest_slopes[part].max())) for part in parts]

    def ends(self):
        own = torch.arange(self.shape[0], device=self.alpha.device)
        return Ends(self.alpha, own, self.beta, own)

    def slopes(self):
        return self.alpha, self.beta

    def closed_form(self):
        center, radius = self.center.diagonal.abs(), self.radius.diagonal
        # STIFF^2: a neuron of slope 0 needs no tau, but a finite multiplier.
        floor = STIFF * center.square().clamp(min=STIFF)
        tau = torch.maximum(radius * (radius + center), floor)
        return tau, ((radius + center).square() + floor).max()

    def common_radius(self):
        return _CommonRadius(self.parts, self.shape[0], self.alpha.device)

    def tree(self):
        return [self]

    def still(self, z, constant):
        return constant | (derivative(self.evaluate, z) == 0)

    def softened(self, z, v, h):
        return v * (self.evaluate(z + h) - self.evaluate(z - h)) / (2 * h)

    def gap(self, z, picks):
        return z.gather(1, picks[:, :1] % self.shape[0])

    kind = "stage of activations"

    @property
    def _greatest_slopes(self) -> Tensor:
        return torch.maximum(self.alpha.abs(), self.beta.abs())


class _CommonRadius(SlopeStage):
    @cached_property
    def radius(self):
        own = super().radius.diagonal
        return Diagonal(torch.full_like(own, float(own.max())))


class BetweenStage(Stage):
    """max(P z, Q z) entrywise, P and Q picking one entry each: y_j lies between (P z)_j and
    (Q z)_j, so C = (P + Q) / 2, R = (Q - P) / 2. Where both pick the same entry, R_j = 0."""

    def __init__(self, first: Tensor, second: Tensor, size: int):
        self.first, self.second, self.shape = first, second, (len(first), size)

    @cached_property
    def center(self):
        return self._half_sum(1.0)

    @cached_property
    def radius(self):
        return self._half_sum(-1.0)

    def _half_sum(self, sign: float) -> Sparse:
        rows = torch.arange(self.shape[0], device=self.first.device).repeat(2)
        half = torch.full((self.shape[0],), 0.5, dtype=torch.float64, device=self.first.device)
        columns = torch.cat([self.second, self.first])
        values = torch.cat([half, sign * half])
        return Sparse(rows, columns, values, self.shape)

    def evaluate(self, z):
        return torch.maximum(z[..., self.first], z[..., self.second])

    def pullback(self, z, y):
        first_wins = (z[..., self.first] >= z[..., self.second]).unsqueeze(-2)
        x = torch.zeros(*y.shape[:-1], self.shape[1], dtype=y.dtype, device=y.device)
        x.index_add_(-1, self.first, y * first_wins)
        return x.index_add_(-1, self.second, y * ~first_wins)

    def differentiable(self, z, error, constant):
        a, b = self.first, self.second
        apart = (z[..., a] - z[..., b]).abs() > error[..., a] + error[..., b]
        still = constant[..., a] & constant[..., b]
        return (apart | still | (a == b)).all(-1)

    def spread(self, bound):
        return bound

    def majorant(self, v):
        return self.center.absolute().apply(v) + self.radius.absolute().apply(v)

    def norm(self, norm):
        """Rows of S are convex combinations of two unit vectors; a column of S sums to at most the
        number of neurons that may pick it."""
        picks = torch.bincount(self.first, minlength=self.shape[1])
        picks += torch.bincount(self.second[self.first != self.second], minlength=self.shape[1])
        return float(picks.max()) ** (0.0 if norm == math.inf else 1.0 / norm)

    def blocks(self, norm):
        return [(None, self.norm(norm))]

    def ends(self):
        one = torch.ones(self.shape[0], dtype=torch.float64, device=self.first.device)
        return Ends(one, self.first, one, self.second)

    def slopes(self):
        raise self.refused("picks one of two entries and has no slopes")

    def closed_form(self):
        gain = torch.tensor(self.norm(2) ** 2, dtype=torch.float64, device=self.first.device)
        return torch.where(self.first != self.second, gain / 2, STIFF), gain

    def common_radius(self):
        return self

    def tree(self):
        return [self]

    def still(self, z, constant):
        return torch.zeros(*z.shape[:-1], self.shape[0], dtype=torch.bool, device=z.device)

    def softened(self, z, v, h):
        first = torch.sigmoid((z[:, self.first] - z[:, self.second]) / h)
        return first * v[:, self.first] + (1 - first) * v[:, self.second]

    def gap(self, z, picks):
        row = picks[:, :1] % self.shape[0]
        return z.gather(1, self.first[row]) - z.gather(1, self.second[row])

    kind = "maximum of two entries"


class PoolStage(Stage):
    """Max-pooling kept whole: y_j = max of z over the indices in row j of `windows` (m, w).

    Rows of ragged windows repeat one of their own indices.
    """

    center = None

    def __init__(self, windows: Tensor, size: int):
        self.windows, self.shape = windows, (len(windows), size)

    @cached_property
    def radius(self):
        return Identity(self.shape[1], self.windows.device)

    def evaluate(self, z):
        return z[..., self.windows].amax(-1)

    def pullback(self, z, y):
        winner = torch.gather(
            self.windows.expand(*z.shape[:-1], *self.windows.shape),
            -1,
            z[..., self.windows].argmax(-1, keepdim=True),
        ).squeeze(-1)
        x = torch.zeros(*y.shape[:-1], self.shape[1], dtype=y.dtype, device=y.device)
        return x.scatter_add_(-1, winner.unsqueeze(-2).expand_as(y), y)

    def differentiable(self, z, error, constant):
        values, errors, still = (t[..., self.windows] for t in (z, error, constant))
        winner = values.argmax(-1, keepdim=True)
        best, best_error, best_still = (t.gather(-1, winner) for t in (values, errors, still))
        index = self.windows.expand(values.shape)
        same = index == index.gather(-1, winner)
        apart = best - values > best_error + errors
        return (apart | same | (still & best_still)).all(-1).all(-1)

    def spread(self, bound):
        return self.evaluate(bound)

    majorant = spread

    def norm(self, norm):
        """1 for inf, m for 1, sqrt(m) for 2, m the most windows that one input belongs to."""
        window = torch.arange(self.shape[0], device=self.windows.device).unsqueeze(1)
        pairs = torch.unique((window * self.shape[1] + self.windows).flatten())
        most = torch.bincount(pairs % self.shape[1]).max()
        return float(most) ** (0.0 if norm == math.inf else 1.0 / norm)

    def blocks(self, norm):
        return [(None, self.norm(norm))]

    def ends(self):
        raise self.refused("has more than two ends; rewrite the network with lipbounds.explicit")

    def slopes(self):
        raise self.refused("picks one of its entries and has no slopes")

    closed_form = ends

    def common_radius(self):
        return self

    def tree(self):
        return between_tree(self.windows, self.shape[1])

    def still(self, z, constant):
        return torch.zeros(*z.shape[:-1], self.shape[0], dtype=torch.bool, device=z.device)

    def softened(self, z, v, h):
        shares = torch.softmax(z[:, self.windows] / h.unsqueeze(2), -1)
        return (shares * v[:, self.windows]).sum(-1)

    def gap(self, z, picks):
        row, width = picks[:, :1] % self.shape[0], self.windows.shape[1]
        one, other = (self.windows[row, pick] for pick in (picks[:, 1:] % width).split(1, 1))
        return z.gather(1, one) - z.gather(1, other)

    kind = "max-pooling kept whole"


def between_tree(windows: Tensor, size: int) -> list[BetweenStage]:
    """Max-pooling as a tree of between stages: level by level, neighbours are paired, until one
    entry per window is left (the explicit treatment)."""
    stages, count, current = [], windows.shape[1], windows
    if count == 1:
        return [BetweenStage(windows[:, 0], windows[:, 0], size)]
    while count > 1:
        first, second = current[:, 0::2], current[:, 1::2]
        if count % 2:
            second = torch.cat([second, first[:, -1:]], 1)
        stages.append(BetweenStage(first.reshape(-1), second.reshape(-1), size))
        count = first.shape[1]
        size = first.numel()
        current = torch.arange(size, device=windows.device).reshape(-1, count)
    return stages

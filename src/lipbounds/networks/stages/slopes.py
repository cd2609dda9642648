"""Slope stages: activations, neuron by neuron."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ...arithmetic.rounding import outward
from ...errors import LipboundsError
from ...linear.operators import Diagonal
from ..activations import Activation, activation, derivative
from .stage import STIFF, Ends, Stage


class SlopeStage(Stage):
    """Activations applied neuron by neuron, neuron j with secant slopes in [alpha_j, beta_j].

    C = diag((alpha + beta) / 2), R = diag((beta - alpha) / 2), rounded so that C +- R holds the
    interval. `parts` pairs each activation with the indices of its neurons.
    """

    entrywise = True

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
        return Diagonal(center_and_radius(self.alpha, self.beta)[0])

    @cached_property
    def radius(self):
        return Diagonal(center_and_radius(self.alpha, self.beta)[1])

    def evaluate(self, z):
        if len(self.parts) == 1 and self.parts[0][1] == slice(None):
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
        return self._greatest_slope

    @cached_property
    def _greatest_slope(self) -> float:
        return float(self._greatest_slopes.max())

    def partition(self, norm):
        return self._partition

    @cached_property
    def _partition(self) -> list[tuple[Tensor | None, float]]:
        """The neurons of slopes [1, 1], which carry a value on, apart from the others."""
        carried = (self.alpha == 1) & (self.beta == 1)
        if bool(carried.all()) or not bool(carried.any()):
            return [(None, self._greatest_slope)]
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

    @cached_property
    def _greatest_slopes(self) -> Tensor:
        return torch.maximum(self.alpha.abs(), self.beta.abs())


def center_and_radius(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha + beta) / 2 and (beta - alpha) / 2, so rounded that C +- R holds the interval."""
    center = (alpha + beta) / 2
    half = torch.maximum(beta - center, center - alpha)
    exact = (center + half == beta) & (center - half == alpha)
    return center, torch.where(exact, half, outward(half, 1))


class _CommonRadius(SlopeStage):
    @cached_property
    def radius(self):
        own = super().radius.diagonal
        return Diagonal(torch.full_like(own, float(own.max())))

"""`Network`: affine maps and stages in turn; immutable; evaluates and differentiates itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import LipboundsError, UnsupportedError
from ..linear.operators import Dense, Operator
from .activations import Activation
from .stages import SlopeStage, Stage


@dataclass(frozen=True)
class Affine:
    """x -> W x + b, `operator` being W: R^n -> R^m and `offset` b (..., m)."""

    operator: Operator
    offset: Tensor

    def evaluate(self, x: Tensor) -> Tensor:
        offset = self.offset
        if offset.ndim > 1 and x.ndim > 1:
            offset = offset.unsqueeze(-2)  # an ensemble evaluates (..., b, n) inputs
        return self.operator.apply(x) + offset


@dataclass(frozen=True)
class Network:
    """f = A_L . sigma_L . A_{L-1} ... sigma_1 . A_0.

    `affines` A_0 ... A_L and `stages` sigma_1 ... sigma_L are in order of application, so that
    `stages[k - 1]` stands between `affines[k - 1]` and `affines[k]`. `roundings`: how many, on any
    path from an input to an output, its weights owe to their conversion; bounds count them, and are
    of the network before it (docs/theory.md). Raises LipboundsError where sizes do not chain.
    """

    affines: tuple[Affine, ...]
    stages: tuple[Stage, ...]
    input_shape: tuple[int, ...] | None = None
    roundings: int = 0

    def __post_init__(self):
        if len(self.affines) != len(self.stages) + 1:
            raise LipboundsError(
                f"{len(self.affines)} affine maps need {len(self.affines) - 1} stages between "
                f"them, not {len(self.stages)}"
            )
        for k, stage in enumerate(self.stages, start=1):
            before, after = self.affines[k - 1].operator, self.affines[k].operator
            if before.shape[0] != stage.shape[1] or stage.shape[0] != after.shape[1]:
                raise LipboundsError(
                    f"stage {k} maps {stage.shape[1]} inputs to {stage.shape[0]} outputs, but "
                    f"stands between W{k - 1} with {before.shape[0]} outputs and W{k} with "
                    f"{after.shape[1]} inputs"
                )

    def __repr__(self) -> str:
        """Its sizes, and its stages by their activations."""
        sizes = [str(self.input_size)]
        for stage in self.stages:
            names = dict.fromkeys(function.name for function, _ in stage.parts)
            sizes.append(f"{stage.shape[0]} {', '.join(names) or stage.kind}")
        ensemble = "".join(f"{count} x " for count in self.batch_shape)
        return f"Network({ensemble}{' -> '.join([*sizes, str(self.output_size)])})"

    @classmethod
    def from_weights(
        cls,
        weights: Sequence,
        biases: Sequence | None = None,
        activation: str | Activation | Sequence = "relu",
    ) -> "Network":
        """A fully-connected network W_L sigma(... sigma(W_0 x + b_0)) + b_L.

        weights: matrices (m, n), NumPy or torch, first layer first; with leading dimensions
            (S, m, n) they make an ensemble of S networks, and bounds return S values.
        biases: vectors (m,) or (S, m), or None for each layer without one.
        activation: one for all hidden stages, or a list with one item per hidden stage; an item
            may itself be a list with one activation per neuron.
        Raises LipboundsError for an empty list, shapes that do not chain, NaN or inf.
        """
        if not isinstance(weights, Sequence):
            raise LipboundsError("weights must be a list of matrices, first layer first")
        matrices = [_finite(w, f"W{i}") for i, w in enumerate(weights)]
        _check_chain(matrices)
        biases = [None] * len(matrices) if biases is None else biases
        if not isinstance(biases, Iterable):
            raise LipboundsError("biases must be a list of vectors, first layer first, or None")
        biases = list(biases)
        if len(biases) != len(matrices):
            raise LipboundsError(f"{len(biases)} biases for {len(matrices)} weights")
        affines = []
        for i, (w, b) in enumerate(zip(matrices, biases, strict=True)):
            b = w.new_zeros(w.shape[:-1]) if b is None else _finite(b, f"b{i}").to(w.device)
            if b.shape != w.shape[:-1]:
                raise LipboundsError(
                    f"b{i} has shape {tuple(b.shape)}; W{i} needs {tuple(w.shape[:-1])}"
                )
            affines.append(Affine(Dense(w), b))
        stages = [
            _slope_stage(item, k, w)
            for k, (item, w) in enumerate(
                zip(_per_stage(activation, len(matrices) - 1), matrices[:-1], strict=True), start=1
            )
        ]
        return cls(tuple(affines), tuple(stages))

    @property
    def depth(self) -> int:
        """L, the number of stages."""
        return len(self.stages)

    @property
    def input_size(self) -> int:
        return self.affines[0].operator.shape[1]

    @property
    def output_size(self) -> int:
        return self.affines[-1].operator.shape[0]

    @property
    def device(self) -> torch.device:
        return self.affines[0].operator.device

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """() for one network, (S,) for an ensemble of S."""
        return next((a.operator.batch_shape for a in self.affines if a.operator.batch_shape), ())

    @cached_property
    def has_pools(self) -> bool:
        """Whether max-pooling is kept whole somewhere (the implicit treatment)."""
        return any(stage.center is None for stage in self.stages)

    def slopes(self, who: str) -> list[tuple[Tensor, Tensor]]:
        """(alpha, beta) of each stage, for the method named `who`.

        Raises UnsupportedError, with the stage's number, where one has no slopes.
        """
        pairs = []
        for k, stage in enumerate(self.stages, start=1):
            try:
                pairs.append(stage.slopes())
            except UnsupportedError as error:
                raise UnsupportedError(f"{who}: stage {k}, {error}") from None
        return pairs

    @cached_property
    def terms(self) -> int:
        """A generous count of the roundings on the longest path from input to output."""
        maps = [affine.operator for affine in self.affines]
        return sum(w.terms + max(w.shape) + 8 for w in maps)

    def __call__(self, x: Tensor) -> Tensor:
        """f(x) for x (..., n) or (..., *input_shape), in float64; returns (..., output_size).

        An ensemble takes (n,) or (b, n) and returns (S, output_size) or (S, b, output_size).
        """
        x = self._flat(x)
        if self.batch_shape and x.ndim == 1:
            return self(x.unsqueeze(0)).squeeze(-2)
        return self.affines[-1].evaluate(self.preactivations(x)[-1][1])

    def preactivations(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per stage its input and output; the network's own input stands first, as both."""
        y = self._flat(x)
        trace = [(y, y)]
        for affine, stage in zip(self.affines, self.stages, strict=False):
            z = affine.evaluate(y)
            y = stage.evaluate(z)
            trace.append((z, y))
        return trace

    def jacobian(self, x: Tensor) -> Tensor:
        """J(x), (..., output_size, input_size), for a batch of points; at a kink, that of one of
        the one-sided pieces, which need not be a limit of Jacobians (docs/theory.md)."""
        if self.batch_shape:
            raise LipboundsError("jacobian takes a single network, not an ensemble")
        trace = self.preactivations(x)
        size = self.output_size
        rows = torch.eye(size, dtype=torch.float64, device=self.device)
        rows = rows.expand(*trace[0][0].shape[:-1], size, size)
        rows = self.affines[-1].operator.adjoint(rows)
        for k in range(self.depth, 0, -1):
            rows = self.stages[k - 1].pullback(trace[k][0], rows)
            rows = self.affines[k - 1].operator.adjoint(rows)
        return rows

    def majorant(self, v: Tensor) -> Tensor:
        """|W_L| (|C_L| + |R_L|) ... |W_0| v >= |J v'| for all |v'| <= v and every linearisation J,
        up to rounding; v (..., n)."""
        for k, affine in enumerate(self.affines):
            v = self.stages[k - 1].majorant(v) if k else v
            v = affine.operator.majorant().apply(v)
        return v

    def _flat(self, x: Tensor) -> Tensor:
        x = real_tensor(x, "input").to(self.device)
        shape = self.input_shape
        if shape is not None and len(shape) > 1 and tuple(x.shape[-len(shape) :]) == shape:
            return x.reshape(*x.shape[: -len(shape)], self.input_size)
        if x.ndim == 0 or x.shape[-1] != self.input_size:
            wanted = shape or (self.input_size,)
            raise LipboundsError(
                f"input of shape {tuple(x.shape)}; the network takes (..., "
                f"{', '.join(map(str, wanted))})"
            )
        return x


def real_tensor(value, name: str) -> Tensor:
    """An array of numbers in float64; LipboundsError, naming it, for anything else."""
    try:
        # Lists by way of NumPy: torch would make them float32.
        tensor = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value))
        _check_readable(tensor)
        return tensor.to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition(". ")[0]
        raise LipboundsError(f"{name} is not an array of numbers: {reason}") from None


def _finite(value, name: str) -> Tensor:
    """A copy, none of its entries NaN or infinite."""
    tensor = real_tensor(value, name)
    if not bool(torch.isfinite(tensor).all()):
        raise LipboundsError(f"{name} has NaN or infinite entries")
    return tensor.detach().clone()


def _check_readable(tensor: Tensor) -> None:
    if tensor.is_complex():
        raise TypeError("its entries are complex")
    if tensor.is_meta:
        raise TypeError("it is on the meta device, without values; load them first")
    if tensor.is_quantized:
        raise TypeError("it is quantised; pass its dequantize()")
    if tensor.layout is not torch.strided:
        raise TypeError(f"it is sparse ({tensor.layout}); pass its to_dense()")


def _check_chain(matrices: list[Tensor]) -> None:
    if not matrices:
        raise LipboundsError("a network needs at least one weight matrix")
    for i, w in enumerate(matrices):
        if w.ndim < 2 or 0 in w.shape:
            raise LipboundsError(f"W{i} has shape {tuple(w.shape)}; it must be a nonempty matrix")
        if w.shape[:-2] != matrices[0].shape[:-2]:
            raise LipboundsError(
                f"W{i} has shape {tuple(w.shape)}, W0 {tuple(matrices[0].shape)}: the leading "
                "(ensemble) dimensions must be the same"
            )
        if i and w.shape[-1] != matrices[i - 1].shape[-2]:
            raise LipboundsError(
                f"W{i} takes {w.shape[-1]} inputs but W{i - 1} gives {matrices[i - 1].shape[-2]} "
                "outputs"
            )


def _per_stage(activation, count: int) -> list:
    if isinstance(activation, str | Activation):
        return [activation] * count
    if not isinstance(activation, Sequence):
        raise LipboundsError(f"activation {activation!r} must be a name, or a list of names")
    activation = list(activation)
    if len(activation) != count:
        raise LipboundsError(f"{len(activation)} activations for {count} hidden stages")
    return activation


def _slope_stage(item, k: int, weight: Tensor) -> SlopeStage:
    size = weight.shape[-2]
    if isinstance(item, str | Activation):
        return SlopeStage.uniform(item, size, weight.device)
    if not isinstance(item, Sequence):
        raise LipboundsError(f"stage {k}: activation {item!r} must be a name, or a list of names")
    if len(item) != size:
        raise LipboundsError(f"stage {k}: {len(item)} activations for {size} neurons")
    return SlopeStage.mixed(item, weight.device)

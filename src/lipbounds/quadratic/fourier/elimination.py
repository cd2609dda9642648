"""The form Q on a torus, eliminated frequency by frequency (docs/k5.md, proposition 24).

With the same multiplier 1 / tau at every pixel of a channel, Sigma_k(omega) of proposition 2 is a
Hermitian matrix of the size of the channels for each frequency. It is kept as D S D, D^2 = tau:

    H = V Sigma V*, P = I - R D^-1 H D^-1 R*, S = I + C H' C* + C H' R* P^-1 R H' C*,
    H' = D^-1 H D^-1.

Values that are carried past a stage have no multiplier: there the I of S is 0.
Every matrix behind the convolutions is real, and has no frequency.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...linear.beside import full_kernel
from ...linear.torus import LOOKED_AT, power_iterated, roots
from .embedding import Filter, Maximum, Slopes, Torus
from .grid import folded, half, symbol, weights

SMALLEST = 1e-200  # of what is to be divided by
FEW_CHANNELS = 32  # up to which all eigenvalues at all frequencies take little time
SLACK, SLACK_OF_MAXIMA = 2.0, 1.25  # of tau at the start, over the least that one number for all
# channels may be: the best one where H is a multiple of the identity, or near it

Choice = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Covariance:
    """D S D with D = diag(d): S (..., c, c), d (c,)."""

    matrix: Tensor
    d: Tensor


@dataclass(frozen=True)
class StageParts:
    """C H C*, C H R* and R H R* of a stage, (..., c, c), (..., c, m) and (..., m, m): m of its c
    channels have multipliers, the `own` (m,), and the others, with R = 0, are only carried past
    it."""

    center: Tensor
    mixed: Tensor
    radius: Tensor
    own: Tensor

    def scales(self, logs: Tensor) -> Tensor:
        """D of the stage, (c,): the roots of tau = exp(logs), (m,); for the channels that have
        none, of how large they are."""
        carried = self.center.detach().diagonal(dim1=-2, dim2=-1).real
        carried = carried.flatten(0, -2).amax(0) if carried.ndim > 1 else carried
        return carried.clamp(min=SMALLEST).sqrt().index_put((self.own,), (logs / 2).exp())

    def over(self, d: Tensor) -> "StageParts":
        """D^-1 . D^-1."""
        left, right = 1 / d[:, None], 1 / d[self.own]
        return StageParts(
            self.center * (left / d),
            self.mixed * (left * right),
            self.radius * (right[:, None] * right),
            self.own,
        )

    @property
    def tau(self) -> Tensor:
        """D^-1 tau D^-1, (c, c): the identity, 0 for channels that are carried."""
        found = self.center.new_zeros(self.center.shape[-1])
        return torch.diag(found.index_fill(0, self.own, 1.0))


@dataclass(frozen=True)
class TorusPoint:
    """gains: the eigenvalues of what the outputs' multiplier has to exceed, (k,), each as often as
    `copies` says; log_determinant: of Q but for the outputs' block, at mu = 1."""

    gains: Tensor
    copies: Tensor
    log_determinant: Tensor

    @property
    def value(self) -> Tensor:
        """sqrt(mu nu): the bound, up to rounding."""
        return self.gains.max().clamp(min=0.0).sqrt()


class TorusElimination:
    """Of a torus. Multipliers are given by log tau, one vector (n,) for all stages in turn."""

    def __init__(self, torus: Torus):
        self.torus = torus
        self.device = torus.steps[0].kernel.device
        self.symbols = [
            self._of(step, size) for step, size in zip(torus.steps, torus.sizes, strict=False)
        ]
        self.sizes = [size for size, _ in torus.stages]
        self.copies = [copies for _, copies in torus.stages]
        self.head = None
        if torus.head is not None:
            self.head = symbol(torus.head.entries.reshape(-1, *torus.image), torus.sizes[-1])

    @property
    def outputs(self) -> int:
        """How many numbers the network's output is."""
        torus = self.torus
        if torus.head is None:
            return torus.image[0] * math.prod(torus.sizes[-1])
        last = torus.tail[-1][1] if torus.tail else torus.head
        return last.shape[0]

    @property
    def count(self) -> int:
        """Rows of Q but for the inputs', whose multiplier is 1."""
        inner = zip(self.sizes, self.copies, strict=True)
        return sum(n * m for n, m in inner) + self.outputs

    def start(self) -> Tensor:
        """log tau, one number a stage, inside the cone: SLACK times the greatest eigenvalue that
        R H R* has; for ReLU this is ECLipsE-Fast's choice."""
        with torch.no_grad():
            found = self._started(_nearly_greatest)
            return self._started(_greatest) if found is None else found

    def _started(self, greatest: Callable[[Tensor], Tensor]) -> Tensor | None:
        """None where it is not inside."""
        found: list[Tensor] = []
        stages = [step for step in self.torus.steps if not isinstance(step, Filter)]
        maxima = [isinstance(step, Maximum) for step in stages]

        def choose(k: int, radius: Tensor) -> Tensor:
            slack = SLACK_OF_MAXIMA if k < len(maxima) and maxima[k] else SLACK
            top = greatest(radius) if self.sizes[k] else radius.real.new_zeros(())
            found.append((slack * top.clamp(min=SMALLEST)).log().expand(self.sizes[k]))
            return found[-1]

        return None if self._walked(choose) is None else torch.cat(found)

    def at(self, logs: Tensor, passed: list[Tensor] | None = None) -> TorusPoint | None:
        """None where Q is not positive definite. passed: to which S behind each stage is added."""
        parts = logs.split(self.sizes)
        return self._walked(lambda k, _: parts[k], passed)

    def _walked(self, choose: Choice, passed: list[Tensor] | None = None) -> TorusPoint | None:
        torus, log_determinant, k = self.torus, 0.0, 0
        passed = [] if passed is None else passed
        state = self.first()
        for place, step in enumerate(torus.steps):
            if isinstance(step, Filter):
                state = self.filtered(place, state)
                continue
            stage = self.staged(place, state)
            state, added = absorbed(stage, choose(k, stage.radius))
            if state is None:
                return None
            passed.append(state.matrix)
            each = weights(torus.sizes[place + 1], self.device)
            log_determinant = log_determinant + (each * added).sum()
            k += 1
        if torus.head is None:
            return _ended(state, log_determinant, weights(torus.sizes[-1], self.device))
        seen = self.seen(state)
        for slopes, matrix in torus.tail:
            stage = sloped(slopes, seen)
            state, added = absorbed(stage, choose(k, stage.radius))
            if state is None:
                return None
            passed.append(state.matrix)
            log_determinant = log_determinant + added
            turned = matrix.entries * state.d
            seen = turned @ state.matrix @ turned.mT
            k += 1
        gains = torch.linalg.eigvalsh(seen)
        return TorusPoint(gains, torch.ones_like(gains.detach()), log_determinant)

    def first(self) -> Covariance:
        """Of the inputs: the identity."""
        eye = torch.eye(self.torus.channels, dtype=torch.complex128, device=self.device)
        each = eye.expand(*half(self.torus.sizes[0]), -1, -1)
        return Covariance(each, torch.ones_like(eye[0].real))

    def filtered(self, place: int, state: Covariance) -> Covariance:
        """V Sigma V* behind a filter, with D = I."""
        step, size = self.torus.steps[place], self.torus.sizes[place]
        turned = self.symbols[place] * state.d
        product = folded(turned @ state.matrix @ turned.mH, size, step.stride)
        return Covariance(product, torch.ones_like(product[0, 0, 0].real))

    def staged(self, place: int, state: Covariance) -> StageParts:
        """Of a stage on the torus."""
        step = self.torus.steps[place]
        covariance = state.matrix * (state.d[:, None] * state.d)
        if isinstance(step, Slopes):
            return sloped(step, covariance)
        size, (center, radius) = self.torus.sizes[place], self.symbols[place]
        phases = center.abs().square(), center * radius.conj(), radius.abs().square()
        every = torch.arange(len(state.d), device=self.device)
        return StageParts(*(folded(x * covariance, size, step.stride) for x in phases), every)

    def seen(self, state: Covariance) -> Tensor:
        """What the head sees of the last image: W Sigma W^T, real (m, m)."""
        turned = self.head * state.d
        size = self.torus.sizes[-1]
        moved = turned @ state.matrix
        share = (weights(size, self.device) / math.prod(size))[:, :, None, None]
        left, right = torch.view_as_real(share * moved), torch.view_as_real(turned.resolve_conj())
        return torch.einsum("yxict,yxjct->ij", left, right)

    def _of(self, step, size):
        """A filter's symbol; of a maximum c and r, with C = c I, R = r I."""
        if isinstance(step, Filter):
            return symbol(full_kernel(step.kernel, step.groups), size, step.dilation)
        if isinstance(step, Slopes):
            return None
        count, axis = half(size)[step.axis], step.axis
        turn = roots(torch.arange(count, device=self.device), size[axis], 2, step.offset)[:, 1]
        turn = turn.reshape(-1, 1, 1, 1) if axis == 0 else turn.reshape(1, -1, 1, 1)
        return (1 + turn) / 2, (turn - 1) / 2


def _greatest(radius: Tensor) -> Tensor:
    """The greatest eigenvalue of all."""
    return torch.linalg.eigvalsh(radius)[..., -1].max()


def _nearly_greatest(radius: Tensor) -> Tensor:
    """About that: of those that power iterations take for the greatest."""
    n = radius.shape[-1]
    flat = radius.reshape(-1, n, n)
    if len(flat) <= LOOKED_AT or n <= FEW_CHANNELS:
        return _greatest(radius)
    return _greatest(flat[power_iterated(flat).topk(LOOKED_AT).indices])


def sloped(slopes: Slopes, covariance: Tensor) -> StageParts:
    center, own = slopes.center, slopes.own
    radius, right = slopes.radius[own], covariance[..., own]
    return StageParts(
        center[:, None] * covariance * center,
        center[:, None] * right * radius,
        radius[:, None] * right[..., own, :] * radius,
        own,
    )


def absorbed(stage: StageParts, logs: Tensor) -> tuple[Covariance | None, Tensor]:
    """The covariance behind a stage, and what it adds to log det Q at each frequency; None where P
    is not positive definite."""
    d = stage.scales(logs)
    parts = stage.over(d)
    eye = torch.eye(len(logs), dtype=parts.radius.dtype, device=d.device)
    factor, info = torch.linalg.cholesky_ex(eye - parts.radius)
    if bool(info.any()):
        return None, logs
    side = torch.linalg.solve_triangular(factor, parts.mixed.mH, upper=False)
    added = 2 * factor.diagonal(dim1=-2, dim2=-1).real.log().sum(-1) - logs.sum()
    return Covariance(parts.tau + parts.center + side.mH @ side, d), added


def _ended(state: Covariance, log_determinant: Tensor, copies: Tensor) -> TorusPoint:
    """A network whose outputs are an image."""
    covariance = state.matrix * (state.d[:, None] * state.d)
    gains = torch.linalg.eigvalsh(covariance)
    copies = copies[:, :, None].expand_as(gains)
    return TorusPoint(gains.reshape(-1), copies.reshape(-1), log_determinant)

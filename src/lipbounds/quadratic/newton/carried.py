"""The form Q of a chain that carries values past its stages, eliminated at the cost of a chain.

State w_k = (y_k, u_k): the neurons of stage k that have a multiplier, and the linear ones,
u_k = B_k w_{k-1}, which have none and are no variables of Q. From the outputs to the inputs Q is
minimised over one y_k after the other; what is left of it is a form in w_{k-1},

    sum_{i < k} (terms of stage i) - (w_{k-1}, s)^T P_{k-1} (w_{k-1}, s) + sum_i nu_i s_i^2 :

the Riccati recursion of the linear system w_k = (y_k, B_k w_{k-1}). Q > 0 if and only if every
pivot S_k = diag(lambda_k) - P_k,yy is, and det Q is the product of theirs. Forwards, with the best
y_k = G_k (w_{k-1}, s) fed back, the same system propagates Q^{-1}: a covariance, of w as well.
Without linear neurons this is the block Cholesky factorisation. Proof: docs/k5.md, proposition 19.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .forms import Maps, compressed, times_each


@dataclass(frozen=True)
class Pivot:
    """The Cholesky factor L of S, and L^{-1} T, where y^T S y + 2 y^T T (w, s) has y in it."""

    factor: Tensor
    side: Tensor
    positive: Tensor

    @classmethod
    def of(cls, matrix: Tensor, side: Tensor) -> "Pivot":
        """Where S is not positive, (b,), the rest means nothing."""
        factor, info = torch.linalg.cholesky_ex(matrix)
        ends = factor.diagonal(dim1=-2, dim2=-1)
        positive = (info == 0) & ((ends > 0) & torch.isfinite(ends)).all(-1)
        unit = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        factor = torch.where(positive[:, None, None], factor, unit)
        return cls(factor, torch.linalg.solve_triangular(factor, side, upper=False), positive)

    @property
    def log_determinant(self) -> Tensor:
        return 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def gain(self) -> Tensor:
        """-S^{-1} T."""
        return -torch.linalg.solve_triangular(self.factor.mT, self.side, upper=True)


@dataclass(frozen=True)
class CarriedChain:
    """The maps of w_{k-1} (..., ., n_{k-1}), with batch dimensions () or (b,): `lows`, A^-, None
    for 0, and `highs`, A^+, to y_k, `carries`, B_k, to u_k; `last`, w_L to W_L y_L. The last block
    of an elimination, `end`, is the outputs', with `backward` the inputs'."""

    lows: list[Tensor | None]
    highs: list[Tensor]
    carries: list[Tensor]
    last: Tensor
    backward: bool

    def changed(self, change: Callable[[Tensor], Tensor]) -> "CarriedChain":
        """With `change` of every map."""
        lows = [None if low is None else change(low) for low in self.lows]
        highs, carries = ([change(m) for m in maps] for maps in (self.highs, self.carries))
        return CarriedChain(lows, highs, carries, change(self.last), self.backward)

    @cached_property
    def states(self) -> list[int]:
        """The sizes of w_0 = x, w_1, ..., w_L."""
        return [m.shape[-1] for m in (*self.highs, self.last)]

    @cached_property
    def sizes(self) -> list[int]:
        """Of x, y_1, ..., y_L, s, which have multipliers."""
        return [self.states[0], *(m.shape[-2] for m in self.highs), self.last.shape[-2]]

    @cached_property
    def places(self) -> list[slice]:
        """Where w_0, ..., w_L and s are in `inverse`: s first, with `backward` last."""
        outputs = self.sizes[-1]
        if self.backward:
            return _consecutive([*self.states, outputs])
        first, *others = _consecutive([outputs, *self.states])
        return [*others, first]

    def eliminated(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As of Forms: whether all pivots but the end block's are positive, (b,), their log det,
        and the matrix that diag(theta_end) has to exceed."""
        pivots, rest = self._pivots(theta)
        positive = torch.stack([pivot.positive for pivot in pivots]).all(0)
        return positive, sum(pivot.log_determinant for pivot in pivots), rest

    def _pivots(self, theta: Tensor) -> tuple[list[Pivot], Tensor]:
        """For theta (b, N), in order, and the matrix that diag(theta_end) has to exceed."""
        inputs, *weights, outputs = theta.split(self.sizes, -1)
        pivots = []
        if self.backward:
            last = self.last.expand(len(theta), *self.last.shape[-2:])
            pivots.append(Pivot.of(torch.diag_embed(outputs), -last))
            rest = pivots[0].side.mT @ pivots[0].side
        else:
            rest = theta.new_zeros(len(theta), *[self.states[-1] + self.sizes[-1]] * 2)
            rest[:, self.states[-1] :, : self.states[-1]] = self.last
            rest[:, : self.states[-1], self.states[-1] :] = self.last.mT
        for k in range(len(weights), 0, -1):
            pivot, rest = self._stage(k - 1, weights[k - 1], rest)
            pivots.append(pivot)
        if not self.backward:
            n = self.states[0]
            pivot = Pivot.of(torch.diag_embed(inputs) - rest[:, :n, :n], -rest[:, :n, n:])
            pivots.append(pivot)
            rest = rest[:, n:, n:] + pivot.side.mT @ pivot.side
        return pivots, rest

    def _stage(self, k: int, weight: Tensor, rest: Tensor) -> tuple[Pivot, Tensor]:
        """The pivot of stage k + 1, and P before it from P after it."""
        low, high, carry = self.lows[k], self.highs[k], self.carries[k]
        before, free, state = self.states[k], high.shape[-2], self.states[k + 1]
        weight = weight.unsqueeze(-1)
        mean = high if low is None else low + high
        side = torch.cat([-0.5 * weight * mean, -rest[:, :free, state:]], -1)
        side[..., :before] -= rest[:, :free, free:state] @ carry
        matrix = -rest[:, :free, :free]
        matrix.diagonal(dim1=-2, dim2=-1).add_(weight.squeeze(-1))
        pivot = Pivot.of(matrix, side)
        following = pivot.side.mT @ pivot.side
        carried = rest[:, free:state, free:]
        following[:, :before, :before] += carry.mT @ carried[..., : state - free] @ carry
        across = carry.mT @ carried[..., state - free :]
        following[:, :before, before:] += across
        following[:, before:, :before] += across.mT
        following[:, before:, before:] += rest[:, state:, state:]
        if low is not None:
            product = times_each(self._lows[k].mT, weight * high)
            following[:, :before, :before] -= (product + product.mT) / 2
        return pivot, following

    def inverse(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Whether Q(theta) > 0, (b,), and Q^{-1} as the covariance of all of (w, s) at `places`."""
        pivots, rest = self._pivots(theta)
        inputs, *places, outputs = self.places
        end = theta[:, : self.sizes[0]] if self.backward else theta[:, -self.sizes[-1] :]
        own = Pivot.of(torch.diag_embed(end) - rest, rest[..., :0])
        positive = torch.stack([pivot.positive for pivot in (*pivots, own)]).all(0)
        side = sum(self.states) + self.sizes[-1]
        whole = theta.new_empty(len(theta), side, side)
        first = inputs if self.backward else outputs
        whole[:, first, first] = torch.cholesky_inverse(own.factor)
        fixed = slice(0, 0) if self.backward else outputs
        if not self.backward:
            _extend(whole, inputs, pivots.pop(), slice(0, 0), outputs, None)
        before = inputs
        for place, carry in zip(places, self.carries, strict=True):
            _extend(whole, place, pivots.pop(), before, fixed, carry)
            before = place
        if self.backward:
            _extend(whole, outputs, pivots.pop(), before, fixed, None)
        return positive, whole

    def gram(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l^T Z l', l^T Z h', h^T Z h' for all pairs of multipliers and Z as in `inverse`."""
        low, high = self._applied(self._lows, whole), self._applied(self._highs, whole)
        lh, hh = (self._applied(maps, high.mT) for maps in (self._lows, self._highs))
        return self._applied(self._lows, low.mT), lh, hh

    @cached_property
    def _lows(self) -> Maps:
        return [compressed(matrix) for matrix in self.lows]

    @cached_property
    def _highs(self) -> Maps:
        return [compressed(matrix) for matrix in self.highs]

    def _applied(self, maps: Maps, rows: Tensor) -> Tensor:
        """x, y_k - A_k w_{k-1} and s, of the columns (w, s) of `rows` (b, ., m)."""
        *states, outputs = (rows[:, place] for place in self.places)
        parts = [states[0]]
        for matrix, before, state, size in zip(
            maps, states, states[1:], self.sizes[1:], strict=False
        ):
            own = state[:, :size]
            parts.append(own if matrix is None else own - times_each(matrix, before))
        return torch.cat([*parts, outputs], 1)


def _consecutive(sizes: list[int]) -> list[slice]:
    ends = itertools.accumulate(sizes, initial=0)
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def _extend(
    whole: Tensor, place: slice, pivot: Pivot, before: slice, fixed: slice, carry: Tensor | None
) -> None:
    """The rows and columns `place` of a covariance that is known in front of them, of
    (y, u) = (G (w, s) + noise of covariance S^{-1}, B w), w at `before` and s at `fixed`."""
    gain, size = pivot.gain, before.stop - before.start
    ahead, across = gain[..., :size], gain[..., size:]
    free = gain.shape[-2]
    if carry is not None:
        ahead = torch.cat([ahead, carry.expand(len(gain), *carry.shape[-2:])], -2)
        across = torch.nn.functional.pad(across, (0, 0, 0, carry.shape[-2]))
    rows = ahead @ whole[:, before, : place.start] + across @ whole[:, fixed, : place.start]
    block = rows[..., before] @ ahead.mT + rows[..., fixed] @ across.mT
    block[:, :free, :free] += torch.cholesky_inverse(pivot.factor)
    whole[:, place, : place.start] = rows
    whole[:, : place.start, place] = rows.mT
    whole[:, place, place] = block

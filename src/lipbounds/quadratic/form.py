"""One quadratic form behind LipSDP, GeoLIP and ECLipsE, and its proof in floating point.

With the input difference x, the stages' output differences y_1, ..., y_L and a dual output vector
s, multipliers mu, lambda, nu >= 0 make the form, block tridiagonal in (x, y_1, ..., y_L, s),

    Q = sum_j mu_j x_j^2 + sum_kj lambda_kj [ (y_k - C_k W_{k-1} y_{k-1})_j^2
        - (R_k W_{k-1} y_{k-1})_j^2 ] + sum_i nu_i s_i^2 - 2 s^T W_L y_L.

The brackets are <= 0 for every linearisation J. Where Q >= -delta I, hence

    2 s^T J x <= sum mu_j x_j^2 + sum nu_i s_i^2 + delta |(x, y, s)|^2:

any multipliers, however a solver came by them, give a proven bound of the relaxation optimum once
delta is proven. Stages differ in size, so Q is taken in coordinates y_k = D_k y'_k, D_k powers of
two (exact), in which every entry is at most 1.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.definite import runs_to_its_end, shortfall, terms_of, trace_of
from ..arithmetic.rounding import finite, gamma, outward
from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import operator_norm, power_of_two
from ..linear.operators import Operator, Sparse, compose, dense
from ..networks.averaged_map import averaged_map
from ..networks.network import Network

STIFF = (1e5, 1e7, 1e9)  # tried as the multiplier of an exact equation y_j = (C z)_j: its slack
# costs about 1 / STIFF, its rounding STIFF times the unit roundoff
CANCELLED = 1e-3  # the least scale of a neuron, in units of its inputs' scales


@dataclass(frozen=True)
class Multipliers:
    """mu (n_0,), lambda_1, ..., lambda_L and nu (n_out,), all >= 0."""

    input: Tensor
    stages: list[Tensor]
    output: Tensor


def single(network: Network, method: str) -> Network:
    """`network` itself; UnsupportedError for an ensemble or an implicit pool, which has no
    quadratic constraint of its own."""
    if network.batch_shape:
        raise UnsupportedError(f"{method} takes one network, not an ensemble")
    if network.has_pools:
        raise UnsupportedError(
            f"{method} has no quadratic constraint for a max-pooling kept whole; take "
            'treatment="explicit"'
        )
    return network


@dataclass(frozen=True)
class Reach:
    """Proven: |y_k| <= entries entrywise, |y_k|_2 <= length, on the domain."""

    entries: Tensor
    length: Tensor


def ball_reach(network: Network) -> list[Reach]:
    """The reach of y_1, ..., y_L and of the output, for inputs with |x|_2 <= 1."""
    before = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    length, reach = torch.ones_like(before[0]), []
    for k, affine in enumerate(network.affines, start=1):
        operator = affine.operator
        norm = operator_norm(operator, 2)
        rows = outward(_row_lengths(operator), operator.shape[1] + 4)
        rows = torch.minimum(rows + gamma(operator.terms) * _ones_through(operator), norm)
        # Entry by entry is better where the scales of neurons differ.
        plain = outward(operator.majorant().apply(before), 2 * operator.terms)
        before = torch.minimum(outward(rows * length, 4), plain)
        if k <= network.depth:
            stage = network.stages[k - 1]
            norm, before = norm * stage.norm(2), outward(stage.majorant(before), 4)
        length = torch.minimum(outward(length * norm, 4), _length(before))
        reach.append(Reach(before, length))
    return reach


def box_reach(network: Network) -> list[Reach]:
    """The reach of y_1, ..., y_L and of the output, for inputs with |x_j| <= 1: K_4's map of the
    network cut off before stage k, then the stage's greatest slopes."""
    before = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    ones, reach = before.unsqueeze(0), []
    for k, affine in enumerate(network.affines, start=1):
        prefix = Network(network.affines[:k], network.stages[: k - 1], network.input_shape)
        z = averaged_map(prefix, ones)[0]
        if k <= network.depth:
            # Where all but rounding cancels, more than need be: the entries of Q stay small.
            plain = affine.operator.majorant().apply(before)
            z = torch.maximum(z, CANCELLED * plain * (z > 0))
            z = before = outward(network.stages[k - 1].majorant(z), 4)
        reach.append(Reach(z, _length(z)))
    return reach


def _length(entries: Tensor) -> Tensor:
    return outward(torch.linalg.vector_norm(entries), len(entries) + 4)


def _row_lengths(operator: Operator) -> Tensor:
    if isinstance(operator, Sparse):
        rows, values = operator.coo.indices()[0], operator.coo.values()
        squares = torch.zeros(operator.shape[0], dtype=values.dtype, device=values.device)
        return squares.index_add_(0, rows, values.square()).sqrt()
    return torch.linalg.vector_norm(dense(operator), dim=-1)


def _ones_through(operator: Operator) -> Tensor:
    ones = torch.ones(operator.shape[1], dtype=torch.float64, device=operator.device)
    return operator.majorant().apply(ones)


class Form:
    """Q of one network, in coordinates whose entries are at most 1 on the domain.

    ball: x and s in the l2 ball; else both in boxes, one of the two a scalar (a row or a column).
    even: one scale per stage, which suits equal multipliers better.
    `cheap` is a bound of s^T J x, `unit` V the power of two next to it, `moving` a bound of |y'|^2.
    Raises LipboundsError where a product of layers overflows.
    """

    def __init__(self, network: Network, ball: bool, even: bool = False):
        self.network, self.ball = network, ball
        *reach, outputs = ball_reach(network) if ball else box_reach(network)
        entries = [r.entries for r in reach]
        finite(torch.cat([*entries, outputs.entries]), "a product of layers")
        ones = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
        self.scales = [ones, *(power_of_two(t.max() * (t > 0) if even else t) for t in entries)]
        # A neuron that never moves leaves the form.
        self.kept = [ones, *(d * (t > 0) for d, t in zip(self.scales[1:], entries, strict=True))]
        squares = [_squared(r, d) for r, d in zip(reach, self.scales[1:], strict=True)]
        self.moving = outward(sum(squares, ones.new_zeros(())), 4 + len(squares))
        total = outward(outputs.entries.sum(), network.output_size)
        self.cheap = outputs.length if ball else total
        self.unit = power_of_two(self.cheap)

    @property
    def widths(self) -> list[int]:
        return [*(len(scale) for scale in self.scales), self.network.output_size]

    @cached_property
    def centers(self) -> list[Tensor]:
        """A_k = D_k^-1 C_k W_{k-1} D_{k-1}, (n_k, n_{k-1}), k = 1 ... L."""
        return [self._scaled(dense(outer), k) for k, (outer, _) in enumerate(self._pairs)]

    @cached_property
    def radii(self) -> list[Tensor]:
        """B_k = D_k^-1 R_k W_{k-1} D_{k-1}, (n_k, n_{k-1})."""
        return [self._scaled(dense(outer), k) for k, (_, outer) in enumerate(self._pairs)]

    @cached_property
    def last(self) -> Tensor:
        """W_L D_L / V, (n_out, n_L)."""
        return dense(self.network.affines[-1].operator) * self.kept[-1] / self.unit

    @cached_property
    def fixed(self) -> list[Tensor]:
        """Per stage the neurons whose difference the one before determines: R z = 0, or y = 0."""
        return [~(b != 0).any(-1) for b in self.radii]

    @cached_property
    def _pairs(self) -> list[tuple[Operator, Operator]]:
        """(C_k W_{k-1}, R_k W_{k-1}) unscaled."""
        network = self.network
        return [
            (compose(s.center, a.operator), compose(s.radius, a.operator))
            for s, a in zip(network.stages, network.affines, strict=False)
        ]

    @property
    def terms(self) -> int:
        """The most roundings in an entry of `centers`, `radii` or `last`."""
        pairs = [outer.terms + inner.terms for outer, inner in self._pairs]
        return max([*pairs, self.network.affines[-1].operator.terms]) + 4

    def _scaled(self, rows: Tensor, k: int) -> Tensor:
        row = (self.kept[k + 1] > 0) / self.scales[k + 1]
        return row.unsqueeze(-1) * rows * self.kept[k]

    def from_network(self, given: Multipliers) -> Multipliers:
        """Multipliers of the unscaled form in these coordinates."""
        stages = [m * d * d for m, d in zip(given.stages, self.scales[1:], strict=True)]
        return Multipliers(given.input, stages, given.output / self.unit / self.unit)

    def to_network(self, given: Multipliers) -> Multipliers:
        """The inverse of `from_network`."""
        stages = [m / d / d for m, d in zip(given.stages, self.scales[1:], strict=True)]
        return Multipliers(given.input, stages, given.output * self.unit * self.unit)

    def blocks(self, given: Multipliers) -> tuple[list[Tensor], list[Tensor]]:
        """The diagonal blocks of Q and those below them, (n_k, n_{k-1})."""
        diagonal = [torch.diag(m) for m in (given.input, *given.stages, given.output)]
        below = []
        for k, (a, b, m) in enumerate(zip(self.centers, self.radii, given.stages, strict=True)):
            weighted = m.unsqueeze(-1) * a
            diagonal[k] = diagonal[k] + (a.mT @ weighted - b.mT @ (m.unsqueeze(-1) * b))
            below.append(-weighted)
        return diagonal, [*below, -self.last]

    def row_sums(self, given: Multipliers) -> Tensor:
        """An upper bound of the row sums of |Q| and of all that was added up to form it."""
        sums = [given.input.clone(), *(m.clone() for m in given.stages), given.output.clone()]
        for k, (outer, inner) in enumerate(self._pairs):
            column, row = self.kept[k], 1.0 / self.scales[k + 1]
            a, b = outer.majorant(), inner.majorant()
            through_a, through_b = row * a.apply(column), row * b.apply(column)
            m = given.stages[k]
            sums[k + 1] += m * through_a
            sums[k] += column * a.adjoint(row * m * (through_a + 1))
            sums[k] += column * b.adjoint(row * m * through_b)
        last, column = self.network.affines[-1].operator.majorant(), self.kept[-1]
        sums[-1] += last.apply(column) / self.unit
        sums[-2] += column * last.adjoint(torch.ones_like(given.output)) / self.unit
        return torch.cat(sums)


def _squared(reach: Reach, scale: Tensor) -> Tensor:
    """A bound of |D^-1 y|^2."""
    moving = reach.entries > 0
    whole = reach.length / torch.where(moving, scale, torch.inf).min()
    return outward(torch.minimum(_length(reach.entries / scale), whole), 4).square()


def certified(form: Form, given: Multipliers) -> Tensor:
    """The bound that `given` proves: V sqrt((mu + delta m_x) (nu + delta m_s)), with mu and nu the
    greatest values of the input's and output's terms and m_x >= |x|^2 + |y|^2, m_s >= |s|^2.

    (Scaling x and y by any a > 0, s by 1 / a, turns the sum of the two factors, halved, into their
    geometric mean.) `given` is in the form's coordinates; negative and NaN multipliers count as 0,
    and those of exact equations are replaced by a large one, the best of STIFF.
    """
    ends = _clipped(given.input), _clipped(given.output)
    exact = any(bool(fixed.any()) for fixed in form.fixed)
    values = []
    for stiff in STIFF if exact else STIFF[:1]:
        stages = [
            torch.where(fixed, 1.0 + stiff * (kept > 0), _clipped(weight))
            for weight, fixed, kept in zip(given.stages, form.fixed, form.kept[1:], strict=True)
        ]
        values.append(_certified(form, Multipliers(ends[0], stages, ends[1])))
    return torch.stack([*values, form.cheap]).amin()


def _certified(form: Form, given: Multipliers) -> Tensor:
    delta = deficit(form, given)
    ends, sizes = [], []
    for weight in (given.input, given.output):
        ends.append(weight.max() if form.ball else outward(weight.sum(), len(weight)))
        sizes.append(1 if form.ball else len(weight))
    squared = (ends[0] + delta * (sizes[0] + form.moving)) * (ends[1] + delta * sizes[1])
    value = form.unit * outward(squared, 8).sqrt()
    return outward(finite(value, "a bound"), 4)


def _clipped(weight: Tensor) -> Tensor:
    return torch.nan_to_num(weight, nan=0.0, posinf=0.0).clamp(min=0.0)


def deficit(form: Form, given: Multipliers) -> Tensor:
    """A proven delta >= 0 with Q >= -delta I, near the least one.

    Shifts are tried by `arithmetic.definite`. The error of forming Q is at most gamma times
    `row_sums`.
    """
    widths = form.widths
    diagonal, below = form.blocks(given)
    terms = 8 + 2 * (form.terms + max(widths))
    largest = outward(finite(form.row_sums(given).max(), "a product of layers"), 2 * terms)
    trace, band = trace_of(diagonal), terms_of(diagonal)
    slip = gamma(terms) * largest
    safe = (slip + shortfall(2 * trace, band)).clamp(min=1e-290)

    def proven(shift: Tensor) -> Tensor:
        total = 2 * trace + sum(widths) * shift.abs()
        return (shift + outward(slip + shortfall(total, band), 4)).clamp(min=0.0)

    low, high = -safe, -safe / 2
    while not _positive_with(diagonal, below, high):
        low, high = high, torch.maximum(high * 4, safe)
        if bool(high > 8 * (largest + safe)) or not bool(torch.isfinite(high)):
            raise LipboundsError("a quadratic form could not be certified: it is not finite")
    while bool(high > 1e-9) and bool(high > 1.1 * low.clamp(min=0)) and bool(low > 0):
        middle = (low * high).sqrt()
        low, high = (low, middle) if _positive_with(diagonal, below, middle) else (middle, high)
    return proven(high)


def _positive_with(diagonal: list[Tensor], below: list[Tensor], shift: Tensor) -> bool:
    """Whether the Cholesky factorisation of Q + shift I runs to its end."""
    shifted = [block + torch.diag(shift.expand(len(block))) for block in diagonal]
    return bool(runs_to_its_end(shifted, below))

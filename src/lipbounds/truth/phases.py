"""A network of piecewise linear stages as matrices and phases, and intervals that enclose it.

Neuron j of a switch maps z to above_j z in phase 1, z >= 0, and to below_j z in phase 0, z <= 0.
Maxima are carried neurons, max(a, b) = b + R(a - b). A tangent passes the same phases as its point,
in the order of the stages (a column of the Jacobian) or against it (a row).

Offsets are multiplied by one more input t: t = 1 is the network itself, t in [0, 1] is its
homogenisation (truth/exact.py).

Intervals are those of affine arithmetic (Figueiredo & Stolfi, "Affine arithmetic: concepts and
applications", 2004), in which terms of different layers cancel as in K_4, cut with those of
interval arithmetic, and rounded outward.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag

from ..arithmetic.rounding import gamma
from ..errors import UnsupportedError
from ..linear.blocks import Blocks, Sum
from ..linear.operators import Identity, Operator, dense
from ..networks.network import Network
from ..networks.rewrite import explicit, maxima_as_relu
from .pieces import one_sided_slopes

FREE = -1  # a phase that is not decided

Interval = tuple[np.ndarray, np.ndarray]
Phases = list[np.ndarray]  # per switch 0, 1 or FREE for each neuron


class Infeasible(Exception):
    """No point of the box is in the decided phases; proven."""


@dataclass(frozen=True)
class Switch:
    """The slopes for z <= 0 and z >= 0, (n,) each."""

    below: np.ndarray
    above: np.ndarray

    @cached_property
    def jump(self) -> np.ndarray:
        """above - below, up to one rounding."""
        return self.above - self.below

    @cached_property
    def linear(self) -> np.ndarray:
        return self.above == self.below

    def slopes(self, phase: np.ndarray) -> np.ndarray:
        return np.where(phase == 1, self.above, self.below)


@dataclass(frozen=True)
class Chain:
    """z_k = W_k y_{k-1} + t b_k, and y_k from z_k by switch k; the last map has no switch.

    All numbers are those of the network: none is rounded. Indices count from 0.
    """

    weights: list[np.ndarray]
    offsets: list[np.ndarray]
    switches: list[Switch]

    @property
    def biased(self) -> bool:
        """Whether an offset stands before a switch; if none does, all cells are cones."""
        return any(bool(b.any()) for b in self.offsets[:-1])

    def undecided(self) -> Phases:
        return [np.where(switch.linear, 0, FREE) for switch in self.switches]


@dataclass(frozen=True)
class Tangents:
    """y' = weights[-1] S ... S weights[1] S weights[0] s, S the slopes of switch order[0] after
    weights[0], and so on. `starts` are the numbers of the unit vectors s that have to be tried:
    ||J||_p is the greatest ||y'||_1 among them."""

    weights: list[np.ndarray]
    switches: list[Switch]
    order: list[int]

    @property
    def starts(self) -> int:
        return self.weights[0].shape[1]


def chain(network: Network) -> Chain:
    """The network with convolutions and pools rewritten, factors of compositions kept apart.

    Raises UnsupportedError for an ensemble, or a stage with another nonlinearity than one kink at
    0 or a maximum.
    """
    if network.batch_shape:
        raise UnsupportedError("the exact constant is computed for one network, not an ensemble")
    plain = explicit(network)
    network = maxima_as_relu(plain)
    weights, offsets, switches = [], [], []
    for k, affine in enumerate(network.affines):
        if k:
            switches.append(_switch(network.stages[k - 1], k))
        factors = exact_factors(affine.operator)
        shifts = [np.zeros(len(matrix)) for matrix in factors]
        shifts[-1] = affine.offset.cpu().numpy()
        if k < len(plain.stages) and not plain.stages[k].entrywise:
            factors, shifts = _before_difference(factors, plain.affines[k].offset.cpu().numpy())
        for matrix in factors[:-1]:
            switches.append(Switch(np.ones(len(matrix)), np.ones(len(matrix))))
        weights += factors
        offsets += shifts
    return Chain(weights, offsets, switches)


def _before_difference(factors: list[np.ndarray], offset: np.ndarray):
    """The factors, with the offset before the last of them, (a, b) -> (a - b, b): the difference of
    two offsets would be rounded."""
    if len(factors) == 1:
        factors = [np.eye(len(offset)), *factors]
    shifts = [np.zeros(len(matrix)) for matrix in factors]
    shifts[-2] = offset
    return factors, shifts


def exact_factors(operator: Operator) -> list[np.ndarray]:
    """Matrices whose product it is, in order of application, each entry a number that it holds: the
    parts of a sum go side by side to its end, where they are added."""
    if operator.plain:
        return [dense(operator).cpu().numpy()]
    if isinstance(operator, Sum):
        paths = [exact_factors(part) for part in operator.parts.values()]
        return _added(paths)
    if isinstance(operator, Blocks):
        return _added([_in_place(operator, place) for place in operator.parts])
    factors = [f for f in reversed(operator.factors) if not isinstance(f, Identity)]
    return [matrix for factor in factors for matrix in exact_factors(factor)]


def _added(paths: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The sum of several products, as one product."""
    rows, length = len(paths[0][-1]), max(map(len, paths))
    paths = [path + [np.eye(rows)] * (length - len(path)) for path in paths]
    first = np.vstack([path[0] for path in paths])
    between = [block_diag(*(path[k] for path in paths)) for k in range(1, length)]
    return [first, *between, np.hstack([np.eye(rows)] * len(paths))]


def _in_place(operator: Blocks, place: tuple[int, int]) -> list[np.ndarray]:
    """The factors of one block, among zeros."""
    (row, column), factors = place, exact_factors(operator.parts[place])
    before, after = sum(operator.widths[:column]), sum(operator.widths[column + 1 :])
    factors[0] = np.pad(factors[0], ((0, 0), (before, after)))
    above, below = sum(operator.heights[:row]), sum(operator.heights[row + 1 :])
    factors[-1] = np.pad(factors[-1], ((above, below), (0, 0)))
    return factors


def _switch(stage, k: int) -> Switch:
    try:
        below, above = one_sided_slopes(stage, k)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"the exact constant needs stages with one kink at 0, or maxima: {error}"
        ) from None
    return Switch(below.cpu().numpy(), above.cpu().numpy())


def columns_of_jacobian(chain: Chain) -> Tangents:
    """For p = 1: s a unit vector of the input, y' a column of J."""
    return Tangents(chain.weights, chain.switches, list(range(len(chain.switches))))


def rows_of_jacobian(chain: Chain) -> Tangents:
    """For p = inf: s a unit vector of the output, y' a row of J."""
    weights = [w.T for w in reversed(chain.weights)]
    return Tangents(weights, chain.switches[::-1], list(range(len(chain.switches)))[::-1])


@dataclass(frozen=True)
class Ranges:
    """Per switch the intervals of its input z, of its output y, and of jump * z in phase 1
    (`rise`) and in phase 0 (`fall`); for tangents also the interval of the last map's output."""

    z: list[Interval] = field(default_factory=list)
    y: list[Interval] = field(default_factory=list)
    rise: list[Interval] = field(default_factory=list)
    fall: list[Interval] = field(default_factory=list)
    output: Interval | None = None


def point_ranges(chain: Chain, box: Interval, phases: Phases) -> Ranges:
    """Enclosures over the points of `box`, the ends (n + 1,) of (x, t), in the decided phases.

    Phases that they imply are written into `phases`. Raises Infeasible.
    """
    ranges, form, y = Ranges(), _AffineForm.of(*box), box
    for k, (switch, phase) in enumerate(zip(chain.switches, phases, strict=True)):
        matrix = _with_time(chain.weights[k], chain.offsets[k])
        form = form.mapped(matrix)
        z = _without_time(meet(form.interval(), _image(matrix, y)))
        z = _decide(switch, z, phase)
        y = _bent(switch, z)
        ranges.z.append(z)
        ranges.y.append(y)
        ranges.rise.append(_scaled(switch.jump, (np.maximum(z[0], 0), np.maximum(z[1], 0))))
        ranges.fall.append(_scaled(switch.jump, (np.minimum(z[0], 0), np.minimum(z[1], 0))))
        form = form.switched(switch, phase, *_chord(z))
        y = np.append(y[0], box[0][-1]), np.append(y[1], box[1][-1])
    return ranges


def tangent_ranges(tangents: Tangents, start: int, phases: Phases) -> Ranges:
    """Enclosures of the tangents from unit vector `start` in the decided phases."""
    s = np.eye(tangents.starts)[start]
    ranges, form, y = Ranges(), _AffineForm.of(s, s), (s, s)
    for weight, switch, k in zip(tangents.weights, tangents.switches, tangents.order, strict=False):
        form = form.mapped(weight)
        z = meet(form.interval(), _image(weight, y))
        y = _either(switch, z, phases[k])
        jump = _scaled(switch.jump, z)
        ranges.z.append(z)
        ranges.y.append(y)
        ranges.rise.append(jump)
        ranges.fall.append(jump)
        half = np.full(len(switch.jump), 0.5)
        form = form.switched(switch, phases[k], half, 0 * half, 0.5 * _size(z))
    last = tangents.weights[-1]
    output = meet(form.mapped(last).interval(), _image(last, y))
    return Ranges(ranges.z, ranges.y, ranges.rise, ranges.fall, output)


def signed(tangent: Ranges, signs: np.ndarray) -> Ranges:
    """With |output| as one more switch, whose phases are `signs`. Raises Infeasible."""
    one = np.ones(len(signs))
    modulus = Switch(-one, one)
    z = _decide(modulus, tangent.output, signs)
    rise = 2 * np.maximum(z[0], 0), 2 * np.maximum(z[1], 0)
    fall = 2 * np.minimum(z[0], 0), 2 * np.minimum(z[1], 0)
    return Ranges(
        [*tangent.z, z],
        [*tangent.y, _bent(modulus, z)],
        [*tangent.rise, rise],
        [*tangent.fall, fall],
    )


@dataclass(frozen=True)
class _AffineForm:
    """All center + generators @ u + e with |u| <= 1 and |e| <= error, entrywise. At points, a last
    entry t comes on top of the neurons."""

    center: np.ndarray  # (n,)
    generators: np.ndarray  # (n, g)
    error: np.ndarray  # (n,), of rounding

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray) -> _AffineForm:
        center = 0.5 * low + 0.5 * high
        radius = np.maximum(high - center, center - low) * (1 + gamma(2))
        return cls(center, np.diag(radius)[:, radius > 0], np.zeros(len(low)))

    @property
    def size(self) -> np.ndarray:
        return np.abs(self.center) + np.abs(self.generators).sum(1) + self.error

    def interval(self) -> Interval:
        radius = np.abs(self.generators).sum(1) + self.error
        radius = radius + gamma(self.generators.shape[1] + 4) * (radius + np.abs(self.center))
        return self.center - radius, self.center + radius

    def mapped(self, matrix: np.ndarray) -> _AffineForm:
        majorant, terms = np.abs(matrix), matrix.shape[1] + self.generators.shape[1] + 8
        error = majorant @ (self.error + gamma(terms) * self.size) * (1 + gamma(terms))
        return _AffineForm(matrix @ self.center, matrix @ self.generators, error)

    def switched(
        self,
        switch: Switch,
        phase: np.ndarray,
        slope: np.ndarray,
        middle: np.ndarray,
        radius: np.ndarray,
    ) -> _AffineForm:
        """After the switch: below z + jump (slope z + middle +- radius) where the phase is free."""
        free, extra = phase == FREE, len(self.center) - len(phase)
        tilt = np.where(free, switch.jump * slope, 0.0)
        scale = np.append(switch.slopes(phase) + tilt, np.ones(extra))
        majorant = np.abs(switch.slopes(phase)) + 2 * np.abs(tilt)
        majorant = np.append(majorant, np.zeros(extra))
        shift = np.append(np.where(free, switch.jump * middle, 0.0), np.zeros(extra))
        new = np.where(free, np.abs(switch.jump) * radius, 0.0) * (1 + gamma(4))
        new = np.vstack([np.diag(new), np.zeros((extra, len(new)))])[:, free]
        center = scale * self.center + shift
        generators = np.column_stack([scale[:, None] * self.generators, new])
        error = (np.abs(scale) + gamma(4) * majorant) * self.error
        error = error + gamma(8) * (majorant * self.size + np.abs(shift) + np.abs(center))
        return _AffineForm(center, generators, error * (1 + gamma(8)))


def _with_time(matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(y, t) -> (W y + t b, t)."""
    last = np.eye(1, matrix.shape[1] + 1, matrix.shape[1])
    return np.vstack([np.column_stack([matrix, offset]), last])


def _without_time(x: Interval) -> Interval:
    return x[0][:-1], x[1][:-1]


def _size(x: Interval) -> np.ndarray:
    return np.maximum(np.abs(x[0]), np.abs(x[1]))


def _image(matrix: np.ndarray, x: Interval) -> Interval:
    """Interval arithmetic for matrix @ x."""
    center, radius = 0.5 * x[0] + 0.5 * x[1], 0.5 * x[1] - 0.5 * x[0]
    majorant = np.abs(matrix)
    middle = matrix @ center
    spread = majorant @ (radius + gamma(2 * matrix.shape[1] + 8) * _size(x))
    return middle - spread, middle + spread


def _scaled(factor: np.ndarray, x: Interval) -> Interval:
    """factor * x, where the factor may err by one rounding."""
    ends = factor * x[0], factor * x[1]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return low - gamma(3) * np.abs(low), high + gamma(3) * np.abs(high)


def meet(one: Interval, other: Interval) -> Interval:
    low, high = np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
    if (low > high).any():
        raise Infeasible
    return low, high


def _decide(switch: Switch, z: Interval, phase: np.ndarray) -> Interval:
    """z in the decided phases, which are first completed by those that its interval implies."""
    free = phase == FREE
    phase[free & (z[0] >= 0)] = 1
    phase[free & (z[0] < 0) & (z[1] <= 0)] = 0
    one, zero = (~switch.linear & (phase == value) for value in (1, 0))
    return meet(z, (np.where(one, 0.0, -np.inf), np.where(zero, 0.0, np.inf)))


def _bent(switch: Switch, z: Interval) -> Interval:
    """below min(z, 0) + above max(z, 0)."""
    ends = [
        _scaled(np.where(value >= 0, switch.above, switch.below), (value, value)) for value in z
    ]
    low, high = (np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1]))
    across = (z[0] < 0) & (z[1] > 0)
    return np.where(across, np.minimum(low, 0), low), np.where(across, np.maximum(high, 0), high)


def _either(switch: Switch, z: Interval, phase: np.ndarray) -> Interval:
    """above z or below z, as the phase says, or the hull of the two where it is free."""
    above, below = _scaled(switch.above, z), _scaled(switch.below, z)
    low = np.where(phase == 1, above[0], below[0])
    high = np.where(phase == 1, above[1], below[1])
    free = phase == FREE
    low = np.where(free, np.minimum(above[0], below[0]), low)
    return low, np.where(free, np.maximum(above[1], below[1]), high)


def _chord(z: Interval) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """slope, middle, radius: max(z, 0) = slope z + middle +- radius on the interval."""
    low, high = np.minimum(z[0], 0), np.maximum(z[1], 0)
    width = high - low
    slope = np.divide(high, width, out=np.zeros_like(width), where=width > 0)
    # max(z, 0) - slope z is 0 at z = 0 and largest at one of the ends, whatever `slope` is.
    top = np.maximum(-slope * low, (1 - slope) * high) * (1 + gamma(4))
    return slope, top / 2, top / 2

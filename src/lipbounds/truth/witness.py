"""Two points whose secant attains the norm of the Jacobian of one cell: a lower bound that anyone
can check; and the proof that a cell has no interior, so that its Jacobian does not count.

The secant is evaluated in rational arithmetic: floating-point numbers are fractions, and so are the
values of a piecewise linear network at them. That proves the lower bound by itself; how the points
were found, and whether they lie in one cell, does not matter.

That H_x x + H_t > 0 has no solution is proven by multipliers y >= 0, y != 0 with H_x^T y = 0 and
H_t^T y <= 0 (Motzkin's transposition theorem), in rational arithmetic too: a linear program in
floating point only proposes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from .phases import FREE, Chain, Interval, Phases

LONGEST_STEP = (
    1.0  # of a secant, in units of the point's largest entry (or 1), where no box ends it
)

MAXIMUM_SIDES = 64  # of a cell in rational arithmetic: milliseconds; a second for many more
MAXIMUM_INPUTS = 16

OVERSHOOT = 1.001  # of the distance to a side, to end up behind it


@dataclass(frozen=True)
class Witness:
    """||f(x) - f(y)||_p / ||x - y||_p >= value."""

    value: float
    x: np.ndarray
    y: np.ndarray


def pattern_at(chain: Chain, point: np.ndarray) -> Phases:
    """The phases at (x, t), 1 where z = 0."""
    phases, y = [], point[:-1]
    for weight, offset, switch in zip(chain.weights, chain.offsets, chain.switches, strict=False):
        z = weight @ y + point[-1] * offset
        phases.append(np.where(switch.linear, 0, z >= 0))
        y = switch.slopes(phases[-1]) * z
    return phases


def cell(chain: Chain, phases: Phases) -> tuple[np.ndarray, np.ndarray]:
    """(H, J): the cell of a full pattern is H (x, t) >= 0, and J (m, n) its Jacobian."""
    sides, matrix = [], np.eye(chain.weights[0].shape[1] + 1)
    for weight, offset, switch, phase in zip(
        chain.weights, chain.offsets, chain.switches, phases, strict=False
    ):
        z = weight @ matrix[: weight.shape[1]]
        z[:, -1] += offset
        sides.append(((2 * phase - 1)[:, None] * z)[~switch.linear])
        matrix = switch.slopes(phase)[:, None] * z
    sides = np.concatenate([np.zeros((0, matrix.shape[1])), *sides])
    return sides, (chain.weights[-1] @ matrix[: chain.weights[-1].shape[1]])[:, :-1]


def neighbours(chain: Chain, x: np.ndarray) -> Iterator[Phases]:
    """The patterns across each side of the cell around x, straight ahead."""
    point = np.append(x, 1.0)
    sides, _ = cell(chain, pattern_at(chain, point))
    for side in sides:
        steepness = side[:-1] @ side[:-1]
        if steepness > 0:
            step = OVERSHOOT * (side @ point) / steepness
            yield pattern_at(chain, np.append(x - step * side[:-1], 1.0))


def jacobian_norm(jacobian: np.ndarray, norm: float) -> float:
    return float(np.abs(jacobian).sum(0 if norm == 1 else 1).max())


def find_witness(
    chain: Chain, phases: Phases, norm: float, hull: Interval, box: Interval
) -> Witness | None:
    """A secant within one cell, or None where the cell seems to have no interior.

    hull: the ends of (x, t) among which to look for the cell, which is a cone where t is not fixed;
    box: the ends of x.
    """
    sides, jacobian = cell(chain, phases)
    point = _interior(sides, hull)
    if point is None:
        return None
    point = point / point[-1]
    direction = _steepest(jacobian, norm)
    step = _longest_step(sides, point, direction, box)
    x, y = (np.clip(point[:-1] + h * direction, *box) for h in (-0.9 * step[0], 0.9 * step[1]))
    return Witness(secant(chain, x, y, norm), x, y) if (x != y).any() else None


def _interior(sides: np.ndarray, hull: Interval) -> np.ndarray | None:
    """The point of the hull with the greatest distance r from all sides, if r > 0."""
    size = np.linalg.norm(sides, axis=1)
    sides, size = sides[size > 0], size[size > 0]
    width = (hull[1] - hull[0]) / 2
    ends = (
        np.column_stack([-np.eye(len(width)), width]),
        np.column_stack([np.eye(len(width)), width]),
    )
    rows = np.vstack([np.column_stack([-sides / size[:, None], np.ones(len(sides))]), *ends])
    right = np.concatenate([np.zeros(len(sides)), -hull[0], hull[1]])
    objective = -np.eye(1, len(width) + 1, len(width))[0]
    result = linprog(objective, rows, right, bounds=[(None, None)] * len(width) + [(0, 1)])
    return result.x[:-1] if result.status == 0 and result.x[-1] > 1e-12 else None


def _steepest(jacobian: np.ndarray, norm: float) -> np.ndarray:
    """s with ||s||_p = 1 and ||J s||_p = ||J||_p."""
    if norm == 1:
        return np.eye(jacobian.shape[1])[np.abs(jacobian).sum(0).argmax()]
    return np.where(jacobian[np.abs(jacobian).sum(1).argmax()] >= 0, 1.0, -1.0)


def _longest_step(sides: np.ndarray, point: np.ndarray, direction: np.ndarray, box: Interval):
    """How far one can go from the point against and along the direction within cell and box."""
    limit = LONGEST_STEP * max(1.0, float(np.abs(point[:-1]).max(initial=0)))
    slack = np.concatenate([sides @ point, point[:-1] - box[0], box[1] - point[:-1]])
    rate = np.concatenate([sides[:, :-1] @ direction, direction, -direction])
    steps = []
    for sign in (-1, 1):
        closing = sign * rate < 0
        steps.append(min([limit, *(slack[closing] / np.abs(rate[closing]))]))
    return max(steps[0], 0.0), max(steps[1], 0.0)


def secant(chain: Chain, x: np.ndarray, y: np.ndarray, norm: float) -> float:
    """||f(x) - f(y)||_p / ||x - y||_p in rational arithmetic, rounded down."""
    first, second = ([Fraction(float(v)) for v in point] for point in (x, y))
    outputs = zip(_evaluate(chain, first), _evaluate(chain, second), strict=True)
    measure = sum if norm == 1 else max
    rise = measure([abs(a - b) for a, b in outputs])
    quotient = rise / measure([abs(a - b) for a, b in zip(first, second, strict=True)])
    value = float(quotient)
    return value if Fraction(value) <= quotient else math.nextafter(value, -math.inf)


def _evaluate(chain: Chain, x: list[Fraction]) -> list[Fraction]:
    y = x
    for weight, offset, switch in zip(chain.weights, chain.offsets, chain.switches, strict=False):
        z = _affine(weight, offset, y)
        slopes = np.where([value >= 0 for value in z], switch.above, switch.below)
        y = [Fraction(slope) * value for slope, value in zip(slopes.tolist(), z, strict=True)]
    return _affine(chain.weights[-1], chain.offsets[-1], y)


def _affine(weight: np.ndarray, offset: np.ndarray, x: list[Fraction]) -> list[Fraction]:
    return [
        sum((Fraction(row[j]) * x[j] for j in np.flatnonzero(row)), Fraction(b))
        for row, b in zip(weight.tolist(), offset.tolist(), strict=True)
    ]


def lacks_interior(chain: Chain, phases: Phases, ends: Interval) -> bool:
    """Whether it is proven that the cell of the decided phases has no interior in the box of points
    x with these ends (n,), which may be infinite. False where there are too many sides to tell."""
    kinks = sum(int((~switch.linear).sum()) for switch in chain.switches)
    if kinks > MAXIMUM_SIDES or chain.weights[0].shape[1] > MAXIMUM_INPUTS:
        return False
    sides = [*_exact_sides(chain, phases), *_box_sides(ends)]
    # Where a pre-activation is zero throughout, neither of its phases restricts the cell.
    sides = [side for side in sides if any(side)]
    multipliers = _proposed_multipliers(sides) if sides else None
    return multipliers is not None and _proves_empty(sides, multipliers)


def _exact_sides(chain: Chain, phases: Phases) -> list[list[Fraction]]:
    """The rows of H, as in `cell`, of the decided phases whose pre-activations are known: up to and
    including the first switch with a free one."""
    sides, matrix = [], _rational(np.eye(chain.weights[0].shape[1] + 1)[:-1])
    for weight, offset, switch, phase in zip(
        chain.weights, chain.offsets, chain.switches, phases, strict=False
    ):
        z = _rational(weight) @ matrix
        z[:, -1] += _rational(offset)
        kept = ~switch.linear & (phase != FREE)
        sides += ((2 * phase - 1)[:, None] * z)[kept].tolist()
        if (~switch.linear & (phase == FREE)).any():
            break
        matrix = _rational(switch.slopes(phase))[:, None] * z
    return sides


def _box_sides(ends: Interval) -> list[list[Fraction]]:
    """x_i - low_i >= 0 and high_i - x_i >= 0, where finite."""
    size, sides = len(ends[0]), []
    for sign, end in zip((1, -1), ends, strict=True):
        for i in np.flatnonzero(np.isfinite(end)):
            side = [Fraction(0)] * (size + 1)
            side[i], side[-1] = Fraction(sign), -sign * Fraction(float(end[i]))
            sides.append(side)
    return sides


def _rational(array: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: Fraction(float(value)), otypes=[object])(array)


def _proposed_multipliers(sides: list[list[Fraction]]) -> list[Fraction] | None:
    """The y of the module's docstring, nearly, or None where there seems to be none."""
    sizes = [max(map(abs, side)) for side in sides]
    rows = np.array(
        [[float(v / size) for v in side] for side, size in zip(sides, sizes, strict=True)]
    )
    sums = np.column_stack([rows[:, :-1], np.ones(len(rows))]).T
    result = linprog(rows[:, -1], A_eq=sums, b_eq=np.eye(len(sums))[-1])
    if result.status != 0 or result.fun > 1e-9:
        return None
    proposed = zip(result.x.tolist(), sizes, strict=True)
    return [Fraction(value if value > 1e-9 else 0.0) / size for value, size in proposed]


def _proves_empty(sides: list[list[Fraction]], multipliers: list[Fraction]) -> bool:
    """Whether multipliers near these are a certificate. The system H_x^T y = 0 is solved for the
    largest of them by elimination; the others are kept as they are."""
    y = {i: value for i, value in enumerate(multipliers) if value > 0}
    order = sorted(y, key=lambda i: -y[i])
    equations = [list(column) for column in zip(*(sides[i][:-1] for i in order), strict=True)]
    pivots = _eliminate(equations)
    kept = [j for j in range(len(order)) if j not in pivots]
    for equation, pivot in zip(equations, pivots, strict=False):
        y[order[pivot]] = -sum((equation[j] * y[order[j]] for j in kept), Fraction(0))
    if min(y.values(), default=Fraction(0)) < 0 or not any(y.values()):
        return False
    totals = [sum(y[i] * sides[i][c] for i in order) for c in range(len(sides[0]))]
    return not any(totals[:-1]) and totals[-1] <= 0


def _eliminate(equations: list[list[Fraction]]) -> list[int]:
    """Bring the rows to reduced echelon form, in place; the pivots' columns, one per row from the
    first."""
    pivots = []
    for column in range(len(equations[0]) if equations else 0):
        rank = len(pivots)
        row = next((r for r in range(rank, len(equations)) if equations[r][column]), None)
        if row is None:
            continue
        equations[rank], equations[row] = equations[row], equations[rank]
        head = equations[rank][column]
        equations[rank] = [value / head for value in equations[rank]]
        for r, other in enumerate(equations):
            if r != rank and other[column]:
                pairs = zip(other, equations[rank], strict=True)
                equations[r] = [a - other[column] * b for a, b in pairs]
        pivots.append(column)
    return pivots

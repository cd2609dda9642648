"""Two points whose secant attains the norm of the Jacobian of one cell: a lower bound that anyone
can check.

The secant is evaluated in rational arithmetic: floating-point numbers are fractions, and so are the
values of a piecewise linear network at them. That proves the lower bound by itself; how the points
were found, and whether they lie in one cell, does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from .phases import Chain, Interval, Phases

LONGEST_STEP = (
    1.0  # of a secant, in units of the point's largest entry (or 1), where no box ends it
)

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

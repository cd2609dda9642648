"""Phases, points and tangents of a network as one mixed-integer program, and certified bounds of
its linear relaxations.

Variables: (x, t), z_k and y_k at a point; z'_i, y'_i of a tangent that starts at a unit vector; the
phases a_k in {0, 1}. Rows: z = W y + t b, z' = W y', and for each switch, at points and tangents,

    a rise_low <= y - below z <= a rise_high,
    (1 - a) fall_low <= above z - y <= (1 - a) fall_high

with enclosures of (above - below) z in the two phases (truth/phases.py). At points these keep
the sign of z, so that a decides the cell; at tangents they are the product of a and z'. All
other coefficients are numbers of the network itself, so the program holds every point and tangent
of it exactly; the enclosures need only be valid.

A solver's answer is not trusted. Its multipliers v, whatever they are, prove of max c x over
lower <= A x <= upper, l <= x <= u that

    c x <= sum_i max(v_i lower_i, v_i upper_i) + sum_j max over [l_j, u_j] of (c - A^T v)_j x_j,

to which a bound of all rounding errors is added (Neumaier & Shcherbina, "Safe bounds in linear and
mixed-integer linear programming", Mathematical Programming 99, 2004). With c = 0, a negative value
proves that no x exists: so the ray of an infeasible program is checked by the same formula.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_matrix

from ..arithmetic.rounding import gamma
from ..clock import real
from ..errors import LipboundsError
from .phases import Chain, Interval, Phases, Ranges, Switch, Tangents


class Columns:
    """Where each group of variables stands: `columns[name]` is a slice."""

    def __init__(self):
        self.slices, self.size = {}, 0

    def add(self, name, size: int) -> None:
        self.slices[name] = slice(self.size, self.size + size)
        self.size += size

    def __getitem__(self, name) -> slice:
        return self.slices[name]


class PhaseProgram:
    """The rows and columns of one chain; the enclosures of each node are put in by `instance`.

    The last switch of the tangents is |output|, with phases of its own, the signs.
    """

    def __init__(self, chain: Chain, tangents: Tangents):
        self.chain, self.tangents = chain, tangents
        self.columns = _columns(chain, tangents)
        self._rows, self._entries, self._slots, self._ends = 0, [], [], []
        self.equalities = {}
        for k, (weight, switch) in enumerate(zip(chain.weights, chain.switches, strict=False)):
            self._equality(weight, ("point", "y", k - 1), ("point", "z", k))
            self._put(self.equalities["point", "z", k], "time", -chain.offsets[k][:, None])
            self._switch(switch, ("point", "z", k), ("point", "y", k), ("phase", k))
        for i, (weight, k) in enumerate(zip(tangents.weights, tangents.order, strict=False)):
            self._equality(weight, ("tangent", "y", i - 1), ("tangent", "z", i))
            groups = ("tangent", "z", i), ("tangent", "y", i), ("phase", k)
            self._switch(chain.switches[k], *groups)
        last = len(chain.switches)
        self._equality(tangents.weights[-1], ("tangent", "y", last - 1), ("tangent", "z", last))
        one = np.ones(len(tangents.weights[-1]))
        groups = ("tangent", "z", last), ("tangent", "y", last), ("phase", last)
        self._switch(Switch(-one, one), *groups)
        self._assemble()

    def _equality(self, matrix: np.ndarray, source, target) -> None:
        """target - matrix @ source = 0."""
        rows = self.equalities[target] = self._new_rows(len(matrix), 0.0, 0.0)
        self._put(rows, target, np.eye(len(matrix)))
        self._put(rows, source, -matrix)

    def _switch(self, switch: Switch, z, y, phase) -> None:
        unit, count = np.eye(len(switch.above)), len(switch.above)
        for upper in (False, True):
            ends = (-math.inf, 0.0) if upper else (0.0, math.inf)
            rows = self._new_rows(count, *ends)  # y - below z - rise a
            self._put(rows, y, unit)
            self._put(rows, z, -np.diag(switch.below))
            self._slot(rows, phase, upper, rise=True)
            rows = self._new_rows(count, *ends)  # above z - y + fall a, and fall on the right
            self._put(rows, y, -unit)
            self._put(rows, z, np.diag(switch.above))
            self._slot(rows, phase, upper, rise=False)

    def _new_rows(self, count: int, lower: float, upper: float) -> np.ndarray:
        rows = np.arange(self._rows, self._rows + count)
        self._rows += count
        self._ends.append((count, lower, upper))
        return rows

    def _put(self, rows: np.ndarray, group, matrix: np.ndarray) -> None:
        i, j = np.nonzero(matrix)
        self._entries.append((rows[i], self.columns[group].start + j, matrix[i, j]))

    def _slot(self, rows: np.ndarray, phase, upper: bool, rise: bool) -> None:
        columns = np.arange(self.columns[phase].start, self.columns[phase].stop)
        self._slots.append((rows, columns, upper, rise))

    def _assemble(self) -> None:
        """The sparse pattern; the places of the slots' coefficients in it are kept."""
        entries = [*self._entries, *((r, c, np.ones(len(r))) for r, c, _, _ in self._slots)]
        rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
        shape = (self._rows, self.columns.size)
        order = np.lexsort((rows, columns))
        self.values = values[order]
        self.rows = rows[order].astype(np.int32)
        counts = np.bincount(columns, minlength=shape[1])
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        place = np.empty(len(order), dtype=int)
        place[order] = np.arange(len(order))
        self.places = place[sum(len(e[0]) for e in self._entries) :]
        self.shape = shape
        self.lower = np.concatenate([np.full(n, low) for n, low, _ in self._ends])
        self.upper = np.concatenate([np.full(n, high) for n, _, high in self._ends])
        self.slot_rows = np.concatenate([r for r, _, _, _ in self._slots])
        falls = np.concatenate([np.full(len(r), not rise) for r, _, _, rise in self._slots])
        self.falls_below = falls & np.isfinite(self.lower[self.slot_rows])
        self.falls_above = falls & np.isfinite(self.upper[self.slot_rows])

    def instance(
        self, box: Interval, start: int, phases: Phases, point: Ranges, tangent: Ranges
    ) -> Instance:
        """The linear relaxation at a node. box: the ends of (x, t); start: of the tangent."""
        jumps = []
        pairs = [
            pair
            for ranges in (point, tangent)
            for pair in zip(ranges.rise, ranges.fall, strict=True)
        ]
        for (_, _, upper, rise), (up, down) in zip(
            self._slots, itertools.chain.from_iterable([pair] * 4 for pair in pairs), strict=True
        ):
            jumps.append(-up[upper] if rise else down[upper])
        values, lower, upper = self.values.copy(), self.lower.copy(), self.upper.copy()
        jumps = np.concatenate(jumps)
        values[self.places] = jumps
        for side, chosen in ((lower, self.falls_below), (upper, self.falls_above)):
            side[self.slot_rows[chosen]] = jumps[chosen]
        matrix = csc_matrix((values, self.rows, self.starts), shape=self.shape)
        low, high = self._bounds(box, start, phases, point, tangent)
        return Instance(matrix, lower, upper, low, high)

    def _bounds(self, box, start, phases: Phases, point: Ranges, tangent: Ranges) -> Interval:
        low, high = np.empty(self.columns.size), np.empty(self.columns.size)

        def put(group, ends):
            low[self.columns[group]], high[self.columns[group]] = ends

        unit = np.eye(self.tangents.starts)[start]
        put(("point", "y", -1), (box[0][:-1], box[1][:-1]))
        put("time", (box[0][-1:], box[1][-1:]))
        put(("tangent", "y", -1), (unit, unit))
        for copy, ranges in (("point", point), ("tangent", tangent)):
            for k, (z, y) in enumerate(zip(ranges.z, ranges.y, strict=True)):
                put((copy, "z", k), z)
                put((copy, "y", k), y)
        for k, phase in enumerate(phases):
            put(("phase", k), (np.maximum(phase, 0), np.where(phase == 0, 0, 1)))
        return low, high

    def discord(self, k: int, x: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
        """What deciding the phases of switch k may gain: how far the tangent's output is from that
        of phase 1, times how far from that of phase 0, each times its weight in the objective by
        the multipliers."""
        columns, count = self.columns, len(self.chain.switches)
        i = self.tangents.order.index(k) if k < count else count
        z, y = x[columns["tangent", "z", i]], x[columns["tangent", "y", i]]
        if k == count:
            return np.abs(y - z) * np.abs(y + z)
        switch, rows = self.chain.switches[k], self.equalities["tangent", "z", i + 1]
        weight = self.tangents.weights[i + 1].T @ multipliers[rows]
        return weight**2 * np.abs(y - switch.above * z) * np.abs(y - switch.below * z)


def _columns(chain: Chain, tangents: Tangents) -> Columns:
    columns, outputs = Columns(), len(tangents.weights[-1])
    columns.add("time", 1)
    columns.add(("point", "y", -1), chain.weights[0].shape[1])
    columns.add(("tangent", "y", -1), tangents.starts)
    for k, switch in enumerate(chain.switches):
        for name in (("point", "z", k), ("point", "y", k), ("phase", k)):
            columns.add(name, len(switch.above))
    for i, switch in enumerate([*tangents.switches, Switch(-np.ones(outputs), np.ones(outputs))]):
        for name in (("tangent", "z", i), ("tangent", "y", i)):
            columns.add(name, len(switch.above))
    columns.add(("phase", len(chain.switches)), outputs)
    return columns


@dataclass(frozen=True)
class Instance:
    """max c x over lower <= A x <= upper, low <= x <= high; A in columns."""

    matrix: csc_matrix
    lower: np.ndarray
    upper: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def safe_bound(self, objective: np.ndarray, multipliers: np.ndarray) -> float:
        """The bound of c x that these multipliers, one per row and any at all, prove."""
        v = np.where(np.isfinite(multipliers), multipliers, 0.0)
        v = np.where((v > 0) & np.isinf(self.upper) | (v < 0) & np.isinf(self.lower), 0.0, v)
        right = np.where(v > 0, self.upper, np.where(v < 0, self.lower, 0.0))
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        rest = objective - self.matrix.T @ v
        size = np.abs(objective) + abs(self.matrix).T @ np.abs(v)
        error = gamma(2 * sum(self.matrix.shape) + 8) * (size @ reach + np.abs(v) @ np.abs(right))
        return float(v @ right + np.maximum(rest * self.low, rest * self.high).sum() + 2 * error)


class Relaxation:
    """HiGHS's simplex, started from the basis of the program solved before (Huangfu & Hall,
    "Parallelizing the dual revised simplex method", 2018)."""

    def __init__(self):
        try:
            import highspy
        except ImportError:
            raise LipboundsError(
                "the exact constant needs highspy: pip install 'lipbounds[solvers]'"
            ) from None
        self._highs, self._module = highspy.Highs(), highspy
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off")):
            self._highs.setOptionValue(option, value)

    def solve(self, instance: Instance, objective: np.ndarray, basis, seconds: float):
        """(safe bound, x or None, basis, multipliers); -inf where it is proven that no x exists."""
        highs, module = self._highs, self._module
        highs.passModel(_as_highs_lp(module, instance, -objective))
        highs.setOptionValue("time_limit", highs.getRunTime() + real(max(seconds, 0.01)))
        if basis is not None:
            highs.setBasis(basis)
        highs.run()
        status = highs.getModelStatus()
        if status == module.HighsModelStatus.kInfeasible:
            _, exists, ray = highs.getDualRay()
            for v in (ray, -ray) if exists else ():
                if instance.safe_bound(np.zeros_like(objective), np.asarray(v)) < 0:
                    return -math.inf, None, None, None
            return math.inf, None, None, None
        solution = highs.getSolution()
        v = -np.asarray(solution.row_dual)
        if len(v) != len(instance.lower):
            return math.inf, None, None, None
        solved = status == module.HighsModelStatus.kOptimal
        x = np.asarray(solution.col_value) if solved else None
        return instance.safe_bound(objective, v), x, highs.getBasis() if solved else None, v


def _as_highs_lp(highspy, instance: Instance, cost: np.ndarray):
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = instance.matrix.shape
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, instance.low, instance.high
    lp.row_lower_, lp.row_upper_ = instance.lower, instance.upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = instance.matrix.indptr
    lp.a_matrix_.index_ = instance.matrix.indices
    lp.a_matrix_.value_ = instance.matrix.data
    return lp

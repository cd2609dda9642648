"""The exact Lipschitz constant in l1 and l-infinity, over a box or over all of R^n, by branch and
bound over the phases of the neurons; both ends proven.

Lip_p is the greatest ||J||_p over the cells with interior (docs/competitors.md, section 9), and
||J||_p is the greatest ||J e_k||_1 (p = 1) or ||J^T e_i||_1 (p = inf): a tangent that starts at a
unit vector of the input, or of the output, and passes the phases of a point. Each start is a root
of the tree. Jordan & Dimakis ("Exactly computing the local Lipschitz constant of ReLU networks",
NeurIPS 2020) formulate both norms as one mixed-integer program, in backward mode, and take a
solver's word for it. Here a node is bounded by intervals, and then by the multipliers of its linear
relaxation (truth/milp.py), so that the upper end rests on no solver's answer; nor does the
lower end (truth/witness.py). Over R^n the network is homogenised (truth/faces.py).

Cells are closed here, so that one without interior can raise a bound (R(x) - R(-x) - x is zero, but
has slope -1 for an impossible pair of phases at 0; over R^n, at directions t = 0 of cells that are
empty). Where that is all that keeps a leaf open, a certificate in rational arithmetic drops it
(witness.lacks_interior). Without one the leaf is closed with its bound: the upper end may then be
too large, not wrong. So a gap left before the time is up is due to cells of more than 64 sides or
16 inputs, to ones too thin for a witness, or to multipliers that rounding spoils.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..arithmetic.rounding import gamma
from ..clock import now
from ..errors import UnsupportedError
from ..linear.norms import checked_norm
from ..networks.network import Network
from ..results import Bound
from .faces import Domain, checked_box, domain
from .milp import PhaseProgram, Relaxation
from .phases import (
    FREE,
    Chain,
    Infeasible,
    Phases,
    chain,
    columns_of_jacobian,
    point_ranges,
    rows_of_jacobian,
    signed,
    tangent_ranges,
)
from .witness import (
    Witness,
    cell,
    find_witness,
    jacobian_norm,
    lacks_interior,
    neighbours,
    pattern_at,
)

MAXIMUM_PHASES = 500  # neurons with two phases
MAXIMUM_WEIGHTS = 200_000  # numbers in all matrices of the explicit network
MAXIMUM_ROOTS = 20_000  # seconds, at a millisecond for the first look at each
SAMPLES = 64  # random points for the first lower end
LEAST, GREATEST = 1e-290, 1e290  # of numbers and their products: rounding errors are relative ones
TOLERANCE = 1e-6  # a node is closed where its bound is at most 1 + TOLERANCE times the lower end


@dataclass(frozen=True)
class Problem:
    """A network that the exact constant can be searched of, and where."""

    chain: Chain
    norm: float
    domain: Domain


def problem(
    network: Network,
    norm: float,
    radius: float | Tensor = math.inf,
    center: Tensor | None = None,
) -> Problem:
    """sup ||f(x) - f(y)||_p / ||x - y||_p for p = 1 or inf, over |x - center| <= radius or over R^n
    (radius = inf).

    radius: > 0, one number or one per input, (n,) or `input_shape`; center: likewise, 0 if None.
    Raises UnsupportedError for another norm, an ensemble, a stage other than maxima and activations
    with one kink at 0, numbers or products of them that may under- or overflow, more than
    MAXIMUM_PHASES kinks, MAXIMUM_WEIGHTS weights or MAXIMUM_ROOTS roots; LipboundsError for an
    invalid box.
    """
    norm = checked_norm(norm)
    if norm == 2:
        raise UnsupportedError("the exact constant is computed for norm 1 and inf, not for 2")
    center, radius = checked_box(network, radius, center)
    links = chain(network)
    _check_scale(links, center, radius)
    where = domain(links, center, radius)
    starts = network.input_size if norm == 1 else network.output_size
    _check_size(links, len(where.faces) * starts)
    return Problem(links, norm, where)


def solved(
    problem: Problem, seconds: float = 60.0, cap: float = math.inf, start: Tensor | None = None
) -> Bound:
    """Both ends of the constant, valid also where `seconds` run out; if they do not, within 1e-6 of
    each other, unless a cell was neither proven to have interior nor to have none (see above).

    cap: an upper bound known from elsewhere. start: a point (n,) at which to look for the lower end
    first. `witness`: x and y in the box with ||f(x) - f(y)||_p / ||x - y||_p >= lower in exact
    arithmetic, or None where lower is 0.
    Raises LipboundsError where highspy is not installed.
    """
    search = _CellSearch(problem.chain, problem.norm, problem.domain, now() + seconds, cap)
    if start is not None:
        search.try_point(np.asarray(start, dtype=float).reshape(-1))
    search.run()
    found = search.incumbent
    witness = None if found is None else (torch.from_numpy(found.x), torch.from_numpy(found.y))
    return Bound.of_ends(search.upper, search.lower, search.late, witness)


def _check_size(links: Chain, roots: int) -> None:
    kinks = sum(int((~switch.linear).sum()) for switch in links.switches)
    weights = sum(weight.size for weight in links.weights)
    for count, limit, what in (
        (kinks, MAXIMUM_PHASES, "neurons with a kink"),
        (weights, MAXIMUM_WEIGHTS, "weights"),
        (roots, MAXIMUM_ROOTS, "roots of the tree (sides of the box times inputs or outputs)"),
    ):
        if count > limit:
            raise UnsupportedError(
                f"the exact constant of a network with {count} {what}; the limit is {limit}: "
                "take an upper bound (K_4) and sampled lower bounds instead"
            )


def _check_scale(links: Chain, center: np.ndarray, radius: np.ndarray) -> None:
    """Refuse where something may underflow or overflow, which the bounds of rounding errors leave
    out: a number, or a product of one of the box and one of each map and switch."""
    groups = [{"radius": radius[np.isfinite(radius)], "center": center}]
    for k, (weight, offset) in enumerate(zip(links.weights, links.offsets, strict=True)):
        groups.append({f"weight of map {k}": weight.ravel(), f"offset of map {k}": offset})
    for k, switch in enumerate(links.switches):
        groups.append({f"slope of stage {k + 1}": np.append(switch.below, switch.above)})
    least, greatest = 1.0, 1.0
    for group in groups:
        for what, values in group.items():
            for size in _extremes(values):
                if not LEAST <= size <= GREATEST:
                    _refuse_scale(f"a {what} of size {size:.3g}")
        values = np.concatenate(list(group.values()))
        least, most = least * _extremes(values)[0], _extremes(values)[1]
        greatest *= max(len(values), 1) * most
        if not (least >= LEAST and greatest <= GREATEST):
            _refuse_scale(f"products of its numbers of size {least:.3g} or {greatest:.3g}")


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """The least size and the greatest of those that are not 0, and of 1."""
    sizes = np.abs(values[values != 0])
    return float(sizes.min(initial=1.0)), float(sizes.max(initial=1.0))


def _refuse_scale(what: str) -> None:
    raise UnsupportedError(
        f"the exact constant with {what}: sizes must be in [{LEAST}, {GREATEST}], so that nothing "
        "underflows or overflows; rescale the inputs or the network"
    )


@dataclass(order=True)
class _Node:
    """Ordered by bound, greatest first."""

    priority: float
    number: int
    root: int = field(compare=False)
    phases: Phases = field(compare=False)
    branch: tuple[int, int] = field(compare=False)
    basis: object = field(compare=False)


class _CellSearch:
    """Best-first search; `closed` is the greatest bound of a node that is not split further, `cut`
    that of one for which there was no time."""

    def __init__(self, links: Chain, norm: float, domain: Domain, deadline: float, cap: float):
        self.chain, self.norm, self.domain, self.deadline = links, norm, domain, deadline
        self.cap = cap
        self.tangents = (columns_of_jacobian if norm == 1 else rows_of_jacobian)(links)
        self.program = PhaseProgram(links, self.tangents)
        self.relaxation = Relaxation()
        self.incumbent: Witness | None = None
        self.open: list[_Node] = []
        self.closed, self.cut, self.numbers = 0.0, 0.0, itertools.count()
        starts = range(self.tangents.starts)
        self.roots = list(itertools.product(range(len(domain.faces)), starts))
        self.objective = np.zeros(self.program.columns.size)
        self.objective[self.program.columns["tangent", "y", len(links.switches)]] = 1.0

    @property
    def lower(self) -> float:
        return self.incumbent.value if self.incumbent else 0.0

    @property
    def undone(self) -> float:
        """The greatest bound of a node that more time would have lowered."""
        return max([self.cut, *(-node.priority for node in self.open[:1])])

    @property
    def upper(self) -> float:
        return max(self.closed, self.lower, self.undone)

    @property
    def late(self) -> bool:
        return self.undone > self.lower * (1 + TOLERANCE)

    def run(self) -> None:
        self._sample()
        for root in range(len(self.roots)):
            self._visit(root, self._undecided(), self.cap, None)
        while self.open and now() < self.deadline:
            node = heapq.heappop(self.open)
            if -node.priority <= self.lower * (1 + TOLERANCE):
                heapq.heappush(self.open, node)
                return
            for phase in (0, 1):
                phases = [p.copy() for p in node.phases]
                phases[node.branch[0]][node.branch[1]] = phase
                self._visit(node.root, phases, -node.priority, node.basis)

    def try_point(self, x: np.ndarray) -> None:
        """Look for the lower end at a point of the domain."""
        low, high = self.domain.inner
        if ((low <= x) & (x <= high)).all():
            self._try(pattern_at(self.chain, np.append(x, 1.0)))

    def _undecided(self) -> Phases:
        return [*self.chain.undecided(), np.full(len(self.tangents.weights[-1]), FREE)]

    def _visit(self, root: int, phases: Phases, bound: float, basis) -> None:
        """Bound a node, and keep it, close it or drop it."""
        late = now() > self.deadline
        if late and bound < math.inf:
            self._close(bound, late)
            return
        face, start = self.roots[root]
        box = self.domain.faces[face]
        try:
            point = point_ranges(self.chain, box, phases[:-1])
            tangent = signed(tangent_ranges(self.tangents, start, phases[:-1]), phases[-1])
        except Infeasible:
            return
        total = float(tangent.y[-1][1].sum())
        bound = min(bound, total * (1 + gamma(len(phases[-1]))))
        branch = _first_free(phases)
        if bound > self.lower * (1 + TOLERANCE) and not late:
            instance = self.program.instance(box, start, phases, point, tangent)
            left = self.deadline - now()
            value, x, basis, v = self.relaxation.solve(instance, self.objective, basis, left)
            bound, late = min(bound, value), now() > self.deadline
            if bound == -math.inf:
                return
            if x is not None and bound > self.lower * (1 + TOLERANCE):
                self._try_solution(x)
                branch = self._branch(phases, x, v) or branch
        if self._impossible(phases, bound, late):
            return
        if bound <= self.lower * (1 + TOLERANCE) or branch is None:
            self._close(bound, late)
            return
        node = _Node(-bound, next(self.numbers), root, phases, branch, basis)
        heapq.heappush(self.open, node)

    def _close(self, bound: float, late: bool) -> None:
        if late:
            self.cut = max(self.cut, bound)
        else:
            self.closed = max(self.closed, bound)

    def _impossible(self, phases: Phases, bound: float, late: bool) -> bool:
        """Whether the bound is worth a look at the cell, and that is proven to have no interior."""
        if late or bound <= self.lower * (1 + TOLERANCE) or _first_free(phases[:-1]):
            return False
        return lacks_interior(self.chain, phases[:-1], self.domain.ends)

    def _branch(self, phases: Phases, x: np.ndarray, v: np.ndarray) -> tuple[int, int] | None:
        """The free neuron whose output is furthest from both phases, weighted by its influence on
        the objective, as its multipliers tell."""
        best, columns = (0.0, None), self.program.columns
        for k, phase in enumerate(phases):
            fraction = np.minimum(x[columns["phase", k]], 1 - x[columns["phase", k]])
            score = self.program.discord(k, x, v) + 1e-12 * fraction
            score = np.where(phase == FREE, score, -1.0)
            j = int(score.argmax())
            if score[j] > best[0]:
                best = float(score[j]), (k, j)
        return best[1]

    def _sample(self) -> None:
        """A first incumbent, from random points of the hull."""
        generator = np.random.default_rng(0)
        low, high = self.domain.hull
        for _ in range(SAMPLES):
            point = low + (high - low) * generator.random(len(low))
            self._try(pattern_at(self.chain, point))
            if now() > self.deadline:
                return

    def _try_solution(self, x: np.ndarray) -> None:
        """The cell of the solution's point, and of its phases where they are integral: the point
        may be a corner of several cells."""
        columns, switches = self.program.columns, range(len(self.chain.switches))
        point = np.append(x[columns["point", "y", -1]], x[columns["time"]])
        self._try(pattern_at(self.chain, point))
        values = [x[columns["phase", k]] for k in switches]
        if all(float(np.abs(a - a.round()).max(initial=0.0)) < 1e-6 for a in values):
            self._try([a.round().astype(int) for a in values])

    def _try(self, pattern: Phases) -> None:
        """Climb from the cell, if it is steeper than the incumbent, to steeper neighbours."""
        better = self._take(pattern)
        while better and now() < self.deadline:
            middle = 0.5 * self.incumbent.x + 0.5 * self.incumbent.y
            better = any(self._take(one) for one in neighbours(self.chain, middle))

    def _take(self, pattern: Phases) -> bool:
        """Whether the cell's secant is steeper than the incumbent, which it then replaces."""
        _, jacobian = cell(self.chain, pattern)
        if jacobian_norm(jacobian, self.norm) <= self.lower * (1 + 1e-9):
            return False
        domain = self.domain
        found = find_witness(self.chain, pattern, self.norm, domain.hull, domain.inner)
        if found is None or found.value <= self.lower * (1 + 1e-9):
            return False
        self.incumbent = found
        return True


def _first_free(phases: Phases) -> tuple[int, int] | None:
    for k, phase in enumerate(phases):
        if (phase == FREE).any():
            return k, int((phase == FREE).argmax())
    return None

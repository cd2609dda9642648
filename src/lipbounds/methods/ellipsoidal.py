"""K_5: the least value of the quadratic form's dual, by an interior-point method of our own
(docs/k5.md). In l2 the optimum of LipSDP-Neuron, in l1 and l-infinity that of GeoLIP's natural
relaxation; never above K_4 (explicit treatment) or, in l2, K_1."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from numbers import Integral

import torch
from torch import Tensor

from ..arithmetic.rounding import outward, times_power
from ..clock import OutOfTime, left, limited, now
from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import checked_norm
from ..networks.averaged_map import averaged_map
from ..networks.narrowed import narrowed
from ..networks.network import Network
from ..networks.pruned import pruned
from ..networks.rewrite import explicit, maxima_first, merged
from ..networks.scaling import conversion_error, evened
from ..quadratic import costs
from ..quadratic.form import Multipliers
from ..quadratic.fourier import costs as fourier_costs
from ..quadratic.fourier.elimination import TorusElimination
from ..quadratic.fourier.embedding import Torus, embeddings
from ..quadratic.fourier.rounds import Rounds
from ..quadratic.fourier.spread import spread_out
from ..quadratic.layered import layered_start
from ..quadratic.newton import programs
from ..quadratic.order import EachPiece, Pieces
from ..quadratic.structured import rounds
from ..quadratic.structured.elimination import Elimination
from ..quadratic.structured.proof import discounted
from ..results import Bound, Status
from .absolute import absolute
from .averaged import averaged, averaged_sums, averaged_within
from .between_norms import from_columns, from_rows, from_sums
from .combettes_pesquet import combettes_pesquet, combettes_pesquet_within
from .costs import LARGEST_UNROLLED, one_pass
from .eclipse import closed_form, eclipse_fast
from .path_norm import factored_path_norm
from .plan import (
    BETWEEN,
    CAUTIOUS,
    CHEAP_SHARE,
    FIRST,
    HOPEFUL,
    LAST,
    MEMORY,
    SHARE,
    Phase,
    plan,
)
from .product import product
from .seqlip import seqlip

INSIDE = 1e-3  # what multipliers of stage k are less by, k times, where a descent starts
CHEAP = {
    FIRST: factored_path_norm,
    "K_star": product,
    "K_1": combettes_pesquet,
    "K_2": seqlip,
    "K_3": absolute,
    "K_4": averaged,
    "eclipse_fast": eclipse_fast,
}
ANYTIME = {  # by norm: the cheap bound that has something to give for less time, and how
    1.0: ("K_4", averaged_within),
    2.0: ("K_1", combettes_pesquet_within),
    math.inf: ("K_4", averaged_within),
}
WHOLE = ("K_2", "eclipse_fast")  # matrix factorisations of some seconds, which no limit stops
SEARCH = "K_2"  # takes what time it is given
COUNTING = ("K_star", "Fourier")  # that count the roundings of the conversion themselves
ROWS, REPEATS = 600, 3  # of the Cholesky factorisation that tells the machine's speed

Progress = Callable[[float, Tensor], None]


def ellipsoidal(
    network: Network,
    norm: float,
    seconds: float = 60.0,
    progress: Progress | None = None,
    steps: int | None = None,
    memory: float = MEMORY,
) -> Bound:
    """K_5(p): the greatest over output rows (inf) or input columns (1) of min sqrt(mu nu), mu and
    nu the sums of the input's and output's multipliers, with Q(mu, lambda, nu) > 0; in l2 their
    greatest entries, for all rows and columns at once (Q in `lipbounds.quadratic.newton.forms`).

    Carries out `plan`: the cheap bounds that fit in three tenths of the time each, then what
    improves on them, until it has converged, or `seconds` are over, or `steps` >= 0 for each
    program; at last, if it has not converged, cheap bounds that were left out. The least value
    that is proven by then is returned, with what is left undone and, as `winner`, the phase that
    proved it; progress(elapsed seconds, bound) is called with the first and each better one. Beyond
    the cheap bounds, what would hold more than `memory` GiB is left out. A max-pooling kept whole
    is taken as a tree of maxima, before the activation in front of it where that is the same.
    `upper` is a bound of D*_p, shape `network.batch_shape`. Raises LipboundsError where a product
    of layers overflows, or `steps` is no such number.
    """
    begin, norm = now(), checked_norm(norm)
    prepared = _Prepared.of(network, norm)
    heard = prepared.heard(progress)
    run = _Run(prepared.network, norm, Pieces, begin, seconds, heard, steps, memory)
    pieces = run.carried_out()
    upper = prepared.upper(pieces.bound.reshape(network.batch_shape))
    winners = pieces.winners.reshape(network.batch_shape)
    return Bound(upper, None, *run.ended(), winners if network.batch_shape else winners.item())


def ellipsoidal_rows(
    network: Network,
    seconds: float = 60.0,
    progress: Progress | None = None,
    steps: int | None = None,
    memory: float = MEMORY,
) -> Tensor:
    """What K_5(inf) is the greatest of, for every output row: |f_i(x) - f_i(x')| <= it where
    |x - x'| <= 1 entrywise. Shape (*batch_shape, n_out); otherwise as `ellipsoidal`."""
    begin = now()
    prepared = _Prepared.of(network, math.inf, rows=True)
    heard = prepared.heard(progress)
    run = _Run(prepared.network, math.inf, EachPiece, begin, seconds, heard, steps, memory)
    pieces = run.carried_out()
    return prepared.upper(pieces.bound.reshape((*network.batch_shape, network.output_size)))


@dataclass(frozen=True)
class _Prepared:
    """A network that is better to optimise on, and what its bounds are less by: a power of two, and
    what passes neurons that are left out."""

    network: Network
    exponent: Tensor
    slack: Tensor

    @classmethod
    def of(cls, network: Network, norm: float, rows: bool = False) -> "_Prepared":
        fewer, slack = pruned(network, norm)
        even, exponent = evened(fewer)
        if rows:
            slack, exponent = slack.unsqueeze(-1), exponent.unsqueeze(-1)
        return cls(even, exponent, slack)

    def upper(self, bound: Tensor) -> Tensor:
        scaled = times_power(bound, self.exponent)
        return torch.where(self.slack > 0, outward(scaled + self.slack, 1), scaled)

    def heard(self, progress: Progress | None) -> Progress | None:
        if progress is None:
            return None
        return lambda elapsed, bound: progress(elapsed, self.upper(bound))


class _Run:
    """The plan, carried out, and what is proven so far."""

    def __init__(
        self,
        network: Network,
        norm: float,
        kind: type[Pieces],
        begin: float,
        seconds: float,
        progress: Progress | None,
        steps: int | None,
        memory: float,
    ):
        """Proves a first bound, which has no limit, at the price of a pass."""
        _check_steps(steps)
        self.begin, self.network, self.norm, self.seconds = begin, network, norm, seconds
        count = math.prod(network.batch_shape), costs.pieces(network, norm)
        infinite = torch.full(count, math.inf, dtype=torch.float64, device=network.device)
        self.pieces = kind(infinite, math.inf if steps is None else steps)
        if progress is not None:
            self.pieces.told = lambda bound: progress(
                now() - self.begin, bound.reshape((*network.batch_shape, *bound.shape[1:]))
            )
        self.pieces.by = FIRST
        if norm == 2:
            owed = conversion_error(network).sum(-1).reshape(-1, 1)
            self.pieces.owed, self.pieces.counting = owed, COUNTING
        self.pieces.cap(_cheap(FIRST, network, norm))
        unrolled = not network.has_pools or one_pass(network) <= LARGEST_UNROLLED
        self.plain = network
        if unrolled:
            whole = explicit(network) if network.has_pools else network
            self.plain = merged(maxima_first(whole))
        self.core = narrowed(self.plain) if norm == 2 and unrolled else self.plain
        self.torus, self.torus_tried = _torus(network, norm), False
        self.rounds: Rounds | None = None
        self.spread: Multipliers | None = None
        self.spent = 0.0  # seconds, for cheap bounds
        speed = measured_speed(str(network.device), torch.get_num_threads())
        self.plan = plan(
            self.plain,
            norm,
            seconds,
            speed,
            core=self.core,
            memory=memory,
            torus=self.torus,
            unrolled=unrolled,
            whole=network,
        )

    def carried_out(self) -> Pieces:
        with limited(self.begin + self.seconds - now()):
            undone = []
            for phase in self.plan.cheap[1:]:
                if phase.seconds > self.plan.fourier.seconds:
                    self._fourier_ahead()
                late = self.plan.torus_alone and phase.name in LAST
                if late or not self._tried(phase):
                    undone.append(phase)
            if self.pieces.steps > 0:
                with suppress(OutOfTime):
                    undone = self._improve(undone)
            self._catch_up(undone, HOPEFUL)
        return self.pieces

    def _catch_up(self, undone: Sequence[Phase], hopeful: float) -> list[Phase]:
        """Cheap bounds that were left out, in the time that what was to improve on them did not
        need, or could not use; estimates are rough, so that those of `hopeful` times that are tried
        too, but for what cannot be stopped. Those that are left out still."""
        anytime, within = ANYTIME[self.norm]
        still = []
        for phase in undone:
            unsolved = bool((self.pieces.open | self.pieces.given_up).any())
            fits = phase.short is not Status.MEMORY
            share = 1.0 if phase.name in WHOLE else hopeful
            tried = phase.name == anytime or phase.seconds <= share * left()
            if not (fits and unsolved and tried and left() > 0):
                still.append(phase)
                continue
            with suppress(LipboundsError):
                if phase.name == anytime:
                    self.pieces.by = anytime
                    self.pieces.cap(within(self.network, self.norm, left()).upper)
                else:
                    self._compute(phase.name)
        return still

    def _tried(self, phase: Phase) -> bool:
        """Whether a cheap bound was had, or refused, in its share of the time."""
        if phase.omitted or self.spent > CHEAP_SHARE * self.seconds:
            return False
        began = now()
        try:
            limit = CAUTIOUS * SHARE * self.seconds
            if phase.name == SEARCH:
                limit = min(limit, max(SHARE * self.seconds, CAUTIOUS * phase.seconds))
            with limited(limit):
                self._compute(phase.name)
        except OutOfTime:
            return False
        except LipboundsError:
            pass
        finally:
            self.spent += now() - began
        return True

    def ended(self) -> tuple[Status, str]:
        """The status, and what is left."""
        pieces, newton = self.pieces, self.plan.newton
        unsolved = pieces.open | pieces.given_up
        if not bool(unsolved.any()):
            return Status.CONVERGED, ""
        left = f"{int(unsolved.sum())} of {pieces.count} programs"
        if bool((pieces.spent[unsolved] >= pieces.steps).all()):
            return Status.STEPS, f"{left} open"
        if newton.omitted:
            return newton.short, f"{newton.name} {newton.omitted}"
        if not bool(pieces.open.any()):
            return Status.PRECISION, f"{left} gain no more"
        return Status.TIME, f"{left} open"

    def _compute(self, name: str) -> None:
        """A cheap bound of the network; K_4, which is often less in one of the two treatments, also
        of the one whose pools are trees of maxima."""
        self.pieces.by = name
        pooled = self.network.has_pools and self.plain is not self.network
        both = [self.network, self.plain] if pooled else [self.plain]
        if name in COUNTING and self.network.roundings:
            both = [self.network]  # of products that were formed it is not known what they owe
        for network in both if name in LAST else both[:1]:
            if name in LAST and self.norm == 2 and self._too_large(network):
                continue
            self.pieces.cap(_cheap(name, network, self.norm))

    def _too_large(self, network: Network) -> bool:
        """Whether K_4 in l2, which is the norm of a matrix M >= 0, and norms that exceed it cannot
        be less than what is known: || M 1 || / || 1 || is no less."""
        ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
        moved = averaged_map(network, ones)
        size = torch.linalg.vector_norm(moved, dim=(-2, -1)) / math.sqrt(network.input_size)
        return bool((size.reshape(-1) >= self.pieces.bound.reshape(-1)).all())

    def _improve(self, undone: list[Phase]) -> list[Phase]:
        """What is to be less than the cheap bounds. Those of `undone` that are so still: where
        nothing but the torus has its say, all but the LAST come before the rest of it."""
        network, norm, pieces, limit = self.core, self.norm, self.pieces, self.pieces.steps
        descent, newton, alone = self.plan.descent, self.plan.newton, self.plan.alone
        found = None
        self._fourier_ahead()
        if self.plan.torus_alone:
            late = [phase for phase in undone if phase.name in LAST]
            with limited(CHEAP_SHARE * left()):
                undone = self._catch_up([p for p in undone if p not in late], 1.0) + late
            self._by_fourier(math.inf, math.inf, self.plan.newton_on_torus)
        if not self.plan.ahead.omitted:
            pieces.by = self.plan.ahead.name
            pieces.pace, pieces.proof = newton.step, newton.proof
            with suppress(OutOfTime), limited(self.plan.ahead.seconds):
                programs.improved(network, norm, pieces, None, descent.proof)
        if not descent.omitted:
            pieces.by = descent.name
            steps = min(limit, math.inf if descent.steps is None else descent.steps)
            start = _start(network, norm, self.plan.closed_form, self.spread)
            found = rounds.together(network, norm, pieces, start, descent.proof, steps)
        pieces.by = alone.name if newton.omitted else newton.name
        if not newton.omitted:
            pieces.pace, pieces.proof = newton.step, newton.proof
            programs.improved(network, norm, pieces, found, descent.proof)
        elif not alone.omitted:
            rounds.alone(network, norm, pieces, found, alone.proof)
        return undone

    def _fourier_ahead(self) -> None:
        """On the torus, once, before what takes longer: all that it is worth where others follow,
        else where it begins."""
        if self.torus_tried:
            return
        self.torus_tried = True
        if self.plan.followed:
            self._by_fourier(self.plan.fourier_ahead, math.inf, math.inf)
        else:
            self._by_fourier(math.inf, 0, math.inf)

    def _by_fourier(self, seconds: float, steps: float, newton: float) -> None:
        """Rounds on the torus, and its multipliers at each pixel, where others follow: that is
        where the descent starts."""
        plan, pieces = self.plan, self.pieces
        if plan.fourier.omitted or pieces.steps <= 0:
            return
        pieces.by = plan.fourier.name
        with suppress(OutOfTime), limited(seconds):
            if self.rounds is None:
                elimination = TorusElimination(self.torus)
                self.rounds = Rounds(elimination, pieces, plan.fourier.proof)
            most = math.inf if plan.fourier.steps is None else plan.fourier.steps
            steps = min(steps, pieces.steps, most)
            logs = self.rounds.improved(steps, plan.fourier_gain, newton)
            if plan.followed:
                self.spread = spread_out(self.rounds.elimination, logs, self.core)


def _torus(network: Network, norm: float) -> Torus | str:
    """The one that takes least, or why there is none. Where layers behind it take less than on it,
    they have multipliers of their own for each neuron, too."""
    if norm != 2:
        return "is for l2"
    try:
        return min(embeddings(network), key=fourier_costs.step)
    except UnsupportedError as reason:
        return str(reason)


def _check_steps(steps) -> None:
    whole = isinstance(steps, Integral) and not isinstance(steps, bool)
    if steps is not None and not (whole and steps >= 0):
        raise LipboundsError(
            f"K_5: steps = {steps!r} must be a whole number that is not negative; 0 leaves the "
            "bound at the cheap ones, None at its own limit"
        )


def _cheap(name: str, network: Network, norm: float) -> Tensor:
    """A bound of the network (S,), or of each row or column (S, pieces)."""
    if name == BETWEEN:
        return from_sums(network, product)
    if name == "norm_equivalence":
        convert = {1.0: from_columns, math.inf: from_rows}.get(norm)
        return convert(network, combettes_pesquet) if convert else from_sums(network, averaged)
    if name == "K_4" and norm != 2 and (norm == math.inf or not network.has_pools):
        sums = averaged_sums(network, norm)
        return sums.reshape(-1, sums.shape[-1])
    found = CHEAP[name](network, norm)
    return found.upper if isinstance(found, Bound) else found


def _start(network: Network, norm: float, closed: bool, spread: Multipliers | None) -> Multipliers:
    """The first inside the cone: those of the torus; where there is time for it, `closed`, those of
    ECLipsE-Fast, a little further from the edge; products of norms."""
    if spread is not None and _inside(network, norm, spread):
        return spread
    with suppress(LipboundsError):
        if closed and _inside(network, norm, near := discounted(closed_form(network), INSIDE)):
            return near
    return layered_start(network)


def _inside(network: Network, norm: float, multipliers: Multipliers) -> bool:
    elimination = Elimination(network, norm, multipliers)
    return elimination.at(elimination.theta()) is not None


@cache
def measured_speed(device: str, threads: int) -> float:
    """Multiply-adds of a Cholesky factorisation in a second, measured once per process."""
    matrix = torch.eye(ROWS, dtype=torch.float64, device=device)
    seconds = []
    for _ in range(REPEATS):
        begin = now()
        torch.linalg.cholesky_ex(matrix).info.item()
        seconds.append(now() - begin)
    return ROWS**3 / 6 / max(min(seconds), 1e-9)

"""What K_5 will do in a time: its phases, their estimated seconds, and why some are left out.

    cheap bounds, in the order of their cost    each in three tenths of the time
    Fourier: the same multipliers at all pixels in l2, of convolutions, in rounds, each proven
    Newton's method ahead, on the greatest      where the descent is slow to begin
    descent of all pieces together              in rounds of doubling length, each proven
    Newton's method, or each piece's own descent, the greatest first
    cheap bounds that were left out             where all this leaves time and something unsolved

Where the torus is all that improves on them, cheap bounds that were left out are tried once it has
proven where it begins, for half of what is left, and then it goes on.

The order does not depend on the time, only where it ends: with more time the same is done, and then
more, so that the least of what is proven does not rise. There is no clock in here: the plan follows
from sizes, the seconds and the machine's speed.
"""

import math
from dataclasses import dataclass, replace

from ..networks.network import Network
from ..quadratic import costs as quadratic
from ..quadratic.fourier import costs as fourier
from ..quadratic.fourier.embedding import Torus
from ..quadratic.structured.rounds import FIRST_STEPS
from ..results import Status
from . import costs

SHARE = 0.1  # of the time: cheap bounds are those that take no more
CAUTIOUS = 3.0  # times that, up to which one is tried, and may take: estimates are rough
LEAST_SPEED = 1e9  # multiply-adds a second; less is measured beside other work, and cheap bounds,
# each with a limit of its own, are not left out for that
FOURIER_SHARE = 0.4  # of the time, for the torus before others
FOURIER_GAIN, LAST_GAIN = 0.1, 1e-3  # of a round there that is not to be the last: where others
# follow it, who use the time better, and where none does
HOPEFUL = 10.0  # times what is left at the end, up to which one that was left out is tried
CHEAP_SHARE = 0.5  # of the time that all of them may take
FEW_STEPS = 3  # of a descent, for which it is worth beginning
NEWTON_STEPS = 8  # that bring Newton's method near its central path, where it begins to prove
AHEAD = 0.1  # of those of all pieces: what a descent in front of them may take, or one piece's
SOONER = 50.0  # times the first batch's seconds in those of a descent, from which it goes ahead
SLOW = 3e10  # multiply-adds in the same, at least: some seconds
LONGER = 2.0  # times the descent's seconds, as long as it goes ahead
EASY = 1e9  # multiply-adds of those, a tenth of a second, up to which no descent comes before them
MEMORY = 4.0  # GiB that a phase may hold, where nothing else is said
FIRST = "path norm"  # of all factors: one pass of one vector, so proven at once at any size
BETWEEN = "K_star in l1, linf"  # by norm equivalence
CHEAP = {  # the first, those that no other one is always below, and K_3, where K_4 takes too long
    1: (FIRST, "K_star", "K_3", "K_4", "norm_equivalence"),
    2: (FIRST, BETWEEN, "K_star", "K_1", "K_2", "K_4", "norm_equivalence", "eclipse_fast"),
    math.inf: (FIRST, "K_star", "K_3", "K_4", "norm_equivalence"),
}
LAST = ("K_4", "norm_equivalence")  # in l2: what one vector tells to be too large is not tried
COSTS = {
    FIRST: costs.one_pass,
    BETWEEN: costs.one_pass,
    "K_star": costs.product,
    "K_1": costs.combettes_pesquet,
    "K_2": costs.seqlip,
    "K_3": costs.absolute,
    "K_4": costs.averaged,
    "norm_equivalence": costs.norm_equivalence,
    "eclipse_fast": costs.eclipse_fast,
}
BYTES = {"K_2": costs.seqlip_bytes, "eclipse_fast": costs.closed_form_bytes}


@dataclass(frozen=True)
class Phase:
    """seconds: an estimate, of what it takes to prove something; step, proof: of one of each;
    steps: at most, None for any number; omitted: why it is left out, else empty; short: of what."""

    name: str
    seconds: float
    omitted: str = ""
    short: Status | None = None
    step: float = 0.0
    proof: float = 0.0
    steps: int | None = None


@dataclass(frozen=True)
class Plan:
    """The phases in their order, for `seconds`; closed_form: whether the descent has the time to
    start at ECLipsE-Fast's multipliers; newton_on_torus: seconds of it there."""

    seconds: float
    cheap: tuple[Phase, ...]
    fourier: Phase
    descent: Phase
    newton: Phase
    alone: Phase
    ahead: Phase
    closed_form: bool
    newton_on_torus: float

    def __str__(self) -> str:
        rows = [f"{'phase':20}{'seconds':>9}{'share':>8}"]
        for phase in (*self.cheap, self.fourier, *self._others):
            share = phase.seconds / self.seconds if self.seconds > 0 else math.inf
            row = f"{phase.name:20}{phase.seconds:9.2g}{share:8.0%}  {phase.omitted}"
            rows.append(row.rstrip())
        return "\n".join(rows)

    @property
    def _others(self) -> tuple[Phase, ...]:
        return self.ahead, self.descent, self.newton, self.alone

    @property
    def followed(self) -> bool:
        """Whether something else follows the torus."""
        return any(not phase.omitted for phase in self._others)

    @property
    def torus_alone(self) -> bool:
        """Whether nothing else improves on the cheap bounds."""
        return not self.followed and not self.fourier.omitted

    @property
    def fourier_ahead(self) -> float:
        """Seconds that the torus may take before others."""
        return FOURIER_SHARE * self.seconds

    @property
    def fourier_gain(self) -> float:
        """Of a round there, relative, below which it is the last."""
        return FOURIER_GAIN if self.followed else LAST_GAIN


def plan(
    network: Network,
    norm: float,
    seconds: float,
    speed: float,
    core: Network | None = None,
    memory: float = MEMORY,
    torus: Torus | str = "is for l2",
    unrolled: bool = True,
    whole: Network | None = None,
) -> Plan:
    """For a network without pools kept whole; speed: multiply-adds of a Cholesky factorisation in a
    second; core: what the cheap bounds are followed by is of it, where it is another network;
    memory: GiB that each of those may hold; torus: the network's, or why it has none;
    unrolled: whether the network is one pixel by pixel, and not too large to be; whole: the same
    with its pools, of which the cheap bounds are but for the LAST."""
    cheap = _cheap(network, whole or network, norm, seconds, max(speed, LEAST_SPEED))
    cheap = [_within(memory, phase, _held(phase, whole or network)) for phase in cheap]
    network = network if core is None else core
    if unrolled:
        newton = _newton(network, norm, speed, memory)
        descent = _descent(network, norm, speed, newton, memory)
    else:
        large = "has too many weights pixel by pixel"
        newton, descent = (
            Phase(name, math.inf, large, Status.MEMORY) for name in ("Newton", "descent")
        )
    alone = replace(descent, name="each piece alone", steps=None)
    if unrolled and (not newton.omitted or quadratic.pieces(network, norm) == 1):
        alone = replace(alone, omitted=alone.omitted or "there is no need")
    left = seconds - sum(phase.seconds for phase in cheap if not phase.omitted)
    fourier_ = _fourier(torus, newton, speed, left, memory)
    if not fourier_.omitted:
        left -= fourier_.seconds
    ahead = _ahead(descent, newton, speed)
    if not ahead.omitted:
        left -= ahead.seconds
    phases = []
    for phase in (descent, newton, alone):
        if not phase.omitted and phase.seconds > left:
            phase = _in_time(left, phase)
        elif phase is newton and not phase.omitted and phases[0].short is Status.TIME:
            phase = replace(phase, omitted="follows the descent", short=Status.TIME)
        if not phase.omitted:
            left -= phase.seconds if phase.steps is None else phase.steps * phase.step + phase.proof
        phases.append(phase)
    closed = unrolled and costs.closed_form(network) / speed <= SHARE * seconds
    on_torus = math.inf if isinstance(torus, str) else fourier.newton(torus) / speed
    return Plan(seconds, tuple(cheap), fourier_, *phases, ahead, closed, on_torus)


def _cheap(
    network: Network, whole: Network, norm: float, seconds: float, speed: float
) -> list[Phase]:
    """The first one is always carried out: something is to be proven."""
    limit, found = SHARE * seconds, []
    costed = {
        name: COSTS[name](network if name in LAST else whole, norm) / speed for name in CHEAP[norm]
    }
    for name in sorted(costed, key=lambda name: (norm == 2 and name in LAST, costed[name])):
        cost = costed[name]
        omitted = ""
        if name == "eclipse_fast" and network.batch_shape:
            omitted = "takes one network"
        elif found and cost > CAUTIOUS * limit:
            omitted = "takes more than three tenths"
        found.append(Phase(name, cost, omitted))
    return found


def _held(phase: Phase, network: Network) -> float:
    """Bytes of a cheap bound that writes maps out as matrices."""
    return BYTES[phase.name](network) if phase.name in BYTES else 0.0


def _fourier(torus: Torus | str, newton: Phase, speed: float, left: float, memory: float) -> Phase:
    """Of the torus: where it begins, and a proof of that; no steps where only these fit."""
    if isinstance(torus, str):
        return Phase("Fourier", 0.0, torus)
    step, proof = fourier.step(torus) / speed, fourier.proof(torus) / speed
    phase = Phase("Fourier", step + proof, step=step, proof=proof)
    if fourier.held(torus) > memory * 2**30:
        phase = replace(phase, steps=0)
        phase = _within(memory, phase, fourier.held_by_proof(torus))
    if not phase.omitted and not newton.omitted and newton.seconds * speed <= EASY:
        return replace(phase, omitted="Newton's method is as fast")
    return _in_time(left, phase)


def _newton(network: Network, norm: float, speed: float, memory: float) -> Phase:
    """Of the first batch of programs."""
    step = quadratic.newton_step(network, norm) / speed
    held = quadratic.newton_bytes(network, norm)
    start = quadratic.newton_start(network, norm) / speed
    phase = Phase("Newton", start + NEWTON_STEPS * step, step=step, proof=step)
    return _within(memory, phase, held)


def _descent(network: Network, norm: float, speed: float, newton: Phase, memory: float) -> Phase:
    """Of all pieces together; where Newton's method follows, for a part of its time."""
    step, proof = (
        cost(network, norm) / speed for cost in (quadratic.descent_step, quadratic.proof)
    )
    held = quadratic.descent_bytes(network, norm)
    phase = Phase("descent", FEW_STEPS * step + proof, step=step, proof=proof)
    if network.batch_shape:
        return replace(phase, omitted="takes one network")
    phase = _within(memory, phase, held)
    if phase.omitted or newton.omitted:
        return phase
    whole = newton.seconds + (quadratic.pieces(network, norm) - 1) * NEWTON_STEPS * newton.step
    steps = int((max(newton.seconds, AHEAD * whole) - proof) / step)
    if whole * speed <= EASY or whole <= phase.seconds:
        return replace(phase, omitted="Newton's method is as fast")
    return replace(phase, steps=max(FIRST_STEPS, steps))


def _ahead(descent: Phase, newton: Phase, speed: float) -> Phase:
    """Newton's method on the greatest pieces, before a descent that is long in beginning."""
    phase = Phase("Newton, ahead", LONGER * descent.seconds)
    slow = descent.seconds >= max(SOONER * newton.seconds, SLOW / speed)
    if descent.omitted or newton.omitted or not slow:
        return replace(phase, omitted="there is no need")
    return phase


def _in_time(left: float, phase: Phase) -> Phase:
    """The phase, left out if it takes more than the seconds that are left."""
    if phase.omitted or phase.seconds <= left:
        return phase
    return replace(phase, omitted="takes more than is left", short=Status.TIME)


def _within(memory: float, phase: Phase, held: float) -> Phase:
    """The phase, left out if the bytes that it holds are more than `memory` GiB."""
    if held <= memory * 2**30:
        return phase
    return replace(phase, omitted=f"holds {held / 2**30:.1f} GiB", short=Status.MEMORY)

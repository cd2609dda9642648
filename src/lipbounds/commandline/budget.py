"""Methods run one after another within a time: those that take the least first."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from ..clock import OutOfTime, now
from ..errors import LipboundsError, OutOfMemory
from ..methods.costs import LARGEST_UNROLLED, SPEED, one_pass
from ..methods.influence import influence
from ..methods.registry import BOUNDS, Method, registered
from ..methods.run import bound
from ..networks.network import Network
from ..networks.rewrite import distinct_treatments, explicit
from ..results import Bound
from .memory import refusals_named

PHASE_SHARE = 0.5  # of the memory: what a phase of K_5 may hold; the rest is for what it makes
TIGHTEST = "K_5"  # of those that take any time: it gets half of what is left for them
ALL = tuple(name for name in BOUNDS if name != "best")


@dataclass(frozen=True)
class Task:
    """One method in one norm and treatment; `estimate`: seconds, infinite where it takes what it
    gets, or what it needs is not known; `flexible`: whether it has less to give for less."""

    name: str
    norm: float
    treatment: str
    estimate: float
    flexible: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its bound, or why there is none."""

    task: Task
    found: Bound | None
    reason: str = ""


def tasks(network: Network, names: Sequence[str], norms: Sequence[float]) -> list[Task]:
    """In the order in which they are run: by what they take, those that take any time last."""
    forms = {"implicit": network, "explicit": _unrolled(network)}
    found = []
    for method in map(registered, names):
        possible = [one for one in method.worth(network) if forms[one] is not None]
        for treatment in possible or ["implicit"]:  # where it says itself what it cannot do
            form = forms[treatment]
            found += [
                _task(method, form, norm, treatment) for norm in norms if norm in method.norms
            ]
    return sorted(found, key=lambda task: task.estimate)


def _task(method: Method, form: Network, norm: float, treatment: str) -> Task:
    estimate = method.cost(form, norm) / SPEED
    return Task(method.name, norm, treatment, estimate, method.flexible(form, norm))


def _unrolled(network: Network) -> Network | None:
    """None where that takes too much; without pools and convolutions it is next to nothing."""
    if len(distinct_treatments(network)) > 1 and one_pass(network) > LARGEST_UNROLLED:
        return None
    with suppress(OutOfMemory), refusals_named():
        return explicit(network)
    return None


def run(
    network: Network,
    planned: Sequence[Task],
    seconds: float,
    memory: float | None = None,
    begun: Callable[[Task], None] = lambda task: None,
) -> Iterator[Outcome]:
    """Each in its turn, which `begun` is told; memory: GiB that there are, None for no limit.

    Estimates are rough: once half of the time is over the tightest method comes before all that is
    left. One that takes any time gets a share of what is left, the tightest as much as all others.
    """
    end, waiting = now() + seconds, list(planned)
    while waiting:
        left = end - now()
        task = _next(waiting, late=left < seconds / 2)
        begun(task)
        share = left * _share(task, waiting, left)
        waiting.remove(task)
        if left <= 0:
            yield Outcome(task, None, "no time was left")
        elif task.estimate > left and not _takes_any(task, left):
            yield Outcome(task, None, f"would take about {task.estimate:.2g} s")
        else:
            yield _outcome(network, task, share, memory)


def influenced(network: Network, outputs: Sequence[int] | None, seconds: float) -> Tensor:
    """`influence`, the less of both treatments where the explicit one is worth its memory."""
    unrolled = _unrolled(network) if network.has_pools else None
    if unrolled is None:
        return influence(network, outputs, seconds)
    values = influence(unrolled, outputs, seconds / 2)
    with suppress(OutOfTime):
        values = torch.minimum(values, influence(network, outputs, seconds / 2))
    return values


def _next(waiting: Sequence[Task], late: bool) -> Task:
    tightest = (task for task in waiting if late and task.name == TIGHTEST)
    return next(tightest, waiting[0])


def _takes_any(task: Task, left: float) -> bool:
    """Whether it takes whatever time it gets: as it always does, or where it would need more than
    is left and has less to give for less."""
    return math.isinf(task.estimate) or task.estimate > left and task.flexible


def _share(task: Task, waiting: Sequence[Task], left: float) -> float:
    """Of the time that is left."""
    if not _takes_any(task, left):
        return 1.0
    names = [other.name for other in waiting if _takes_any(other, left)]
    tightest = names.count(TIGHTEST)
    if task.name != TIGHTEST:
        return 1 / len(names)
    return 1 / len(names) if tightest == len(names) else 1 / (2 * tightest)


def _outcome(network: Network, task: Task, seconds: float, memory: float | None) -> Outcome:
    options = {} if math.isinf(seconds) else {"seconds": seconds}
    if memory is not None and "memory" in registered(task.name).options:
        options["memory"] = PHASE_SHARE * memory
    try:
        with refusals_named():
            found = bound(network, task.name, task.norm, task.treatment, **options)
    except OutOfTime as error:
        return Outcome(task, None, f"stopped: {error}")
    except LipboundsError as error:
        return Outcome(task, None, str(error))
    return Outcome(task, found, found.reason)

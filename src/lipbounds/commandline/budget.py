"""Methods run one after another within a time: those that take the least first."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..clock import OutOfTime, now
from ..errors import LipboundsError
from ..methods.costs import SPEED, one_pass
from ..methods.registry import BOUNDS, registered
from ..methods.run import bound
from ..networks.network import Network
from ..networks.rewrite import explicit
from ..results import Bound

LARGEST_EXPLICIT = 1e8  # multiply-adds of one pass, up to which pools and convolutions are unrolled
ALL = tuple(name for name in BOUNDS if name != "best")


@dataclass(frozen=True)
class Task:
    """One method in one norm and treatment; `estimate`: seconds, infinite where it takes what it
    gets, or what it needs is not known."""

    name: str
    norm: float
    treatment: str
    estimate: float


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its bound, or why there is none."""

    task: Task
    found: Bound | None
    reason: str = ""


def tasks(network: Network, names: Sequence[str], norms: Sequence[float]) -> list[Task]:
    """In the order in which they are run: by what they take, those that take any time last."""
    unrolled = explicit(network) if one_pass(network) <= LARGEST_EXPLICIT else None
    found = []
    for method in map(registered, names):
        for treatment in method.worth(network):
            form = network if treatment == "implicit" else unrolled
            if form is None:
                continue
            found += [
                Task(method.name, norm, treatment, method.cost(form, norm) / SPEED)
                for norm in norms
                if norm in method.norms
            ]
    return sorted(found, key=lambda task: task.estimate)


def run(network: Network, planned: Sequence[Task], seconds: float) -> Iterator[Outcome]:
    """Each in its turn. A method that takes any time gets its share of what is left."""
    end = now() + seconds
    for k, task in enumerate(planned):
        left = end - now()
        if left <= 0:
            yield Outcome(task, None, "no time was left")
        elif math.isfinite(task.estimate) and task.estimate > left:
            yield Outcome(task, None, f"would take about {task.estimate:.2g} s")
        else:
            share = left if math.isfinite(task.estimate) else left / (len(planned) - k)
            yield _outcome(network, task, share)


def _outcome(network: Network, task: Task, seconds: float) -> Outcome:
    options = {} if math.isinf(seconds) else {"seconds": seconds}
    try:
        found = bound(network, task.name, task.norm, task.treatment, **options)
    except OutOfTime as error:
        return Outcome(task, None, f"stopped: {error}")
    except LipboundsError as error:
        return Outcome(task, None, str(error))
    return Outcome(task, found, found.reason)

"""Limits of time: what is left, what it is counted in, and how work stops that exceeds it.

with limited(seconds):            # within it, and never beyond a limit around it
    for rows in watched(blocks, "K_4"):
        ...                       # raises OutOfTime between two of them
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import LipboundsError

_now: ContextVar[Callable[[], float]] = ContextVar("now", default=time.monotonic)
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_began: ContextVar[tuple[float, float] | None] = ContextVar("began", default=None)
LEAST = 0.1  # seconds of the processor that tell what share of it a process has


class OutOfTime(LipboundsError):
    """A method was stopped by its limit of seconds before it had a bound."""


def now() -> float:
    """Seconds on the clock that limits are counted on: of real time, or of the processor's."""
    return _now.get()()


def left() -> float:
    """Seconds until the nearest limit: infinity without one, not positive once it is over."""
    return _deadline.get() - now()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Work within it has `seconds` at most, fewer where a limit around it ends before."""
    token = _deadline.set(min(_deadline.get(), now() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def processor_time() -> Iterator[None]:
    """Limits set within it count the seconds of this process on all its processors, which do not
    depend on what else the machine does. Work must be single-threaded for them to be real ones."""
    now_token, limit = _now.set(time.process_time), _deadline.set(math.inf)
    began = _began.set((time.monotonic(), time.process_time()))
    try:
        yield
    finally:
        _began.reset(began)
        _deadline.reset(limit)
        _now.reset(now_token)


def real(seconds: float) -> float:
    """Seconds of real time in which the clock will show so many, for solvers that can only count
    those: on processor time, longer by the share of a processor that this process has had."""
    if _began.get() is None:
        return seconds
    at, spent = _began.get()
    passed, worked = time.monotonic() - at, time.process_time() - spent
    return seconds * max(passed / worked, 1.0) if worked >= LEAST else seconds


def check(what: str) -> None:
    """Raises OutOfTime, naming the work `what`, once the limit is over."""
    if left() <= 0:
        raise OutOfTime(f"the limit of seconds is over before {what}")


def watched(items: Sequence, what: str) -> Iterator:
    """The items in turn, each but the first only while time is left, or OutOfTime."""
    begin, total = now(), len(items)
    for done, item in enumerate(items):
        if done and left() <= 0:
            spent = now() - begin
            raise OutOfTime(
                f"the limit of seconds is over before {what}: {done} of {total} blocks took "
                f"{spent:.3g} s, all would take about {spent * total / done:.2g} s"
            )
        yield item

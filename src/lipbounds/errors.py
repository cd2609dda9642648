"""Errors a user can cause; every message names what was wrong, where, and what to do."""

import re


class LipboundsError(ValueError):
    """Base of all errors raised for a user's input."""


class UnsupportedError(LipboundsError):
    """A layer, norm, or combination of bound and norm that is not defined or not supported."""


class OutOfMemory(LipboundsError):
    """There was no memory left for it."""


class ShapeError(LipboundsError):
    """A layer that does not take what the layers before it, or the input, give it."""


def first_line(error: BaseException) -> str:
    """What another library's error says first; its type where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


NO_MEMORY = re.compile(r"can't allocate memory|Unable to allocate|bad_alloc|out of memory", re.I)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that there was no memory left, in whatever library."""
    return isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) is not None

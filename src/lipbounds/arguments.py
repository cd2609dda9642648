"""Checks of what a user passes: every message names the function, what was wrong, what to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError

from .errors import LipboundsError, UnsupportedError
from .networks.network import Network

BREAKDOWNS = ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError, ArpackError


def check_network(network, function: str) -> None:
    if not isinstance(network, Network):
        raise LipboundsError(
            f"{function} takes a Network, not {type(network).__name__}; make one with "
            "lb.from_torch or lb.from_weights"
        )


def check_seconds(seconds, function: str) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds >= 0:
        raise LipboundsError(
            f"{function}: seconds = {seconds!r} must be a number that is not negative; math.inf "
            "sets no limit"
        )


def check_cap(cap, function: str) -> None:
    if isinstance(cap, bool) or not isinstance(cap, Real) or not cap >= 0:
        raise LipboundsError(
            f"{function}: cap = {cap!r} must be a known upper bound, a number that is not "
            "negative; math.inf where there is none"
        )


def check_options(name: str, known: Sequence[str], options: Mapping) -> None:
    """That a bound has all of these options, and `seconds` are seconds."""
    if not isinstance(options, Mapping):
        raise LipboundsError(f"options of {name} must be a dictionary, not {options!r}")
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise UnsupportedError(f"{name} has no option {option!r}; it has {has}")
    if "seconds" in options:
        check_seconds(options["seconds"], name)


def checked_list(values: Iterable, what: str, function: str) -> list:
    """The values as a list; a single word or number is none."""
    try:
        if not isinstance(values, str):
            return list(values)
    except TypeError:  # nothing to go through: a number, an array without dimensions
        pass
    such = "" if values is None else f", such as [{values!r}]"
    raise LipboundsError(f"{function}: {what} = {values!r} must be a list{such}")


def checked_options(options, known: Iterable[str], function: str) -> Mapping[str, Mapping]:
    """Options by the names of bounds, {} for None."""
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise LipboundsError(
            f"{function}: options = {options!r} must be a dictionary of options by the names of "
            'bounds, such as {"K_2": {"budget": 1e8}}'
        )
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UnsupportedError(
            f"{function}: options name the unknown bounds {unknown}; known are {', '.join(known)}"
        )
    return options


@contextmanager
def breakdown_reported(what: str) -> Iterator[None]:
    """Where arithmetic breaks down, as at extreme scales, a LipboundsError says in what."""
    try:
        yield
    except BREAKDOWNS as error:
        raise LipboundsError(
            f"{what} breaks down in double precision ({error}); rescale the weights of the "
            "network, or take another bound"
        ) from error

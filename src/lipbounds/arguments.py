"""Checks of what a user passes: every message names the function, what was wrong, what to do."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from reprlib import repr as short

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError
from torch import Tensor

from .errors import LipboundsError, UnsupportedError
from .networks.network import Network, real_tensor

BREAKDOWNS = ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError, ArpackError


def check_network(network, function: str) -> None:
    """That it is a Network, and that tensors made from now on have values."""
    check_device(function)
    if not isinstance(network, Network):
        raise LipboundsError(
            f"{function} takes a Network, not {type(network).__name__}; make one with "
            "lb.from_torch or lb.from_weights"
        )


def check_device(function: str) -> None:
    if torch.get_default_device().type == "meta":
        raise LipboundsError(
            f"{function} runs where tensors are made on the meta device, without values; call it "
            'outside of torch.device("meta"), or after torch.set_default_device("cpu")'
        )


def check_seconds(seconds, function: str) -> None:
    if not _is_size(seconds):
        raise LipboundsError(
            f"{function}: seconds = {short(seconds)} must be a number that is not negative; "
            "math.inf sets no limit"
        )


def check_cap(cap, function: str) -> None:
    if not _is_size(cap):
        raise LipboundsError(
            f"{function}: cap = {short(cap)} must be a known upper bound, a number that is not "
            "negative; math.inf where there is none"
        )


def check_budget(budget, function: str) -> None:
    if not _is_size(budget):
        raise LipboundsError(
            f"{function}: budget = {short(budget)} must be a number of multiply-adds that is not "
            "negative; math.inf sets no limit"
        )


def check_memory(memory, function: str) -> None:
    if not _is_size(memory):
        raise LipboundsError(
            f"{function}: memory = {short(memory)} must be a number of GiB that is not negative; "
            "math.inf sets no limit"
        )


def check_degree(degree, function: str) -> None:
    if degree is not None and not _is_whole(degree, 1, 2**31):
        raise LipboundsError(
            f"{function}: degree = {short(degree)} must be a whole number, the polynomial's degree "
            "or more; None takes the least sets"
        )


def check_progress(progress, function: str) -> None:
    if progress is not None and not callable(progress):
        raise LipboundsError(
            f"{function}: progress = {short(progress)} must be a function that is called with what "
            "is found, or None"
        )


def check_seed(seed, function: str) -> None:
    if not _is_whole(seed, -(2**63), 2**64):
        raise LipboundsError(f"{function}: seed = {short(seed)} must be a whole number of 64 bits")


def _is_size(value) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= 0
    except OverflowError:  # a whole number beyond the floating-point ones
        return False


def _is_whole(value, low: int, high: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= value < high


OPTION_CHECKS = {
    "seconds": check_seconds,
    "budget": check_budget,
    "memory": check_memory,
    "degree": check_degree,
    "progress": check_progress,
}


def checked_points(points, network: Network, function: str) -> Tensor:
    """Given data as (N, n), N >= 1, on the network's device."""
    data = real_tensor(points, f"{function}: points").to(network.device)
    size = network.input_size
    if data.ndim < 2 or data.numel() == 0 or math.prod(data.shape[1:]) != size:
        raise LipboundsError(
            f"{function}: points of shape {tuple(data.shape)} must be an array (N, {size}) of "
            f"inputs of the network{_such(data, size)}"
        )
    if not bool(torch.isfinite(data).all()):
        raise LipboundsError(f"{function}: points have NaN or infinite entries")
    return data.reshape(len(data), size)


def _such(data: Tensor, size: int) -> str:
    return "; for a single one pass points[None]" if data.numel() == size else ""


def check_options(name: str, known: Sequence[str], options: Mapping) -> None:
    """That a bound has all of these options, with values that can be meant."""
    if not isinstance(options, Mapping):
        raise LipboundsError(f"options of {name} must be a dictionary, not {options!r}")
    for option, value in options.items():
        if option not in known:
            has = ", ".join(known) or "none"
            raise UnsupportedError(f"{name} has no option {option!r}; it has {has}")
        if option in OPTION_CHECKS:
            OPTION_CHECKS[option](value, name)


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

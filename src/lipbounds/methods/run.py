"""Bounds by their names: one, or a table of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..arguments import (
    check_network,
    check_options,
    check_progress,
    checked_list,
    checked_options,
)
from ..arithmetic.rounding import finite
from ..clock import now
from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import NORMS, checked_norm
from ..networks.network import Network
from ..networks.rewrite import distinct_treatments, treated
from ..results import Bound
from .registry import BOUNDS, PAPER, Method, registered


def bound(
    network: Network, name: str, norm: float = 2, treatment: str = "implicit", **options
) -> Bound:
    """One bound of the Lipschitz constant of `network` in the l1, l2 or l-infinity norm.

    name: a key of BOUNDS. norm: 1, 2 or math.inf. treatment: of convolutions and max-pooling,
    "implicit" keeps them whole, "explicit" rewrites them as matrices and between stages.
    options: the method's own, such as the `budget` of K_2; `seconds`, which every method takes, at
    most: where they are over, those that go by steps give the best that is proven by then, and say
    so in `status`; the others have none, and raise LipboundsError with what they would have needed.
    Raises UnsupportedError for an unknown name, norm or treatment, or a bound not defined in that
    norm; LipboundsError where the network is too large for it, or its arithmetic breaks down.
    """
    check_network(network, "bound")
    method, norm = checked(name, norm, options)
    return _run(method, norm, treatment, treated(network, treatment), options)


def bounds(
    network: Network,
    names: Iterable[str] | None = None,
    norms: Iterable[float] = NORMS,
    treatments: Sequence[str] | None = None,
    options: Mapping[str, Mapping] | None = None,
    progress: Callable[[Bound], None] | None = None,
) -> pd.DataFrame:
    """All requested bounds in one tidy table: treatment, norm, bound, value, lower, seconds,
    reason (the limit that stopped the method; else empty).

    Bounds not defined in a norm are left out. By default those of the paper (PAPER); both
    treatments where the network has convolutions or max-pooling and the two may differ, else
    "explicit" where they coincide.
    `options` holds a method's own options under its name: {"K_2": {"budget": 1e8}}.
    An ensemble adds the column `sample`, with `seconds` shared out evenly. `progress` is called
    with each result as it comes. Raises as `bound` does, before any work for a bad argument.
    """
    check_network(network, "bounds")
    check_progress(progress, "bounds")
    names = checked_list(PAPER if names is None else names, "names", "bounds")
    norms = [checked_norm(p) for p in checked_list(norms, "norms", "bounds")]
    options = checked_options(options, BOUNDS, "bounds")
    wanted = distinct_treatments(network) if treatments is None else treatments
    wanted = checked_list(wanted, "treatments", "bounds")
    for what, given in (("bounds", names), ("norms", norms), ("treatments", wanted)):
        if not given:
            raise LipboundsError(f"no {what} requested")
    pairs = [(name, p) for p in norms for name in names if p in registered(name).norms]
    for name, p in pairs:
        checked(name, p, options.get(name, {}))
    frames = []
    for treatment, form in [(one, treated(network, one)) for one in wanted]:
        for method, p in [(registered(name), p) for name, p in pairs]:
            if treatments is None and treatment not in method.worth(network):
                continue
            result = _run(method, p, treatment, form, options.get(method.name, {}))
            if progress is not None:
                progress(result)
            frames.append(_rows(result, network.batch_shape))
    if not frames:
        raise UnsupportedError(f"none of {names} is defined in any of the norms {norms}")
    return pd.concat(frames, ignore_index=True)


def checked(name: str, norm: float, options: Mapping) -> tuple[Method, float]:
    method, norm = registered(name), checked_norm(norm)
    if norm not in method.norms:
        defined = ", ".join(f"{p:g}" for p in method.norms)
        raise UnsupportedError(f"{name} is not defined for norm {norm:g}; only for {defined}")
    check_options(name, method.options, options)
    return method, norm


def _run(method: Method, norm: float, treatment: str, treated: Network, options: Mapping) -> Bound:
    start = now()
    with torch.no_grad():
        found = method.run(treated, norm, **options)
    seconds = now() - start
    upper = _plain(finite(found.upper, f"{method.name} in norm {norm:g}"))
    lower = None if found.lower is None else _plain(found.lower)
    return replace(found, upper=upper, lower=lower, treatment=treatment, seconds=seconds)


def _rows(result: Bound, batch_shape: tuple[int, ...]) -> pd.DataFrame:
    count = int(np.prod(batch_shape))
    lower = np.nan if result.lower is None else result.lower
    frame = pd.DataFrame(
        {
            "sample": np.arange(count),
            "treatment": result.treatment,
            "norm": result.norm,
            "bound": result.name,
            "value": np.broadcast_to(result.upper, batch_shape).reshape(-1),
            "lower": np.broadcast_to(lower, batch_shape).reshape(-1),
            "seconds": result.seconds / count,
            "reason": result.reason,
        }
    )
    return frame if batch_shape else frame.drop(columns="sample")


def _plain(value: Tensor) -> float | np.ndarray:
    return value.cpu().numpy() if value.ndim else float(value)

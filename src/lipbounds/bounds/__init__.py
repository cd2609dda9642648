"""The registry of bounds, and the functions that run them.

Every bound is a function `(network, norm, **its own options)` that returns a tensor of shape
`network.batch_shape`; a pair `(upper, lower)` where it has a lower end of its own.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..arguments import (
    breakdown_reported,
    check_network,
    check_options,
    checked_list,
    checked_options,
)
from ..errors import LipboundsError, UnsupportedError
from ..network import Network
from ..norms import NORMS, checked_norm
from ..operators import Convolution
from ..results import Bound
from ..rewrite import explicit, scaled_inputs
from ..rounding import finite
from ..scaling import balanced
from .absolute import absolute
from .averaged import averaged, averaged_map
from .best import Least, best
from .combettes_pesquet import combettes_pesquet
from .eclipse import eclipse, eclipse_fast
from .ellipsoidal import ellipsoidal, ellipsoidal_rows
from .equivalence import norm_equivalence
from .geolip import geolip
from .liplt import liplt
from .lipopt import lipopt
from .lipsdp import lipsdp_layer, lipsdp_neuron
from .path_norm import path_norm
from .product import product
from .seqlip import seqlip


@dataclass(frozen=True)
class Method:
    """A bound's function and the norms it is defined for."""

    compute: Callable[..., Tensor | float | tuple[Tensor, Tensor] | Least]
    norms: tuple[float, ...] = NORMS

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The names of the method's own options."""
        return tuple(inspect.signature(self.compute).parameters)[2:]

    @property
    def name(self) -> str:
        """Its key in BOUNDS."""
        return next((name for name, one in BOUNDS.items() if one is self), "a bound")

    def run(self, network: Network, norm: float, **options) -> "Result":
        """The bound with what comes with it, computed on the balanced network, where nothing under-
        or overflows."""
        scale = balanced(network)
        with breakdown_reported(f"{self.name} in norm {norm:g}"):
            result = self.compute(scale.network, norm, **_told(options, scale.upper))
        lower = winner = None
        if isinstance(result, tuple):
            result, lower = result
            lower = scale.lower(lower)
        elif isinstance(result, Least):
            result, winner = result.value, result.winner
        value = torch.as_tensor(result, dtype=torch.float64, device=network.device)
        return Result(scale.upper(value.expand(network.batch_shape)), lower, winner)

    def upper(self, network: Network, norm: float, **options) -> Tensor:
        """The bound alone, shape `network.batch_shape`, finite."""
        return finite(self.run(network, norm, **options).value, "a bound")


@dataclass(frozen=True)
class Result:
    """An upper bound of shape `network.batch_shape`, the method's own lower end, and its winner."""

    value: Tensor
    lower: Tensor | None
    winner: str | np.ndarray | None


PAPER = ("K_star", "K_1", "K_2", "K_3", "K_4")
BOUNDS: dict[str, Method] = {
    "K_star": Method(product),
    "K_1": Method(combettes_pesquet),
    "K_2": Method(seqlip, (2.0,)),
    "K_3": Method(absolute),
    "K_4": Method(averaged),
    "K_5": Method(ellipsoidal),
    "path_norm": Method(path_norm),
    "liplt": Method(liplt, (2.0,)),
    "lipsdp_neuron": Method(lipsdp_neuron, (2.0,)),
    "lipsdp_layer": Method(lipsdp_layer, (2.0,)),
    "eclipse": Method(eclipse, (2.0,)),
    "eclipse_fast": Method(eclipse_fast, (2.0,)),
    "geolip": Method(geolip, (1.0, math.inf)),
    "lipopt": Method(lipopt, (1.0, math.inf)),
}
BOUNDS["norm_equivalence"] = Method(partial(norm_equivalence, BOUNDS))
BOUNDS["best"] = Method(partial(best, BOUNDS))
TREATMENTS = ("explicit", "implicit")


def bound(
    network: Network, name: str, norm: float = 2, treatment: str = "implicit", **options
) -> Bound:
    """One bound of the Lipschitz constant of `network` in the l1, l2 or l-infinity norm.

    name: a key of BOUNDS. norm: 1, 2 or math.inf. treatment: of convolutions and max-pooling,
    "implicit" keeps them whole, "explicit" rewrites them as matrices and between stages.
    options: the method's own, such as the `budget` of K_2.
    Raises UnsupportedError for an unknown name, norm or treatment, or a bound not defined in that
    norm; LipboundsError where the network is too large for it, or its arithmetic breaks down.
    """
    check_network(network, "bound")
    method, norm = _checked(name, norm, options)
    return _run(method, name, norm, treatment, _treated(network, treatment), options)


def bounds(
    network: Network,
    names: Iterable[str] | None = None,
    norms: Iterable[float] = NORMS,
    treatments: Sequence[str] | None = None,
    options: Mapping[str, Mapping] | None = None,
    progress: Callable[[Bound], None] | None = None,
) -> pd.DataFrame:
    """All requested bounds in one tidy table: treatment, norm, bound, value, lower, seconds.

    Bounds not defined in a norm are left out. By default those of the paper (PAPER); both
    treatments where the network has convolutions or max-pooling, else they coincide and only
    "explicit" is listed.
    `options` holds a method's own options under its name: {"K_2": {"budget": 1e8}}.
    An ensemble adds the column `sample`, with `seconds` shared out evenly. `progress` is called
    with each result as it comes. Raises as `bound` does, before any work for a bad argument.
    """
    check_network(network, "bounds")
    names = checked_list(PAPER if names is None else names, "names", "bounds")
    norms = [checked_norm(p) for p in checked_list(norms, "norms", "bounds")]
    options = checked_options(options, BOUNDS, "bounds")
    if treatments is None:
        treatments = distinct_treatments(network)
    treatments = checked_list(treatments, "treatments", "bounds")
    for what, given in (("bounds", names), ("norms", norms), ("treatments", treatments)):
        if not given:
            raise LipboundsError(f"no {what} requested")
    pairs = [(name, p) for p in norms for name in names if p in registered(name).norms]
    for name, p in pairs:
        _checked(name, p, options.get(name, {}))
    frames = []
    for treatment, treated in [(one, _treated(network, one)) for one in treatments]:
        for name, p in pairs:
            own = options.get(name, {})
            result = _run(registered(name), name, p, treatment, treated, own)
            if progress is not None:
                progress(result)
            frames.append(_rows(result, network.batch_shape))
    if not frames:
        raise UnsupportedError(f"none of {names} is defined in any of the norms {norms}")
    return pd.concat(frames, ignore_index=True)


def sensitivity(network: Network, eps, name: str = "K_4", **options) -> Tensor:
    """Upper bounds of |f_i(x) - f_i(x')| over all |x_j - x'_j| <= eps_j.

    eps: radii >= 0, shape (n_0,) or `input_shape`, in the inputs' units. name: "K_4" for F_4(eps),
    in milliseconds; "K_5" for the least sqrt(mu nu) of each output (docs/k5.md) that is
    proven within its options `seconds` (60) and `steps`, never above F_4's, the less of both
    treatments; progress(elapsed seconds, bounds) is called with better ones.
    Returns (n_out,), (S, n_out) for an ensemble, in the outputs' units. Raises LipboundsError for
    radii that do not fit, UnsupportedError for another name or option.
    """
    check_network(network, "sensitivity")
    radii = _radii(network, eps)
    if name not in ("K_4", "K_5"):
        raise UnsupportedError(f"sensitivity has no {name!r}; it has K_4, K_5")
    _checked(name, math.inf, options)
    with torch.no_grad(), breakdown_reported(f"the sensitivity by {name}"):
        scale = balanced(scaled_inputs(network, radii))
        if name == "K_4":
            ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
            moved = averaged_map(scale.network, ones).squeeze(-2)
        else:
            moved = ellipsoidal_rows(scale.network, **_told(options, scale.upper_rows))
    return finite(scale.upper_rows(moved), f"the sensitivity by {name}")


def _told(options: Mapping, change: Callable[[Tensor], Tensor]) -> dict:
    """The options, with `progress` hearing of bounds as `change` makes them."""
    progress = options.get("progress")
    if progress is None:
        return dict(options)
    return {**options, "progress": lambda elapsed, value: progress(elapsed, change(value))}


def _radii(network: Network, eps) -> Tensor:
    try:
        radii = torch.as_tensor(eps, dtype=torch.float64, device=network.device).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LipboundsError(f"sensitivity: radii must be an array of numbers: {error}") from None
    if len(radii) != network.input_size:
        raise LipboundsError(f"{len(radii)} radii for {network.input_size} inputs")
    if not bool((torch.isfinite(radii) & (radii >= 0)).all()):
        raise LipboundsError("radii must be finite and not negative")
    return radii


def _checked(name: str, norm: float, options: Mapping) -> tuple[Method, float]:
    method, norm = registered(name), checked_norm(norm)
    if norm not in method.norms:
        defined = ", ".join(f"{p:g}" for p in method.norms)
        raise UnsupportedError(f"{name} is not defined for norm {norm:g}; only for {defined}")
    check_options(name, method.options, options)
    return method, norm


def _treated(network: Network, treatment: str) -> Network:
    if treatment not in TREATMENTS:
        raise UnsupportedError(f"unknown treatment {treatment!r}; take one of {TREATMENTS}")
    return explicit(network) if treatment == "explicit" else network


def _run(
    method: Method, name: str, norm: float, treatment: str, treated: Network, options: Mapping
) -> Bound:
    start = time.perf_counter()
    with torch.no_grad():
        result = method.run(treated, norm, **options)
    seconds = time.perf_counter() - start
    value = _plain(finite(result.value, f"{name} in norm {norm:g}"))
    lower = None if result.lower is None else _plain(result.lower)
    return Bound(name, norm, treatment, value, lower, seconds, result.winner)


def _rows(result: Bound, batch_shape: tuple[int, ...]) -> pd.DataFrame:
    count = int(np.prod(batch_shape))
    lower = np.nan if result.lower is None else result.lower
    frame = pd.DataFrame(
        {
            "sample": np.arange(count),
            "treatment": result.treatment,
            "norm": result.norm,
            "bound": result.name,
            "value": np.broadcast_to(result.value, batch_shape).reshape(-1),
            "lower": np.broadcast_to(lower, batch_shape).reshape(-1),
            "seconds": result.seconds / count,
        }
    )
    return frame if batch_shape else frame.drop(columns="sample")


def registered(name: str) -> Method:
    """The registry's entry `name`; UnsupportedError names the known ones."""
    if not isinstance(name, str) or name not in BOUNDS:
        raise UnsupportedError(f"unknown bound {name!r}; known are {', '.join(BOUNDS)}")
    return BOUNDS[name]


def distinct_treatments(network: Network) -> tuple[str, ...]:
    """Both where the network has convolutions or max-pooling, else "explicit": they coincide."""
    operators = [affine.operator for affine in network.affines]
    factors = [f for o in operators for f in getattr(o, "factors", (o,))]
    both = network.has_pools or any(isinstance(f, Convolution) for f in factors)
    return TREATMENTS if both else ("explicit",)


def _plain(value: Tensor) -> float | np.ndarray:
    return value.cpu().numpy() if value.ndim else float(value)


__all__ = [
    "BOUNDS",
    "PAPER",
    "TREATMENTS",
    "Bound",
    "Method",
    "bound",
    "bounds",
    "distinct_treatments",
    "registered",
    "sensitivity",
]

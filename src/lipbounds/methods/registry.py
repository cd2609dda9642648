"""The registry of bounds, and the functions that run them.

Every bound is a function `(network, norm, **its own options)` that returns a tensor of shape
`network.batch_shape`; a pair `(upper, lower)` where it has a lower end of its own.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from ..arguments import (
    breakdown_reported,
)
from ..arithmetic.rounding import finite
from ..errors import UnsupportedError
from ..linear.norms import NORMS
from ..networks.network import Network
from ..networks.scaling import balanced
from .absolute import absolute
from .averaged import averaged
from .best import Least, best
from .combettes_pesquet import combettes_pesquet
from .eclipse import eclipse, eclipse_fast
from .ellipsoidal import ellipsoidal
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
            result = self.compute(scale.network, norm, **told(options, scale.upper))
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


def told(options: Mapping, change: Callable[[Tensor], Tensor]) -> dict:
    """The options, with `progress` hearing of bounds as `change` makes them."""
    progress = options.get("progress")
    if progress is None:
        return dict(options)
    return {**options, "progress": lambda elapsed, value: progress(elapsed, change(value))}


def registered(name: str) -> Method:
    """The registry's entry `name`; UnsupportedError names the known ones."""
    if not isinstance(name, str) or name not in BOUNDS:
        raise UnsupportedError(f"unknown bound {name!r}; known are {', '.join(BOUNDS)}")
    return BOUNDS[name]

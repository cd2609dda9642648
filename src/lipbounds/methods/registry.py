"""The registry of bounds.

Every bound is a function `(network, norm, **its own options)` that returns upper bounds, a tensor
of shape `network.batch_shape` or a number, or a `Bound` where there is more to say. It is named by
its place, and imported when it first runs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module

import torch
from torch import Tensor

from ..arguments import breakdown_reported
from ..arithmetic.rounding import finite
from ..clock import OutOfTime, limited
from ..errors import UnsupportedError
from ..linear.norms import NORMS
from ..networks.network import Network
from ..networks.rewrite import TREATMENTS, distinct_treatments
from ..networks.scaling import balanced
from ..results import Bound
from . import costs

L2, OTHERS = (2.0,), (1.0, math.inf)
EXPLICIT = ("explicit",)  # of those that take no max-pooling kept whole


@dataclass(frozen=True)
class Method:
    """A bound as it is known to all who use it.

    name: its key in BOUNDS. place: "module:function" below `lipbounds.methods`, or the function
    itself. label: as figures and tables write it. norms: those it is defined in. own: the names of
    the function's own options, after (network, norm); `seconds` among them means that it gives the
    best that is proven when they are over. Every other method takes `seconds` too, and may raise
    OutOfTime. treatments: those worth computing where a network has both. cost: an estimate of its
    multiply-adds on (network, norm). flexible: whether it has less to give there for less. counts:
    the norms in which it counts the roundings of the conversion itself.
    """

    name: str
    place: str | Callable
    label: str
    norms: tuple[float, ...] = NORMS
    own: tuple[str, ...] = ()
    treatments: tuple[str, ...] = TREATMENTS
    cost: Callable[[Network, float], float] = costs.unknown
    flexible: Callable[[Network, float], bool] = costs.never
    counts: tuple[float, ...] = ()

    @cached_property
    def compute(self) -> Callable[..., Tensor | float | Bound]:
        if callable(self.place):
            return self.place
        module, function = self.place.split(":")
        return getattr(import_module(f"{__package__}.{module}"), function)

    def worth(self, network: Network) -> tuple[str, ...]:
        """The treatments in which the bound is worth computing."""
        distinct = distinct_treatments(network)
        return tuple(one for one in distinct if one in self.treatments) or distinct

    @property
    def options(self) -> tuple[str, ...]:
        """The names of all options."""
        return self.own if "seconds" in self.own else (*self.own, "seconds")

    @property
    def anytime(self) -> bool:
        """Whether a limit of seconds leaves it with a bound."""
        return "seconds" in self.own

    def run(self, network: Network, norm: float, **options) -> Bound:
        """The bound of the balanced network, where nothing under- or overflows, scaled back."""
        scale, counted = balanced(network), norm in self.counts
        upper_of = partial(scale.upper, counted=counted)
        limit = math.inf if self.anytime else options.pop("seconds", math.inf)
        what = f"{self.name} in norm {norm:g}"
        with breakdown_reported(what), limited(limit):
            try:
                found = self.compute(scale.network, norm, **told(options, upper_of))
            except OutOfTime as error:
                needed = costs.said(self.cost(network, norm))
                raise OutOfTime(f"{what}: {error}; {needed}") from None
        if not isinstance(found, Bound):
            found = Bound(found)
        upper = torch.as_tensor(found.upper, dtype=torch.float64, device=network.device)
        upper = upper_of(upper.expand(network.batch_shape))
        lower = None if found.lower is None else scale.lower(found.lower)
        return replace(found, upper=upper, lower=lower, name=self.name, norm=norm)

    def upper(self, network: Network, norm: float, **options) -> Tensor:
        """The bound alone, shape `network.batch_shape`, finite."""
        return finite(self.run(network, norm, **options).upper, self.name)


PAPER = ("K_star", "K_1", "K_2", "K_3", "K_4")
METHODS = (
    Method("K_star", "product:product", "$K_*$", cost=costs.product, counts=NORMS),
    Method(
        "K_1",
        "combettes_pesquet:combettes_pesquet_within",
        "$K_1$",
        own=("seconds",),
        cost=costs.combettes_pesquet,
        flexible=costs.by_fourier,
    ),
    Method("K_2", "seqlip:seqlip", "$K_2$", L2, ("budget",), cost=costs.seqlip),
    Method("K_3", "absolute:absolute", "$K_3$", cost=costs.absolute),
    Method(
        "K_4",
        "averaged:averaged_within",
        "$K_4$",
        own=("seconds",),
        cost=costs.averaged,
        flexible=costs.always,
    ),
    Method(
        "K_5",
        "ellipsoidal:ellipsoidal",
        "$K_5$",
        own=("seconds", "progress", "steps", "memory"),
        treatments=("implicit",),  # the same programs for both
        counts=L2,
    ),
    Method("path_norm", "path_norm:path_norm", "path norm", cost=costs.one_pass),
    Method("liplt", "liplt:liplt", "LipLT", L2, cost=costs.combettes_pesquet),
    Method(
        "lipsdp_neuron",
        "lipsdp:lipsdp_neuron",
        "LipSDP-Neuron",
        L2,
        ("seconds",),
        EXPLICIT,
    ),
    Method("lipsdp_layer", "lipsdp:lipsdp_layer", "LipSDP-Layer", L2, ("seconds",), EXPLICIT),
    Method("eclipse", "eclipse:eclipse", "ECLipsE", L2, ("seconds",), EXPLICIT),
    Method(
        "eclipse_fast",
        "eclipse:eclipse_fast",
        "ECLipsE-Fast",
        L2,
        treatments=EXPLICIT,
        cost=costs.eclipse_fast,
    ),
    Method("geolip", "geolip:geolip", "GeoLIP", OTHERS, ("seconds",), EXPLICIT),
    Method("lipopt", "lipopt:lipopt", "LiPopt", OTHERS, ("seconds", "degree"), EXPLICIT),
    Method(
        "norm_equivalence",
        "equivalence:norm_equivalence",
        "norm equivalence",
        own=("base",),
        cost=costs.norm_equivalence,
    ),
    Method("best", "best:best", "best", own=("names", "options", "seconds"), counts=NORMS),
)
BOUNDS = {method.name: method for method in METHODS}


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

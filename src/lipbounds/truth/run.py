"""The truth, as far as it can be had: lower bounds, the relaxation optimum, the exact constant."""

import math
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from ..arguments import (
    breakdown_reported,
    check_cap,
    check_network,
    check_options,
    check_seconds,
    check_seed,
    checked_points,
)
from ..arithmetic.rounding import finite
from ..clock import OutOfTime, limited, now
from ..linear.norms import checked_norm
from ..methods.averaged import averaged
from ..networks.network import Network
from ..networks.rewrite import explicit
from ..networks.scaling import balanced
from ..results import Bound
from .exact import problem, solved
from .lower import secant_lower_bound
from .relaxation import relaxation_optimum as _relaxation_optimum


def lower_bound(
    network: Network, norm: float = 2, seed: int = 0, points: Tensor | None = None, **options
) -> Bound:
    """`lower`, the greatest secant quotient || f(x) - f(y) ||_p / || x - y ||_p found, with its
    `witness`; `upper` is infinite.

    norm: 1, 2 or math.inf. points: (N, n) or (N, *input_shape), given data to search at as well.
    options: `seconds` to search at most. See `lipbounds.truth.lower`.
    """
    check_network(network, "lower_bound")
    check_options("lower_bound", ("seconds",), options)
    check_seed(seed, "lower_bound")
    points = None if points is None else checked_points(points, network, "lower_bound")
    start = now()
    norm = checked_norm(norm)
    with breakdown_reported(f"lower_bound in norm {norm:g}"):
        found = secant_lower_bound(network, norm, seed=seed, points=points, **options)
    return replace(found, name="lower_bound", norm=norm, seconds=now() - start)


def relaxation_optimum(network: Network, norm: float = 2, seconds: float = 60.0) -> Bound:
    """D*_p >= Lip_p, the best that any bound can be which knows of each stage only its pair (C, R):
    `upper` and `lower` are its two ends, equal up to rounding where `seconds` were enough; `status`
    says whether time or rounding keeps them apart.

    norm: 1, 2 or math.inf. Max-pooling is treated explicitly, but for K_4 of the network as it is,
    which bounds the same linearisations. Raises OutOfTime where `seconds` are not enough for K_4.
    See `lipbounds.truth.relaxation`.
    """
    check_network(network, "relaxation_optimum")
    check_seconds(seconds, "relaxation_optimum")
    start = now()
    norm = checked_norm(norm)
    with torch.no_grad(), breakdown_reported(f"the relaxation optimum in norm {norm:g}"):
        scale, cap = balanced(network), math.inf
        if network.has_pools:
            with suppress(OutOfTime), limited(seconds):
                cap = float(averaged(scale.network, norm))
        left = seconds - (now() - start)
        found = _relaxation_optimum(explicit(scale.network), norm, left, cap)
        upper, lower = (
            torch.tensor(end, dtype=torch.float64) for end in (found.upper, found.lower)
        )
        upper = float(finite(scale.upper(upper), "the relaxation optimum"))
        lower = float(scale.lower(lower))
    return replace(found, upper=upper, lower=lower, **_asked("D_star", norm, start))


def exact(
    network: Network,
    norm: float = math.inf,
    radius: float | Tensor = math.inf,
    center: Tensor | None = None,
    seconds: float = 60.0,
    cap: float = math.inf,
) -> Bound:
    """The exact Lipschitz constant in l1 or l-infinity over the box |x_i - center_i| <= radius_i,
    of R^n where `radius` is infinite: [`lower` with its `witness`, `upper`], which meet up to a
    relative 1e-6 where `seconds` were enough, but for cells that could neither be entered nor be
    proven to have no interior (see `lipbounds.truth.exact`).

    norm: 1 or math.inf. radius, center: numbers or (n,). cap: an upper bound known already, such
    as D*; else a quarter of `seconds` at most goes to D*. Over R^n another quarter goes to
    `lower_bound`, where the search starts. See `lipbounds.truth.exact`.
    """
    check_network(network, "exact")
    check_seconds(seconds, "exact")
    check_cap(cap, "exact")
    start = now()
    norm = checked_norm(norm)
    posed = problem(network, norm, radius, center)  # refuses at once what it cannot treat
    with torch.no_grad(), breakdown_reported(f"exact in norm {norm:g}"):
        if cap == math.inf:
            with suppress(OutOfTime):
                cap = relaxation_optimum(network, norm, seconds / 4).upper
        point = None
        if math.isinf(float(torch.as_tensor(radius).max())):
            x, y = secant_lower_bound(network, norm, seconds=seconds / 4).witness
            point = (x + y) / 2
        found = solved(posed, seconds - (now() - start), cap, point)
    return replace(found, **_asked("exact", norm, start))


def _asked(name: str, norm: float, start: float) -> dict:
    return {"name": name, "norm": norm, "treatment": "explicit", "seconds": now() - start}

"""`best`: the least of several bounds, with the name of the one that gave it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..arguments import check_options, checked_list, checked_options
from ..arithmetic.rounding import finite
from ..clock import OutOfTime, left, limited
from ..errors import LipboundsError, UnsupportedError
from ..networks.network import Network
from ..results import Bound, Status
from .registry import BOUNDS, Method

# Those that apply to every network and need no solver.
QUICK = ("K_star", "K_1", "K_3", "K_4", "norm_equivalence")


def best(
    network: Network,
    norm: float,
    names: Sequence[str] = QUICK,
    options: Mapping[str, Mapping] | None = None,
    seconds: float = math.inf,
) -> Bound:
    """The least of the bounds `names`, with its `winner`: an upper bound of Lip_p.

    Methods that are not defined in `norm`, or refuse the network (too large, a stage they cannot
    treat), are passed over; so are those that do not end within `seconds`, which all share, the
    first of them first. `options`: as of `lipbounds.bounds`. Raises UnsupportedError for an
    unknown name or option, LipboundsError with the reasons where no method is left.
    """
    names, others = checked_list(names, "names", "best"), [n for n in BOUNDS if n != "best"]
    unknown = [name for name in names if name not in others]
    if unknown:
        raise UnsupportedError(f"best: {unknown} are not names of other bounds")
    options = checked_options(options, others, "best")
    for name, own in options.items():
        check_options(name, BOUNDS[name].options, own)
    found, statuses, reasons, late = {}, {}, [], ""
    with limited(seconds):
        for method in (BOUNDS[name] for name in names):
            if norm not in method.norms:
                reasons.append(f"{method.name} is not defined in norm {norm:g}")
                continue
            try:
                one = method.run(network, norm, **_options(method, options))
                found[method.name] = finite(one.upper, method.name)
                statuses[method.name] = one.status
            except LipboundsError as error:
                reasons.append(f"{method.name}: {error}")
                late = method.name if isinstance(error, OutOfTime) else late
    if not found:
        raise LipboundsError(f"best: no bound is left; {'; '.join(reasons)}")
    least, index = torch.stack(list(found.values())).min(0)
    winner = np.array(list(found))[index.cpu().numpy()]
    status, undone = (Status.TIME, f"{late} not done") if late else _worst(statuses)
    return Bound(least, None, status, undone, winner if network.batch_shape else str(winner))


def _worst(statuses: Mapping[str, Status]) -> tuple[Status, str]:
    """With more of what stopped them, any of them may have been the least."""
    worst = Status.worst(statuses.values())
    stopped = [name for name, status in statuses.items() if status is not Status.CONVERGED]
    return worst, f"{', '.join(stopped)} not at the end" if stopped else ""


def _options(method: Method, options: Mapping[str, Mapping]) -> dict:
    """The method's own, and what is left of the time."""
    own = dict(options.get(method.name, {}))
    if method.anytime:
        own["seconds"] = min(own.get("seconds", math.inf), left())
    return own

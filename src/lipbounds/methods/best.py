"""`best`: the least of several bounds, with the name of the one that gave it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_options, checked_list, checked_options
from ..errors import LipboundsError, UnsupportedError
from ..networks.network import Network

# Those that apply to every network and need no solver.
QUICK = ("K_star", "K_1", "K_3", "K_4", "norm_equivalence")


@dataclass(frozen=True)
class Least:
    """The least value, and the method it comes from: a name, or an array of names."""

    value: Tensor
    winner: str | np.ndarray


def best(
    methods: Mapping,
    network: Network,
    norm: float,
    names: Sequence[str] = QUICK,
    options: Mapping[str, Mapping] | None = None,
) -> Least:
    """The least of the bounds `names` of the registry `methods`, an upper bound of Lip_p.

    Methods that are not defined in `norm`, or refuse the network (too large, a stage they cannot
    treat), are passed over. `options`: as of `lipbounds.bounds`. Raises UnsupportedError for an
    unknown name or option, LipboundsError with the reasons where no method is left.
    """
    names, others = checked_list(names, "names", "best"), [n for n in methods if n != "best"]
    unknown = [name for name in names if name not in others]
    if unknown:
        raise UnsupportedError(f"best: {unknown} are not names of other bounds")
    options = checked_options(options, others, "best")
    for name, own in options.items():
        check_options(name, methods[name].options, own)
    values, reasons = {}, []
    for name in names:
        if norm not in methods[name].norms:
            reasons.append(f"{name} is not defined in norm {norm:g}")
            continue
        try:
            values[name] = methods[name].upper(network, norm, **options.get(name, {}))
        except LipboundsError as error:
            reasons.append(f"{name}: {error}")
    if not values:
        raise LipboundsError(f"best: no bound is left; {'; '.join(reasons)}")
    least, index = torch.stack(list(values.values())).min(0)
    found = np.array(list(values))[index.cpu().numpy()]
    return Least(least, found if network.batch_shape else str(found))

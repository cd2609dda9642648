"""Bounds in one norm from bounds in another: cheap, and at times better than any direct one."""

import math

from torch import Tensor

from ..arithmetic.rounding import finite
from ..errors import UnsupportedError
from ..networks.network import Network
from ..results import Bound
from .between_norms import from_columns, from_rows, from_sums
from .registry import BOUNDS


def norm_equivalence(network: Network, norm: float, base: str | None = None) -> Bound:
    """l-infinity and l1 from l2, by rows and by columns; l2 from l1 and l-infinity.

    base: the method taken in the other norm, by default K_1 in l2 and K_4 in
    l1 and l-infinity. `upper` is a bound of Lip_p, shape `network.batch_shape`.
    Raises UnsupportedError for an unknown base, or one not defined in the other norm.
    """
    base = base if base is not None else ("K_4" if norm == 2 else "K_1")
    needed = (1.0, math.inf) if norm == 2 else (2.0,)
    others = {name: one.norms for name, one in BOUNDS.items() if name != "norm_equivalence"}
    if not isinstance(base, str) or not set(needed) <= set(others.get(base, ())):
        raise UnsupportedError(
            f"norm_equivalence in norm {norm:g}: base {base!r} must be another bound that is "
            f"defined in norm {' and '.join(f'{p:g}' for p in needed)}"
        )
    convert = {1.0: from_columns, 2.0: from_sums, math.inf: from_rows}[norm]
    statuses = []

    def upper(network: Network, norm: float) -> Tensor:
        one = BOUNDS[base].run(network, norm)
        statuses.append(one.status)
        return finite(one.upper, base)

    return Bound.of_parts(convert(network, upper), statuses, f"values of {base}")

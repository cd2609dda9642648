"""Bounds in one norm from bounds in another: cheap, and at times better than any direct one."""

import math

from torch import Tensor

from ..errors import UnsupportedError
from ..networks.network import Network
from .between_norms import from_columns, from_rows, from_sums
from .registry import BOUNDS


def norm_equivalence(network: Network, norm: float, base: str | None = None) -> Tensor:
    """l-infinity and l1 from l2, by rows and by columns; l2 from l1 and l-infinity.

    base: the method taken in the other norm, by default K_1 in l2 and K_4 in
    l1 and l-infinity. Returns an upper bound of Lip_p, shape `network.batch_shape`.
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
    return convert(network, BOUNDS[base].upper)

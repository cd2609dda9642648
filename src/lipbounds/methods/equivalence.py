"""Bounds in one norm from bounds in another: cheap, and at times better than any direct one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arithmetic.rounding import outward
from ..clock import watched
from ..errors import UnsupportedError
from ..networks.network import Network
from ..networks.rewrite import input_column, output_row
from .registry import BOUNDS

COLUMNS = 64  # inputs up to which l1 goes column by column

Compute = Callable[[Network, float], Tensor]


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


def from_rows(network: Network, compute: Compute) -> Tensor:
    """|| J ||_inf = max_i || J_i ||_1 <= sqrt(n) max_i || J_i ||_2, one l2 bound per output row i.

    compute: an l2 bound `(network, 2.0) -> Tensor`. Returns an upper bound of Lip_inf.
    """
    rows = [
        compute(output_row(network, i), 2.0)
        for i in watched(range(network.output_size), "all outputs")
    ]
    return _scaled(network.input_size, torch.stack(rows).amax(0))


def from_columns(network: Network, compute: Compute) -> Tensor:
    """|| J ||_1 = max_k || J e_k ||_1 <= sqrt(m) max_k || J e_k ||_2, one l2 bound per input k;
    with more than COLUMNS inputs <= sqrt(m) || J ||_2. Returns an upper bound of Lip_1."""
    if network.input_size > COLUMNS:
        return _scaled(network.output_size, compute(network, 2.0))
    columns = [
        compute(input_column(network, k), 2.0)
        for k in watched(range(network.input_size), "all inputs")
    ]
    return _scaled(network.output_size, torch.stack(columns).amax(0))


def from_sums(network: Network, compute: Compute) -> Tensor:
    """|| J ||_2 <= min(sqrt(|| J ||_1 || J ||_inf), sqrt(n) || J ||_1, sqrt(m) || J ||_inf).

    compute: a bound in l1 and l-infinity. Returns an upper bound of Lip_2.
    """
    one, infinity = compute(network, 1.0), compute(network, math.inf)
    schur = outward(one.sqrt() * infinity.sqrt(), 4)
    others = _scaled(network.input_size, one), _scaled(network.output_size, infinity)
    return torch.minimum(schur, torch.minimum(*others))


def _scaled(count: int, value: Tensor) -> Tensor:
    return outward(math.sqrt(count) * value, 4)

"""A bound in one norm made of bounds in another, by rows, columns, or both sums."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arithmetic.rounding import outward
from ..clock import watched
from ..networks.network import Network
from ..networks.rewrite import input_column, output_row

COLUMNS = 64  # inputs up to which l1 goes column by column

Compute = Callable[[Network, float], Tensor]


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

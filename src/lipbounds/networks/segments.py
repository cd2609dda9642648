"""Segments A_{k<-j} = R_k W_{k-1} C_{k-1} ... C_{j+1} W_j, 0 <= j < k <= L + 1, R_{L+1} = I.

All bounds that see cancellation across layers are built from them. They are never held whole:
rows of A_{k<-j} are pulled back through the network, one block at a time, which gives the rows of
A_{k<-k-1}, A_{k<-k-2}, ..., A_{k<-0} in turn at the price of one pass.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..clock import check
from ..linear.operators import Identity, Operator, slices
from ..linear.rows import FILLED, DenseRows, SparseRows, start
from .network import Network


def radius(network: Network, k: int) -> Operator:
    """R_k, and R_{L+1} = I at the output."""
    if k <= network.depth:
        return network.stages[k - 1].radius
    return Identity(network.output_size, network.device)


def row_blocks(network: Network, k: int) -> Iterator[slice]:
    """Blocks of the rows of R_k, small enough for memory."""
    return slices(radius(network, k).shape[0], _row_entries(network, k))


def _row_entries(network: Network, k: int) -> int:
    """The most entries that one row of R_k takes as it is pulled back, over the whole ensemble:
    while few are not zero a row is sparse, and dense it has FILLED^-1 times as many at most."""
    operators = [affine.operator for affine in network.affines]
    if network.batch_shape or network.device.type != "cpu":
        return max(max(one.shape) for one in operators) * math.prod(network.batch_shape)
    reach = most = radius(network, k).row_entries
    for j in range(k - 1, -1, -1):
        reach = min(operators[j].shape[1], reach * operators[j].row_entries)
        most = max(most, min(operators[j].shape[1], reach / FILLED))
        if j == 0 or (center := network.stages[j - 1].center) is None:
            break
        reach = min(center.shape[1], reach * center.row_entries)
    return int(most)


def pulled_back(
    network: Network, k: int, rows: slice
) -> Iterator[tuple[int, DenseRows | SparseRows]]:
    """(j, A_{k<-j}[rows, :]) for j = k - 1, ..., 0, down to where a stage cuts (C = 0).

    Raises OutOfTime once a limit of time is over.
    """
    block = start(
        radius(network, k), rows, network.affines[k - 1].operator, bool(network.batch_shape)
    )
    for j in range(k - 1, -1, -1):
        check(f"the segments that end at stage {k} of {network.depth + 1}")
        block = block.pull(network.affines[j].operator)
        yield j, block
        if j == 0 or network.stages[j - 1].center is None:
            return
        block = block.pull(network.stages[j - 1].center)


def zeros(network: Network, *shape: int) -> Tensor:
    """A float64 tensor (*batch_shape, *shape) of zeros on the network's device."""
    return torch.zeros((*network.batch_shape, *shape), dtype=torch.float64, device=network.device)

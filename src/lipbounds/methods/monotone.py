"""Operator norms from a monotone map F with F(v) >= |J| v: what K_3 and K_4 have in common."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arithmetic.rounding import outward
from ..clock import watched
from ..linear.norms import matrix_norm
from ..linear.operators import identity_rows, slices
from ..networks.network import Network

Map = Callable[[Network, Tensor], Tensor]


def norm_from_map(network: Network, norm: float, forward: Map, adjoint: Map) -> Tensor:
    """p = inf: max F(1). p = 1: max_k sum F(e_k), which without implicit pools is the maximum of
    the transposed map at 1. p = 2: the spectral norm of the matrix with columns F(e_k)."""
    n, m = network.input_size, network.output_size
    ones = torch.ones(1, n if norm == math.inf else m, dtype=torch.float64, device=network.device)
    if norm == math.inf:
        return forward(network, ones).amax((-2, -1))
    if network.has_pools:
        matrix = map_of_units(network, n, forward).mT
    elif norm == 1:
        return adjoint(network, ones).amax((-2, -1))
    elif m <= n:
        matrix = map_of_units(network, m, adjoint)
    else:
        matrix = map_of_units(network, n, forward).mT
    if norm == 1:
        return outward(matrix.sum(-2), m).amax(-1)
    return matrix_norm(matrix, 2)


def map_of_units(network: Network, size: int, one_map: Map) -> Tensor:
    """The map at all unit vectors, by blocks: row k is F(e_k)."""
    width = sum(max(affine.operator.shape) for affine in network.affines)
    parts = list(slices(size, width * math.prod(network.batch_shape)))
    return torch.cat(
        [
            one_map(network, identity_rows(size, rows, network.device))
            for rows in watched(parts, "the map at all unit vectors")
        ],
        -2,
    )

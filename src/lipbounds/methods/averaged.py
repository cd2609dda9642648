"""K_4: the norm of the averaged map F_4 (Pintore & Després 2024, as reconstructed in
docs/theory.md); see `lipbounds.networks.averaged_map`."""

import math

import torch
from torch import Tensor

from ..arithmetic.rounding import finite
from ..networks.averaged_map import averaged_adjoint, averaged_map
from ..networks.network import Network
from .monotone import norm_from_map


def averaged(network: Network, norm: float) -> Tensor:
    """K_4(p): max F_4(1) for p = inf, max_k sum F_4(e_k) for p = 1, and the certified spectral norm
    of the matrix with columns F_4(e_k) for p = 2.

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    """
    return norm_from_map(network, norm, averaged_map, averaged_adjoint)


def averaged_sums(network: Network, norm: float) -> Tensor:
    """K_4 of each output alone (p = inf), F_4(1), or of each input alone (p = 1), the transposed
    map at 1; (..., n_out) or (..., n_0), for networks without implicit pools. The greatest is K_4.

    Raises LipboundsError where it overflows.
    """
    size = network.input_size if norm == math.inf else network.output_size
    one_map = averaged_map if norm == math.inf else averaged_adjoint
    ones = torch.ones(1, size, dtype=torch.float64, device=network.device)
    return finite(one_map(network, ones).squeeze(-2), "K_4")

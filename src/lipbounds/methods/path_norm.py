"""The l1 path norm: the sum over all paths from an input to an output of the product of the
absolute weights on it (Neyshabur, Tomioka, Srebro 2015; with max-pooling: Gonon et al. 2024)."""

import torch
from torch import Tensor

from ..arithmetic.rounding import outward
from ..networks.network import Network
from .absolute import absolute_map


def path_norm(network: Network, norm: float) -> Tensor:
    """sum_i F_3(1)_i = 1^T |W_L| (|C_L| + |R_L|) ... |W_0| 1, the same for all norms.

    It is at least sum_ij |J_ij| for every linearisation J, which no operator norm exceeds, p in
    {1, 2, inf}. K_3 is the greatest row or column sum of the matrix that is summed up here, so
    K_3 <= path norm <= m K_3 in l-infinity and <= n K_3 in l1 (m outputs, n inputs), up to rounding
    (docs/competitors.md). Returns an upper bound of Lip_p, shape `network.batch_shape`.
    """
    ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
    return outward(absolute_map(network, ones).sum((-2, -1)), network.output_size)


def factored_path_norm(network: Network, norm: float) -> Tensor:
    """The path norm of a composed map's factors, each by its majorant: not less, and no product is
    formed, so that it takes one pass of one vector at any size. Otherwise as `path_norm`."""
    ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
    total = outward(network.majorant(ones), network.terms).sum((-2, -1))
    return outward(total, network.output_size).expand(network.batch_shape)

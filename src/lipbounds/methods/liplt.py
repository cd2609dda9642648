"""LipLT: the Lipschitz constant by loop transformation (Fazlyab, Entesari, Roy, Chellappa 2023)."""

from dataclasses import replace

from torch import Tensor

from ..networks.network import Network
from .combettes_pesquet import combettes_pesquet


def liplt(network: Network, norm: float) -> Tensor:
    """L_0 = 1, L_k = max_j (beta_kj - alpha_kj) / 2 sum_{j<k} || W_{k-1} C_{k-1} ... W_j ||_2 L_j.

    The loop transformation writes an activation as C z + R psi(z), psi with slopes in [-1, 1], and
    the network as a sum of linear chains. K_1 has R inside the norms, || R A || <= || R || || A ||:
    K_1 <= LipLT, equal where each stage has one interval of slopes. Other stages are as in K_1.
    Returns an upper bound of Lip_2, shape `network.batch_shape`.
    Source: M. Fazlyab, T. Entesari, A. Roy, R. Chellappa, NeurIPS 2023, sec. 4.
    """
    stages = tuple(stage.common_radius() for stage in network.stages)
    return combettes_pesquet(replace(network, stages=stages), norm)

"""K_3: absolute values layer by layer (Pintore & Després 2024, as reconstructed in docs/theory.md).

F_3(v): v <- |W_i| v at an affine map, v <- (|C_k| + |R_k|) v at a stage, v <- maxpool(v) at an
implicit pool. F_3(v) >= |J| v for every linearisation J of the network.
"""

from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from ..networks.network import Network
from .monotone import norm_from_map


def absolute(network: Network, norm: float) -> Tensor:
    """K_3(p): max F_3(1) for p = inf, max_k sum F_3(e_k) for p = 1, and the certified spectral norm
    of the matrix with columns F_3(e_k) for p = 2.

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    """
    return norm_from_map(network, norm, absolute_map, absolute_adjoint)


def absolute_map(network: Network, v: Tensor) -> Tensor:
    """F_3(v) for v >= 0 of shape (c, n_0), one vector per row; returns (..., c, n_out)."""
    exact = rounded = v
    for i, affine in enumerate(network.affines):
        if i:
            exact, rounded = (network.stages[i - 1].majorant(x) for x in (exact, rounded))
        exact = affine.operator.absolute().apply(exact)
        rounded = affine.operator.majorant().apply(rounded)
    return outward(exact, network.terms) + gamma(network.terms) * rounded


def absolute_adjoint(network: Network, w: Tensor) -> Tensor:
    """The transposed map at w >= 0 (c, n_out), for networks without implicit pools."""
    exact = rounded = w
    for i in range(network.depth, -1, -1):
        exact = network.affines[i].operator.absolute().adjoint(exact)
        rounded = network.affines[i].operator.majorant().adjoint(rounded)
        if i:
            exact, rounded = (network.stages[i - 1].majorant_adjoint(x) for x in (exact, rounded))
    return outward(exact, network.terms) + gamma(network.terms) * rounded

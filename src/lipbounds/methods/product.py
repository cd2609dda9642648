"""K_*: the product of the layers' norms (the worst case; AutoLip of Virmaux & Scaman 2018)."""

from torch import Tensor

from ..arithmetic.rounding import outward
from ..clock import check
from ..linear.norms import operator_norm
from ..networks.network import Network


def product(network: Network, norm: float) -> Tensor:
    """K_*(p) = prod_i ||W_i||_p prod_k s_k(p), s_k >= the norm of every linearisation of stage k.

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    Source: bounds.md; Szegedy et al. 2014, sec. 4.3; Virmaux & Scaman 2018, alg. 1.
    """
    value = operator_norm(network.affines[0].operator, norm)
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        check("the norms of all layers are known")
        value = value * stage.norm(norm) * operator_norm(affine.operator, norm)
    return outward(value, 4 * network.depth + 4).expand(network.batch_shape)

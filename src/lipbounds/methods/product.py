"""K_*: the product of the layers' norms (the worst case; AutoLip of Virmaux & Scaman 2018)."""

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from ..clock import check
from ..linear.norms import majorant_norm, operator_norm
from ..linear.operators import Operator
from ..networks.network import Network

LEAST = 2.0**-480  # of a block: underflow, 2^-1074 at a time, is lost beside it


def product(network: Network, norm: float) -> Tensor:
    """K_*(p) = prod_i ||W_i||_p prod_k s_k(p), s_k >= the norm of every linearisation of stage k;
    or, where stages carry neurons of slopes [1, 1] on, the product of their norms by blocks.

    Carried and other neurons of a stage are blocks I, of factors s_I (1, and the others' greatest
    slope): block I of y = S W x has || y_I || <= s_I sum_J || W_IJ || || x_J ||. A bound on all of
    x holds for each block too, so that a value by blocks is never above the plain product, and
    K_* of y + F(y) is 1 + K_*(F) where that is less.
    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`, also of what
    the network was before its conversion rounded it.
    Source: Szegedy et al. 2014, sec. 4.3; Virmaux & Scaman 2018, alg. 1; docs/theory.md.
    """
    whole = torch.ones((), dtype=torch.float64, device=network.device)
    blocks, values = [(None, 1.0)], [whole]
    for k, affine in enumerate(network.affines):
        check("the norms of all layers are known")
        last = k == network.depth
        ahead = [(None, 1.0)] if last else network.stages[k].partition(norm)
        factor = 1.0 if last else network.stages[k].norm(norm)
        whole = whole * _norm(affine.operator, norm, network.roundings) * factor
        values = [
            torch.minimum(_reach(affine.operator, rows, blocks, values, norm, network) * own, whole)
            for rows, own in ahead
        ]
        blocks = ahead
        if len(blocks) == 1:
            whole = values[0]
    return outward(whole, 4 * network.depth + 4).expand(network.batch_shape)


def _reach(operator, rows, blocks, values, norm: float, network: Network) -> Tensor:
    """sum_J || W_IJ || v_J over the blocks J in front of a map, for the neurons I = `rows`."""
    total = sum(
        _norm(operator.restricted(rows, columns), norm, network.roundings) * value
        for (columns, _), value in zip(blocks, values, strict=True)
    )
    return total if rows is None and len(blocks) == 1 else total.clamp(min=LEAST)


def _norm(operator: Operator, norm: float, roundings: int) -> Tensor:
    """|| W ||_p of every W whose entries are those of the operator but for so many roundings."""
    value = operator_norm(operator, norm)
    if roundings == 0:
        return value
    if norm == 2:
        return value + gamma(roundings) * majorant_norm(operator)
    return outward(value, roundings)

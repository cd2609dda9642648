"""K_1: the bound of Combettes & Pesquet (2020), norms of all segments."""

import math

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from ..networks.network import Network
from ..networks.segments import pulled_back, radius, row_blocks, zeros


def combettes_pesquet(network: Network, norm: float) -> Tensor:
    """T_0 = 1, T_k = sum_{j<k} ||A_{k<-j}||_p T_j, K_1 = T_{L+1}, in O(L^2) segments.

    For ReLU this is 2^-L times the sum over the 2^L subsets of cuts of the product of the
    segments' norms. An implicit pool cuts, and multiplies by its own norm.
    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    Source: P. L. Combettes, J.-C. Pesquet, SIAM J. Math. Data Sci. 2 (2020), 529-557, thm 4.2.
    """
    totals = [zeros(network) + 1.0]
    for k in range(1, network.depth + 2):
        if norm == 2:
            total = _spectral_total(network, k, totals)
        else:
            total = _sums_total(network, k, totals, norm)
        cut = k <= network.depth and network.stages[k - 1].center is None
        totals.append(total * network.stages[k - 1].norm(norm) if cut else total)
    return outward(totals[-1], 4 * (network.depth + 2) ** 2)


def _spectral_total(network: Network, k: int, totals: list[Tensor]) -> Tensor:
    """sum_{j<k} ||A_{k<-j}||_2 T_j.

    Rounding adds gamma times sum_j ||E_j||_2 T_j, E_j = |R_k| ... |W_j|, which by Cauchy-Schwarz is
    at most the root of sum_j ||E_j||_inf T_j (itself at most k times the row error) times
    sum_j ||E_j||_1 T_j.
    """
    every = slice(0, radius(network, k).shape[0])
    total = sum(block.spectral_norm() * totals[j] for j, block in pulled_back(network, k, every))
    rows, columns = (error(network, k, totals) for error in (_row_error, _column_error))
    error = (k * rows * columns).sqrt()
    return outward(total, network.terms) + gamma(network.terms) * error


def _sums_total(network: Network, k: int, totals: list[Tensor], norm: float) -> Tensor:
    """sum_{j<k} ||A_{k<-j}||_p T_j by greatest absolute row (inf) or column (1) sums."""
    sums: dict[int, Tensor] = {}
    for rows in row_blocks(network, k):
        for j, block in pulled_back(network, k, rows):
            if norm == math.inf:
                best = block.sums(-1).amax(-1)
                sums[j] = torch.maximum(sums[j], best) if j in sums else best
            else:
                part = block.sums(-2)
                sums[j] = sums[j] + part if j in sums else part
    norms = {j: value if norm == math.inf else value.amax(-1) for j, value in sums.items()}
    total = sum(value * totals[j] for j, value in norms.items())
    error = _row_error if norm == math.inf else _column_error
    return outward(total, network.terms) + gamma(network.terms) * error(network, k, totals)


def _row_error(network: Network, k: int, totals: list[Tensor]) -> Tensor:
    """max of sum_j |R_k| |W_{k-1}| |C_{k-1}| ... |W_j| 1 T_j: what gamma multiplies, norm inf."""
    x = zeros(network, network.input_size)
    for i in range(k):
        affine = network.affines[i].operator
        x = _centered(network, i, x) + totals[i].unsqueeze(-1)
        x = affine.majorant().apply(x.unsqueeze(-2)).squeeze(-2)
    return radius(network, k).majorant().apply(x).amax(-1)


def _centered(network: Network, i: int, x: Tensor) -> Tensor:
    """|C_i| x at the output of stage i, zero where it cuts; x itself at the input (i = 0)."""
    if i == 0:
        return x
    center = network.stages[i - 1].center
    if center is None:
        return zeros(network, network.stages[i - 1].shape[0])
    return center.majorant().apply(x)


def _column_error(network: Network, k: int, totals: list[Tensor]) -> Tensor:
    """sum_j || |R_k| |W_{k-1}| |C_{k-1}| ... |W_j| ||_1 T_j: what gamma multiplies, norm 1."""
    r = radius(network, k).majorant()
    x = r.adjoint(zeros(network, r.shape[0]) + 1.0)
    error = zeros(network)
    for j in range(k - 1, -1, -1):
        x = network.affines[j].operator.majorant().adjoint(x.unsqueeze(-2)).squeeze(-2)
        error = error + x.amax(-1) * totals[j]
        if j == 0 or network.stages[j - 1].center is None:
            break
        x = network.stages[j - 1].center.majorant().adjoint(x)
    return error

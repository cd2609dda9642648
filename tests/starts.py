"""Multipliers that are feasible from the start, for the form Q of `lipbounds.quadratic.form`.

With forward vectors r_k > sum_{j<k} |A_{k<-j}| r_j and backward vectors
s_j > sum_{k>j} |A_{k<-j}|^T s_k (segments A of docs/theory.md), the multipliers mu = s_0 / r_0,
lambda_k = s_k / r_k and nu = r_{L+1} / s_{L+1} make Q positive definite: by Cauchy-Schwarz

    (A_{k<-j} e_j ...)_i^2 <= r_ki sum_j |A_{k<-j}|_i e_j^2 / r_j .

With equalities instead, (sum mu + sum nu) / 2 is K_4 itself (docs/k5.md).
"""

import torch
from torch import Tensor

from lipbounds.networks.network import Network
from lipbounds.networks.segments import pulled_back, radius, row_blocks, zeros
from lipbounds.quadratic.form import Multipliers

FLOOR = 1e-6  # of the vectors' means: keeps dead neurons off 0 and the start off the cone's edge


def averaged_start(network: Network, v: Tensor, w: Tensor) -> Multipliers:
    """Strictly feasible multipliers whose value is about w^T F_4(v), F_4 the map of K_4.

    v: (..., c, n_0) input radii >= 0, w: (..., c, n_out) output weights >= 0, of c programs; the
    multipliers are (..., c, n). For networks without implicit pools.
    """
    last = network.depth + 1
    r = [_lifted(zeros(network, *v.shape[-2:]) + v)]
    for k in range(1, last + 1):
        total = zeros(network, v.shape[-2], radius(network, k).shape[0])
        for rows in row_blocks(network, k):
            for j, block in pulled_back(network, k, rows):
                total[..., rows] += block.times(r[j])
        r.append(_lifted(total))
    sums = [torch.zeros_like(x) for x in r]
    sums[last] = zeros(network, *w.shape[-2:]) + w
    for k in range(last, 0, -1):
        s_k = sums[k] = _lifted(sums[k])
        for rows in row_blocks(network, k):
            for j, block in pulled_back(network, k, rows):
                sums[j] += block.transposed_times(s_k[..., rows])
    sums[0] = _lifted(sums[0])
    stages = [b / a for a, b in zip(r[1:-1], sums[1:-1], strict=True)]
    return Multipliers(sums[0] / r[0], stages, r[-1] / sums[-1])


def _lifted(x: Tensor) -> Tensor:
    """x plus FLOOR times its mean; where all is 0, 1."""
    mean = x.mean(-1, keepdim=True)
    return x * (1 + FLOOR) + torch.where(mean > 0, FLOOR * mean, 1.0)

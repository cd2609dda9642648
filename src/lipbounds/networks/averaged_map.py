"""F_4, the map of K_4: absolute values segment by segment (Pintore & Després 2024, as reconstructed
in docs/theory.md), and its transpose.

F_4(v): r_0 = v, r_k = sum_{j<k} |A_{k<-j}| r_j, F_4(v) = r_{L+1}. For ReLU it is 2^-L times the sum
over the subsets of cuts of |segment| ... |segment| v. At an implicit pool r = maxpool of the bound
on the pool's input. F_4(v) >= |J| v for every linearisation J of the network.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from .network import Network
from .segments import pulled_back, radius, row_blocks, zeros

Total = Callable[[Network, int, Sequence[Tensor], Tensor], Tensor]


def averaged_map(network: Network, v: Tensor) -> Tensor:
    """F_4(v) for v >= 0 of shape (c, n_0), one vector per row; returns (..., c, n_out)."""
    return recursion(network, v, segments_total)


def recursion(network: Network, v: Tensor, total: Total) -> Tensor:
    """F(v) by bounds on |R_k z_k|, (..., c, rows of R_k): `total(network, k, r, through)` makes
    them of r[j], those on the deviations |e_j| of the stages before. For rounding, through is
    sum_j |W_{k-1}| |C_{k-1}| ... |W_j| r_j."""
    r = [zeros(network, *v.shape[-2:]) + v]
    through = r[0]
    for k in range(1, network.depth + 2):
        through = network.affines[k - 1].operator.majorant().apply(through)
        bound = total(network, k, r, through)
        if k > network.depth:
            return bound
        stage = network.stages[k - 1]
        r.append(stage.spread(bound))
        through = r[k] if stage.center is None else r[k] + stage.center.majorant().apply(through)
    raise AssertionError("unreachable: the loop returns at the output")


def segments_total(network: Network, k: int, r: Sequence[Tensor], through: Tensor) -> Tensor:
    """sum_j |A_{k<-j}| r_j, rounded outward: the error of a computed segment is at most gamma |R_k|
    |W_{k-1}| |C_{k-1}| ... |W_j|."""
    total = zeros(network, r[0].shape[-2], radius(network, k).shape[0])
    for rows in row_blocks(network, k):
        for j, block in pulled_back(network, k, rows):
            total[..., rows] += block.times(r[j])
    error = gamma(network.terms) * radius(network, k).majorant().apply(through)
    return outward(total, network.terms) + error


def averaged_adjoint(network: Network, w: Tensor) -> Tensor:
    """The transposed map at w >= 0 (c, n_out), for networks without implicit pools.

    s_{L+1} = w, s_j = sum_{k>j} |A_{k<-j}|^T s_k; returns s_0 (..., c, n_0), rounded outward.
    """
    count, error = w.shape[-2], gamma(network.terms)
    last = network.depth + 1
    s = [zeros(network, count, a.operator.shape[1]) for a in network.affines]
    s.append(zeros(network, count, network.output_size) + w)
    through = zeros(network, count, network.output_size)
    for k in range(last, 0, -1):
        if k < last:
            # All contributions to s_k are in: add the error of the segments that start there.
            s[k] = outward(s[k], network.terms) + error * through
            stage = network.stages[k - 1]
            through = stage.center.majorant().adjoint(through)
        add_segments_adjoint(network, k, s)
        through = through + radius(network, k).majorant().adjoint(s[k])
        through = network.affines[k - 1].operator.majorant().adjoint(through)
    return outward(s[0], network.terms) + error * through


def add_segments_adjoint(network: Network, k: int, s: list[Tensor]) -> None:
    """Adds |A_{k<-j}|^T s_k to s_j for each j < k, down to a cut; without the roundings."""
    for rows in row_blocks(network, k):
        for j, block in pulled_back(network, k, rows):
            s[j] += block.transposed_times(s[k][..., rows])

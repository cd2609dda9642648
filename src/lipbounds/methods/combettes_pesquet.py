"""K_1: the bound of Combettes & Pesquet (2020), norms of all segments."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from ..clock import OutOfTime, limited
from ..linear.norms import LARGEST_GRAM, norm_by_fourier
from ..linear.operators import Convolution
from ..networks.network import Network
from ..networks.plane import Plane, along
from ..networks.segments import pulled_back, radius, row_blocks, zeros
from ..results import Bound, Status
from . import costs
from .product import product

Total = Callable[[Network, int, list[Tensor]], Tensor]


def combettes_pesquet(network: Network, norm: float) -> Tensor:
    """T_0 = 1, T_k = sum_{j<k} ||A_{k<-j}||_p T_j, K_1 = T_{L+1}, in O(L^2) segments.

    For ReLU this is 2^-L times the sum over the 2^L subsets of cuts of the product of the
    segments' norms. An implicit pool cuts, and multiplies by its own norm.
    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    Source: P. L. Combettes, J.-C. Pesquet, SIAM J. Math. Data Sci. 2 (2020), 529-557, thm 4.2.
    """
    if norm == 2:
        return _recursion(network, norm, _spectral_total)
    return _recursion(network, norm, partial(_sums_total, norm=norm))


def combettes_pesquet_within(network: Network, norm: float, seconds: float = math.inf) -> Bound:
    """K_1(p), or in l2, where `seconds` are not enough, the less of K_* and of K_1 on a torus:
    segments of convolutions by Fourier, the others as they are (docs/theory.md, proposition 28).

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`. Raises
    OutOfTime where `seconds` are enough for neither.
    """
    with limited(seconds):
        cost = costs.combettes_pesquet(network, norm)
        dear = costs.dear(cost) or costs.largest_gram(network) > LARGEST_GRAM
        if not (dear and costs.by_fourier(network, norm)):
            return Bound(combettes_pesquet(network, norm))
        least = on_a_torus(network)
        try:
            least = torch.minimum(least, product(network, norm))
            if not costs.hopeless(cost):
                return Bound(torch.minimum(least, combettes_pesquet(network, norm)))
        except OutOfTime:
            pass
        return Bound(least, status=Status.TIME, left="segments with the edges of images")


def on_a_torus(network: Network) -> Tensor:
    """K_1(2) with the segments of convolutions on a torus, 0-d. For single networks."""
    plane = Plane(network)

    def total(network: Network, k: int, totals: list[Tensor]) -> Tensor:
        convolutions = plane.chain(k)
        if convolutions is None:
            return _spectral_total(network, k, totals)
        return _torus_total(plane, k, convolutions, totals)

    return _recursion(network, 2.0, total)


def _recursion(network: Network, norm: float, total: Total) -> Tensor:
    """T_{L+1} from `total(network, k, [T_0, ..., T_{k-1}])` >= || h_k ||, or || z_k || at a cut."""
    totals = [zeros(network) + 1.0]
    for k in range(1, network.depth + 2):
        value = total(network, k, totals)
        cut = k <= network.depth and network.stages[k - 1].center is None
        totals.append(value * network.stages[k - 1].norm(norm) if cut else value)
    return outward(totals[-1], 4 * (network.depth + 2) ** 2)


def _torus_total(plane: Plane, k: int, convolutions, totals: list[Tensor]) -> Tensor:
    """sum_{j<k} || A_{k<-j} ||_2 T_j of the torus: the norm of a computed kernel by Fourier, and
    gamma times the root of the row and column sums of the product of absolute values."""
    channels = None if k > plane.network.depth else plane.stages[k - 1]
    result, terms = zeros(plane.network), plane.terms
    every = slice(0, convolutions[0].out_shape[0])
    segments = plane.pulled_back(k, convolutions, every)
    for (j, kernel, majorant), (_, _, stride) in zip(segments, along(k, convolutions), strict=True):
        if channels is not None:
            kernel = kernel * channels.radius[:, None, None, None]
            majorant = majorant * channels.radius[:, None]
        terms += kernel[0].numel()
        error = gamma(terms) * (majorant.sum(0).amax() * majorant.sum(1).amax()).sqrt()
        value = _circular_norm(kernel, plane.sizes[j], stride) + outward(
            error, 2 * sum(majorant.shape)
        )
        result = result + value * totals[j]
    return outward(result, 2 * k + 2)


def _circular_norm(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The norm of the circular convolution by a kernel, on a torus."""
    return norm_by_fourier(Convolution(kernel, (kernel.shape[1], *size), stride))


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

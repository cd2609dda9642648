"""The relaxation optimum D* of small networks, or ensembles, by visiting all vertices."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import LipboundsError
from ..linear.norms import checked_norm
from ..linear.operators import dense
from ..networks.network import Network

MAXIMUM_NEURONS = 26  # 2^26 vertices: seconds at width 4, minutes at width 26
HALF_ENTRIES = 2**22  # entries of all matrices of one half (32 MiB)
BLOCK_ENTRIES = 2**16  # entries of the Jacobians formed at a time (512 KiB: a core's cache)

Slopes = tuple[Tensor, ...]  # one (2, n) per stage: the slopes alpha and beta of its neurons


def enumerated_optimum(network: Network, norm: float) -> float | Tensor:
    """D*_p = max over T in {-1, 1}^N of ||W_L S_L ... S_1 W_0||_p, S_k = C_k + T_k R_k.

    The supremum over |T| <= 1 is attained at a vertex, as the norm is convex in each entry of T.
    At a vertex, neuron j has slope alpha_j or beta_j; where they are equal it is not enumerated.
    The stages are cut into an upper and a lower half, J = U B: all U and all B are formed once,
    then all J by matrix products in blocks of bounded memory. Where a half would be too large, one
    of its neurons is fixed at either slope in turn.

    norm: 1, 2 or inf. Returns a float, or a tensor (S,) for an ensemble, exact up to rounding (in
    either direction). Raises LipboundsError beyond MAXIMUM_NEURONS enumerated neurons, and
    UnsupportedError for another norm or a stage that is not a slope stage.
    """
    norm = checked_norm(norm)
    slopes = tuple(map(torch.stack, network.slopes("the relaxation optimum by enumeration")))
    enumerated = sum(len(_free(pair)) for pair in slopes)
    if enumerated > MAXIMUM_NEURONS:
        raise LipboundsError(
            f"the relaxation optimum of a network with {enumerated} neurons has 2^{enumerated} "
            f"vertices; at most {MAXIMUM_NEURONS} neurons can be enumerated"
        )
    ensemble = [dense(a.operator).reshape(-1, *a.operator.shape) for a in network.affines]
    values = [_optimum(weights, slopes, norm, 0.0) for weights in zip(*ensemble, strict=True)]
    if not network.batch_shape:
        return values[0]
    return torch.tensor(values, dtype=torch.float64).reshape(network.batch_shape)


def _free(pair: Tensor) -> list[int]:
    """The neurons of a stage with two distinct slopes."""
    return (pair[0] != pair[1]).nonzero().flatten().tolist()


def _optimum(weights: tuple[Tensor, ...], slopes: Slopes, norm: float, incumbent: float) -> float:
    """max(incumbent, D*) of one network."""
    free = [len(_free(pair)) for pair in slopes]
    cut = min(range(len(free) + 1), key=lambda k: max(sum(free[:k]), sum(free[k:])))
    lower_entries = 2 ** sum(free[:cut]) * weights[0].shape[1] * max(map(len, weights[: cut + 1]))
    upper_entries = 2 ** sum(free[cut:]) * max(w.shape[1] for w in weights[cut:]) * len(weights[-1])
    half = range(cut) if lower_entries > upper_entries else range(cut, len(free))
    if max(lower_entries, upper_entries) > HALF_ENTRIES and any(free[k] for k in half):
        for fixed in _fix_one_neuron(slopes, max(half, key=free.__getitem__)):
            incumbent = _optimum(weights, fixed, norm, incumbent)
        return incumbent
    lower = _lower_products(weights[: cut + 1], slopes[:cut])
    upper = _upper_products(weights[cut + 1 :], slopes[cut:], lower.shape[1])
    if norm == 2:
        return _greatest_spectral_norm(upper, lower, incumbent)
    return _greatest_sum(upper, lower, norm, incumbent)


def _fix_one_neuron(slopes: Slopes, k: int) -> list[Slopes]:
    """The slopes with the first free neuron of stage k fixed at alpha, and at beta."""
    neuron = _free(slopes[k])[0]
    both = []
    for slope in slopes[k][:, neuron]:
        pair = slopes[k].clone()
        pair[:, neuron] = slope
        both.append((*slopes[:k], pair, *slopes[k + 1 :]))
    return both


def _vertices(pair: Tensor) -> Tensor:
    """All choices of slopes of one stage, (2^free, n)."""
    free = _free(pair)
    bits = (torch.arange(2 ** len(free))[:, None] >> torch.arange(len(free))) & 1
    vertices = pair[0].repeat(len(bits), 1)
    vertices[:, free] = torch.where(bits.bool(), pair[1, free], pair[0, free])
    return vertices


def _lower_products(weights: tuple[Tensor, ...], slopes: Slopes) -> Tensor:
    """W_k S_k ... S_1 W_0 for all vertices, (vertices, rows of W_k, inputs)."""
    products = weights[0].unsqueeze(0)
    for weight, pair in zip(weights[1:], slopes, strict=True):
        scaled = _vertices(pair)[:, None, :, None] * products
        products = weight @ scaled.flatten(0, 1)
    return products


def _upper_products(weights: tuple[Tensor, ...], slopes: Slopes, size: int) -> Tensor:
    """W_L S_L ... W_k S_k for all vertices, (vertices, outputs, size); the identity if empty."""
    if not weights:
        return torch.eye(size, dtype=torch.float64).unsqueeze(0)
    products = _scale_columns(weights[-1].unsqueeze(0), slopes[-1])
    for weight, pair in zip(weights[-2::-1], slopes[-2::-1], strict=True):
        products = _scale_columns(products @ weight, pair)
    return products


def _scale_columns(products: Tensor, pair: Tensor) -> Tensor:
    return (_vertices(pair)[:, None, None, :] * products).flatten(0, 1)


def _greatest_sum(upper: Tensor, lower: Tensor, norm: float, incumbent: float) -> float:
    """max(incumbent, ||U B||_p) over all pairs, p = 1 or inf."""
    right = lower.permute(1, 2, 0)  # the vertices last, for long inner loops
    entries = upper.shape[1] * right[0].numel()
    for part in upper.split(max(1, BLOCK_ENTRIES // entries)):
        products = torch.tensordot(part, right, 1)  # (vertices, outputs, inputs, vertices)
        sums = products.abs_().sum(1 if norm == 1 else 2)
        incumbent = max(incumbent, float(sums.max()))
    return incumbent


def _greatest_spectral_norm(upper: Tensor, lower: Tensor, incumbent: float) -> float:
    """max(incumbent, ||U B||_2) over all pairs. Only pairs whose Frobenius norm exceeds the
    incumbent are formed; ||U B||_F^2 = <U^T U, B B^T> comes from one matrix product for all."""
    left = (upper.mT @ upper).flatten(1)
    right = (lower @ lower.mT).flatten(1)
    rounding = 1e-12 * float(left.norm(dim=1).max() * right.norm(dim=1).max())
    start = 0
    for part in left.split(max(1, BLOCK_ENTRIES // len(right))):
        squares = part @ right.mT + rounding
        row, column = divmod(int(squares.argmax()), len(right))
        best = upper[start + row] @ lower[column]
        incumbent = max(incumbent, float(torch.linalg.matrix_norm(best, 2)))
        rows, columns = (squares > incumbent**2).nonzero(as_tuple=True)
        step = max(1, BLOCK_ENTRIES // best.numel())
        for i, j in zip(rows.split(step), columns.split(step), strict=True):
            incumbent = max(incumbent, _spectral_norms(upper[start + i] @ lower[j], incumbent))
        start += len(part)
    return incumbent


def _spectral_norms(matrices: Tensor, incumbent: float) -> float:
    """The greatest spectral norm, or a lesser number if none exceeds the incumbent.

    ||J||_2^8 <= tr((J J^T)^4) sorts out most matrices before any singular value is computed.
    """
    scaled = matrices / max(incumbent, 1e-300)
    gram = scaled @ scaled.mT if scaled.shape[1] <= scaled.shape[2] else scaled.mT @ scaled
    traces = (gram @ gram).square().sum((1, 2))
    promising = matrices[traces > 1 - 1e-12]
    return float(torch.linalg.svdvals(promising)[:, 0].max()) if len(promising) else 0.0

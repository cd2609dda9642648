"""Networks with fewer inputs and outputs, not smaller in l2 (docs/k5.md, proposition 20)."""

from dataclasses import replace

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from ..linear.operators import Dense
from .network import Affine, Network

LEAST_TRACE = 1e-200  # below which underflow would have to be counted


def narrowed(network: Network) -> Network:
    """A network with || J ||_2 <= || J' ||_2 for each linearisation J of `network` and the one J'
    that has the same slopes, and about equal. A first matrix W with more columns than rows becomes
    a square L with L L^T >= W W^T, a last one with more rows than columns an R with R^T R >= W^T W.
    It computes another function; what it has for inputs and outputs are coordinates of theirs."""
    affines = list(network.affines)
    if network.depth == 0:
        return network
    affines[0] = _square(affines[0], transposed=False)
    affines[-1] = _square(affines[-1], transposed=True)
    return replace(network, affines=tuple(affines), input_shape=None)


def _square(affine: Affine, transposed: bool) -> Affine:
    operator = affine.operator
    wide = operator.shape[::-1] if transposed else operator.shape
    if not isinstance(operator, Dense) or wide[0] >= wide[1]:
        return affine
    weight = operator.weight.mT if transposed else operator.weight
    factor = _root(weight)
    if factor is None:
        return affine
    if not transposed:
        return Affine(Dense(factor), affine.offset)
    return Affine(Dense(factor.mT), affine.offset.new_zeros((*operator.batch_shape, wide[0])))


def _root(weight: Tensor) -> Tensor | None:
    """L (..., m, m) with L L^T >= W W^T for W (..., m, n); None where that fails."""
    m, n = weight.shape[-2:]
    gram = weight @ weight.mT
    trace = outward(gram.diagonal(dim1=-2, dim2=-1).sum(-1), m + n)
    shift = 4 * gamma(m + n + 4) * trace
    if not bool((trace > LEAST_TRACE).all()) or not bool(torch.isfinite(trace).all()):
        return None
    gram.diagonal(dim1=-2, dim2=-1).add_(shift.unsqueeze(-1))
    # On the CPU: its kernels are those that the error bound is of (theory.md, section 14).
    factor, info = torch.linalg.cholesky_ex(gram.cpu())
    return None if bool(info.any()) else factor.to(gram.device)

"""Symmetric block tridiagonal matrices, in batches: Cholesky, log-determinant, inverses.

A matrix is (diagonal, below): blocks D_k (..., n_k, n_k) and those below them, B_k, (..., n_k,
n_{k-1}), k >= 1. Factorising costs the sum of the cubes of the n_k.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """Per block the Cholesky factor L_k of its Schur complement, and L_{k-1}^{-1} B_k^T."""

    cholesky: list[Tensor]
    coupling: list[Tensor]
    positive: Tensor  # (...), whether the factorisation ran to its end

    @property
    def log_determinant(self) -> Tensor:
        logs = [factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) for factor in self.cholesky]
        return 2 * torch.stack(logs).sum(0)


def factorise(diagonal: list[Tensor], below: list[Tensor]) -> Factors:
    """The Cholesky factorisation of a batch, block after block; where it breaks down, `positive` is
    False and the factors mean nothing."""
    cholesky, coupling, failed = [], [], torch.zeros_like(diagonal[0][..., 0, 0], dtype=torch.bool)
    for k, block in enumerate(diagonal):
        if bool(failed.all()):  # spare the rest
            cholesky.append(torch.zeros_like(block))
            coupling.append(torch.zeros_like(below[k - 1].mT))
            continue
        if k:
            lower = torch.linalg.solve_triangular(cholesky[-1], below[k - 1].mT, upper=False)
            block = block - lower.mT @ lower
            coupling.append(lower)
        factor, info = torch.linalg.cholesky_ex(block)
        cholesky.append(factor)
        failed = failed | (info != 0)
    ends = torch.cat([factor.diagonal(dim1=-2, dim2=-1) for factor in cholesky], -1)
    sound = ((ends > 0) & torch.isfinite(ends)).all(-1)
    return Factors(cholesky, coupling, sound & ~failed)


def inverse(factors: Factors) -> Tensor:
    """The whole inverse, (..., N, N), from its last block upwards:
    Z_{k,j} = -G_k Z_{k+1,j} for j > k and Z_kk = S_k^{-1} + G_k Z_{k+1,k+1} G_k^T, S_k the Schur
    complement and G_k = S_k^{-1} B_{k+1}^T. Of no meaning where the factorisation broke down."""
    cholesky = factors.cholesky
    if not bool(factors.positive.all()):  # a zero on the diagonal is an error to torch
        kept = factors.positive[..., None, None]
        cholesky = [torch.where(kept, f, torch.eye(f.shape[-1]).to(f)) for f in cholesky]
    sizes = [factor.shape[-1] for factor in cholesky]
    batch, total = cholesky[-1].shape[:-2], sum(sizes)
    whole = cholesky[-1].new_empty(*batch, total, total)
    stop = total
    for k in range(len(sizes) - 1, -1, -1):
        start, factor = stop - sizes[k], cholesky[k]
        block = torch.cholesky_inverse(factor)
        if k < len(sizes) - 1:
            g = torch.linalg.solve_triangular(factor.mT, factors.coupling[k], upper=True)
            following = slice(stop, stop + sizes[k + 1])
            right = -g @ whole[..., following, stop:]
            whole[..., start:stop, stop:] = right
            whole[..., stop:, start:stop] = right.mT
            block = block - right[..., : sizes[k + 1]] @ g.mT
        whole[..., start:stop, start:stop] = block
        stop = start
    return whole


def selected_inverse(
    factors: Factors, ends: Tensor, weights: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The blocks Z_kk and Z_k,k-1 of M^-1 + V diag(weights) V^T, where V = M^-1 (0, B) and `ends`
    is L^-1 B of the last block: what `inverse` gives, no more of it than is asked for."""
    factor = factors.cholesky[-1]
    vectors = torch.linalg.solve_triangular(factor.mT, ends, upper=True)
    diagonal, below = [torch.cholesky_inverse(factor) + (vectors * weights) @ vectors.mT], []
    for factor, coupling in zip(factors.cholesky[-2::-1], factors.coupling[::-1], strict=True):
        g = torch.linalg.solve_triangular(factor.mT, coupling, upper=True)
        side = diagonal[-1] @ g.mT
        below.append(-side)
        diagonal.append(torch.cholesky_inverse(factor) + g @ side)
    return diagonal[::-1], below[::-1]

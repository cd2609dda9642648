"""Positive definiteness, proven by Cholesky's factorisation.

Where it runs to its end, in floating point, for a symmetric H, then H >= -delta I with delta about
gamma tr(H) (Rump, BIT 46, 2006; docs/theory.md, theorem 16). So H >= 0 is proven by factorising
H - shift I with a shift that exceeds delta and all that H itself may be wrong by. Matrices are
block tridiagonal, (diagonal, below) as in `arithmetic.tridiagonal`; a dense one is a single block.
Skipping zero blocks changes no entry of the factor but the order of its sums, which the theorem
leaves open; the number of terms in such a sum is at most the width of two neighbouring blocks.
"""

from collections.abc import Sequence

import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .rounding import gamma, outward
from .tridiagonal import factorise

DENSE_EIGENVALUES = 1000  # beyond, one Lanczos run is faster than all eigenvalues
LEAST = 2.0**-1017  # for numbers below 2^-1022, which may be rounded coarsely or flushed to zero


def runs_to_its_end(diagonal: Sequence[Tensor], below: Sequence[Tensor] = ()) -> Tensor:
    """Whether the factorisation does, (...).

    On the CPU, wherever the blocks are: other devices may solve triangular systems by inverses of
    blocks, of which the theorem does not hold.
    """
    device = diagonal[0].device
    diagonal, below = ([block.cpu() for block in part] for part in (diagonal, below))
    return factorise(diagonal, below).positive.to(device)


def shortfall(trace: Tensor, terms: int) -> Tensor:
    """delta with H >= -delta I, for an H whose factorisation runs to its end, sums of at most
    `terms` products in its factor; trace >= tr(H)."""
    return gamma(terms + 2) * trace + terms**2 * LEAST * (1 + trace)


def terms_of(diagonal: Sequence[Tensor]) -> int:
    """The most products in a sum of the factor: the width of two neighbouring blocks."""
    sizes = [block.shape[-1] for block in diagonal]
    return max(a + b for a, b in zip([0, *sizes], sizes, strict=False))


def trace_of(diagonal: Sequence[Tensor]) -> Tensor:
    """At least the trace, negative entries left out, (...)."""
    entries = torch.cat([block.diagonal(dim1=-2, dim2=-1) for block in diagonal], -1)
    return outward(entries.clamp(min=0.0).sum(-1), entries.shape[-1])


def semidefinite(diagonal: Sequence[Tensor], below: Sequence[Tensor], error: Tensor) -> Tensor:
    """Whether every symmetric matrix within `error` (...), in spectral norm, of the given one is
    proven to be positive semidefinite, (...).

    The shift is subtracted in place. Matrices whose diagonal is about 1 have the most to gain.
    """
    # Twice the trace: a rounded h_ii - shift misses by at most u h_ii where the proof succeeds.
    shift = outward(error + shortfall(2 * trace_of(diagonal), terms_of(diagonal)), 4)
    for block in diagonal:
        block.diagonal(dim1=-2, dim2=-1).sub_(shift.unsqueeze(-1))
    return runs_to_its_end(diagonal, below)


def greatest_estimated(symmetric: Tensor) -> Tensor:
    """About the greatest eigenvalue, (...): what a proof may begin with, and no bound."""
    if symmetric.is_cuda or symmetric.shape[-1] <= DENSE_EIGENVALUES:
        return torch.linalg.eigvalsh(symmetric)[..., -1]
    matrices = symmetric.reshape(-1, *symmetric.shape[-2:])
    return torch.stack([_by_lanczos(one) for one in matrices]).reshape(symmetric.shape[:-2])


def _by_lanczos(symmetric: Tensor) -> Tensor:
    start = torch.linspace(1.0, 2.0, symmetric.shape[-1], dtype=torch.float64)
    if not bool((symmetric @ start).any()):  # Lanczos would not start
        return (
            torch.linalg.eigvalsh(symmetric)[-1] if bool(symmetric.any()) else start.new_zeros(())
        )
    value = eigsh(symmetric.numpy(), k=1, v0=start.numpy(), return_eigenvectors=False)
    return torch.tensor(value[0])

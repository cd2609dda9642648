"""Operator norms in l1, l2 and l-infinity, each rounded outward to a proven upper bound.

l1 and l-infinity are the greatest column and row sums of |W|. The spectral norm is certified: an
eigenvalue estimate proposes lambda, and a Cholesky factorisation of lambda I - W^T W that runs to
its end proves it (Rump, *Verification of positive definiteness*, BIT 46, 2006). A power iteration
alone would converge from below, and is never taken for a bound.
"""

import math
from numbers import Real
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..arithmetic.definite import greatest_estimated, runs_to_its_end, shortfall
from ..arithmetic.rounding import finite, gamma, outward
from ..errors import LipboundsError, UnsupportedError
from .blocks import Blocks, Sum
from .grams import by_taps, gram
from .operators import Convolution, Dense, Diagonal, Identity, Operator, Sparse, dense
from .torus import torus_norm

NORMS = (1.0, 2.0, math.inf)
LARGEST_GRAM = 16384  # 2 GiB of float64
LARGEST_OF_PARTS = 6400  # the same of a map that is made of parts: 0.3 GiB, and ten seconds
DENSE_ENTRIES = 2**24  # below, the matrix is formed: 128 MiB of float64
FEW_ENTRIES = 2**18  # the same of a convolution that need not be formed
_KNOWN: WeakKeyDictionary[Operator, dict[float, Tensor]] = WeakKeyDictionary()  # operators are
# immutable, and several bounds ask for the same norms


def checked_norm(norm: float) -> float:
    """`norm` as 1.0, 2.0 or inf; UnsupportedError for anything else."""
    if isinstance(norm, Real) and not isinstance(norm, bool) and norm in NORMS:
        return float(norm)
    raise UnsupportedError(f"norm {norm!r} is not supported; take 1, 2 or math.inf")


def operator_norm(operator: Operator, norm: float) -> Tensor:
    """An upper bound of sup ||W x||_p / ||x||_p, exact up to rounding; shape `batch_shape`.

    Raises UnsupportedError for a norm other than 1, 2, inf.
    """
    norm = checked_norm(norm)
    known = _KNOWN.setdefault(operator, {})
    if norm not in known:
        known[norm] = _operator_norm(operator, norm)
    return known[norm]


def _operator_norm(operator: Operator, norm: float) -> Tensor:
    if isinstance(operator, Identity):
        return torch.ones((), dtype=torch.float64, device=operator.device)
    if isinstance(operator, Diagonal):
        return operator.diagonal.abs().max()
    if norm == 2:
        found = _norm_of_blocks(operator) if isinstance(operator, Blocks) else None
        return spectral_norm(operator) if found is None else found
    return absolute_sums(operator, norm).amax(-1)


def absolute_sums(operator: Operator, norm: float) -> Tensor:
    """Row sums (norm inf) or column sums (norm 1) of |W|, rounded outward."""
    absolute = operator.absolute()
    exact = outward(_sums(absolute, norm), absolute.terms)
    if operator.plain:
        return exact
    # Where |W| had to be formed, its entries are rounded.
    return exact + gamma(operator.terms) * majorant_sums(operator, norm)


def majorant_sums(operator: Operator, norm: float) -> Tensor:
    """The same of the majorant, at the price of one pass: no less."""
    majorant = operator.majorant()
    return outward(_sums(majorant, norm), majorant.terms)


def _sums(operator: Operator, norm: float) -> Tensor:
    size = operator.shape[1] if norm == math.inf else operator.shape[0]
    ones = torch.ones(size, dtype=torch.float64, device=operator.device)
    return operator.apply(ones) if norm == math.inf else operator.adjoint(ones)


def spectral_norm(operator: Operator) -> Tensor:
    """A certified upper bound of the spectral norm, shape `batch_shape`: within about 1e-9 of it;
    for maps of which both sides exceed LARGEST_GRAM, or LARGEST_OF_PARTS for convolutions,
    products and sums, what their parts tell, or else their absolute sums."""
    schur = majorant_norm(operator)
    m, n = operator.shape
    formed = FEW_ENTRIES if by_taps(operator) is not None else DENSE_ENTRIES
    if m * n <= formed or operator.batch_shape:
        value = matrix_norm(dense(operator), 2) + gamma(operator.terms) * schur
        return torch.minimum(value, schur)
    if not has_gram(operator):
        return torch.minimum(_norm_by_parts(operator), schur)
    scale = power_of_two(schur)
    error = gamma(2 * operator.terms + max(m, n)) * (schur / scale) ** 2
    value = largest_eigenvalue(gram(operator, scale), error).sqrt()
    return torch.minimum(scale * outward(value, 2), schur)


def has_gram(operator: Operator) -> bool:
    """Whether its spectral norm is computed from its Gram matrix."""
    whole = isinstance(operator, Dense | Sparse)
    return min(operator.shape) <= (LARGEST_GRAM if whole else LARGEST_OF_PARTS)


def _norm_of_blocks(operator: Blocks) -> Tensor | None:
    """The spectral norm, where those of its blocks tell it (docs/theory.md, proposition 26)."""
    if not blocks_tell(operator):
        return None
    norms = [operator_norm(part, 2) for part in operator.parts.values()]
    norms = torch.stack(norms) if norms else torch.zeros(1, dtype=torch.float64).to(operator.device)
    if _apart(operator):
        return norms.amax()
    return outward(vector_norm(norms, 2), len(norms) + 2)


def blocks_tell(operator: Blocks) -> bool:
    """Whether the spectral norms of its blocks tell its own: blocks that share no row and no
    column, or a row or a column of blocks of which all but one are multiples of the identity."""
    lines = [len({place[k] for place in operator.parts}) for k in (0, 1)]
    others = sum(not _is_multiple_of_identity(part) for part in operator.parts.values())
    return _apart(operator) or 1 in lines and others <= 1


def _apart(operator: Blocks) -> bool:
    return all(len({place[k] for place in operator.parts}) == len(operator.parts) for k in (0, 1))


def _is_multiple_of_identity(operator: Operator) -> bool:
    if isinstance(operator, Diagonal):
        return bool((operator.diagonal == operator.diagonal[:1]).all())
    return isinstance(operator, Identity)


def _norm_by_parts(operator: Operator) -> Tensor:
    """Of a convolution, by Fourier; of a product or a sum, from the norms of its parts, those of
    blocks as a matrix of norms. Infinite where it has none."""
    convolution = operator.as_convolution
    if convolution is not None:
        return norm_by_fourier(convolution)
    if len(operator.factors) > 1:
        norms = torch.stack([operator_norm(factor, 2) for factor in operator.factors])
        return outward(norms.prod(), len(norms))
    if isinstance(operator, Sum):
        norms = torch.stack([operator_norm(part, 2) for part in operator.parts.values()])
        return outward(norms.sum(), len(norms))
    if isinstance(operator, Blocks):
        norms = torch.zeros(len(operator.heights), len(operator.widths), dtype=torch.float64)
        for place, part in operator.parts.items():
            norms[place] = operator_norm(part, 2)
        return matrix_norm(norms, 2)
    return torch.full((), math.inf, dtype=torch.float64, device=operator.device)


def norm_by_fourier(convolution: Convolution) -> Tensor:
    """See `torus_norm`; of a kernel of any size."""
    scale = power_of_two(convolution.kernel.abs().max())
    return scale * torus_norm(convolution.with_kernel(convolution.kernel / scale))


def majorant_norm(operator: Operator) -> Tensor:
    """sqrt(|| M ||_1 || M ||_inf) >= || M ||_2 >= || W ||_2 for the majorant M >= |W|."""
    majorant = operator.majorant()
    product = _sums(majorant, 1.0).amax(-1).sqrt() * _sums(majorant, math.inf).amax(-1).sqrt()
    return outward(product, 2 * operator.terms + 2)


def matrix_norm(matrix: Tensor, norm: float) -> Tensor:
    """`operator_norm` of a dense matrix (..., m, n)."""
    norm = checked_norm(norm)
    if norm != 2:
        sums = matrix.abs().sum(-1 if norm == math.inf else -2)
        return outward(sums, max(matrix.shape[-2:])).amax(-1)
    m, n = matrix.shape[-2:]
    scale = power_of_two(torch.linalg.vector_norm(matrix, math.inf, dim=(-2, -1)))
    matrix = matrix / scale[..., None, None]
    product = matrix @ matrix.mT if m <= n else matrix.mT @ matrix
    squares = product.diagonal(dim1=-2, dim2=-1).sum(-1)  # the squared Frobenius norm
    error = gamma(m + n) * outward(squares, m + n)
    return scale * outward(largest_eigenvalue(product, error).sqrt(), 2)


def vector_norm(x: Tensor, norm: float) -> Tensor:
    """||x||_p along the last dimension, scaled so that no square under- or overflows."""
    size = torch.linalg.vector_norm(x, math.inf, dim=-1, keepdim=True)
    scale = power_of_two(torch.where(size.isfinite(), size, 1.0))
    return torch.linalg.vector_norm(x / scale, norm, dim=-1) * scale.squeeze(-1)


def power_of_two(size: Tensor) -> Tensor:
    """The power of two next to `size` > 0, and 1 for 0: scaling by it is exact, and keeps a Gram
    matrix from under- or overflowing. Raises LipboundsError where `size` is not finite."""
    exponent = torch.frexp(finite(size, "a layer's weight, or a product of layers")).exponent
    exponent = exponent.clamp(max=1023)  # 2^1024 is infinite; the half of it does as well
    return torch.where(size > 0, torch.ldexp(torch.ones_like(size), exponent), 1.0)


def largest_eigenvalue(symmetric: Tensor, error: Tensor) -> Tensor:
    """lambda with lambda >= the greatest eigenvalue of every positive semidefinite matrix within
    `error` (in spectral norm, shape (...)) of `symmetric` (..., d, d), itself maybe indefinite.

    Raises LipboundsError where `symmetric` is not finite.
    """
    side = symmetric.shape[-1]
    finite(symmetric, "the Gram matrix of a layer's weight")
    trace = symmetric.diagonal(dim1=-2, dim2=-1).sum(-1)
    estimate = torch.maximum(greatest_estimated(symmetric), trace / side)
    slack = torch.full_like(estimate, 1e-14 * side)
    failed = trace > 0
    while bool(failed.any()):
        candidate = estimate * (1 + slack)
        shifted = -symmetric
        shifted.diagonal(dim1=-2, dim2=-1).add_(candidate.unsqueeze(-1))
        failed = ~runs_to_its_end([shifted]) & (trace > 0)
        slack = torch.where(failed, slack * 10, slack)
        if bool((slack > 100 * side).any()):  # lambda <= trace <= side * estimate
            raise LipboundsError("a spectral norm could not be certified: its matrix is not finite")
    bound = estimate * (1 + slack)
    # For trace > 0 that of the shifted one is at most d bound, be `symmetric` semidefinite or not.
    proven = bound + shortfall(side * bound, side) + error
    # No positive trace: a semidefinite G has lambda <= trace(G) <= trace + d error <= d error.
    return torch.where(trace > 0, proven, side * error)

"""The greatest value of a multilinear polynomial on a box, from above, by Krivine's certificates.

For p over x in [0, 1]^V and *clusters* U_1, U_2, ... of variables, each monomial of p in one of
them at least,

    min gamma,  gamma - p = sum_U sum_{A in U} c_{UA} prod_A x prod_{U - A} (1 - x),  c >= 0,

is a linear program: the two sides agree monomial by monomial. Its dual maximises p over
distributions on {0, 1}^U that agree on what the clusters share, so that one cluster of all
variables gives the maximum itself. A polynomial is a tensor with one axis per group of variables,
no two of a group in one monomial: index 0 stands for none of the group, index i for its i-th.
Source: J.-L. Krivine 1964; with sparse clusters: J.-B. Lasserre, K.-C. Toh, S. Yang 2017.
"""

from __future__ import annotations

import itertools
import math
from functools import reduce

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from ..arithmetic.rounding import gamma
from ..clock import real
from ..errors import LipboundsError
from ..results import Status

Clusters = list[np.ndarray]  # (count, size) variables from 1 in increasing order, one array a size
LARGEST_COLUMNS = 300_000  # where HiGHS takes about half a minute
LARGEST_ENTRIES = 2**24


def box_maximum(polynomial: np.ndarray, clusters: Clusters, seconds: float) -> tuple[float, Status]:
    """An upper bound of max p on [0, 1]^V, proven for exactly these float64 coefficients, infinite
    where the time was up before there was one; and how HiGHS ended.

    clusters: from `paths` or `cliques`. Raises LipboundsError where HiGHS fails.
    """
    if not clusters:
        return float(polynomial.flat[0]), Status.CONVERGED
    monomials, products = _products(clusters, sum(polynomial.shape))
    p = np.zeros(len(monomials))
    support = np.argwhere(polynomial != 0)
    names = _names(_variables(polynomial.shape, support), sum(polynomial.shape))
    p[np.searchsorted(monomials, names)] = polynomial[tuple(support.T)]
    scale = 2.0 ** math.frexp(abs(p).max(initial=0.0))[1]  # HiGHS has absolute tolerances
    multipliers, status = _multipliers(p / scale, products, seconds)
    if multipliers is None:
        return math.inf, status
    return scale * _certified(p / scale, products, multipliers), status


def paths(polynomial: np.ndarray) -> Clusters:
    """The monomials of p that divide no other: one variable of each group in a dense network.

    Raises LipboundsError beyond LARGEST_COLUMNS products.
    """
    tuples = _variables(polynomial.shape, _maximal(polynomial))
    sizes = (tuples > 0).sum(1)
    _check_columns(np.bincount(sizes).tolist())
    return [np.sort(tuples[sizes == s], 1)[:, -s:] for s in np.unique(sizes) if s]


def cliques(polynomial: np.ndarray, degree: int) -> Clusters:
    """All sets of `degree` variables of one clique, which is a variable of the last group and all
    variables that it meets in a monomial (Latorre et al. 2020, sec. 4).

    Raises LipboundsError beyond LARGEST_COLUMNS products, or where p has a higher degree.
    """
    if degree < polynomial.ndim:
        raise LipboundsError(
            f"lipopt: degree {degree} is less than {polynomial.ndim}, the polynomial's own"
        )
    parts = _clique_parts(polynomial, degree)
    _check_columns(_clique_counts(parts))
    found = {
        subset + own
        for base, own, size in parts
        for subset in itertools.combinations(base, min(size, len(base)))
    }
    sizes = sorted({len(cluster) for cluster in found} - {0})
    return [np.array(sorted(c for c in found if len(c) == size)) for size in sizes]


def clique_columns(polynomial: np.ndarray, degree: int) -> int:
    """How many products `cliques` would have; more than that where bases overlap."""
    counts = _clique_counts(_clique_parts(polynomial, degree))
    return sum(count * 2**size for size, count in enumerate(counts))


def _clique_parts(polynomial: np.ndarray, degree: int) -> list[tuple[tuple, tuple, int]]:
    """(base, own, size): the sets of `size` variables of the base with the clique's own variable,
    and of `degree` without it, once for all cliques of the same base."""
    tuples = _variables(polynomial.shape, _maximal(polynomial))
    with_own, bases = [], []
    for own in np.unique(tuples[:, -1]):
        members = np.unique(tuples[tuples[:, -1] == own, :-1])
        bases.append(tuple(members[members > 0].tolist()))
        if own:
            with_own.append((bases[-1], (int(own),), degree - 1))
    return [(base, (), degree) for base in dict.fromkeys(bases)] + with_own


def _clique_counts(parts: list[tuple[tuple, tuple, int]]) -> list[int]:
    """How many clusters of 0, 1, 2 ... variables there are."""
    counts = [0] * (1 + max((size + len(own) for _, own, size in parts), default=0))
    for base, own, size in parts:
        size = min(size, len(base))
        counts[size + len(own)] += math.comb(len(base), size)
    return counts


def _maximal(polynomial: np.ndarray) -> np.ndarray:
    """Indices (count, ndim) of the monomials that divide no other."""
    divisors = polynomial != 0
    for axis in range(polynomial.ndim):
        along = np.moveaxis(divisors, axis, 0)  # a view
        along[0] |= along[1:].any(0)
    inside = np.zeros_like(divisors)
    for axis in range(polynomial.ndim):
        np.moveaxis(inside, axis, 0)[0] |= np.moveaxis(divisors, axis, 0)[1:].any(0)
    return np.argwhere(divisors & ~inside)


def _variables(shape: tuple[int, ...], tuples: np.ndarray) -> np.ndarray:
    """Variables counted from 1 through all groups, 0 for none; same shape as `tuples`."""
    starts = np.cumsum([0, *(size - 1 for size in shape[:-1])])
    return np.where(tuples > 0, tuples + starts, 0)


def _check_columns(counts: list[int]) -> None:
    """counts[s]: how many clusters of s variables there are; each has 2^s products."""
    columns = sum(count * 2**size for size, count in enumerate(counts))
    entries = sum(count * 3**size for size, count in enumerate(counts))
    for number, limit, what in (
        (columns, LARGEST_COLUMNS, "columns"),
        (entries, LARGEST_ENTRIES, "entries"),
    ):
        if number > limit:
            raise LipboundsError(
                f"lipopt: a linear program with {number} {what} is more than {limit}; take a "
                "narrower or shallower network, a lower degree or none, or K_4"
            )


def _products(clusters: Clusters, base: int) -> tuple[np.ndarray, sparse.csr_array]:
    """The names of all monomials (M,), the empty one first, and the coefficients (M, columns) of
    prod_A x prod_{U - A} (1 - x) = sum_{A in S in U} (-1)^|S - A| prod_S x."""
    subsets, rows, columns, values, start = [], [], [], [], 0
    for cluster in clusters:
        count, size = cluster.shape
        inside = (np.arange(2**size)[:, None] >> np.arange(size)[::-1]) & 1
        subsets.append(_names(cluster[:, None, :] * inside, base).ravel())
        block = reduce(sparse.kron, [[[1, 0], [-1, 1]]] * size, np.ones((1, 1))).tocoo()
        shift = np.arange(count)[:, None] * 2**size + start
        rows.append((block.row + shift).ravel())
        columns.append((block.col + shift).ravel())
        values.append(np.tile(block.data, count))
        start += count * 2**size
    monomials, number = np.unique(np.concatenate(subsets), return_inverse=True)
    index = number[np.concatenate(rows)], np.concatenate(columns)
    shape = len(monomials), start
    return monomials, sparse.csr_array((np.concatenate(values), index), shape)


def _names(tuples: np.ndarray, base: int) -> np.ndarray:
    """One number for each set of variables (..., k), 0 for the empty one."""
    width = tuples.shape[-1]
    if base**width >= 2**63:
        raise LipboundsError(f"lipopt: degree {width} is too high for {base} variables")
    return np.sort(tuples, -1) @ (base ** np.arange(width, dtype=np.int64)[::-1])


def _multipliers(
    p: np.ndarray, products: sparse.csr_array, seconds: float
) -> tuple[np.ndarray | None, Status]:
    """c >= 0 of the linear program, or None where the time was up; and how HiGHS ended."""
    result = linprog(
        products[[0]].toarray()[0],
        A_eq=products[1:],
        b_eq=-p[1:],
        method="highs-ipm",
        options={"time_limit": real(max(seconds, 1e-3))},
    )
    if result.status not in (0, 1):
        raise LipboundsError(
            f"lipopt: HiGHS failed on a linear program with {products.shape[1]} columns: "
            f"{result.message}"
        )
    status = Status.TIME if result.status else Status.CONVERGED
    return None if result.x is None else result.x.clip(min=0), status


def _certified(p: np.ndarray, products: sparse.csr_array, multipliers: np.ndarray) -> float:
    """p <= q = p + sum c h at the vertices, and q <= q_0 + the sum of its positive coefficients,
    each monomial lying in [0, 1]; for any c >= 0, rounded outward."""
    q = p + products @ multipliers
    size = abs(p).sum() + (abs(products) @ multipliers).sum()
    roundings = int(np.diff(products.indptr).max()) + 2 * len(p)
    return float(q[0] + q[1:].clip(min=0).sum() + gamma(roundings) * size)

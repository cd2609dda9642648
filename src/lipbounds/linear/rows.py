"""A block of rows of a segment, dense or sparse, as it is pulled back through a network.

A row of a convolution or a pooling stage touches few inputs, and so does a row pulled back through
several of them: on the CPU such blocks stay sparse (SciPy), which spares most of the work, until a
dense layer fills them. Ensembles and GPUs use dense blocks throughout.
"""

from __future__ import annotations

from functools import reduce
from itertools import accumulate, pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, outward
from .blocks import Blocks, Sum
from .norms import LARGEST_GRAM, largest_eigenvalue, matrix_norm, power_of_two
from .operators import (
    BLOCK_ENTRIES,
    Composition,
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Operator,
    identity_rows,
    slices,
)

SPARSE_COST = 1 / 64  # a dense multiply-add costs about this much of a sparse one
HELD = 2**24  # entries of a convolution that are formed at a time, 400 MiB
FILLED = 0.2  # a sparse block with a greater share of nonzeros is faster dense


class DenseRows:
    """Rows (..., b, n) as one tensor."""

    def __init__(self, rows: Tensor):
        self.rows = rows

    def pull(self, operator: Operator) -> DenseRows | SparseRows:
        """The rows times W: e^T -> e^T W."""
        return DenseRows(operator.adjoint(self.rows))

    def sums(self, axis: int) -> Tensor:
        """Sums of the absolute values over the columns (axis -1) or the rows (axis -2)."""
        return self.rows.abs().sum(axis)

    def times(self, r: Tensor) -> Tensor:
        """|X| r for vectors r stored as rows: (..., c, n) -> (..., c, b)."""
        return r @ self.rows.abs().mT

    def transposed_times(self, s: Tensor) -> Tensor:
        """|X|^T s for vectors s stored as rows: (..., c, b) -> (..., c, n)."""
        return s @ self.rows.abs()

    def spectral_norm(self) -> Tensor:
        """A certified upper bound of ||X||_2, X as computed; by its absolute sums where a Gram
        matrix would have more than LARGEST_GRAM rows."""
        return matrix_norm(self.rows, 2) if _has_gram(self) else _schur(self)

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.rows.shape[-2:])


class SparseRows:
    """Rows (b, n) as a SciPy CSR array."""

    def __init__(self, rows: sp.csr_array):
        self.rows = rows

    def pull(self, operator: Operator) -> DenseRows | SparseRows:
        """See DenseRows.pull."""
        if isinstance(operator, Identity):
            return self
        if isinstance(operator, Composition):
            block = self
            for factor in operator.shortened:
                block = block.pull(factor)
            return block
        if isinstance(operator, Dense):
            return DenseRows(torch.from_numpy(self.rows @ operator.weight.numpy()))
        if isinstance(operator, Diagonal):
            return SparseRows((self.rows * operator.diagonal.numpy()[None, :]).tocsr())
        if isinstance(operator, Convolution):
            return self._through(operator)
        if isinstance(operator, Blocks):
            return self._through_blocks(operator)
        if isinstance(operator, Sum):
            return reduce(_added, (self.pull(one) for one in operator.parts.values()))
        return self._filled((self.rows @ operator.csr).tocsr())

    def _through(self, convolution: Convolution) -> DenseRows | SparseRows:
        """By its matrix, of a large one by the rows that are needed; dense where that is faster."""
        rows = self.rows.shape[0]
        products = self.rows.nnz * convolution.row_entries
        fits = rows * max(convolution.shape) <= 4 * BLOCK_ENTRIES
        if fits and rows * convolution.cost * SPARSE_COST < products:
            return DenseRows(torch.from_numpy(self.rows.toarray())).pull(convolution)
        if convolution.cost <= HELD:
            return self._filled((self.rows @ convolution.csr).tocsr())
        touched = np.unique(self.rows.indices)
        place = np.searchsorted(touched, self.rows.indices)
        shape = self.rows.shape[0], len(touched)
        few = sp.csr_array((self.rows.data, place, self.rows.indptr), shape)
        pulled = sp.csr_array((shape[0], convolution.shape[1]))
        for part in slices(len(touched), convolution.row_entries):
            pulled += few[:, part] @ convolution.csr_rows(touched[part])
        return self._filled(pulled)

    def _through_blocks(self, blocks: Blocks) -> DenseRows | SparseRows:
        """Part by part, as a matrix of all would take long to form."""
        ends = list(pairwise(accumulate(blocks.heights, initial=0)))
        found: dict[int, DenseRows | SparseRows] = {}
        for (i, j), part in blocks.parts.items():
            start, stop = ends[i]
            pulled = SparseRows(self.rows[:, start:stop]).pull(part)
            found[j] = _added(found[j], pulled) if j in found else pulled
        count = self.rows.shape[0]
        for j, width in enumerate(blocks.widths):
            found.setdefault(j, SparseRows(sp.csr_array((count, width))))
        parts = [found[j] for j in range(len(blocks.widths))]
        if any(isinstance(part, DenseRows) for part in parts):
            return DenseRows(torch.cat([_dense(part) for part in parts], -1))
        return self._filled(sp.hstack([part.rows for part in parts], format="csr"))

    def _filled(self, rows: sp.csr_array) -> DenseRows | SparseRows:
        if rows.nnz > FILLED * rows.shape[0] * rows.shape[1]:
            return DenseRows(torch.from_numpy(rows.toarray()))
        return SparseRows(rows)

    def sums(self, axis: int) -> Tensor:
        return torch.from_numpy(abs(self.rows).sum(axis=axis))

    def times(self, r: Tensor) -> Tensor:
        return torch.from_numpy((abs(self.rows) @ r.mT.numpy()).T)

    def transposed_times(self, s: Tensor) -> Tensor:
        return torch.from_numpy((abs(self.rows).T @ s.mT.numpy()).T)

    def spectral_norm(self) -> Tensor:
        scale = power_of_two(torch.tensor(abs(self.rows).max() if self.rows.nnz else 0.0))
        x = self.rows * (1 / float(scale))
        x = (x if x.shape[0] <= x.shape[1] else x.T).tocsr()
        products = np.bincount(x.indices, minlength=x.shape[1]).astype(float)
        # Rows that share no column: pooling alone. Products that only cancel, or that SciPy drops
        # as zeros, do not make rows orthogonal.
        if products.max(initial=0.0) <= 1:
            largest = x.power(2).sum(axis=1).max(initial=0.0)
            return scale * outward(torch.tensor(largest).sqrt(), x.shape[1] + 2)
        if not _has_gram(self):
            return _schur(self)
        if (products**2).sum() > x.shape[0] ** 2 * x.shape[1] * SPARSE_COST:
            return scale * matrix_norm(torch.from_numpy(x.toarray()), 2)
        gram = torch.from_numpy((x @ x.T).toarray())
        error = torch.tensor(gamma(x.shape[1]) * (x.data**2).sum())
        return scale * outward(largest_eigenvalue(gram, error).sqrt(), 2)

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.rows.shape)


def _has_gram(block: DenseRows | SparseRows) -> bool:
    return min(block.shape) <= LARGEST_GRAM


def _schur(block: DenseRows | SparseRows) -> Tensor:
    """sqrt(|| X ||_1 || X ||_inf) >= || X ||_2."""
    sums = block.sums(-1).amax(-1).sqrt() * block.sums(-2).amax(-1).sqrt()
    return outward(sums, sum(block.shape) + 2)


def _added(a: DenseRows | SparseRows, b: DenseRows | SparseRows) -> DenseRows | SparseRows:
    if isinstance(a, SparseRows) and isinstance(b, SparseRows):
        return SparseRows(a.rows + b.rows)
    return DenseRows(_dense(a) + _dense(b))


def _dense(block: DenseRows | SparseRows) -> Tensor:
    return block.rows if isinstance(block, DenseRows) else torch.from_numpy(block.rows.toarray())


def start(operator: Operator, rows: slice, ahead: Operator, ensemble: bool):
    """Rows `rows` of `operator`, sparse where that pays for the map `ahead` they go through."""
    if ensemble or operator.device.type != "cpu" or isinstance(ahead.factors[0], Dense):
        return DenseRows(operator.adjoint(identity_rows(operator.shape[0], rows, operator.device)))
    identity = sp.eye_array(operator.shape[0], format="csr")[rows.start : rows.stop]
    return SparseRows(identity).pull(operator)

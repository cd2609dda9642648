"""Operator norms: proven upper bounds, within 1e-9 of NumPy's values."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NORMS, affine_of
from strategies import matrix, quick
from torch import nn

import lipbounds as lb
from lipbounds.arithmetic import definite
from lipbounds.arithmetic.rounding import gamma, inward, outward
from lipbounds.linear import norms, operators, rows
from lipbounds.linear.blocks import Blocks
from lipbounds.linear.norms import checked_norm, largest_eigenvalue, matrix_norm, operator_norm
from lipbounds.linear.operators import Composition, Dense, Diagonal, Identity, Sparse


def check(value, exact):
    """An upper bound, and a tight one. NumPy's own value may be off by a few units."""
    exact = np.asarray(exact)
    assert (np.asarray(value) >= exact * (1 - 1e-14)).all()
    np.testing.assert_allclose(value, exact, rtol=1e-9, atol=1e-300)


def to(array):
    return torch.from_numpy(np.ascontiguousarray(array, dtype=float))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.sampled_from(NORMS))
def test_dense(seed, m, n, norm):
    w = matrix(np.random.default_rng(seed), m, n)
    check(operator_norm(Dense(to(w)), norm), np.linalg.norm(w, norm))
    check(matrix_norm(to(w), norm), np.linalg.norm(w, norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3)])
def test_zero_matrices(shape, norm):
    assert float(operator_norm(Dense(torch.zeros(shape).double()), norm)) == 0.0
    assert float(matrix_norm(torch.zeros(shape).double(), norm)) == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_rank_one_scaled_and_repeated_singular_values(norm):
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for w in (
        np.outer(rng.standard_normal(40), rng.standard_normal(7)),
        np.outer([1e-8, 1.0, 1e8], [1.0, -1e-6]),
        orthogonal * 3.0,
        rng.standard_normal((4, 4)) * 1e-120,
        rng.standard_normal((4, 4)) * 1e120,
        rng.standard_normal((60, 90)),
        np.vander(np.linspace(0, 1, 12)),
    ):
        check(operator_norm(Dense(to(w)), norm), np.linalg.norm(w, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_products_that_cancel(norm):
    """B A cancels to rounding error: no longer tight relative to B A, but still a bound, and small
    beside |B| |A|."""
    b = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, -3.0]])
    a = np.array([[1.0, 1.0], [1.0, 1.0], [-2.0, -2.0]]) / 3
    exact = np.linalg.norm(b @ a, norm)
    value = float(operator_norm(Composition([Dense(to(b)), Dense(to(a))]), norm))
    check(value, exact)
    b[1] = [2.0, 4.0, 3.0]
    exact = np.linalg.norm(b @ a, norm)
    value = float(operator_norm(Composition([Dense(to(b)), Dense(to(a))]), norm))
    assert 0 <= exact <= value < 1e-12
    composed = operator_norm(Composition([Dense(to(b[:, :2])), Dense(to(-b[:, :2]))]), norm)
    check(composed, np.linalg.norm(b[:, :2] @ b[:, :2], norm))


@pytest.mark.parametrize("norm", NORMS)
def test_structured_operators(norm):
    rng = np.random.default_rng(2)
    d = rng.standard_normal(5)
    check(operator_norm(Diagonal(to(d)), norm), abs(d).max())
    assert float(operator_norm(Identity(4), norm)) == 1.0
    w = rng.standard_normal((4, 6)) * (rng.random((4, 6)) < 0.4)
    row, column = (torch.from_numpy(i) for i in w.nonzero())
    check(operator_norm(Sparse(row, column, to(w[w != 0]), w.shape), norm), np.linalg.norm(w, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_convolutions_and_compositions(norm):
    torch.manual_seed(0)
    for module in (
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Sequential(nn.Conv2d(2, 2, 2), nn.AvgPool2d(2, 1), nn.BatchNorm2d(2)),
    ):
        w, _ = affine_of(module.eval(), (2, 5, 5))
        operator = lb.from_torch(module, (2, 5, 5)).affines[0].operator
        check(operator_norm(operator, norm), np.linalg.norm(w, norm))


@pytest.mark.parametrize("eigenvalues", [10**6, 1])
def test_spectral_norm_of_operators_too_large_to_form(monkeypatch, eigenvalues):
    """The path by a Gram matrix, with all eigenvalues or one Lanczos run."""
    monkeypatch.setattr(norms, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(norms, "FEW_ENTRIES", 0)
    monkeypatch.setattr(definite, "DENSE_EIGENVALUES", eigenvalues)
    torch.manual_seed(1)
    for module in (nn.Conv2d(1, 3, 3), nn.Conv2d(2, 1, 3, stride=2), nn.AvgPool2d(2)):
        shape = (getattr(module, "in_channels", 1), 7, 7)
        w, _ = affine_of(module.eval(), shape)
        operator = lb.from_torch(module, shape).affines[0].operator
        check(operator_norm(operator, 2), np.linalg.norm(w, 2))
    monkeypatch.setattr(norms, "LARGEST_OF_PARTS", 4)
    operator = lb.from_torch(module, shape).affines[0].operator  # norms are remembered
    assert operator_norm(operator, 2) >= np.linalg.norm(w, 2)  # from absolute sums


@pytest.mark.parametrize("norm", NORMS)
def test_ensembles(norm):
    w = np.random.default_rng(3).standard_normal((7, 3, 4))
    w[2] = 0
    value = operator_norm(Dense(to(w)), norm)
    assert value.shape == (7,)
    check(value, [np.linalg.norm(one, norm) for one in w])


def test_norms_are_remembered_for_one_operator_only():
    first, second = Dense(torch.eye(2).double()), Dense(3 * torch.eye(2).double())
    for _ in range(2):
        for norm in NORMS:
            check(operator_norm(first, norm), 1.0)
            check(operator_norm(second, norm), 3.0)


def test_certificate_holds_for_every_matrix_within_the_error():
    symmetric = np.array([[2.0, 1.0], [1.0, 2.0]])
    value = float(largest_eigenvalue(to(symmetric), torch.tensor(0.5).double()))
    assert 3.5 <= value <= 3.5 * (1 + 1e-9)


def test_certificate_of_an_error_as_great_as_the_matrix():
    """diag(1, -1) is within 1 of 2 e_1 e_1^T and of 0, whatever the sign of its trace."""
    for shift in (0.0, 1e-3, -1e-3):
        symmetric = torch.diag(torch.tensor([1.0 + shift, -1.0])).double()
        value = float(largest_eigenvalue(symmetric, torch.tensor(1.001).double()))
        assert 2 <= value <= 2.1


@pytest.mark.parametrize("entry", [math.nan, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 0)])
def test_a_gram_matrix_that_is_not_finite_has_no_certificate(entry, place):
    symmetric = torch.zeros(2, 2).double()
    symmetric[place] = symmetric[place[::-1]] = entry
    with pytest.raises(lb.LipboundsError, match="rescale the weights"):
        largest_eigenvalue(symmetric, torch.tensor(0.5).double())


def test_a_low_estimate_is_raised_until_it_is_proven(monkeypatch):
    """The certificate, not the estimate, decides."""
    monkeypatch.setattr(norms, "greatest_estimated", lambda g: g.diagonal().mean() * 0.5)
    w = np.random.default_rng(4).standard_normal((5, 8))
    assert float(matrix_norm(to(w), 2)) >= np.linalg.norm(w, 2) * (1 - 1e-14)


@pytest.mark.parametrize("scale", [1e-170, 1e-163])
def test_squares_that_underflow_do_not_lose_the_bound(scale):
    w = np.array([[1.0, 1 / 3], [1 / 7, 1.0]]) * scale
    assert float(operator_norm(Dense(to(w)), 2)) >= 1.24 * scale


def test_sparse_rows_have_the_norm_of_their_matrix():
    import scipy.sparse as sp

    rng = np.random.default_rng(5)
    for density in (0.02, 0.2, 1.0):
        w = rng.standard_normal((30, 50)) * (rng.random((30, 50)) < density)
        for one in (w, w.T, np.eye(30, 50) * 2, np.zeros((3, 4))):
            check(rows.SparseRows(sp.csr_array(one)).spectral_norm(), np.linalg.norm(one, 2))


def test_sparse_rows_orthogonal_by_rounding_alone():
    """x y^T is computed as 0 and is 2^-54: ||X||^2 is that much above the rows' squares."""
    import scipy.sparse as sp

    w = np.zeros((40, 200))
    for i in range(20):
        w[2 * i, 8 * i : 8 * i + 3] = 1.0
        w[2 * i + 1, 8 * i : 8 * i + 3] = [1.0, 2.0**-54, -1.0]
    value = float(rows.SparseRows(sp.csr_array(w)).spectral_norm())
    a, b, c = 3, 2 + Fraction(2) ** -108, Fraction(2) ** -54
    square = Fraction(value) ** 2
    assert square > a and (square - a) * (square - b) >= c * c  # beyond both eigenvalues
    assert value <= math.sqrt(3) * (1 + 1e-9)


@pytest.mark.parametrize("norm", [3, 0, "2", None, True, math.nan, -math.inf, (1, 2)])
def test_unknown_norms_raise(norm):
    with pytest.raises(lb.UnsupportedError, match="take 1, 2 or math.inf"):
        checked_norm(norm)


def test_rounding_is_outward():
    u = 2.0**-53
    assert gamma(10) >= 10 * u / (1 - 10 * u)
    one = torch.tensor(1.0).double()
    assert float(outward(one, 1)) > 1 > float(inward(one, 1))
    with pytest.raises(lb.LipboundsError, match="too many"):
        gamma(2**53)


@pytest.mark.parametrize("corner", [0.0, 3.0])
def test_a_large_gram_matrix_at_which_lanczos_cannot_start(corner):
    """Zero; and with a null vector where the iteration starts."""
    start = torch.linspace(1.0, 2.0, 1200, dtype=torch.float64)
    across = torch.randn(1200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    across -= start * (across @ start) / (start @ start)
    across *= corner / across.norm()
    gram = across.unsqueeze(1) * across
    value = norms.largest_eigenvalue(gram, torch.tensor(1e-12, dtype=torch.float64))
    assert corner**2 <= value <= corner**2 * (1 + 1e-8) + 1e-8


def numbers(m, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return Dense(torch.randn(m, n, generator=generator, dtype=torch.float64))


def multiple(size, factor):
    return Diagonal(torch.full((size,), factor, dtype=torch.float64))


BLOCKS = {
    "one block": Blocks({(1, 0): numbers(3, 4, 0)}, [2, 3], [4, 1]),
    "none": Blocks({}, [2, 3], [4]),
    "apart": Blocks({(1, 0): numbers(3, 4, 0), (0, 1): numbers(2, 1, 1)}, [2, 3], [4, 1]),
    "a row": Blocks(
        {(0, 0): numbers(3, 4, 0), (0, 1): Identity(3), (0, 2): multiple(3, -0.5)}, [3], [4, 3, 3]
    ),
    "a column": Blocks({(0, 0): multiple(4, 1e-3), (1, 0): numbers(3, 4, 1)}, [4, 3], [4]),
    "a column of identities": Blocks({(0, 0): Identity(2), (1, 0): Identity(2)}, [2, 2], [2]),
}
OTHERS = {
    "two matrices in a row": Blocks(
        {(0, 0): numbers(3, 4, 0), (0, 1): numbers(3, 2, 1)}, [3], [4, 2]
    ),
    "a diagonal that is no multiple": Blocks(
        {(0, 0): numbers(2, 2, 0), (0, 1): Diagonal(torch.tensor([1.0, 2.0]).double())}, [2], [2, 2]
    ),
    "not in one line": Blocks(
        {(0, 0): numbers(2, 2, 0), (0, 1): Identity(2), (1, 1): multiple(2, 2.0)}, [2, 2], [2, 2]
    ),
}


@pytest.mark.parametrize("name", BLOCKS | OTHERS)
def test_spectral_norms_of_blocks(name, monkeypatch):
    """Told by the blocks' norms where they can; then no matrix of their size is formed."""
    operator = (BLOCKS | OTHERS)[name]
    assert norms.blocks_tell(operator) == (name in BLOCKS)
    matrix = operators.dense(operator).numpy()
    for scale in (-40, 0, 300):
        one = operator.scaled(torch.tensor(scale))
        check(operator_norm(one, 2), np.linalg.norm(matrix, 2) * 2.0**scale)
    monkeypatch.setattr(norms, "spectral_norm", lambda part: matrix_norm(part.weight, 2))
    if name in BLOCKS:
        check(operator_norm(operator.scaled(torch.tensor(1)), 2), 2 * np.linalg.norm(matrix, 2))

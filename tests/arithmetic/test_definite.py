"""Proofs of definiteness against exact rational arithmetic, and block algebra against NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from lipbounds.arithmetic import definite
from lipbounds.arithmetic.definite import runs_to_its_end, semidefinite, shortfall, trace_of
from lipbounds.arithmetic.tridiagonal import factorise, inverse, selected_inverse

ZERO = torch.tensor(0.0, dtype=torch.float64)


def is_semidefinite(matrix, shift=Fraction(0)):
    """Whether H + shift I >= 0, by elimination in rationals with diagonal pivots."""
    rows = [[Fraction(float(entry)) for entry in row] for row in matrix]
    for i in range(len(rows)):
        rows[i][i] += shift
    while rows:
        pivot = max(range(len(rows)), key=lambda i: rows[i][i])
        if rows[pivot][pivot] < 0:
            return False
        if rows[pivot][pivot] == 0:
            return all(entry == 0 for row in rows for entry in row)
        head, own = rows[pivot], rows[pivot][pivot]
        rows = [
            [row[j] - row[pivot] * head[j] / own for j in range(len(head)) if j != pivot]
            for i, row in enumerate(rows)
            if i != pivot
        ]
    return True


def edge(rng, n, rank, scale, off):
    """A symmetric matrix of doubles near the edge of the cone: the rounded Gram matrix of `rank`
    vectors, less `off` on the diagonal."""
    factor = rng.standard_normal((n, rank)) * 10.0 ** rng.uniform(-scale, scale, (n, 1))
    gram = factor @ factor.T
    return (gram + gram.T) / 2 - off * np.diag(np.diag(gram))


def cut(matrix, sizes):
    """(diagonal, below) of a block tridiagonal matrix."""
    ends = np.cumsum([0, *sizes])
    parts = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
    diagonal = [torch.from_numpy(matrix[part, part].copy()) for part in parts]
    below = [torch.from_numpy(matrix[b, a].copy()) for a, b in zip(parts, parts[1:], strict=False)]
    return diagonal, below


def banded(rng, sizes, scale=0.0, off=0.0):
    """A positive semidefinite block tridiagonal matrix, singular but for rounding."""
    total, ends = sum(sizes), np.cumsum([0, *sizes])
    matrix = np.zeros((total, total))
    for a, b in zip(ends, ends[2:], strict=False):
        matrix[a:b, a:b] += edge(rng, b - a, max(1, (b - a) // 2), scale, 0.0)
    return matrix - off * np.diag(np.diag(matrix))


@pytest.mark.parametrize("scale", [0, 2, 5])
@pytest.mark.parametrize("off", [0.0, 1e-16, 1e-15, 1e-13, -1e-15, -1e-13])
def test_no_matrix_is_proven_that_is_not_semidefinite(scale, off):
    rng = np.random.default_rng(0)
    proven = 0
    for n in (1, 2, 3, 5, 8):
        for _ in range(8):
            matrix = edge(rng, n, max(1, n - 1), scale, off)
            if bool(semidefinite([torch.from_numpy(matrix.copy())], [], ZERO)):
                proven += 1
                assert is_semidefinite(matrix)
    assert proven or off >= 0 or scale


@pytest.mark.parametrize("error", [1e-14, 1e-9])
def test_what_lies_within_the_error_is_proven_too(error):
    """The worst matrix within the error: less the error on the diagonal."""
    rng, proven = np.random.default_rng(1), 0
    for n in (1, 2, 4, 7):
        for share in (0.5, 0.9, 0.999, 1.0, 1.001, 1.5):
            matrix = edge(rng, n, n, 0, 0.0)
            low = float(np.linalg.eigvalsh(matrix)[0])
            matrix += (share * error - low) * np.eye(n)  # least eigenvalue about share * error
            given = torch.tensor(error, dtype=torch.float64)
            if bool(semidefinite([torch.from_numpy(matrix.copy())], [], given)):
                proven += 1
                assert is_semidefinite(matrix, -Fraction(error))
    assert proven or error < 1e-12


def test_the_shortfall_holds_for_completed_factorisations():
    rng, completed = np.random.default_rng(2), 0
    for n in (2, 3, 5, 8):
        for off in (0.0, 1e-17, 1e-16, 1e-15) * 6:
            matrix = edge(rng, n, n - 1, 1, off)
            blocks = [torch.from_numpy(matrix)]
            if bool(runs_to_its_end(blocks)):
                completed += 1
                delta = float(shortfall(trace_of(blocks), n))
                assert is_semidefinite(matrix, Fraction(delta))
    assert completed > 10


@pytest.mark.parametrize("n", [2, 4, 16, 60])
def test_a_margin_of_a_few_roundings_is_enough(n):
    """So that the proof is not vacuous: least eigenvalue 20 n u times the trace."""
    rng = np.random.default_rng(3)
    matrix = edge(rng, n, max(1, n // 2), 0, 0.0)
    margin = 20 * (n + 8) * 2.0**-53 * np.trace(matrix)
    assert bool(semidefinite([torch.from_numpy(matrix + margin * np.eye(n))], [], ZERO))
    assert not bool(semidefinite([torch.from_numpy(matrix - margin * np.eye(n))], [], ZERO))


@pytest.mark.parametrize("sizes", [(2, 3), (1, 4, 2), (3, 3, 3, 1)])
def test_block_tridiagonal_matrices_are_treated_as_the_whole(sizes):
    rng, proven = np.random.default_rng(4), 0
    for off in (0.0, 1e-16, 1e-14, -1e-15, -1e-12):
        for _ in range(6):
            matrix = banded(rng, sizes, off=off)
            if bool(semidefinite(*cut(matrix, sizes), ZERO)):
                proven += 1
                assert is_semidefinite(matrix)
    assert proven >= 6


@pytest.mark.parametrize("exponent", [-1000, -1030, -1055, -1065])
def test_subnormal_matrices_are_not_proven_wrongly(exponent):
    rng = np.random.default_rng(0)
    for _ in range(100):
        near = np.diag(rng.uniform(-1, 1, 4)) * 10.0 ** rng.uniform(-17, -1)
        matrix = np.ldexp(edge(rng, 4, 3, 0, 0.0) + near, exponent)
        if bool(semidefinite([torch.from_numpy(matrix.copy())], [], ZERO)):
            assert is_semidefinite(matrix)


def test_batches_are_their_members():
    rng = np.random.default_rng(5)
    members = [edge(rng, 5, 4, 0, off) for off in (1e-13, -1e-13, 0.5, -0.5)]
    batch = torch.from_numpy(np.stack(members))
    alone = [bool(semidefinite([torch.from_numpy(m.copy())], [], ZERO)) for m in members]
    assert semidefinite([batch], [], torch.zeros(4, dtype=torch.float64)).tolist() == alone
    assert alone == [False, True, False, True]


def test_matrices_that_are_not_finite_are_not_proven():
    for entry in (np.nan, np.inf, -np.inf):
        for place in ((0, 0), (2, 2), (1, 0)):
            matrix = np.eye(3)
            matrix[place] = matrix[place[::-1]] = entry
            assert not bool(semidefinite([torch.from_numpy(matrix)], [], ZERO))


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (3, 1, 4)])
def test_log_determinant_and_inverses_against_numpy(sizes):
    rng = np.random.default_rng(6)
    matrix = banded(rng, sizes) + np.eye(sum(sizes))
    factors = factorise(*cut(matrix, sizes))
    assert bool(factors.positive)
    assert float(factors.log_determinant) == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    whole = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse(factors), whole, rtol=1e-9, atol=1e-12)
    ends = torch.from_numpy(rng.standard_normal((sizes[-1], 2)))
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    columns = np.zeros((sum(sizes), 2))
    columns[-sizes[-1] :] = (factors.cholesky[-1] @ ends).numpy()
    v = whole @ columns
    wanted_diagonal, wanted_below = cut(whole + (v * weights.numpy()) @ v.T, sizes)
    diagonal, below = selected_inverse(factors, ends, weights)
    for got, wanted in zip([*diagonal, *below], [*wanted_diagonal, *wanted_below], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_positive_has_no_factorisation():
    assert not bool(factorise(*cut(np.diag([1.0, 1.0, -1.0]), (2, 1))).positive)
    assert not bool(factorise(*cut(np.zeros((2, 2)), (1, 1))).positive)


def test_estimates_by_lanczos_are_those_of_all_eigenvalues(monkeypatch):
    torch.manual_seed(0)
    matrices = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    matrices = matrices @ matrices.mT
    matrices[0, 1] = 0.0
    matrices[1, 2] = torch.eye(20) - torch.ones(20, 20) / 20
    expected = torch.linalg.eigvalsh(matrices)[..., -1]
    monkeypatch.setattr(definite, "DENSE_EIGENVALUES", 3)
    found = definite.greatest_estimated(matrices)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(definite.greatest_estimated(matrices[0, 0]), expected[0, 0])

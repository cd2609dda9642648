"""Gram matrices of matrices and convolutions, and rows that are pulled back through convolutions,
against products of the matrices themselves."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from lipbounds.arithmetic.rounding import gamma
from lipbounds.linear import grams, rows
from lipbounds.linear.norms import operator_norm
from lipbounds.linear.operators import Composition, Convolution, Dense, Diagonal, Sparse, dense
from lipbounds.methods import costs


def by_its_definition(convolution: Convolution) -> torch.Tensor:
    """Its matrix, a sum over the taps that lie in the image, in exact loops."""
    outputs, inputs, height, width = convolution.kernel.shape
    left, _, top, _ = convolution.padding
    matrix = torch.zeros(*convolution.out_shape, *convolution.image_shape, dtype=torch.float64)
    for y in range(convolution.out_shape[1]):
        for x in range(convolution.out_shape[2]):
            for a in range(height):
                for b in range(width):
                    row = y * convolution.stride[0] - top + a * convolution.dilation[0]
                    column = x * convolution.stride[1] - left + b * convolution.dilation[1]
                    inside = 0 <= row < convolution.image_shape[1]
                    if inside and 0 <= column < convolution.image_shape[2]:
                        matrix[:, y, x, :, row, column] += convolution.kernel[:, :, a, b]
    return matrix.reshape(convolution.shape)


def smaller_gram(matrix: torch.Tensor) -> torch.Tensor:
    return matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix


@st.composite
def convolutions(draw) -> Convolution:
    few = st.integers(1, 3)
    taps = draw(few), draw(few)
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    dilation = draw(few), draw(few)
    sides = [draw(st.integers(d * (t - 1) + 1, 8)) for d, t in zip(dilation, taps, strict=True)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kernel = torch.randn(draw(few), draw(few), *taps, generator=generator, dtype=torch.float64)
    return Convolution(kernel, (kernel.shape[1], *sides), (draw(few), draw(few)), padding, dilation)


@quick
@given(convolutions(), st.integers(-40, 40))
def test_of_a_convolution(convolution, exponent):
    scale = torch.tensor(2.0**exponent, dtype=torch.float64)
    matrix = by_its_definition(convolution)
    torch.testing.assert_close(dense(convolution), matrix, rtol=0, atol=0)
    found, wanted = grams.gram(convolution, scale), smaller_gram(matrix / scale)
    assert torch.equal(found, found.mT)
    error = gamma(2 * convolution.terms + max(matrix.shape)) * smaller_gram(matrix.abs() / scale)
    assert bool(((found - wanted).abs() <= 2 * error).all())


@quick
@given(convolutions(), st.integers(0, 2**31))
def test_rows_of_a_convolution(convolution, seed):
    matrix = by_its_definition(convolution).numpy()
    index = np.random.default_rng(seed).integers(len(matrix), size=5)
    np.testing.assert_array_equal(convolution.csr_rows(index).toarray(), matrix[index])
    np.testing.assert_array_equal(convolution.csr.toarray(), matrix)


def test_rows_of_a_grouped_convolution():
    kernel = torch.randn(6, 2, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    one = Convolution(kernel, (4, 5, 6), (2, 1), (1, 0, 1, 2), (2, 1), groups=2)
    np.testing.assert_array_equal(one.csr.toarray(), one.apply(torch.eye(120).double()).mT.numpy())


@quick
@given(convolutions(), st.integers(0, 2**31), st.sampled_from(["matrix", "rows", "images"]))
def test_rows_through_a_convolution(convolution, seed, way):
    """By its matrix; where that is too large by the rows that are needed, or as images."""
    generator = np.random.default_rng(seed)
    some = generator.normal(size=(3, convolution.shape[0]))
    some[:, 1:] *= generator.random((3, convolution.shape[0] - 1)) < 0.1
    held = {"matrix": 10**9, "rows": convolution.cost - 1, "images": 0}[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "HELD", held)
        found = rows.SparseRows(sp.csr_array(some)).pull(convolution).rows
    found = found.toarray() if isinstance(found, sp.csr_array) else found.numpy()
    wanted = some @ by_its_definition(convolution).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def test_a_matrix_with_what_spreads_few_entries_over_many():
    """Formed for many vectors at a time; the roundings stay within those that are counted."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 60, generator=generator, dtype=torch.float64)
    place = torch.arange(60)
    spread = Sparse(place, place // 12, torch.ones(60, dtype=torch.float64), (60, 5))
    both = Composition([Dense(weight), spread])
    assert [factor.shape for factor in both.shortened] == [(30, 5)]
    assert [factor.shape for factor in both.factors] == [(30, 60), (60, 5)]
    for count in (1, 100):
        x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
        y = torch.randn(count, 30, generator=generator, dtype=torch.float64)
        error = gamma(both.terms) * both.majorant().apply(x.abs())
        wanted = weight @ x.mT.repeat_interleave(12, 0)
        assert bool(((both.apply(x) - wanted.mT).abs() <= 2 * error).all())
        torch.testing.assert_close(both.adjoint(y), spread.adjoint(y @ weight))


@pytest.mark.parametrize("shape", [(7, 300), (300, 7), (33, 33), (1, 5)])
def test_of_a_matrix(shape, monkeypatch):
    monkeypatch.setattr("lipbounds.linear.operators.BLOCK_ENTRIES", 500)  # several blocks
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = grams.gram(Dense(matrix), torch.tensor(2.0, dtype=torch.float64))
    assert torch.equal(found, found.mT)
    torch.testing.assert_close(found, smaller_gram(matrix / 2), rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("channels", [(4, 9), (9, 4)])
def test_the_norm_of_a_convolution_that_is_not_formed(channels, scaled):
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = channels
    kernel = torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=torch.float64)
    operator = Convolution(kernel, (inputs, 12, 11), padding=(1, 1, 1, 1))
    matrix = by_its_definition(operator)
    if scaled:  # a batch norm behind it
        each = torch.rand(outputs, generator=generator, dtype=torch.float64) - 0.5
        each = each.repeat_interleave(12 * 11)
        operator, matrix = Composition([Diagonal(each), operator]), each[:, None] * matrix
    assert matrix.numel() > 2**18 and grams.by_taps(operator) is not None
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact * (1 - 1e-14) <= float(operator_norm(operator, 2)) <= exact * (1 + 1e-9)


def test_what_it_costs_is_what_it_multiplies_and_adds():
    kernel = torch.ones(8, 4, 3, 3, dtype=torch.float64)
    convolution = Convolution(kernel, (4, 20, 20))
    assert grams.taps_cost(convolution) == 81 * 16 * (8 + 400)
    assert costs._spectral(convolution) < 2 * 1600 * convolution.cost + 2 * 1600**3

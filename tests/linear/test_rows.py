"""Blocks of rows, pulled back through every kind of operator: against W^T y by matrices."""

import math

import pytest
import scipy.sparse as sp
import torch

import lipbounds as lb
from lipbounds.linear.blocks import Blocks, Sum
from lipbounds.linear.operators import (
    Composition,
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Operator,
    Sparse,
    compose,
    dense,
)
from lipbounds.linear.rows import DenseRows, SparseRows, start


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def convolution(channels=2):
    return Convolution(drawn(channels, 2, 3, 3), (2, 5, 5), padding=(1, 1, 1, 1))


def sparse(m, n):
    weight = drawn(m, n) * (torch.rand(m, n) < 0.1)
    rows, columns = weight.nonzero(as_tuple=True)
    return Sparse(rows, columns, weight[rows, columns], (m, n))


def operators() -> dict[str, Operator]:
    torch.manual_seed(0)
    scaled = Composition([Diagonal(drawn(50)), convolution()])
    parts = {(0, 0): scaled, (0, 1): convolution(), (2, 1): Identity(50), (1, 0): sparse(30, 50)}
    convolutions = Blocks(parts, [50, 30, 50], [50, 50, 7])
    return {
        "blocks of convolutions": convolutions,
        "a dense block": Blocks({(0, 0): Dense(drawn(50, 40)), (1, 1): convolution()},
                                [50, 50], [40, 50]),
        "a block met by dense and sparse ones": Blocks(
            {(0, 0): Dense(drawn(50, 50)), (1, 0): Identity(50)}, [50, 50], [50]),
        "no block": Blocks({}, [20, 30], [10]),
        "sum": Sum([convolution(), scaled, Identity(50)]),
        "dense summand": Sum([convolution(), Dense(drawn(50, 50))]),
        "behind blocks": compose(sparse(60, 130), convolutions),
    }  # fmt: skip


@pytest.mark.parametrize("name", operators())
def test_rows_are_those_of_the_matrix(name):
    operator = operators()[name]
    m, n = operator.shape
    chosen = torch.randperm(m)[: m // 2]
    rows = drawn(len(chosen), m) * (torch.rand(len(chosen), m) < 0.05)
    found = SparseRows(sp.csr_array(rows.numpy())).pull(operator)
    expected = rows @ dense(operator)
    assert found.shape == (len(chosen), n)
    kept = found.rows if isinstance(found, DenseRows) else torch.from_numpy(found.rows.toarray())
    torch.testing.assert_close(kept, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sums(-1), expected.abs().sum(-1), rtol=1e-12, atol=1e-12)


def test_few_rows_of_large_blocks_form_no_matrix(monkeypatch):
    """What a network with concatenation or a residual block is made of."""
    for kind in (Operator, Blocks, Convolution):
        monkeypatch.setattr(kind, "materialized", lambda _: pytest.fail("formed"))
    image = 8, 64, 64
    one = Convolution(drawn(8, 8, 3, 3), image, padding=(1, 1, 1, 1))
    size = math.prod(image)
    scaled = Composition([Diagonal(drawn(size)), one])
    blocks = Blocks({(0, 0): scaled, (1, 0): one}, [size, size], [size])
    found = start(blocks, slice(0, 3), one, ensemble=False)
    assert found.rows.nnz <= 3 * 72


def test_k_4_of_concatenated_convolutions_is_that_of_dense_rows(monkeypatch):
    class Fire(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(1, 3, 1), torch.nn.Conv2d(1, 3, 3, padding=1)
            self.end = torch.nn.Conv2d(6, 2, 3)

        def forward(self, x):
            both = torch.cat([self.a(x), self.b(x)], 1).relu()
            return self.end(both).relu().mean((2, 3))

    torch.manual_seed(0)
    network = lb.from_torch(Fire().double(), (1, 9, 9))
    expected = lb.bound(network, "K_4", 2).upper
    monkeypatch.setattr(SparseRows, "pull", lambda self, operator: DenseRows(
        operator.adjoint(torch.from_numpy(self.rows.toarray()))))  # fmt: skip
    assert lb.bound(network, "K_4", 2).upper == pytest.approx(expected, rel=1e-11)

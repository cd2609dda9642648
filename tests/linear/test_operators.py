"""Every operator and option against its dense matrix, taken from torch on unit vectors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import affine_of
from torch import nn

import lipbounds as lb
from lipbounds.linear import operators
from lipbounds.linear.operators import (
    Composition,
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Sparse,
    compose,
    dense,
)

torch.manual_seed(0)


def batch_norm(layer):
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.1, 2)
    if layer.affine:
        nn.init.uniform_(layer.weight, -2, 2)
        nn.init.uniform_(layer.bias)
    return layer


LAYERS = {
    "linear": (nn.Linear(5, 3), (5,)),
    "linear no bias": (nn.Linear(2, 4, bias=False), (2,)),
    "conv": (nn.Conv2d(2, 3, 3), (2, 5, 6)),
    "conv stride": (nn.Conv2d(1, 2, 3, stride=2), (1, 6, 7)),
    "conv stride leaves pixels": (nn.Conv2d(1, 2, 2, stride=3), (1, 7, 6)),
    "conv stride pair": (nn.Conv2d(2, 1, (2, 3), stride=(1, 2), padding=(0, 2)), (2, 4, 5)),
    "conv padding": (nn.Conv2d(1, 2, 3, padding=(2, 1)), (1, 3, 4)),
    "conv same odd": (nn.Conv2d(1, 2, 3, padding="same"), (1, 4, 3)),
    "conv same even": (nn.Conv2d(1, 2, (2, 4), padding="same"), (1, 5, 4)),
    "conv same dilated": (nn.Conv2d(1, 1, (2, 3), padding="same", dilation=(3, 1)), (1, 5, 4)),
    "conv valid": (nn.Conv2d(1, 1, 2, padding="valid"), (1, 3, 3)),
    "conv dilation": (nn.Conv2d(1, 2, 2, dilation=(2, 3), padding=1), (1, 5, 6)),
    "conv groups": (nn.Conv2d(4, 6, 2, groups=2), (4, 3, 3)),
    "conv depthwise": (nn.Conv2d(3, 3, 3, groups=3, stride=2, padding=1, dilation=2), (3, 6, 5)),
    "conv 1d": (nn.Conv1d(2, 3, 3, stride=2, padding=2), (2, 6)),
    "conv 1d same": (nn.Conv1d(2, 2, 4, padding="same", groups=2), (2, 5)),
    "conv 1d dilation": (nn.Conv1d(1, 2, 2, dilation=3), (1, 6)),
    "average": (nn.AvgPool2d(2), (2, 4, 5)),
    "average overlap": (nn.AvgPool2d((2, 3), stride=(1, 2)), (1, 4, 6)),
    "average padding": (nn.AvgPool2d(3, stride=2, padding=1), (2, 5, 5)),
    "average uncounted padding": (
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (1, 5, 4),
    ),
    "average ceil": (nn.AvgPool2d(3, 2, ceil_mode=True), (1, 6, 8)),
    "average ceil padding": (nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (1, 6, 6)),
    "average ceil uncounted": (
        nn.AvgPool2d(2, 3, padding=1, ceil_mode=True, count_include_pad=False), (1, 6, 7),
    ),
    "average ceil drops a window": (nn.AvgPool2d(1, 3, ceil_mode=True), (1, 5, 6)),
    "average divisor": (nn.AvgPool2d(2, padding=1, divisor_override=3), (1, 4, 4)),
    "average 1d": (nn.AvgPool1d(3, 2, padding=1), (2, 6)),
    "average 1d ceil": (
        nn.AvgPool1d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), (2, 6),
    ),
    "adaptive": (nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    "adaptive global": (nn.AdaptiveAvgPool2d(1), (3, 2, 4)),
    "adaptive none": (nn.AdaptiveAvgPool2d((None, 2)), (1, 3, 5)),
    "adaptive enlarging": (nn.AdaptiveAvgPool2d(5), (1, 3, 4)),
    "batch norm 1d": (batch_norm(nn.BatchNorm1d(3)), (3,)),
    "batch norm 1d signal": (batch_norm(nn.BatchNorm1d(2, eps=0.1)), (2, 3)),
    "batch norm 2d": (batch_norm(nn.BatchNorm2d(3)), (3, 2, 2)),
    "batch norm plain": (batch_norm(nn.BatchNorm2d(2, affine=False)), (2, 2, 3)),
    "flatten": (nn.Flatten(), (2, 2, 3)),
    "flatten some": (nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(4, 2, 2)), (2, 2, 3)),
    "unflatten": (nn.Sequential(nn.Unflatten(1, (2, -1, 3)), nn.Conv2d(2, 1, 2)), (12,)),
    "unflatten last": (nn.Sequential(nn.Unflatten(-1, (2, 3)), nn.Conv2d(2, 1, 2)), (2, 6)),
    "dropout": (nn.Dropout(), (3,)),
    "identity": (nn.Identity(), (2, 2)),
    "diagonal then conv": (
        nn.Sequential(batch_norm(nn.BatchNorm2d(2)), nn.Conv2d(2, 2, 2)), (2, 3, 3),
    ),
    "conv then diagonal": (
        nn.Sequential(nn.Conv2d(2, 2, 2), batch_norm(nn.BatchNorm2d(2))), (2, 3, 3),
    ),
    "two convs": (nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 1, 2)), (1, 4, 4)),
    "conv, average, linear": (
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3)),
        (1, 3, 3),
    ),
}  # fmt: skip


def converted(module, shape):
    matrix, offset = affine_of(module.double().eval(), shape)
    (affine,) = lb.from_torch(module, shape).affines
    return affine.operator, matrix, affine.offset, offset


def plain():
    """Operators no layer gives on its own, with the matrix written out in NumPy."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    row, column = np.array([0, 2, 2, 1]), np.array([1, 0, 3, 1])
    values = np.array([1.5, -2.0, 0.0, 3.0])
    sparse = np.zeros((3, 4))
    sparse[row, column] = values
    d = rng.standard_normal(4)
    to = torch.from_numpy
    s = Sparse(to(row), to(column), to(values), (3, 4))
    asymmetric = rng.standard_normal((2, 1, 2, 2))
    return {
        "dense": (Dense(to(a)), a),
        "diagonal": (Diagonal(to(d)), np.diag(d)),
        "identity": (Identity(3), np.eye(3)),
        "sparse": (s, sparse),
        "product": (Composition([Dense(to(a)), Dense(to(b))]), a @ b),
        "sparse product": (
            Composition([s, Diagonal(to(d)), Dense(to(b))]), sparse @ np.diag(d) @ b,
        ),
        "cancelling": (
            Composition([Dense(to(np.array([[1.0, 1.0]]))), Dense(to(np.array([[1.0], [-1.0]])))]),
            np.zeros((1, 1)),
        ),
        "empty sparse": (
            Sparse(to(row[:0]), to(row[:0]), to(values[:0]), (2, 3)), np.zeros((2, 3)),
        ),
        "asymmetric padding": (
            Convolution(to(asymmetric), (1, 3, 4), (2, 1), (3, 0, 1, 2)),
            affine_of(_Padded(to(asymmetric)), (1, 3, 4))[0],
        ),
    }  # fmt: skip


class _Padded(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        return F.conv2d(F.pad(x, (3, 0, 1, 2)), self.kernel, stride=(2, 1))


def close(computed, expected):
    np.testing.assert_allclose(computed.numpy(), expected, rtol=0, atol=1e-13)


def check(operator, matrix):
    """The shared case: apply, adjoint, absolute, majorant, terms and the dense forms."""
    m, n = matrix.shape
    assert tuple(operator.shape) == (m, n)
    close(operator.apply(torch.eye(n, dtype=torch.float64)), matrix.T)
    close(operator.adjoint(torch.eye(m, dtype=torch.float64)), matrix)
    close(dense(operator), matrix)
    close(dense(operator.materialized()), matrix)
    absolute = operator.absolute()
    close(absolute.apply(torch.eye(n, dtype=torch.float64)), abs(matrix).T)
    close(absolute.adjoint(torch.eye(m, dtype=torch.float64)), abs(matrix))
    assert (dense(operator.majorant()).numpy() >= abs(matrix) - 1e-13).all()
    assert operator.terms >= _greatest_count(operator, matrix)
    x, y = torch.randn(2, 3, n).double(), torch.randn(n).double()
    close(operator.apply(x), x.numpy() @ matrix.T)
    close(operator.apply(y), matrix @ y.numpy())
    w, z = torch.randn(3, 2, m).double(), torch.randn(m).double()
    close(operator.adjoint(w), w.numpy() @ matrix)
    close(operator.adjoint(z), matrix.T @ z.numpy())


def _greatest_count(operator, matrix):
    """The most terms in one row or column, where the matrix shows them (one factor, mixing)."""
    if isinstance(operator, Composition | Diagonal | Identity):
        return 0
    return max((matrix != 0).sum(0).max(), (matrix != 0).sum(1).max())


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_its_dense_matrix(name):
    operator, matrix, offset, expected = converted(*LAYERS[name])
    check(operator, matrix)
    close(offset, expected)


@pytest.mark.parametrize("name", plain())
def test_operator_equals_its_dense_matrix(name):
    check(*plain()[name])


@pytest.mark.parametrize("name", LAYERS)
def test_explicit_layer_equals_its_dense_matrix(name):
    module, shape = LAYERS[name]
    matrix, _ = affine_of(module.double().eval(), shape)
    (affine,) = lb.explicit(lb.from_torch(module, shape)).affines
    factors = getattr(affine.operator, "factors", (affine.operator,))
    assert not any(isinstance(factor, Convolution) for factor in factors)
    check(affine.operator, matrix)


def test_absolute_of_a_composition_is_not_the_product_of_absolutes():
    """Two mixing factors: |B A| is exact, and smaller than |B| |A|."""
    torch.manual_seed(0)
    conv, average = nn.Conv2d(1, 2, 2), nn.AvgPool2d(2, 1)
    operator, matrix, *_ = converted(nn.Sequential(conv, average), (1, 4, 4))
    assert isinstance(operator, Composition)
    close(dense(operator.absolute()), abs(matrix))
    assert float(dense(operator.majorant()).sum()) > abs(matrix).sum() + 0.1


def test_dense_ensemble_acts_member_by_member():
    weight = torch.randn(4, 3, 2).double()
    operator = Dense(weight)
    assert (operator.shape, operator.batch_shape) == ((3, 2), (4,))
    x, y = torch.randn(5, 2).double(), torch.randn(4, 5, 3).double()
    for s in range(4):
        close(operator.apply(x)[s], x.numpy() @ weight[s].numpy().T)
        close(operator.adjoint(y)[s], y[s].numpy() @ weight[s].numpy())
    close(operator.absolute().weight, abs(weight.numpy()))


def test_compose_drops_identities_flattens_and_checks_sizes():
    a, b, c = (Dense(torch.randn(*s).double()) for s in ((2, 3), (3, 4), (4, 4)))
    assert compose(a, Identity(3)) is a
    assert compose(Identity(2), a) is a
    assert compose(compose(a, b), c).factors == (a, b, c)
    close(dense(compose(a, compose(b, c))), (a.weight @ b.weight @ c.weight).numpy())
    assert isinstance(compose(Identity(3), Identity(3)), Identity)
    with pytest.raises(lb.LipboundsError, match="cannot compose a map of 3 inputs"):
        compose(a, c)


def test_convolution_larger_than_its_image_raises():
    with pytest.raises(lb.LipboundsError, match=r"reaching over \(5, 5\) pixels"):
        Convolution(torch.ones(1, 1, 3, 3).double(), (1, 4, 6), dilation=(2, 2))


@pytest.mark.parametrize("block", [1, 7, 10**9])
def test_materialize_does_not_depend_on_the_block_size(monkeypatch, block):
    operator, matrix, *_ = converted(*LAYERS["conv depthwise"])
    monkeypatch.setattr(operators, "BLOCK_ENTRIES", block)
    close(dense(operator.materialized()), matrix)


def test_convolutions_on_a_gpu_are_sums_of_products():
    """Not by the FFT, whose errors are not relative to each sum."""
    enabled = torch.backends.cudnn.enabled
    with operators._by_sums(torch.device("cuda")):
        assert not torch.backends.cudnn.enabled
    with operators._by_sums(torch.device("cpu")):
        assert torch.backends.cudnn.enabled is enabled


def test_slices_cover_a_range_once():
    parts = list(operators.slices(10, operators.BLOCK_ENTRIES // 4))
    assert [i for s in parts for i in range(s.start, s.stop)] == list(range(10))
    assert max(s.stop - s.start for s in parts) == 4
    assert math.prod(operators.identity_rows(5, slice(2, 4), "cpu").shape) == 10


def test_a_product_of_two_ensembles_keeps_its_members_apart():
    generator = torch.Generator().manual_seed(0)
    inner, outer = (
        Dense(torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)) for _ in range(2)
    )
    both, x = Composition([outer, inner]), torch.arange(4.0, dtype=torch.float64)
    product = outer.weight @ inner.weight
    torch.testing.assert_close(both.apply(x), product @ x)
    torch.testing.assert_close(both.adjoint(x), product.mT @ x)
    torch.testing.assert_close(both.apply(x[None]), (product @ x)[:, None])

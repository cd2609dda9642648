"""Lower bounds from Jacobians: true ones, also where points sit on kinks and ties."""

import math
from fractions import Fraction
from operator import mul

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.truth.pieces import exact_lipschitz
from lipbounds.truth.sampling import (
    differentiable,
    jacobian_lower_bound,
    jacobian_norms,
    moved,
    secant_quotients,
)

NORMS = [1, 2, math.inf]


def test_cancelling_kinks_give_no_false_lower_bound():
    """R(x) - R(-x) - x = 0: the formal derivative at 0 is -1."""
    weights = [[[1.0], [-1.0], [1.0]], [[1.0, -1.0, -1.0]]]
    network = lb.from_weights(weights, activation=[["relu", "relu", "identity"]])
    zero = torch.zeros(5, 1, dtype=torch.float64)
    assert network.jacobian(zero).abs().max() == 1
    for norm in NORMS:
        assert jacobian_lower_bound(network, zero, norm) == 0


@pytest.mark.parametrize("norm", NORMS)
def test_reaches_and_never_exceeds_the_exact_constant(norm):
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((6, 2), (5, 6), (3, 5))
    ]
    network = lb.from_weights(weights)  # homogeneous: all slopes occur within any box around 0
    points = torch.rand(4000, 2, generator=generator, dtype=torch.float64) * 2 - 1
    exact = exact_lipschitz(network, ((-1.1, 1.1), (-1.1, 1.1)), norm)
    lower = jacobian_lower_bound(network, points, norm)
    assert 0.999 * exact < lower <= exact


@pytest.mark.parametrize("norm", NORMS)
def test_ties_of_pools_over_dead_neurons_are_no_kinks(norm):
    """Windows of neurons that are all off tie, but nothing moves there: such points count."""
    conv = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([-5.0, 0.5]))
    module = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        module[4].weight.copy_(torch.tensor([[1.0, 1.0]]))
    network = lb.from_torch(module.eval(), (1, 2, 2))
    points = torch.zeros(50, 1, 2, 2, dtype=torch.float64)
    assert len(moved(network, points)) == 50
    assert jacobian_lower_bound(network, points, norm) == pytest.approx(2.0, rel=1e-9)


def test_points_on_kinks_are_left_out_and_none_raises():
    """max(x, y) tied whatever the noise: both inputs are the same neuron."""
    network = lb.from_weights([[[1.0], [1.0]], [[1.0, 1.0]]], activation=[["relu", "abs"]])
    assert len(moved(network, torch.ones(10, 1, dtype=torch.float64))) == 10
    module = nn.Sequential(
        nn.Unflatten(1, (1, 1)), nn.Conv1d(1, 2, 1, bias=False), nn.Unflatten(1, (1, 2)),
        nn.MaxPool2d((2, 1)), nn.Flatten(),
    ).double()  # fmt: skip
    with torch.no_grad():
        module[1].weight.fill_(1.0)
    tied = lb.from_torch(module.eval(), (1,))
    with pytest.raises(lb.LipboundsError, match="none of 10 points"):
        jacobian_lower_bound(tied, torch.ones(10, 1, dtype=torch.float64), 2)


def test_differentiable_tells_kinks_from_clear_points():
    network = lb.from_weights([[[1.0], [2.0]], [[1.0, 1.0]]], [[0.0, -2.0], None])
    points = torch.tensor([[0.0], [1e-17], [0.5], [1.0], [1 + 2**-52], [3.0]]).double()
    assert differentiable(network, points).tolist() == [False, True, True, False, False, True]


@pytest.mark.parametrize("norm", NORMS)
def test_cancellation_is_taken_off(norm):
    """x + (1e8 - 1e8 (1 + 1e-15)) x: computed entries err by far more than their own size."""
    third = torch.tensor([[1.0], [1.0]], dtype=torch.float64) / 3
    network = lb.from_weights([third, torch.tensor([[1e8, -1e8]]).double()])
    one, two = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0).double()
    assert jacobian_norms(network, one, norm) <= 0
    assert secant_quotients(network, one, two, norm) == 0
    identity = lb.from_weights([[[1.0]]])
    assert secant_quotients(identity, one, two, norm).item() == pytest.approx(1, rel=1e-12)
    assert secant_quotients(identity, one, two, norm) <= 1
    assert secant_quotients(identity, one, one, norm) == 0


def exact_product(weights):
    """W_L ... W_0 in rational arithmetic, as rows."""
    first, *rest = ([[Fraction(x) for x in row] for row in w.tolist()] for w in weights)
    for w in rest:
        columns = list(zip(*first, strict=True))
        first = [[sum(map(mul, row, column)) for column in columns] for row in w]
    return first


def exact_powers(matrix):
    """The norms in l1 and l-infinity, and the square of that in l2 of a single row."""
    sizes = [[abs(x) for x in row] for row in matrix]
    found = {1: max(map(sum, zip(*sizes, strict=True))), math.inf: max(map(sum, sizes))}
    return found | ({2: sum(x * x for x in sizes[0])} if len(sizes) == 1 else {})


SCALES = [(1e-160, 1e-164), (5e-324, 1.0), (1e-200, 1e-120, 1e300), (1e-162, 1e-162, 1e307),
          (1e-308, 1e-15, 1e-1), (1e-323, 0.3, 1e200)]  # fmt: skip


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_what_underflows_is_taken_off(scales, outputs):
    """Linear networks, whose Jacobian is the exact product."""
    generator = torch.Generator().manual_seed(outputs)
    sizes = [*[(2, 2)] * (len(scales) - 1), (outputs, 2)]
    for _ in range(20):
        weights = [
            torch.randn(*size, generator=generator, dtype=torch.float64) * scale
            for size, scale in zip(sizes, scales, strict=True)
        ]
        network = lb.from_weights(weights, activation="identity")
        for norm, exact in exact_powers(exact_product(weights)).items():
            lower = Fraction(jacobian_lower_bound(network, torch.ones(1, 2), norm))
            assert lower ** (2 if norm == 2 else 1) <= exact


@pytest.mark.parametrize("norm", NORMS)
def test_a_jacobian_of_small_numbers_keeps_its_norm(norm):
    """Squares of 1e-200 vanish, the norm does not."""
    network = lb.from_weights([[[3e-200, 4e-200]], [[1.0]]], activation="identity")
    exact = {1: 4e-200, 2: 5e-200, math.inf: 7e-200}[norm]
    assert jacobian_lower_bound(network, torch.ones(1, 2), norm) == pytest.approx(exact, rel=1e-12)


def test_what_overflows_bounds_nothing():
    network = lb.from_weights([[[1e200]], [[1e200]]], activation="identity")
    for norm in (1, math.inf):
        assert jacobian_lower_bound(network, torch.ones(1, 1), norm) == 0


def test_the_step_of_softplus_is_taken_off():
    """softplus(z) - z falls by 2e-9 at PyTorch's threshold 20, which the true function does not."""
    network = lb.from_weights(
        [[[1.0], [1.0]], [[1.0, -1.0]]], activation=[["softplus", "identity"]]
    )
    x, y = (torch.tensor([[20.0 + s]], dtype=torch.float64) for s in (-1e-9, 1e-9))
    assert ((network(x) - network(y)).abs() / (x - y).abs()).item() > 0.5
    assert secant_quotients(network, x, y, 1) == 0


def test_seed_decides():
    network = lb.from_weights([[[1.0, 2.0]], [[1.0]]], activation="tanh")
    points = torch.zeros(3, 2, dtype=torch.float64)
    values = [jacobian_lower_bound(network, points, 2, seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]

"""Lower bounds from Jacobians: true ones, also where points sit on kinks and ties."""

import math

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.reference.pieces import exact_lipschitz
from lipbounds.reference.sampling import jacobian_lower_bound, moved

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


def test_seed_decides():
    network = lb.from_weights([[[1.0, 2.0]], [[1.0]]], activation="tanh")
    points = torch.zeros(3, 2, dtype=torch.float64)
    values = [jacobian_lower_bound(network, points, 2, seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]

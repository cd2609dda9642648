"""Newton's method on a torus: derivatives against automatic ones, and the optimum."""

import math

import pytest
import torch
from convolutions import FLAT, MODULES, RELU, conv, network_of, of_layers
from torch import nn

from lipbounds.quadratic.fourier.descent import descend
from lipbounds.quadratic.fourier.elimination import TorusElimination
from lipbounds.quadratic.fourier.embedding import embeddings
from lipbounds.quadratic.fourier.forms import TorusForms
from lipbounds.quadratic.fourier.programs import solved
from lipbounds.quadratic.order import Pieces

AVERAGED = [conv(2, 2), RELU, nn.AvgPool2d(2), FLAT, nn.Linear(18, 3)]


def last_torus(network):
    """With as many layers on it as fit."""
    return embeddings(network)[-1]


def network(name):
    return of_layers(AVERAGED) if name == "averaged at the end" else network_of(name)


@pytest.mark.parametrize("name", [*MODULES, "averaged at the end"])
def test_derivatives(name):
    """Of -log det Q in mu, lambda and nu, by differentiating the elimination twice."""
    elimination = TorusElimination(last_torus(network(name)))
    forms = TorusForms(elimination)
    generator = torch.Generator().manual_seed(0)
    logs = elimination.start() + 0.7
    logs = logs + 0.3 * torch.rand(len(logs), generator=generator, dtype=torch.float64)
    theta = 2.0 * forms.theta(logs)[0]
    theta[-1] = 0.65 * elimination.at(logs).gains.max()
    inner = forms.side - forms.sizes[-1]

    def barrier(theta):
        point = elimination.at((theta[0] / theta[1:-1]).log())
        outputs = (point.copies * (theta[-1] - point.gains / theta[0]).log()).sum()
        return -(point.log_determinant + inner * theta[0].log()) - outputs

    slope = torch.autograd.functional.jacobian(barrier, theta)
    hessian = torch.autograd.functional.hessian(barrier, theta)
    _, whole = forms.inverse(theta.unsqueeze(0))
    first, second = forms.curvature(whole)
    torch.testing.assert_close(-first[0], slope, rtol=1e-10, atol=1e-12 * float(slope.abs().max()))
    size = float(hessian.abs().max())
    torch.testing.assert_close(second[0], hessian, rtol=1e-9, atol=1e-12 * size)


@pytest.mark.parametrize("name", ["chain", "pooled"])
def test_ends_at_the_optimum_and_proves_it(name):
    elimination = TorusElimination(last_torus(network(name)))
    pieces = Pieces(torch.full((1, 1), math.inf, dtype=torch.float64))
    logs = descend(elimination, elimination.start(), 20)
    value = float(elimination.at(solved(elimination, logs, pieces, 100, 1e-5)).value)
    longer = float(elimination.at(descend(elimination, logs, 300, gap=0.03)).value)
    assert value <= longer * (1 + 1e-4)
    assert value <= float(pieces.bound) <= value * (1 + 1e-6)


def test_what_is_not_definite_has_no_step():
    elimination = TorusElimination(last_torus(network("chain")))
    forms = TorusForms(elimination)
    positive, whole = forms.inverse(forms.theta(elimination.start() - 4.0))
    assert not bool(positive) and not bool(forms.curvature(whole)[1].any())

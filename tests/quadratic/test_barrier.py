"""Newton's method for K_5's programs: how t grows, and what neurons of all scales do to it."""

import math

import pytest
import torch

import lipbounds as lb
from lipbounds.quadratic.layered import layered_start
from lipbounds.quadratic.newton.barrier import Barrier, minimised
from lipbounds.quadratic.newton.forms import chain_forms, priced, row_forms
from lipbounds.quadratic.newton.programs import _theta
from lipbounds.studies.cases.random import gaussian

SIZES = [10, 24, 24, 24, 3]
ZERO = torch.tensor([0])
ONE = torch.ones(1, dtype=torch.float64)


def weights():
    return [affine.operator.weight.clone() for affine in gaussian(SIZES, 0).affines]


def program(matrices):
    """The program of the first row in l-infinity, and a start."""
    network = lb.from_weights(matrices)
    forms = priced(row_forms(chain_forms(network).select(ZERO), ZERO), math.inf, ONE)
    return forms, _theta(layered_start(network, 0.25), forms, ZERO)


def value(matrices, steps):
    """The least value met within so many Newton steps."""
    forms, start = program(matrices)

    def never(indices, values, lower):
        return torch.zeros_like(values, dtype=torch.bool)

    return float(minimised(forms, Barrier(forms).first(start), 1e-9, never, steps).value)


def test_t_grows_less_where_it_took_many_steps():
    forms, start = program(weights())
    barrier, growths = Barrier(forms), []
    point = barrier.first(start, 1e-2)  # far from the central path
    for _ in range(60):
        before = point
        point, _, stuck = barrier.advance(before)
        if bool(stuck):
            break
        if bool(point.raised):
            growths.append(float(point.t / before.t))
    assert len(growths) > 4
    assert growths[0] < 2 < 3 < max(growths)
    assert all(1.49 < growth < 5.01 for growth in growths)


@pytest.mark.parametrize("steps", [0, 6, 12])
def test_rescaled_neurons_change_no_step(steps):
    generator, matrices = torch.Generator().manual_seed(1), weights()
    plain = value(matrices, steps)
    for k, size in enumerate(SIZES[1:-1]):
        scale = 10 ** (12 * torch.rand(size, 1, generator=generator, dtype=torch.float64) - 6)
        matrices[k], matrices[k + 1] = scale * matrices[k], matrices[k + 1] / scale.mT
    assert value(matrices, steps) == pytest.approx(plain, rel=1e-5)


def test_faint_neurons_count_as_if_they_were_not_there():
    matrices = weights()
    for before in matrices[:-1]:
        before[::6] *= 1e-9
    kept = torch.arange(24) % 6 != 0
    without = [m[kept] if k < 3 else m for k, m in enumerate(matrices)]
    without = [m[:, kept] if k else m for k, m in enumerate(without)]
    assert value(matrices, 50) == pytest.approx(value(without, 50), rel=1e-4)


def test_twins_count_as_one():
    """Theorem 1: the mean of the vectors of two neurons meets what each of them meets."""
    matrices = weights()
    plain = value(matrices, 50)
    for k in range(3):
        matrices[k] = torch.cat([matrices[k], matrices[k][:6]])
        following = matrices[k + 1].clone()
        following[:, :6] /= 2
        matrices[k + 1] = torch.cat([following, following[:, :6]], 1)
    assert value(matrices, 50) == pytest.approx(plain, rel=1e-4)

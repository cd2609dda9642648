"""Random ensembles: their distribution, and that each cell is a stream of its own."""

import math

import pytest
import torch

from lipbounds.errors import LipboundsError
from lipbounds.linear.operators import dense
from lipbounds.studies.cases.random import ensemble

CELL = {"distribution": "gaussian", "width": 5, "depth": 3, "samples": 4, "seed": 0}


def weights(**cell):
    return [dense(affine.operator) for affine in ensemble(**cell).affines]


def test_shapes_and_stages():
    network = ensemble(**CELL)
    assert [w.shape for w in weights(**CELL)] == [(4, 5, 5)] * 4
    assert network.batch_shape == (4,)
    assert all(stage.alpha.eq(0).all() and stage.beta.eq(1).all() for stage in network.stages)
    assert all(w.dtype == torch.float64 for w in weights(**CELL))


@pytest.mark.parametrize("distribution, fourth_moment", [("gaussian", 3.0), ("uniform", 9 / 5)])
def test_moments(distribution, fourth_moment):
    width = 20
    entries = torch.stack(
        weights(distribution=distribution, width=width, depth=4, samples=200, seed=1)
    ).flatten() * math.sqrt(width)  # 400 000 entries of unit variance
    assert entries.mean().abs() < 0.01
    assert entries.square().mean() == pytest.approx(1, abs=0.02)
    assert entries.pow(4).mean() == pytest.approx(fourth_moment, abs=0.1)


def test_uniform_entries_fill_their_interval():
    entries = torch.stack(weights(**CELL | {"distribution": "uniform", "samples": 1000}))
    bound = math.sqrt(3 / 5)
    assert entries.abs().max() <= bound
    assert entries.max() > 0.999 * bound and entries.min() < -0.999 * bound


def test_same_arguments_same_networks_whatever_happens_between():
    first = weights(**CELL)
    torch.manual_seed(99)
    weights(**CELL | {"width": 7})
    assert all(torch.equal(a, b) for a, b in zip(first, weights(**CELL), strict=True))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    ensemble(**CELL)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("change", [{"depth": 4}, {"samples": 5}, {"seed": 1}])
def test_cells_have_streams_of_their_own(change):
    a, b = weights(**CELL)[0][0], weights(**CELL | change)[0][0]
    assert not torch.isclose(a, b).any()


def test_matrices_and_samples_differ():
    first, second, *_ = weights(**CELL)
    assert not torch.isclose(first, second).any()
    assert not torch.isclose(first[0], first[1]).any()


def test_unknown_distribution_is_named():
    with pytest.raises(LipboundsError, match="cauchy.*gaussian"):
        ensemble("cauchy", 4, 2, 3, 0)


@pytest.mark.parametrize("name", ["width", "depth", "samples"])
@pytest.mark.parametrize("value", [0, -2, 1.0, True])
def test_sizes_are_checked(name, value):
    with pytest.raises(LipboundsError, match=name):
        ensemble(**CELL | {name: value})

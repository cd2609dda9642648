"""The relaxation optimum against a brute-force product over all vertices."""

import itertools
import math

import numpy as np
import pytest
import torch

from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.operators import Dense, dense
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import BetweenStage
from lipbounds.studies.cases import analytic
from lipbounds.studies.cases.random import ensemble
from lipbounds.truth import enumeration
from lipbounds.truth.enumeration import enumerated_optimum

NORMS = (1, 2, math.inf)


def network_of(sizes, seed, activation="relu"):
    generator = np.random.default_rng(seed)
    weights = [generator.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    return Network.from_weights(weights, activation=activation)


def brute_force(network, norm):
    """One vertex after another, in NumPy."""
    weights = [dense(affine.operator).numpy() for affine in network.affines]
    slopes = [
        itertools.product(*map(set, zip(stage.alpha.tolist(), stage.beta.tolist(), strict=True)))
        for stage in network.stages
    ]
    best = 0.0
    for vertex in itertools.product(*slopes):
        jacobian = weights[0]
        for weight, slope in zip(weights[1:], vertex, strict=True):
            jacobian = weight @ (np.array(slope)[:, None] * jacobian)
        best = max(best, np.linalg.norm(jacobian, norm))
    return best


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "sizes, activation",
    [
        ((3, 4, 3, 2), "relu"),
        ((2, 9, 3), "relu"),
        ((1, 2, 2, 2, 2, 1), "abs"),
        ((3, 1, 5, 1, 2), "leaky_relu"),
        ((2, 3, 4, 3), [["relu", "identity", "tanh"], ["abs", "relu", "sigmoid", "identity"]]),
        ((2, 3, 3, 2), ["identity", "identity"]),
        ((3, 2), "relu"),
    ],
)
def test_equals_brute_force(norm, sizes, activation):
    activation = activation if len(sizes) > 2 else []
    network = network_of(sizes, 7, activation)
    assert enumerated_optimum(network, norm) == pytest.approx(brute_force(network, norm), rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_small_blocks_give_the_same(norm, monkeypatch):
    monkeypatch.setattr(enumeration, "HALF_ENTRIES", 40)
    monkeypatch.setattr(enumeration, "BLOCK_ENTRIES", 50)
    network = network_of((3, 5, 4, 2), 3)
    assert enumerated_optimum(network, norm) == pytest.approx(brute_force(network, norm), rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_ensembles_are_their_members(norm):
    members = ensemble("uniform", 3, 3, 5, 2)
    optimum = enumerated_optimum(members, norm)
    assert optimum.shape == (5,)
    for sample, value in enumerate(optimum.tolist()):
        weights = [dense(affine.operator)[sample] for affine in members.affines]
        assert value == pytest.approx(brute_force(Network.from_weights(weights), norm), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scaled_weights(scale):
    network = network_of((3, 4, 3), 1)
    weights = [dense(affine.operator) for affine in network.affines]
    scaled = Network.from_weights([scale * weights[0], weights[1]])
    assert enumerated_optimum(scaled, 2) == pytest.approx(
        scale * enumerated_optimum(network, 2), rel=1e-12
    )


def test_zero_network():
    assert enumerated_optimum(Network.from_weights([np.zeros((3, 2)), np.ones((1, 3))]), 2) == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_square_is_tight_as_the_spec_says(norm, m):
    optimum = enumerated_optimum(analytic.square(m), norm)
    assert optimum == pytest.approx(2 - 2.0**-m, abs=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_no_slopes_inside_the_box_exceed_it(norm):
    network = network_of((4, 5, 5, 3), 11, "abs")
    optimum = enumerated_optimum(network, norm)
    weights = [dense(affine.operator) for affine in network.affines]
    generator = torch.Generator().manual_seed(0)
    jacobians = weights[0].expand(5000, -1, -1)
    for weight in weights[1:]:
        t = 2 * torch.rand(5000, 5, 1, generator=generator, dtype=torch.float64) - 1
        jacobians = weight @ (t * jacobians)
    assert torch.linalg.matrix_norm(jacobians, norm).max() <= optimum


def test_too_many_neurons_are_refused_with_their_number():
    with pytest.raises(LipboundsError, match="27 neurons.*at most 26"):
        enumerated_optimum(network_of((1, 27, 1), 0), 1)


def test_neurons_with_one_slope_do_not_count():
    network = network_of((2, 40, 2), 0, [["identity"] * 38 + ["relu"] * 2])
    assert enumerated_optimum(network, 1) == pytest.approx(brute_force(network, 1), rel=1e-12)


def test_other_stages_and_norms_are_refused():
    stage = BetweenStage(torch.tensor([0]), torch.tensor([1]), 2)
    wide = Affine(Dense(torch.ones(2, 1, dtype=torch.float64)), torch.zeros(2))
    out = Affine(Dense(torch.ones(1, 1, dtype=torch.float64)), torch.zeros(1))
    with pytest.raises(UnsupportedError, match="stage 1"):
        enumerated_optimum(Network((wide, out), (stage,)), 1)
    with pytest.raises(UnsupportedError, match="norm"):
        enumerated_optimum(network_of((1, 2, 1), 0), 3)

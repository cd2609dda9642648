"""K_* by blocks: values carried past a layer cost what they weigh, against NumPy's block norms."""

import math

import numpy as np
import pytest
from oracles import NORMS, norm_of

import lipbounds as lb
from lipbounds.methods.product import product


def residual(weight, out):
    """y + V relu(W y) as two layers, the first of neurons that carry y and of ReLUs."""
    size = weight.shape[1]
    first = np.concatenate([np.eye(size), weight])
    second = np.concatenate([np.eye(size), out], 1)
    return first, second, ["identity"] * size + ["relu"] * len(weight)


def k_star(weights, activations, norm):
    network = lb.Network.from_weights(weights, activation=activations)
    return float(lb.bound(network, "K_star", norm).upper)


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_block_is_one_more_than_its_branch(norm):
    rng = np.random.default_rng(3)
    weight, out = 0.1 * rng.standard_normal((7, 4)), 0.1 * rng.standard_normal((4, 7))
    first, second, activation = residual(weight, out)
    expected = 1 + norm_of(out, norm) * norm_of(weight, norm)
    plain = norm_of(first, norm) * norm_of(second, norm)
    value = k_star([first, second], [activation], norm)
    assert value == pytest.approx(min(expected, plain), rel=1e-8)
    assert value >= min(expected, plain) * (1 - 1e-15)
    assert expected < plain or norm != 2


def by_blocks(weights, carried, norm):
    """prod N_k with N_k[i, j] the norm of a block: first the carried neurons, then the others."""
    cuts = [None, *carried, None]
    value = np.ones(1)
    for k, w in enumerate(weights):
        rows = [w] if cuts[k + 1] is None else np.split(w, [cuts[k + 1]])
        split = [[row] if cuts[k] is None else np.split(row, [cuts[k]], axis=1) for row in rows]
        value = np.array([[norm_of(b, norm) for b in row] for row in split]) @ value
    return float(value[0])


def nested(rng, size):
    """z = y + V relu(W (y + B relu(A y))): y is carried past the inner branch and z's past both."""
    a, b, w, v = (size * rng.standard_normal(s) for s in ((5, 3), (3, 5), (6, 3), (3, 6)))
    inner = np.concatenate([np.eye(3), b], 1)
    weights = [
        np.concatenate([np.eye(3), a]),
        np.concatenate([inner, w @ inner]),
        np.concatenate([np.eye(3), v], 1),
    ]
    return weights, [3, 3], [["identity"] * 3 + ["relu"] * n for n in (5, 6)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_nested_blocks_are_between_the_attack_and_numpys_block_norms(norm, seed):
    weights, carried, activations = nested(np.random.default_rng(seed), [0.02, 0.1, 0.5, 2.0][seed])
    value = k_star(weights, activations, norm)
    plain = math.prod(norm_of(w, norm) for w in weights)
    blocks = by_blocks(weights, carried, norm)
    assert value <= min(blocks, plain) * (1 + 1e-8)
    assert seed or value == pytest.approx(blocks, rel=1e-8)
    network = lb.Network.from_weights(weights, activation=activations)
    assert float(lb.lower_bound(network, norm, seconds=1.0).lower) <= value


@pytest.mark.parametrize("norm", NORMS)
def test_a_block_that_underflows_stays_a_bound(norm):
    """The carried entry of 1e-200 squared is below double precision: the bound is not 0."""
    weights = [np.array([[1e-200], [1.0]]), np.diag([1e-200, 1.0]), np.array([[1.0, 0.0]])]
    activations = [["identity", "relu"]] * 2
    assert product(lb.Network.from_weights(weights, activation=activations), norm) > 0

"""Fewer inputs and outputs: never smaller in l2, in exact arithmetic, and hardly larger."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import lipbounds as lb
from lipbounds.methods.ellipsoidal import ellipsoidal
from lipbounds.networks.narrowed import _root, narrowed

RNG = np.random.default_rng(0)


def is_semidefinite(matrix):
    """By elimination in fractions; exact."""
    rows = [list(row) for row in matrix]
    for k in range(len(rows)):
        pivot = rows[k][k]
        if pivot < 0 or (pivot == 0 and any(rows[k][j] != 0 for j in range(k, len(rows)))):
            return False
        if pivot == 0:
            continue
        for i in range(k + 1, len(rows)):
            factor = rows[i][k] / pivot
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return True


def product(matrix):
    exact = [[Fraction(float(entry)) for entry in row] for row in matrix]
    return [[sum(a * b for a, b in zip(r, s, strict=True)) for s in exact] for r in exact]


MATRICES = {
    "normal": RNG.normal(size=(4, 9)),
    "one row": RNG.normal(size=(1, 7)),
    "equal rows": np.repeat(RNG.normal(size=(1, 8)), 4, 0),
    "a row of zeros": np.vstack([RNG.normal(size=(3, 9)), np.zeros((1, 9))]),
    "scales": RNG.normal(size=(5, 8)) * 10.0 ** np.arange(-12, 8, 4)[:, None],
    "nearly equal rows": np.ones((4, 6)) + 1e-9 * RNG.normal(size=(4, 6)),
    "cancelling": np.array([[1e8, -1e8, 1.0], [1e8, 1e8, -1.0]]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_root_is_no_less_in_exact_arithmetic(name):
    matrix = MATRICES[name]
    root = _root(torch.from_numpy(matrix)).numpy()
    ours, theirs = product(root), product(matrix)
    pairs = zip(ours, theirs, strict=True)
    assert is_semidefinite([[a - b for a, b in zip(r, s, strict=True)] for r, s in pairs])
    assert np.linalg.norm(root, 2) <= np.linalg.norm(matrix, 2) * (1 + 1e-10)


def test_the_check_can_fail():
    assert not is_semidefinite([[Fraction(1), Fraction(2)], [Fraction(2), Fraction(1)]])
    assert not is_semidefinite([[Fraction(0), Fraction(1)], [Fraction(1), Fraction(1)]])


@pytest.mark.parametrize("matrix", [np.zeros((2, 5)), np.full((2, 5), 1e-120)])
def test_what_is_too_small_is_left_alone(matrix):
    assert _root(torch.from_numpy(matrix)) is None
    network = lb.from_weights([matrix, np.ones((1, 2))])
    assert narrowed(network).input_size == 5


@pytest.mark.parametrize("sizes", [(20, 6, 5, 3), (4, 6, 5, 30), (20, 6, 30), (3, 5, 2)])
def test_K_5_is_the_same(sizes):
    weights = [RNG.normal(size=(m, n)) for n, m in zip(sizes, sizes[1:], strict=False)]
    network = lb.from_weights(weights)
    small = narrowed(network)
    assert small.input_size == min(sizes[:2]) and small.output_size == min(sizes[-2:])
    one, other = (float(ellipsoidal(n, 2.0).upper) for n in (network, small))
    assert other == pytest.approx(one, rel=1e-6)
    solver = lb.bound(network, "lipsdp_neuron", 2).upper
    assert one <= solver * (1 + 1e-5)


def test_ensembles():
    weights = [RNG.normal(size=(3, 4, 9)), RNG.normal(size=(3, 12, 4))]
    small = narrowed(lb.from_weights(weights))
    assert (small.input_size, small.output_size) == (4, 4)
    values = lb.bound(lb.from_weights(weights), "K_5", 2).upper
    for k, value in enumerate(values):
        alone = lb.bound(lb.from_weights([w[k] for w in weights]), "K_5", 2).upper
        assert value == pytest.approx(alone, rel=1e-5)

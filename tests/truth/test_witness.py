"""Secants in rational arithmetic, and cells with and without interior."""

import math
from fractions import Fraction

import numpy as np
import pytest
from test_exact import random_network

import lipbounds as lb
from lipbounds.truth.phases import chain
from lipbounds.truth.witness import cell as cell_of
from lipbounds.truth.witness import find_witness, jacobian_norm, neighbours, pattern_at, secant

LINE = np.array([-math.inf]), np.array([math.inf])
HULL = np.array([-1.0, 1.0]), np.array([1.0, 1.0])


def test_secants_are_exact_and_rounded_down():
    """0.1 R(x) + 0.2 x between -1 and 2, where floating point would round each step."""
    names = [["relu", "identity"]]
    last = np.array([[0.1, 0.2]])
    links = chain(lb.from_weights([np.ones((2, 1)), last], activation=names))
    true = (2 * Fraction(0.1) + 3 * Fraction(0.2)) / 3
    value = Fraction(secant(links, np.array([-1.0]), np.array([2.0]), 1))
    assert value <= true < Fraction(math.nextafter(float(value), math.inf))


@pytest.mark.parametrize("norm", [1, math.inf])
@pytest.mark.parametrize("seed", range(5))
def test_the_witness_attains_the_norm_of_its_cell(norm, seed):
    rng = np.random.default_rng(seed)
    links = chain(random_network(rng, (3, 4, 3, 2)))
    pattern = pattern_at(links, np.append(rng.uniform(-1, 1, 3), 1.0))
    hull = np.append(-np.ones(3), 1.0), np.ones(4)
    found = find_witness(links, pattern, norm, hull, (-np.ones(3), np.ones(3)))
    value = jacobian_norm(cell_of(links, pattern)[1], norm)
    assert found.value == pytest.approx(value, rel=1e-6)
    assert max(np.abs(found.x).max(), np.abs(found.y).max()) <= 1
    assert found.value == secant(links, found.x, found.y, norm)


def test_cells_without_interior_have_no_witness():
    links = chain(lb.from_weights([[[1.0], [-1.0]], [[1.0, 1.0]]]))
    assert find_witness(links, [np.array([1, 1])], 1, HULL, LINE) is None
    assert find_witness(links, [np.array([1, 0])], 1, HULL, LINE).value == 1


def test_neighbours_lie_behind_each_side():
    """|x - 1/2| and |x + 1/2| around 0: over one kink or over the other."""
    network = lb.from_weights([[[1.0], [1.0]], [[1.0, 1.0]]], [[-0.5, 0.5], [0.0]], "abs")
    found = [pattern[0].tolist() for pattern in neighbours(chain(network), np.zeros(1))]
    assert found == [[1, 1], [0, 0]]

"""The analytical networks against the polynomials, and against the spec's table of known values."""

import itertools
import math

import numpy as np
import pytest
import torch

from lipbounds.errors import LipboundsError
from lipbounds.linear.operators import dense
from lipbounds.studies.cases import analytic

# bounds.md, "Known values": m, Lip = K_4, K_3, K_1 l1, K_1 linf, K_* l1, K_* linf
KNOWN_VALUES = [
    (1, 1.5, 2, 3.0, 2.0, 5.0, 3),
    (2, 1.75, 3, 7.0625, 3.5312, 21.25, 9),
    (3, 1.875, 4, 15.5801, 6.9219, 86.3281, 33),
    (6, 1.984375, 7, 156.5524, 66.0023, 5553.3541, 2049),
]
WIDTHS = {
    "sawtooth": lambda m: [2] * m,
    "square": lambda m: [3] * m,
    "square_shifted_tent": lambda m: [3] * m,
    "square_split_carry": lambda m: [4] * m,
    "cube": lambda m: [4] * m + [5] * m,
    "fourth": lambda m: [3] * (2 * m),
    "product": lambda m: [5] * m,
}
SQUARES = ("square", "square_shifted_tent", "square_split_carry")
GRID = torch.linspace(0, 1, 4097, dtype=torch.float64).unsqueeze(1)


def matrices(network):
    return [dense(affine.operator).numpy() for affine in network.affines]


def segments_of_every_cut(weights):
    """For each subset of the L hidden ReLU stages, the products of the matrices between cuts."""
    stages = range(1, len(weights))
    for size in range(len(weights)):
        for cuts in itertools.combinations(stages, size):
            ends = [0, *cuts, len(weights)]
            yield [
                np.linalg.multi_dot([*weights[j:k][::-1], np.eye(weights[j].shape[1])])
                for j, k in itertools.pairwise(ends)
            ]


def k_1(weights, p):
    norms = ([np.linalg.norm(s, p) for s in cut] for cut in segments_of_every_cut(weights))
    return sum(map(math.prod, norms)) / 2 ** (len(weights) - 1)


def k_4(weights, p):
    total = sum(
        np.linalg.multi_dot([*map(np.abs, cut[::-1]), np.eye(weights[0].shape[1])])
        for cut in segments_of_every_cut(weights)
    )
    return np.linalg.norm(total, p) / 2 ** (len(weights) - 1)


@pytest.mark.parametrize("m, lip, k3, k1_l1, k1_linf, star_l1, star_linf", KNOWN_VALUES)
def test_square_is_the_network_of_the_table(m, lip, k3, k1_l1, k1_linf, star_l1, star_linf):
    weights = matrices(analytic.square(m))
    absolute = np.linalg.multi_dot([*map(np.abs, weights[::-1])])
    assert absolute.item() == pytest.approx(k3, abs=1e-12)
    for p, k1, star in ((1, k1_l1, star_l1), (np.inf, k1_linf, star_linf)):
        assert k_4(weights, p) == pytest.approx(lip, abs=1e-12)
        assert k_1(weights, p) == pytest.approx(k1, abs=5.1e-5)  # four digits in the table
        assert math.prod(np.linalg.norm(w, p) for w in weights) == pytest.approx(star, abs=5.1e-5)


def test_other_writings_have_the_larger_k_4_of_the_spec():
    assert k_4(matrices(analytic.square_shifted_tent(3)), np.inf) == pytest.approx(3.125, abs=1e-12)
    assert k_4(matrices(analytic.square_split_carry(3)), np.inf) == pytest.approx(10.625, abs=1e-12)


@pytest.mark.parametrize("p", [1, 2, np.inf])
def test_sawtooth_constants_of_the_spec(p):
    weights = matrices(analytic.sawtooth(4))
    assert k_4(weights, p) == pytest.approx(2**4)
    assert k_1(weights, p) == pytest.approx(2**4)
    assert math.prod(np.linalg.norm(w, p) for w in weights) == pytest.approx(4**4)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_sawtooth_zigzags_between_dyadic_points(m):
    x = torch.arange(2**m + 1, dtype=torch.float64).unsqueeze(1) / 2**m
    expected = torch.arange(2**m + 1, dtype=torch.float64).unsqueeze(1) % 2
    assert torch.equal(analytic.sawtooth(m)(x), expected)


@pytest.mark.parametrize("family", SQUARES)
@pytest.mark.parametrize("m", [1, 2, 4, 7])
def test_squares_are_the_series_and_approach_the_square_from_above(family, m):
    tent, series = GRID, GRID
    for r in range(1, m + 1):
        tent = 1 - (2 * tent - 1).abs()
        series = series - tent / 4**r
    values = analytic.CASES[family].builder(m)(GRID)
    assert (values - series).abs().max() < 1e-15
    error = values - GRID**2
    assert error.min() >= 0
    assert error.max() == pytest.approx(4.0 ** -(m + 1), abs=1e-15)


@pytest.mark.parametrize("m", range(1, 7))
def test_cube_and_fourth_approach_the_powers(m):
    tolerance = 4.0 ** -(m + 1)
    assert (analytic.cube(m)(GRID) - GRID**3).abs().max() <= 2 * tolerance
    error = analytic.fourth(m)(GRID) - GRID**4
    assert -1e-15 < error.min()
    assert error.max() <= 3 * tolerance


@pytest.mark.parametrize("m", range(1, 7))
def test_product_approaches_the_product(m):
    side = torch.linspace(0, 1, 129, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    error = analytic.product(m)(points).squeeze(1) - points.prod(1)
    assert error.abs().max() <= 4.0 ** -(m + 1) + 1e-15


@pytest.mark.parametrize("family", WIDTHS)
def test_widths_depths_and_domains(family):
    case = analytic.CASES[family]
    network = case.builder(3)
    assert [len(w) for w in matrices(network)[:-1]] == WIDTHS[family](3)
    assert len(case.box) == network.input_size
    assert case.test == ("test1" if family in SQUARES + ("sawtooth",) else "test2")


@pytest.mark.parametrize(
    "family, tents",
    [
        ("square", [2] * 4),
        ("fourth", [2] * 8),
        ("product", [4] * 4),
        ("cube", [2] * 4 + [4] * 4),
    ],
)
def test_carries_are_nonnegative_on_the_domain(family, tents):
    case = analytic.CASES[family]
    side = [torch.linspace(*ends, 257, dtype=torch.float64) for ends in case.box]
    points = torch.cartesian_prod(*side).reshape(-1, len(side))
    stages = case.builder(4).preactivations(points)[1:]
    assert all(z[:, n:].min() >= 0 for (z, _), n in zip(stages, tents, strict=True))


@pytest.mark.parametrize("level", [0, -1, 1.5, True, "3"])
def test_level_must_be_a_positive_integer(level):
    with pytest.raises(LipboundsError, match="level"):
        analytic.square(level)

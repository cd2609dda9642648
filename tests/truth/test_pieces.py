"""Linear pieces against finite differences, hand counts and the tiling of the box."""

import math

import pytest
import torch

from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.operators import Dense
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import BetweenStage
from lipbounds.studies.cases import analytic
from lipbounds.studies.cases.random import ensemble
from lipbounds.truth.pieces import exact_lipschitz, linear_pieces

NORMS = (1, 2, math.inf)
INTERVAL, SQUARE = analytic.UNIT_INTERVAL, analytic.UNIT_SQUARE


def random_network(inputs, seed, activation="relu", widths=(6, 5, 3)):
    generator = torch.Generator().manual_seed(seed)
    sizes = (inputs, *widths)
    weights = [
        torch.randn(m, n, generator=generator, dtype=torch.float64)
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    biases = [0.5 * torch.randn(len(w), generator=generator, dtype=torch.float64) for w in weights]
    return Network.from_weights(weights, biases, activation)


def finite_differences(network, points, step=1e-7):
    columns = [
        (network(points + step * e) - network(points - step * e)) / (2 * step)
        for e in torch.eye(points.shape[1], dtype=torch.float64)
    ]
    return torch.stack(columns, -1)


def contains(polygon, points):
    """Which points lie inside a convex polygon given in counterclockwise order, by half planes."""
    following = polygon.roll(-1, 0)
    edge = following - polygon
    offset = points[:, None] - polygon
    return ((edge[:, 0] * offset[..., 1] - edge[:, 1] * offset[..., 0]) > -1e-12).all(1)


def area(polygon):
    x, y = polygon.T
    return 0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum())


@pytest.mark.parametrize("family", ["square", "square_shifted_tent", "square_split_carry"])
@pytest.mark.parametrize("m", [1, 2, 3, 6, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_square_constant_of_the_spec(family, m, norm):
    network = analytic.CASES[family].builder(m)
    assert exact_lipschitz(network, INTERVAL, norm) == pytest.approx(2 - 2.0**-m, abs=1e-10)
    assert len(linear_pieces(network, INTERVAL)) == 2**m


@pytest.mark.parametrize("m", [1, 4, 10])
def test_sawtooth_constant_and_pieces(m):
    network = analytic.sawtooth(m)
    assert exact_lipschitz(network, INTERVAL, 2) == pytest.approx(2.0**m, abs=1e-10)
    assert len(linear_pieces(network, INTERVAL)) == 2**m


@pytest.mark.parametrize("m", range(1, 7))
def test_constant_of_the_fourth_power_by_hand(m):
    """s is convex and increasing with last slope 2 - 2^-m, and s(1) = 1."""
    exact = exact_lipschitz(analytic.fourth(m), INTERVAL, 1)
    assert exact == pytest.approx((2 - 2.0**-m) ** 2, abs=1e-10)


@pytest.mark.parametrize("m", range(1, 7))
def test_constants_of_the_product_by_hand(m):
    """On a cell, d/dx = (p - q) / 2 and d/dy = (p + q) / 2, p the slope of s at u and q that of
    s(v) - v at v: |d/dx| + |d/dy| = max(p, |q|), at most 2 - 2^-m, which is reached at (1, 1)."""
    network = analytic.product(m)
    assert exact_lipschitz(network, SQUARE, math.inf) == pytest.approx(2 - 2.0**-m, abs=1e-10)
    assert exact_lipschitz(network, SQUARE, 1) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("builder", [analytic.cube, analytic.fourth])
@pytest.mark.parametrize("m", [1, 2, 4, 6])
def test_constants_on_the_interval_are_the_greatest_secant_slope(builder, m):
    network = builder(m)
    x = torch.linspace(0, 1, 2**15 + 1, dtype=torch.float64).unsqueeze(1)
    steepest = float((network(x).diff(dim=0) / x.diff(dim=0)).abs().max())
    assert exact_lipschitz(network, INTERVAL, 2) == pytest.approx(steepest, abs=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("m", [1, 3])
def test_constant_of_the_product_by_finite_differences(m, norm):
    network = analytic.product(m)
    side = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 + 1e-3
    points = torch.cartesian_prod(side, side)
    steepest = torch.linalg.matrix_norm(finite_differences(network, points), norm).max()
    assert exact_lipschitz(network, SQUARE, norm) == pytest.approx(float(steepest), abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "abs", "leaky_relu"])
@pytest.mark.parametrize("seed", range(4))
def test_cells_tile_the_box_and_hold_its_jacobians(activation, seed):
    box = ((-1.0, 2.0), (-0.5, 1.0))
    network = random_network(2, seed, activation)
    pieces = linear_pieces(network, box)
    areas = [area(polygon) for polygon in pieces.vertices]
    assert min(areas) > 0
    assert sum(areas) == pytest.approx(4.5, abs=1e-9)
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(300, 2, generator=generator, dtype=torch.float64)
    points = torch.tensor([-1.0, -0.5]) + points * torch.tensor([3.0, 1.5])
    jacobians = finite_differences(network, points)
    owners = torch.stack([contains(polygon, points) for polygon in pieces.vertices], 1)
    assert owners.sum(1).eq(1).all()
    assert (pieces.jacobians[owners.int().argmax(1)] - jacobians).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_intervals_tile_and_hold_the_jacobians(seed):
    mixed = ["relu", "identity", "abs", "leaky_relu", "relu", "identity"]
    network = random_network(1, seed, [mixed, "relu"])
    pieces = linear_pieces(network, [(-2.0, 3.0)])
    ends = pieces.vertices.squeeze(-1)
    assert float((ends[:, 1] - ends[:, 0]).sum()) == pytest.approx(5, abs=1e-12)
    middles = ends.mean(1, keepdim=True)
    assert (finite_differences(network, middles) - pieces.jacobians).abs().max() < 1e-5


def test_lines_in_general_position():
    """n lines with all crossings inside the box make 1 + n + n (n - 1) / 2 cells."""
    angles = torch.arange(5, dtype=torch.float64)
    weight = torch.stack([angles.cos(), angles.sin()], 1)
    bias = torch.tensor([0.1, -0.2, 0.3, 0.15, -0.05], dtype=torch.float64)
    network = Network.from_weights([weight, torch.ones(1, 5)], [bias, torch.zeros(1)])
    assert len(linear_pieces(network, [(-50.0, 50.0)] * 2)) == 1 + 5 + 10


def test_a_kink_through_a_corner_or_along_an_edge_cuts_off_nothing():
    lines = [[1.0, 1.0], [1.0, -1.0], [1.0, 0.0], [3.0, -3.0], [1.0, 2.0]]
    weight = torch.tensor(lines, dtype=torch.float64) / 3
    bias = torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0], dtype=torch.float64)
    network = Network.from_weights([weight, torch.ones(1, 5)], [bias, torch.zeros(1)])
    assert len(linear_pieces(network, SQUARE)) == 2  # only the diagonal; x + 2 y = 3 at (1, 1)


def test_concurrent_lines_have_no_slivers_between_them():
    """n lines through one point make 2 n cells; rounding would add some around the point."""
    angles = torch.linspace(0.1, 3.0, 9, dtype=torch.float64)
    weight = torch.stack([angles.cos(), angles.sin()], 1)
    bias = -weight @ torch.tensor([0.3, 0.7], dtype=torch.float64)
    network = Network.from_weights([weight, torch.ones(1, 9)], [bias, torch.zeros(1)])
    assert len(linear_pieces(network, SQUARE)) == 18


def test_the_constant_depends_on_the_box():
    network = Network.from_weights([[[1.0], [-1.0]], [[1.0, 5.0]]])
    assert exact_lipschitz(network, [(0.0, 1.0)], 1) == 1
    assert exact_lipschitz(network, [(-1e-3, 1.0)], 1) == 5


@pytest.mark.parametrize("activation", ["tanh", "relu6", "hardtanh", "gelu", "softsign", "elu"])
def test_other_nonlinearities_are_refused_by_stage(activation):
    network = random_network(1, 0, ["relu", activation])
    with pytest.raises(UnsupportedError, match="stage 2"):
        exact_lipschitz(network, INTERVAL, 2)


def test_between_stages_are_refused():
    stage = BetweenStage(torch.tensor([0]), torch.tensor([1]), 2)
    wide = Affine(Dense(torch.ones(2, 1, dtype=torch.float64)), torch.zeros(2))
    out = Affine(Dense(torch.ones(1, 1, dtype=torch.float64)), torch.zeros(1))
    with pytest.raises(UnsupportedError, match="stage 1"):
        linear_pieces(Network((wide, out), (stage,)), INTERVAL)


@pytest.mark.parametrize(
    "box",
    [
        [(0.0, 1.0)],
        [(0.0, 1.0)] * 3,
        [(0.0, 1.0), (1.0, 1.0)],
        [(0.0, 1.0), (0.0, math.inf)],
        [(0.0, 1.0), (math.nan, 1.0)],
    ],
)
def test_invalid_boxes(box):
    with pytest.raises(LipboundsError, match="box"):
        linear_pieces(random_network(2, 0), box)


def test_invalid_networks_and_norms():
    with pytest.raises(LipboundsError, match="3"):
        linear_pieces(random_network(3, 0), [(0.0, 1.0)] * 3)
    with pytest.raises(LipboundsError, match="ensemble"):
        linear_pieces(ensemble("gaussian", 2, 1, 3, 0), SQUARE)
    with pytest.raises(UnsupportedError, match="norm"):
        exact_lipschitz(analytic.square(1), INTERVAL, 3)

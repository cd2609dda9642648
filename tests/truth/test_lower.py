"""The best lower bound: its witness, that it is never too large, and that it finds the constant."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracles import NORMS, norm_of, vertex_jacobians
from strategies import IMAGE, SLOPES, pooled_sample, slope_sample, small_cnns

import lipbounds as lb
from lipbounds.results import Status
from lipbounds.studies.cases.analytic import sawtooth, square
from lipbounds.truth import lower
from lipbounds.truth.ascent import directions, dual
from lipbounds.truth.pieces import exact_lipschitz
from lipbounds.truth.sampling import jacobian_lower_bound, jacobian_norms

LINEAR = {"relu": (0, 1), "abs": (-1, 1), "identity": (1, 1), "leaky": (Fraction(1, 4), 1),
          "steep": (Fraction(5, 2), 1), "negative": (Fraction(-1, 2), 1)}  # fmt: skip


def secant_lower_bound(*arguments, **options):
    found = lower.secant_lower_bound(*arguments, **options)
    return found.lower, found.witness


def gaussian(*sizes, seed=0, bias=0.5, activation="relu"):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = [draw(m, n) / math.sqrt(n) for n, m in itertools.pairwise(sizes)]
    return lb.from_weights(weights, [bias * draw(m) for m in sizes[1:]], activation)


def quotient(network, x, y, norm):
    return norm_of((network(x) - network(y)).numpy(), norm) / norm_of((x - y).numpy(), norm)


def exact_values(weights, biases, names, point):
    """f(point) in rational arithmetic; names: per hidden stage one of LINEAR per neuron."""
    y = [Fraction(v) for v in point.tolist()]
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        rows = zip(w.tolist(), b.tolist(), strict=True)
        y = [
            sum((Fraction(v) * t for v, t in zip(row, y, strict=True)), Fraction(c))
            for row, c in rows
        ]
        if k < len(names):
            y = [LINEAR[s][int(t > 0)] * t for s, t in zip(names[k], y, strict=True)]
    return y


def exact_norm(v, norm):
    """||v||_p, or its square for p = 2."""
    if norm == 2:
        return sum(t * t for t in v)
    return sum(map(abs, v)) if norm == 1 else max(map(abs, v))


@pytest.mark.parametrize("norm", NORMS)
def test_value_is_a_lower_bound_in_exact_arithmetic(norm):
    """Mixed, badly scaled networks: the witness's quotient, in fractions, is at least the value."""
    rng = np.random.default_rng(1)
    close = 0
    for _ in range(12):
        sizes = rng.integers(1, 4, rng.integers(2, 5))
        names = [list(rng.choice(sorted(LINEAR), size)) for size in sizes[1:-1]]
        sample = slope_sample(rng, list(sizes), names)
        value, (x, y) = secant_lower_bound(sample.network, norm)
        biases = [affine.offset for affine in sample.network.affines]
        ends = [exact_values(sample.weights, biases, names, point) for point in (x, y)]
        rise = exact_norm([a - b for a, b in zip(*ends, strict=True)], norm)
        run = exact_norm([Fraction(a) - Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)], norm)  # fmt: skip # noqa: E501
        assert Fraction(value) ** (2 if norm == 2 else 1) * run <= rise
        close += value >= quotient(sample.network, x, y, norm) * (1 - 1e-7)
    assert close == 12


def test_the_status_says_how_the_search_ended(monkeypatch):
    network = gaussian(2, 6, 6, 2)
    assert lb.lower_bound(network).status is Status.CONVERGED
    assert lb.lower_bound(network, seconds=0).status is Status.TIME
    monkeypatch.setattr(lower, "ROUNDS", 1)
    assert lb.lower_bound(network).status is Status.STEPS


@pytest.mark.parametrize("norm", NORMS)
def test_never_above_the_relaxation_optimum(norm):
    rng = np.random.default_rng(2)
    for _ in range(12):
        sizes = rng.integers(1, 4, rng.integers(2, 5))
        names = [list(rng.choice(sorted(SLOPES), size)) for size in sizes[1:-1]]
        sample = slope_sample(rng, list(sizes), names)
        value, (x, y) = secant_lower_bound(sample.network, norm)
        optimum = max(norm_of(j, norm) for j in vertex_jacobians(sample.weights, sample.stages))
        assert 0 <= value <= optimum * (1 + 1e-12)
        assert value == pytest.approx(quotient(sample.network, x, y, norm), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_attains_the_constants_of_the_analytic_networks(norm):
    for level in (1, 4, 8):
        saw, parabola = 2.0**level, 2 - 2.0**-level
        assert saw * (1 - 1e-8) < secant_lower_bound(sawtooth(level), norm)[0] <= saw
        assert parabola * (1 - 1e-8) < secant_lower_bound(square(level), norm)[0] <= parabola


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [0, 2])
def test_finds_the_exact_constant_of_small_networks(norm, seed, monkeypatch):
    monkeypatch.undo()  # the search as it is
    network = gaussian(2, 6, 6, 2, seed=seed)
    exact = exact_lipschitz(network, ((-200.0, 200.0), (-200.0, 200.0)), norm)
    value, _ = secant_lower_bound(network, norm)
    assert value == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_beats_jacobians_at_random_points(norm):
    network = gaussian(10, 24, 24, 3)
    generator = torch.Generator().manual_seed(1)
    points = 3 * torch.randn(2000, 10, generator=generator, dtype=torch.float64)
    drawn = jacobian_lower_bound(network, points, norm)
    assert secant_lower_bound(network, norm)[0] > 1.05 * drawn


def test_finds_the_steepest_point_of_smooth_networks():
    """5 tanh(2 x + 1e-3) - 3 tanh(2 x - 40): the steepest points lie in two far places."""
    weights, biases = [[[2.0], [2.0]], [[5.0, -30.0]]], [[1e-3, -40.0], [0.0]]
    network = lb.from_weights(weights, biases, "tanh")
    value, (x, _) = secant_lower_bound(network, 2)
    assert value == pytest.approx(60, rel=1e-8)
    assert float(x) == pytest.approx(20, abs=1e-2)
    for name in ("sigmoid", "gelu", "softplus", "hardswish", "selu"):
        network = lb.from_weights([[[1.0]], [[1.0]]], activation=name)
        beta = network.stages[0].beta.item()
        value, _ = secant_lower_bound(network, 1)
        assert beta * (1 - 1e-5) < value <= beta


@pytest.mark.parametrize("norm", NORMS)
def test_pools_and_convolutions(norm):
    rng = np.random.default_rng(3)
    for kinds in (["pool"], ["slope", "pool"], ["pool", "slope", "pool"]):
        network = pooled_sample(rng, kinds).network
        for treated in (network, lb.explicit(network)):
            value, (x, y) = secant_lower_bound(treated, norm)
            assert value == pytest.approx(quotient(network, x, y, norm), rel=1e-7, abs=1e-12)
            assert value <= lb.bound(treated, "K_star", norm).upper
    for name in ("overlap", "average"):
        network = lb.from_torch(small_cnns()[name], IMAGE)
        value, (x, y) = secant_lower_bound(network, norm, seconds=0.2)
        assert value == pytest.approx(quotient(network, x, y, norm), rel=1e-7)
        assert value <= lb.bound(network, "K_1", norm).upper


def test_given_points_are_used():
    """R(1 - sum |x_i - 500|) is constant except for a small bump."""
    size = 12
    weights = [torch.eye(size), -torch.ones(1, size), torch.ones(1, 1)]
    biases = [torch.full((size,), -500.0), torch.ones(1), None]
    network = lb.from_weights(weights, biases, ["abs", "relu"])
    points = torch.full((2, size), 500.0)
    assert secant_lower_bound(network, 2, points=points)[0] == pytest.approx(math.sqrt(size))


def test_affine_constant_and_dead_networks():
    rng = np.random.default_rng(4)
    matrix = torch.from_numpy(rng.standard_normal((3, 5)))
    affine = lb.from_weights([matrix], [[1e3, 0.0, -1e3]])
    for norm in NORMS:
        value, _ = secant_lower_bound(affine, norm)
        assert norm_of(matrix.numpy(), norm) * (1 - 1e-9) < value <= norm_of(matrix.numpy(), norm)
    constant = lb.from_weights([torch.zeros(4, 3), torch.ones(2, 4)], [torch.ones(4), None])
    cancelling = lb.from_weights(
        [[[1.0], [-1.0], [1.0]], [[1.0, -1.0, -1.0]]], activation=[["relu", "relu", "identity"]]
    )
    for network in (constant, cancelling):
        value, (x, y) = secant_lower_bound(network, 2)
        assert value == 0 and x.shape == y.shape == (network.input_size,)
        assert not torch.equal(x, y)
    dead = lb.from_weights([[[1.0], [0.0]], [[1.0, 5.0]]], [[0.0, -1.0], None])
    assert secant_lower_bound(dead, 1)[0] == pytest.approx(1, rel=1e-12)


def test_scales_do_not_matter():
    for scale in (1e-9, 1e9):
        weights = [[[scale], [-scale]], [[1 / scale, 2.0 / scale]]]
        weights = [torch.tensor(w, dtype=torch.float64) for w in weights]
        network = lb.from_weights(weights, [[-1.0, 0.5 * scale], None])
        assert secant_lower_bound(network, 2)[0] == pytest.approx(2, rel=1e-9)


def test_seed_decides_and_time_may_run_out():
    network = gaussian(5, 12, 12, 2)
    first, again = (secant_lower_bound(network, 1, seed=7) for _ in range(2))
    assert first[0] == again[0] and torch.equal(first[1][0], again[1][0])
    value, (x, y) = secant_lower_bound(network, 1, seconds=0.0)
    assert 0 < value <= first[0] * (1 + 1e-9)
    assert value == pytest.approx(quotient(network, x, y, 1), rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_networks_whose_jacobians_are_too_large_are_searched_without_them(norm, monkeypatch):
    network = gaussian(6, 16, 16, 3)
    formed, _ = secant_lower_bound(network, norm)
    monkeypatch.setattr(lower, "LARGEST_JACOBIAN", 0)
    monkeypatch.setattr(type(network), "jacobian", None)
    value, (x, y) = secant_lower_bound(network, norm)
    assert 0.8 * formed < value <= quotient(network, x, y, norm) * (1 + 1e-9)
    assert value <= lb.relaxation_optimum(network, norm, 5).upper
    at = 100 * torch.ones(1, 6, dtype=torch.float64)
    given, _ = secant_lower_bound(network, norm, points=at, seconds=0)
    assert given > 0


def test_thousands_of_outputs():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6000, 30, generator=generator, dtype=torch.float64)
    for norm in NORMS:
        found = lb.lower_bound(lb.from_weights([weight]), norm, seconds=60).lower
        assert found == pytest.approx(norm_of(weight.numpy(), norm), rel=3e-3)


def test_refusals():
    ensemble = lb.from_weights([torch.ones(3, 2, 2), torch.ones(3, 1, 2)])
    with pytest.raises(lb.UnsupportedError, match="one network, not an ensemble"):
        secant_lower_bound(ensemble, 2)
    with pytest.raises(lb.UnsupportedError, match="norm 3"):
        secant_lower_bound(gaussian(2, 2, 1), 3)


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_directions_attain_the_norm_of_the_jacobian(norm):
    network = gaussian(4, 8, 3)
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = directions(network, x, norm)
    image = (network.jacobian(x) @ v.unsqueeze(2)).squeeze(2)
    stretch = [norm_of(a, norm) / norm_of(b, norm) for a, b in zip(image.numpy(), v.numpy(), strict=True)]  # fmt: skip # noqa: E501
    assert torch.tensor(stretch, dtype=torch.float64).allclose(
        jacobian_norms(network, x, norm), rtol=1e-10
    )
    pairing = (dual(image, norm) * image).sum(1)
    assert pairing.allclose(torch.linalg.vector_norm(image, norm, dim=1))

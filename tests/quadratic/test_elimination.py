"""The form on a chain of links against a dense oracle, its gradient against differences, and the
proven bounds of the pieces against exact constants and in floating point."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from starts import averaged_start
from strategies import SLOPES, between_sample, pooled_sample, quick
from torch import nn

import lipbounds as lb
from lipbounds.errors import UnsupportedError
from lipbounds.linear.operators import dense
from lipbounds.networks.rewrite import explicit
from lipbounds.quadratic.form import Multipliers
from lipbounds.quadratic.structured.elimination import Elimination
from lipbounds.quadratic.structured.links import links, live_entries
from lipbounds.quadratic.structured.proof import certified_pieces

SEEDS = st.integers(0, 2**32 - 1)
NORMS = (1.0, 2.0, math.inf)


def mlp(kind, seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape) for shape in ((5, 4), (6, 5), (3, 6))]
    return lb.from_weights(weights, activation=SLOPES[kind][2])


def cnn(pool, act=nn.ReLU, size=8):
    generator = torch.Generator().manual_seed(size)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), act(), pool, nn.Conv2d(2, 2, 2), act(), nn.Flatten(),
        nn.LazyLinear(3),
    ).double()  # fmt: skip
    module(torch.zeros(1, 1, size, size, dtype=torch.float64))
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / 3
    return explicit(lb.from_torch(module, (1, size, size)))


def between(seed):
    return between_sample(pooled_sample(np.random.default_rng(seed), ["slope", "pool"])).network


# name -> (network, what its links should be: first and last stage)
NETWORKS = {
    **{kind: (mlp(kind), [(0, 0), (1, 1)]) for kind in SLOPES},
    "pool 2": (cnn(nn.MaxPool2d(2)), [(0, 2), (3, 3)]),
    "pool 3, leaky": (cnn(nn.MaxPool2d(3), nn.LeakyReLU, 6), [(0, 4), (5, 5)]),
    "overlapping": (cnn(nn.MaxPool2d(3, 2), size=7), [(0, 0), (1, 4), (5, 5)]),
    "ragged": (cnn(nn.MaxPool2d(3, ceil_mode=True)), [(0, 0), (1, 4), (5, 5)]),
    "pixels left over": (cnn(nn.MaxPool2d(2), nn.Tanh, 7), [(0, 2), (3, 3)]),
    "average": (cnn(nn.AvgPool2d(2)), [(0, 0), (1, 1)]),
    "linear": (lb.from_weights([np.arange(6.0).reshape(2, 3) - 2]), []),
}  # fmt: skip


def start(network, norm):
    ones = [
        torch.ones(1, n, dtype=torch.float64) for n in (network.input_size, network.output_size)
    ]
    found = averaged_start(network, *ones)
    first = found.input[0]
    if norm == 2:
        first = torch.full_like(first, float(first.max()))
    return Multipliers(first, [m[0] for m in found.stages], found.output[0])


def dense_parts(network, given, norm):
    """M, the couplings of the pieces as columns, and e_i, from the definition of Q."""
    weights = [dense(a.operator) for a in network.affines]
    sizes = [w.shape[1] for w in weights] + [weights[-1].shape[0]]
    rows = torch.eye(sum(sizes), dtype=torch.float64).split(sizes)
    q = rows[0].mT @ torch.diag(given.input) @ rows[0]
    for k, stage in enumerate(network.stages):
        z, m = weights[k] @ rows[k], given.stages[k].unsqueeze(1)
        a, b = rows[k + 1] - dense(stage.center) @ z, dense(stage.radius) @ z
        q = q + a.mT @ (m * a) - b.mT @ (m * b)
    cross = rows[-1].mT @ weights[-1] @ rows[-2]
    q = q + rows[-1].mT @ torch.diag(given.output) @ rows[-1] - cross - cross.mT
    if norm == 1:
        n = sizes[0]
        return q[n:, n:], q[n:, :n], (q.diagonal()[:n] - given.input)
    n = sum(sizes[:-1])
    return q[:n, :n], q[:n, n:], torch.zeros(sizes[-1], dtype=torch.float64)


def dense_value(network, given, norm):
    m, b, e = dense_parts(network, given, norm)
    product = b.mT @ torch.linalg.solve(m, b)
    if norm == 2:
        return (given.input.max() * torch.linalg.eigvalsh(product)[-1]).sqrt().reshape(1)
    total = given.output.sum() if norm == 1 else given.input.sum()
    return (total * (product.diagonal() - e).clamp(min=0)).sqrt()


def perturbed(elimination):
    theta = elimination.theta()
    generator = torch.Generator().manual_seed(1)
    return theta * (1 + 0.02 * torch.rand(len(theta), generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_elimination_is_the_dense_form(name, norm):
    network, expected = NETWORKS[name]
    assert [(link.first, link.last) for link in links(network)] == expected
    elimination = Elimination(network, norm, start(network, norm))
    theta = perturbed(elimination)
    point = elimination.at(theta)
    multipliers = elimination.multipliers(theta)
    if name == "pixels left over":  # neurons that nothing needs: absent here, all but absent there
        live = live_entries(network)[1:]
        stages = [torch.where(a, m, 1e-9) for a, m in zip(live, multipliers.stages, strict=False)]
        multipliers = Multipliers(multipliers.input, stages, multipliers.output)
    exact = dense_value(network, multipliers, norm)
    assert float(point.value) == pytest.approx(float(exact.max()), rel=1e-6)
    if name != "pixels left over":
        m = dense_parts(network, multipliers, norm)[0]
        log_determinant = float(torch.linalg.slogdet(m)[1])
        assert float(point.log_determinant) == pytest.approx(log_determinant, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_by_differences(name, norm):
    network, _ = NETWORKS[name]
    elimination = Elimination(network, norm, start(network, norm))
    theta = perturbed(elimination)
    point = elimination.at(theta)
    t = torch.tensor(len(theta) / float(point.value), dtype=torch.float64)
    gradient = elimination.gradient(point, t)
    for j in range(0, len(theta), max(1, len(theta) // 8)):
        sides = []
        for sign in (1, -1):
            moved = theta.clone()
            moved[j] *= math.exp(sign * 1e-5)
            sides.append(float(elimination.at(moved).barrier(t)))
        difference = (sides[0] - sides[1]) / 2e-5
        assert difference == pytest.approx(float(gradient[j]), abs=1e-5 * float(gradient.norm()))


@quick
@given(SEEDS)
def test_elimination_of_between_stages(seed):
    network = between(seed)
    for norm in NORMS:
        given = start(network, norm)
        elimination = Elimination(network, norm, given)
        if not all(bool(x.all()) for x in live_entries(network)):
            continue  # the dense form has no place for neurons left out
        m = dense_parts(network, given, norm)[0]
        scale = m.diagonal().rsqrt()
        if float(torch.linalg.cond(scale * m * scale.unsqueeze(1))) > 1e9:
            continue  # exact equations stacked on cancellation: neither side has digits left
        point = elimination.at(elimination.theta())
        exact = dense_value(network, given, norm)
        assert float(point.value) == pytest.approx(float(exact.max()), rel=1e-4)


def test_dead_neurons_leave_the_form():
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(shape) for shape in ((5, 4), (6, 5), (3, 6))]
    weights[0][2], weights[1][:, 1], weights[2][:, 3] = 0, 0, 0
    weights[0][:, 0], weights[2][1] = 0, 0
    keep = [[1, 2, 3], [0, 3, 4], [0, 1, 2, 4, 5], [0, 2]]
    smaller = [w[np.ix_(keep[k + 1], keep[k])] for k, w in enumerate(weights)]
    network, reduced = lb.from_weights(weights), lb.from_weights(smaller)
    assert [x.nonzero()[:, 0].tolist() for x in live_entries(network)] == keep
    for norm in NORMS:
        full = start(network, norm)
        stages = [m[keep[k]] for k, m in enumerate(full.stages, start=1)]
        given = Multipliers(full.input[keep[0]], stages, full.output[keep[3]])
        elimination = Elimination(network, norm, full)
        point = elimination.at(elimination.theta())
        exact = dense_value(reduced, given, norm)
        assert float(point.value) == pytest.approx(float(exact.max()), rel=1e-9)
        assert float(certified_pieces(network, norm, full).max()) == pytest.approx(
            float(exact.max()), rel=1e-6
        )


def test_not_positive_definite_is_none():
    network = mlp("relu")
    given = start(network, math.inf)
    elimination = Elimination(network, math.inf, given)
    theta = elimination.theta()
    theta[:4] *= 1e-6
    assert elimination.at(theta) is None


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_proven_pieces_are_the_dense_values_from_above(name, norm):
    network, _ = NETWORKS[name]
    given = start(network, norm)
    proven = certified_pieces(network, norm, given)
    if name == "pixels left over":
        elimination = Elimination(network, norm, given)
        point = elimination.at(elimination.theta())
        exact = (point.total * point.least).sqrt()
        exact = exact.max().reshape(1) if norm == 2 else exact
    else:
        exact = dense_value(network, given, norm)
    rounding = 1e-6 * float(exact.max())
    assert proven.shape == exact.shape
    assert bool((proven >= exact - 1e-9 * exact.max()).all())
    assert float((proven - exact).max()) <= rounding


def all_pieces_hold(sample, seed, given):
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    for norm in NORMS:
        proven = certified_pieces(sample.network, norm, given)
        if norm == 2:
            assert oracles.norms_of(jacobians, 2).max() <= float(proven)
        axis = 1 if norm == 1 else 2
        if norm != 2:
            assert (abs(jacobians).sum(axis).max(0) <= proven.numpy()).all()


@quick
@given(SEEDS)
def test_any_multipliers_are_proven_or_refused(seed):
    rng = np.random.default_rng(seed)
    sample = between_sample(pooled_sample(rng, ["slope", "pool"]))
    given = start(sample.network, math.inf)

    def scaled(m):
        return m * torch.from_numpy(rng.exponential(size=len(m)) + 0.3)

    stages = [scaled(m) for m in given.stages]
    noisy = Multipliers(scaled(given.input), stages, scaled(given.output))
    for one in (given, noisy):
        all_pieces_hold(sample, seed, one)


def test_the_edge_of_the_cone_is_discounted():
    """|y| <= |x| through W = 1 and abs: M = diag(mu - lambda, lambda)."""
    network = lb.from_weights([[[1.0]], [[1.0]]], activation="abs")
    one = torch.ones(1, dtype=torch.float64)
    for norm in NORMS:
        value = float(certified_pieces(network, norm, Multipliers(one, [one], one)))
        assert 1.0 <= value <= 1.01
    bad = Multipliers(one, [100 * one], one)
    assert math.isinf(float(certified_pieces(network, math.inf, bad)))
    for hopeless in (0.0, -1.0, math.nan):
        given = Multipliers(hopeless * one, [one], hopeless * one)
        assert math.isinf(float(certified_pieces(network, 2.0, given)))


def test_extreme_scales():
    """W_0 = (1e-120, 1e60), W_1 = (1e120, 1e-60), abs: the constant is 2, M = diag(1/2, lambda)."""
    weights = [np.array([[1e-120], [1e60]]), np.array([[1e120, 1e-60]])]
    network = lb.from_weights(weights, activation="abs")
    one, stage = (
        torch.ones(1, dtype=torch.float64),
        torch.tensor([1e240, 1e-120], dtype=torch.float64) / 4,
    )
    for norm in (2.0, math.inf):
        value = float(certified_pieces(network, norm, Multipliers(one, [stage], one)))
        assert value == pytest.approx(math.sqrt(8), rel=1e-6)


def test_zero_network_and_refusals():
    zero = lb.from_weights([np.zeros((2, 3)), np.zeros((2, 2))])
    for norm, pieces in ((1.0, 3), (2.0, 1), (math.inf, 2)):
        assert certified_pieces(zero, norm, start(zero, norm)).tolist() == [0.0] * pieces
    with pytest.raises(UnsupportedError, match="not an ensemble"):
        certified_pieces(lb.from_weights([torch.ones(3, 1, 1)]), 2.0, start(zero, 2.0))

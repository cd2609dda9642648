"""Stages as the pair (C, R): |y - C z| <= |R z| for sampled pairs of inputs, for every kind."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import NORMS, norm_of, pool_of, selection
from torch import nn

import lipbounds as lb
from lipbounds.linear.operators import dense
from lipbounds.linear.windows import sliding
from lipbounds.networks import activations as act
from lipbounds.networks.stages import BetweenStage, PoolStage, SlopeStage, Stage, between_tree

SIZE = 12
POOLS = {
    "plain": ((1, 4, 6), nn.MaxPool2d(2)),
    "overlap": ((1, 4, 5), nn.MaxPool2d(3, 1)),
    "padding": ((2, 4, 4), nn.MaxPool2d(3, 2, padding=1)),
    "dilation": ((1, 5, 5), nn.MaxPool2d(2, 2, padding=1, dilation=2)),
    "ceil": ((1, 5, 5), nn.MaxPool2d(2, ceil_mode=True)),
    "one pixel": ((1, 3, 3), nn.MaxPool2d(1, 2)),
    "adaptive": ((1, 5, 4), nn.AdaptiveMaxPool2d((2, 3))),
}


def pool_stage(name):
    shape, module = POOLS[name]
    (stage,) = lb.from_torch(nn.Sequential(module), shape).stages
    return stage, shape, module


def slope_stages():
    stages = {name: SlopeStage.uniform(name, SIZE) for name in lb.ACTIVATIONS}
    names = sorted(lb.ACTIVATIONS)
    stages["mixed"] = SlopeStage.mixed([names[i % len(names)] for i in range(SIZE)])
    slopes = torch.linspace(-2, 3, SIZE, dtype=torch.float64)
    stages["prelu"] = SlopeStage.uniform(act.prelu(slopes), SIZE)
    stages["odd interval"] = SlopeStage.uniform(act.leaky_relu(0.1), SIZE)
    return stages


def between_stages():
    generator = torch.Generator().manual_seed(0)
    pick = [torch.randint(0, SIZE, (9,), generator=generator) for _ in range(2)]
    stages = {"random": BetweenStage(*pick, SIZE), "same": BetweenStage(pick[0], pick[0], SIZE)}
    for name in POOLS:
        stage, _, _ = pool_stage(name)
        for level, one in enumerate(between_tree(stage.windows, stage.shape[1])):
            stages[f"{name} {level}"] = one
    return stages


PAIRS = {**slope_stages(), **between_stages()}
POOL_STAGES = {f"pool {name}": pool_stage(name)[0] for name in POOLS}
ALL = {**PAIRS, **POOL_STAGES}


def sampled_pairs(size, scale):
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(400, size, generator=generator, dtype=torch.float64) * 4
    b = a + scale * torch.randn(400, size, generator=generator, dtype=torch.float64)
    b[::3] = torch.where(torch.rand(b[::3].shape, generator=generator) < 0.5, a[::3], b[::3])
    return a, b


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", PAIRS)
def test_difference_stays_within_the_radius_of_the_center(name, scale):
    stage = PAIRS[name]
    a, b = sampled_pairs(stage.shape[1], scale)
    y = stage.evaluate(a) - stage.evaluate(b)
    error = (y - stage.center.apply(a - b)).abs()
    reach = stage.radius.apply(a - b).abs()
    assert y.shape == (400, stage.shape[0])
    assert (error <= stage.spread(reach) + 1e-13).all()
    assert (y.abs() <= stage.majorant((a - b).abs()) + 1e-13).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", POOL_STAGES)
def test_pool_moves_at_most_the_pool_of_the_difference(name, scale):
    stage = POOL_STAGES[name]
    a, b = sampled_pairs(stage.shape[1], scale)
    y = stage.evaluate(a) - stage.evaluate(b)
    assert stage.center is None
    reach = stage.radius.apply(a - b).abs()
    assert (y.abs() <= stage.spread(reach) + 1e-13).all()
    assert torch.equal(stage.spread(reach), stage.evaluate(reach))
    assert torch.equal(stage.majorant(reach), stage.spread(reach))


@pytest.mark.parametrize("name", POOLS)
def test_pools_and_their_trees_compute_max_pooling(name):
    stage, shape, module = pool_stage(name)
    z = torch.randn(20, math.prod(shape), dtype=torch.float64)
    expected = module(z.reshape(-1, *shape)).flatten(1)
    assert torch.equal(stage.evaluate(z), expected)
    y = z
    tree = between_tree(stage.windows, stage.shape[1])
    for one in tree:
        y = one.evaluate(y)
    assert torch.equal(y, expected)
    assert len(tree) == max(1, math.ceil(math.log2(stage.windows.shape[1])))


@pytest.mark.parametrize("name", slope_stages())
def test_slope_pair_is_the_interval_rounded_outward(name):
    stage = PAIRS[name]
    center, radius = stage.center.diagonal, stage.radius.diagonal
    assert (center - radius <= stage.alpha).all() and (center + radius >= stage.beta).all()
    torch.testing.assert_close(center, (stage.alpha + stage.beta) / 2, rtol=0, atol=1e-15)
    torch.testing.assert_close(radius, (stage.beta - stage.alpha) / 2, rtol=1e-14, atol=0)


def test_exact_halves_stay_exact():
    """No rounding is added where (C, R) is exact: ReLU is 1/2, 1/2; fixed slopes have R = 0."""
    assert SlopeStage.uniform("relu", 3).radius.diagonal.tolist() == [0.5] * 3
    assert SlopeStage.uniform("identity", 3).radius.diagonal.tolist() == [0.0] * 3
    assert SlopeStage.uniform("abs", 3).center.diagonal.tolist() == [0.0] * 3


@pytest.mark.parametrize("name", between_stages())
def test_between_pair_is_half_sum_and_half_difference(name):
    stage = PAIRS[name]
    p, q = (selection(index, stage.shape[1]) for index in (stage.first, stage.second))
    assert (dense(stage.center).numpy() == (p + q) / 2).all()
    assert (dense(stage.radius).numpy() == (q - p) / 2).all()


def differentiable(stage, z, error=0.0, constant=()):
    """With one error for all entries, and the indices of the entries that do not move."""
    still = torch.zeros(z.shape, dtype=torch.bool)
    still[..., list(constant)] = True
    return stage.differentiable(z, torch.full_like(z, error), still)


@pytest.mark.parametrize("name", ALL)
def test_pullback_is_the_vector_jacobian_product(name):
    stage = ALL[name]
    z = torch.randn(5, stage.shape[1], dtype=torch.float64) * 3
    rows = torch.randn(5, 2, stage.shape[0], dtype=torch.float64)
    assert differentiable(stage, z).all()
    for one, row, pulled in zip(z, rows, stage.pullback(z, rows), strict=True):
        jacobian = torch.func.jacrev(stage.evaluate)(one)
        torch.testing.assert_close(pulled, row @ jacobian, rtol=1e-12, atol=1e-12)


SMOOTH = ("tanh", "sigmoid", "soft", "elu", "silu", "gelu", "mish", "hardswish", "mixed")
PIECEWISE_LINEAR = [name for name in ALL if name == "relu" or not any(x in name for x in SMOOTH)]


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_where_surely_differentiable_the_jacobian_is_constant(name):
    """Within the error no kink is crossed and no winner changes; with less certainty, some are."""
    stage = ALL[name]
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(300, stage.shape[1], generator=generator, dtype=torch.float64) * 3
    clear = differentiable(stage, z, 0.05)
    sign = torch.randint(0, 2, z.shape, generator=generator) * 2.0 - 1
    eye = torch.eye(stage.shape[0], dtype=torch.float64).expand(300, -1, -1)
    same = stage.pullback(z, eye) == stage.pullback(z + 0.0499 * sign, eye)
    assert clear.any() and same.flatten(1).all(1)[clear].all()
    if name not in ("identity", "same", "one pixel 0", "pool one pixel"):
        assert not clear.all()


def test_kinks_and_ties_are_not_differentiable_unless_nothing_moves():
    hardswish = SlopeStage.uniform("hardswish", 2)
    at_kink = torch.tensor([1.0, -3.0]).double()
    assert not differentiable(hardswish, at_kink)
    assert not differentiable(hardswish, at_kink, constant=[0])
    assert differentiable(hardswish, at_kink, constant=[1])
    mixed = SlopeStage.mixed(["identity", "relu", "hardtanh"])
    z = torch.tensor([[0.0, 0.5, 0.9], [0.0, 3.0, 1.5], [0.0, 0.0, 5.0]]).double()
    assert differentiable(mixed, z).tolist() == [True, True, False]
    assert differentiable(mixed, z, 0.2).tolist() == [False, True, False]
    assert differentiable(SlopeStage.uniform("tanh", 3), z, 1.0).all()
    z = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.5, 0.0]]).double()
    for stage in (
        BetweenStage(torch.tensor([0, 1]), torch.tensor([1, 1]), 3),
        PoolStage(torch.tensor([[0, 1, 1], [2, 2, 2]]), 3),
    ):
        assert differentiable(stage, z).tolist() == [False, True]
        assert differentiable(stage, z, 0.3).tolist() == [False, False]  # 0.5 < 2 * 0.3
        assert differentiable(stage, z, constant=[0]).tolist() == [False, True]
        assert differentiable(stage, z, constant=[0, 1]).tolist() == [True, True]


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("norm", NORMS)
def test_norm_of_pools_is_attained(name, norm):
    """1, sqrt(m), m with m the most windows that share an input, counted by torch; attained where
    they all pick it."""
    stage, shape, module = pool_stage(name)
    member = pool_of(module, shape).member
    share = member.sum(0)
    expected = 1.0 if norm == math.inf else share.max() ** (1 / norm)
    assert stage.norm(norm) == pytest.approx(expected, rel=1e-15)
    attained = np.where(
        member[:, [share.argmax()]] > 0,
        np.eye(len(share))[share.argmax()],
        selection(member.argmax(1), len(share)),
    )
    assert norm_of(attained, norm) >= expected * (1 - 1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_of_slope_and_between_stages(norm):
    rng = np.random.default_rng(0)
    first, second = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 2])
    stage = BetweenStage(first, second, 4)
    assert stage.norm(norm) == pytest.approx(1.0 if norm == math.inf else 3.0 ** (1 / norm))
    weight = rng.random((200, 4, 1))
    p, q = selection(first, 4), selection(second, 4)
    sampled = max(norm_of(t * p + (1 - t) * q, norm) for t in [*weight, 0.0, 1.0])
    best = max(
        norm_of(np.where(np.array(c)[:, None], p, q), norm)
        for c in itertools.product([0, 1], repeat=4)
    )
    assert sampled <= best <= stage.norm(norm) * (1 + 1e-12)
    assert best == pytest.approx(stage.norm(norm), rel=1e-12)
    assert SlopeStage.mixed(["relu", "hardswish", "sigmoid"]).norm(norm) == 1.5
    assert SlopeStage.uniform(act.leaky_relu(-2.0), 3).norm(norm) == 2.0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ALL)
def test_blocks_part_the_neurons_and_bound_each_part(name, norm):
    stage = ALL[name]
    blocks = stage.partition(norm)
    if len(blocks) == 1:
        assert blocks == [(None, stage.norm(norm))]
        return
    index = torch.cat([part for part, _ in blocks])
    assert index.sort().values.tolist() == list(range(stage.shape[0]))
    for part, factor in blocks:
        greatest = torch.maximum(stage.alpha[part].abs(), stage.beta[part].abs()).max()
        assert factor == greatest


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", PAIRS)
def test_differences_lie_between_the_ends(name, scale):
    stage = PAIRS[name]
    a, b = sampled_pairs(stage.shape[1], scale)
    y = (stage.evaluate(a) - stage.evaluate(b)).numpy()
    ends = stage.ends().of((a - b).mT)
    low, high = (end.mT.numpy() for end in ends)
    assert (np.minimum(low, high) - 1e-13 <= y).all() and (y <= np.maximum(low, high) + 1e-13).all()
    center, radius = dense(stage.center).numpy(), dense(stage.radius).numpy()
    np.testing.assert_allclose(low + high, 2 * (a - b).numpy() @ center.T, atol=1e-12)
    np.testing.assert_allclose(
        abs(high - low), 2 * abs((a - b).numpy() @ radius.T), rtol=1e-12, atol=1e-12
    )
    assert stage.ends().met.tolist() == (~radius.any(1)).tolist()


@pytest.mark.parametrize("name", PAIRS)
def test_the_closed_form_carries_a_ball_into_a_ball(name):
    """sum_j (y - low)_j (y - high)_j / tau_j >= |y|^2 / gain - |z|^2 for all y and z: the form is
    positive semidefinite, up to the STIFF rows' rounding."""
    stage = PAIRS[name]
    tau, gain = stage.closed_form()
    center, radius = dense(stage.center).numpy(), dense(stage.radius).numpy()
    size, n = stage.shape
    inverse = np.diag(1 / tau.numpy())
    form = np.block(
        [
            [inverse - np.eye(size) / float(gain), -inverse @ center],
            [
                -center.T @ inverse,
                np.eye(n) + center.T @ inverse @ center - radius.T @ inverse @ radius,
            ],
        ]
    )
    least = np.linalg.eigvalsh(form)[0]
    assert least >= -1e-9 * abs(form).max()


@pytest.mark.parametrize("name", ALL)
def test_softened_slopes_tend_to_the_jacobian(name):
    stage = ALL[name]
    z = torch.randn(5, stage.shape[1], dtype=torch.float64)
    v = torch.randn(5, stage.shape[1], dtype=torch.float64)
    for one, way in zip(z, v, strict=True):
        jacobian = torch.autograd.functional.jacobian(stage.evaluate, one)
        soft = stage.softened(one[None], way[None], torch.full((1, 1), 1e-7, dtype=torch.float64))
        torch.testing.assert_close(soft[0], jacobian @ way, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_still_neurons_do_not_move(name):
    stage = ALL[name]
    z = 3 * torch.randn(50, stage.shape[1], dtype=torch.float64)
    still = stage.still(z, torch.zeros_like(z, dtype=torch.bool))
    moved = (stage.evaluate(z + 1e-6) - stage.evaluate(z)).abs()
    assert still.shape == moved.shape and not bool((moved[still] > 0).any())


@pytest.mark.parametrize("name", ALL)
def test_a_gap_changes_sign_where_a_neuron_changes_its_slope(name):
    """Along a line, the entry or the difference of two entries that `picks` names."""
    stage = ALL[name]
    picks = torch.tensor([[7, 0, 1], [2, 1, 2]])
    z = torch.randn(2, stage.shape[1], dtype=torch.float64)
    gaps = stage.gap(z, picks)
    differences = torch.cat([z, (z.unsqueeze(2) - z.unsqueeze(1)).flatten(1)], 1)
    for gap, own in zip(gaps, differences, strict=True):
        assert gap.shape == (1,) and float(gap) in own.tolist()


def test_trees_and_common_radii():
    stage, shape, module = pool_stage("overlap")
    z = torch.randn(20, math.prod(shape), dtype=torch.float64)
    y = z
    for one in stage.tree():
        y = one.evaluate(y)
        assert one.center is not None
    assert torch.equal(y, module(z.reshape(-1, *shape)).flatten(1))
    mixed = SlopeStage.mixed(["relu", "abs", "identity"])
    assert mixed.tree() == [mixed]
    assert mixed.common_radius().radius.diagonal.tolist() == [1, 1, 1]
    assert mixed.common_radius().center.diagonal.tolist() == [0.5, 0, 1]
    assert stage.common_radius() is stage


def test_stages_refuse_what_they_cannot_answer():
    stage, _, _ = pool_stage("plain")
    for answer in (stage.ends, stage.closed_form, stage.slopes):
        with pytest.raises(lb.UnsupportedError, match="max-pooling kept whole"):
            answer()
    with pytest.raises(lb.UnsupportedError, match="maximum of two entries"):
        BetweenStage(torch.tensor([0]), torch.tensor([1]), 2).slopes()


def test_a_stage_without_an_answer_cannot_be_made():
    class Unfinished(SlopeStage):
        ends = Stage.ends

    with pytest.raises(TypeError, match="ends"):
        Unfinished.uniform("relu", 3)


def test_the_carried_neurons_are_those_of_slope_one():
    stage = SlopeStage.mixed(["relu", "identity", act.leaky_relu(3.0), "identity"])
    (carried, one), (others, three) = stage.partition(2)
    assert (carried.tolist(), one, others.tolist(), three) == ([1, 3], 1.0, [0, 2], 3.0)
    assert len(SlopeStage.uniform("identity", 3).partition(2)) == 1


def test_mixed_slope_stage_keeps_the_neurons_apart():
    stage = SlopeStage.mixed(["relu", "abs", "tanh", "relu", act.leaky_relu(0.5)])
    z = torch.randn(3, 2, 5, dtype=torch.float64)
    columns = [torch.relu, torch.abs, torch.tanh, torch.relu, lambda x: F.leaky_relu(x, 0.5)]
    expected = torch.stack([f(z[..., i]) for i, f in enumerate(columns)], -1)
    assert torch.equal(stage.evaluate(z), expected)
    assert stage.alpha.tolist() == [0, -1, 0, 0, 0.5]
    assert stage.beta.tolist() == [1, 1, 1, 1, 1]


def test_a_neuron_without_an_activation_raises():
    with pytest.raises(lb.LipboundsError, match="no activation"):
        SlopeStage([(act.relu(), torch.tensor([0, 2]))], 3)


def test_pool_windows_of_sliding_are_those_of_the_stage():
    windows, *_ = sliding((1, 4, 6), (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert torch.equal(windows, pool_stage("plain")[0].windows)

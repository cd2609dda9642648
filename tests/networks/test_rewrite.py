"""The explicit treatment and the carried form of maxima compute the same function."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from oracles import NAMES, NORMS
from strategies import IMAGE, between_sample, pooled_networks, quick, small_cnns

import lipbounds as lb
from lipbounds.linear.operators import Convolution, Dense, Identity
from lipbounds.networks.activations import activation, prelu
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.rewrite import explicit, maxima_as_relu, maxima_first, merged
from lipbounds.networks.stages import BetweenStage, PoolStage, SlopeStage


def values(network, name):
    return [lb.bound(network, name, norm, "implicit").upper for norm in NORMS]


def maximum(weight):
    """max(a, b) after `weight`, as one between stage."""
    first, second = torch.tensor([0]), torch.tensor([1])
    weight = torch.tensor(weight, dtype=torch.float64)
    one = torch.eye(1, dtype=torch.float64)
    return Network(
        (Affine(Dense(weight), one.new_zeros(2)), Affine(Dense(one), one.new_zeros(1))),
        (BetweenStage(first, second, 2),),
    )


REWRITES = [
    explicit,
    lambda network: maxima_as_relu(explicit(network)),
    lambda network: maxima_first(explicit(network)),
]


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("name", small_cnns())
def test_rewriting_keeps_the_function_and_its_jacobian(name, rewrite):
    module = small_cnns()[name]
    network = lb.from_torch(module, IMAGE)
    rewritten = rewrite(network)
    x = torch.randn(30, *IMAGE, dtype=torch.float64) * 2
    with torch.no_grad():
        torch.testing.assert_close(rewritten(x), module(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(rewritten.jacobian(x), network.jacobian(x), rtol=0, atol=1e-12)
    assert rewritten.input_shape == IMAGE


@pytest.mark.parametrize("name", small_cnns())
def test_explicit_networks_have_no_convolutions_and_no_pools(name):
    network = explicit(lb.from_torch(small_cnns()[name], IMAGE))
    for affine in network.affines:
        factors = getattr(affine.operator, "factors", (affine.operator,))
        assert not any(isinstance(factor, Convolution) for factor in factors)
    assert not any(isinstance(stage, PoolStage) for stage in network.stages)
    assert any(isinstance(stage, BetweenStage) for stage in network.stages)
    assert all(isinstance(stage, SlopeStage) for stage in maxima_as_relu(network).stages)


def kinds(network):
    return [type(stage).__name__[0] for stage in network.stages]


def test_maxima_go_before_the_activations_that_commute_with_them():
    networks = {name: explicit(lb.from_torch(cnn, IMAGE)) for name, cnn in small_cnns().items()}
    assert kinds(networks["plain"]) == list("SBB")
    assert kinds(maxima_first(networks["plain"])) == list("BBS")
    assert maxima_first(networks["plain"]).stages[2].shape == (8, 8)
    assert kinds(maxima_first(networks["two pools"])) == list("BBBBSS")
    assert kinds(networks["average"]) == kinds(maxima_first(networks["average"]))  # a mean between


@pytest.mark.parametrize(
    ("functions", "moved"),
    [
        (["relu", "relu", "tanh", "tanh"], True),
        (["relu", "tanh", "relu", "tanh"], False),  # other activations in one maximum
        (["gelu"] * 4, False),  # not monotone
    ],
)
def test_only_one_nondecreasing_activation_commutes_with_a_maximum(functions, moved):
    eye = torch.eye(4, dtype=torch.float64)
    first, second = torch.tensor([0, 2]), torch.tensor([1, 3])
    identity = Affine(Identity(4, eye.device), eye.new_zeros(4))
    network = Network(
        (Affine(Dense(eye), eye[0]), identity, Affine(Dense(eye[:2, :2]), eye.new_zeros(2))),
        (SlopeStage.mixed(functions), BetweenStage(first, second, 4)),
    )
    other = maxima_first(network)
    assert (kinds(other) == list("BS")) == moved
    x = 3 * torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(other(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("first", "second", "moved"),
    [
        ([1, 0, 1, 3], [1, 2, 1, 3], True),  # of equal slopes, but on other neurons, and fewer
        ([0, 1, 2, 3, 4, 0, 2], [0, 1, 2, 3, 4, 2, 0], True),  # and on more of them
        ([0, 1], [2, 3], False),  # of other slopes in one maximum
    ],
)
def test_slopes_of_a_prelu_follow_their_neurons(first, second, moved):
    slopes = torch.tensor([0.5, 100.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    eye = torch.eye(5, dtype=torch.float64)
    tanh = activation("tanh")
    for parts in (
        [(prelu(slopes), slice(None))],
        [(prelu(slopes[:4]), torch.arange(4)), (tanh, torch.tensor([4]))],
    ):
        maxima = BetweenStage(torch.tensor(first), torch.tensor(second), 5)
        end = torch.eye(len(first), dtype=torch.float64)
        affines = [Affine(Dense(w), w.new_zeros(len(w))) for w in (eye, end)]
        between = Affine(Identity(5, eye.device), eye.new_zeros(5))
        network = Network(
            (affines[0], between, affines[1]), (SlopeStage(parts, 5), maxima)
        )  # fmt: skip
        other = maxima_first(network)
        assert (kinds(other) == list("BS")) == moved
        x = 3 * torch.randn(50, 5, dtype=torch.float64)
        torch.testing.assert_close(other(x), network(x), rtol=0, atol=0)
        torch.testing.assert_close(other.jacobian(x), network.jacobian(x), rtol=0, atol=0)


def test_per_neuron_slopes_of_another_activation_stay_where_they_are():
    scale = torch.tensor([1.0, 2.0, 1.0, 2.0], dtype=torch.float64)
    function = lb.Activation("scaled", lambda z: scale * z, scale, scale)
    eye = torch.eye(4, dtype=torch.float64)
    maxima = BetweenStage(torch.tensor([0, 1]), torch.tensor([2, 3]), 4)
    affines = [Affine(op, eye.new_zeros(op.shape[0])) for op in (Dense(eye), Identity(4))]
    end = Affine(Dense(eye[:2, :2]), eye.new_zeros(2))
    network = Network((*affines, end), (SlopeStage.uniform(function, 4), maxima))
    assert kinds(maxima_first(network)) == list("SB")


@quick
@given(pooled_networks())
def test_maxima_first_have_no_larger_k_4(sample):
    """docs/k5.md, proposition 18."""
    between = between_sample(sample).network
    for norm in NORMS:
        before, after = (lb.bound(n, "K_4", norm).upper for n in (between, maxima_first(between)))
        assert after <= before * (1 + 1e-9)


@quick
@given(pooled_networks())
def test_carried_maxima_have_the_same_k_4_and_no_smaller_k_1(sample):
    """Proposition 8; equality of K_1 for p = 1."""
    between = between_sample(sample).network
    other = maxima_as_relu(between)
    x = torch.randn(10, between.input_size, dtype=torch.float64)
    scale = 1 + float(between(x).abs().max())
    assert float((other(x) - between(x)).abs().max()) <= 1e-12 * scale * 1e3
    for norm in NORMS:
        k_4, same = (lb.bound(n, "K_4", norm).upper for n in (between, other))
        slack = 1e-9 * lb.bound(other, "K_3", norm).upper + 1e-9 * k_4
        assert abs(k_4 - same) <= slack
        k_1, larger = (lb.bound(n, "K_1", norm).upper for n in (between, other))
        assert larger >= k_1 * (1 - 1e-9)
        if norm == 1:
            assert larger == pytest.approx(k_1, rel=1e-9, abs=1e-300)


def test_table_of_the_maximum():
    """docs/theory.md, section 9, with identity weights."""
    between = maximum(np.eye(2))
    other = maxima_as_relu(between)
    root = math.sqrt(2)
    golden = root * (1 + math.sqrt(5)) / 2  # 2.2882
    expected = {
        "K_star": ([1, 1, 1], [2, golden, 3]),
        "K_1": ([1, root, 2], [1, (1 + root) / root, 3]),
        "K_3": ([1, root, 2], [2, math.sqrt(5), 3]),
        "K_4": ([1, root, 2], [1, root, 2]),
    }
    for name in NAMES:
        assert values(between, name) == pytest.approx(expected[name][0], rel=1e-10)
        assert values(other, name) == pytest.approx(expected[name][1], rel=1e-10)


def test_carrying_may_also_shrink_k_3():
    """max(x, x): the difference a - b cancels (docs/theory.md, section 9)."""
    between = maximum([[1.0], [1.0]])
    assert values(between, "K_3") == pytest.approx([2, 2, 2], rel=1e-10)
    assert values(between, "K_star")[0] == pytest.approx(2, rel=1e-10)
    assert values(maxima_as_relu(between), "K_3") == pytest.approx([1, 1, 1], rel=1e-10)
    assert values(maxima_as_relu(between), "K_star")[0] == pytest.approx(1, rel=1e-10)


def pool(windows, weight, after):
    windows, weight, after = (torch.tensor(x) for x in (windows, weight, after))
    return Network(
        (
            Affine(Dense(weight.double()), torch.zeros(len(weight)).double()),
            Affine(Dense(after.double()), torch.zeros(len(after)).double()),
        ),
        (PoolStage(windows, len(weight)),),
    )


def test_neither_treatment_always_wins():
    """docs/theory.md, section 9: max(a, b), and max(x, x) - x."""
    whole = pool([[0, 1]], [[1.0, 0.0], [0.0, 1.0]], [[1.0]])
    assert lb.bound(whole, "K_4", math.inf, "implicit").upper == pytest.approx(1, rel=1e-10)
    assert lb.bound(whole, "K_4", math.inf, "explicit").upper == pytest.approx(2, rel=1e-10)
    cancelling = pool([[0, 1], [2, 2]], [[1.0], [1.0], [1.0]], [[1.0, -1.0]])
    assert lb.bound(cancelling, "K_4", math.inf, "implicit").upper == pytest.approx(2, rel=1e-10)
    assert 0 <= lb.bound(cancelling, "K_4", math.inf, "explicit").upper < 1e-12


def test_merged_ensembles_keep_their_members_apart():
    generator = torch.Generator().manual_seed(0)
    weights, biases = (
        [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
        for shapes in (((4, 5), (3, 4), (2, 3)), ((4,), (3,), (2,)))
    )
    network = lb.from_weights(weights, biases, ["identity", "relu"])
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    assert merged(network).depth == 1
    torch.testing.assert_close(merged(network)(x), network(x))
    torch.testing.assert_close(merged(network)(x[0]), network(x[0]))

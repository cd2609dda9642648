"""Network: evaluation, Jacobians, ensembles, and clear errors."""

import numpy as np
import pytest
import torch
from strategies import IMAGE, small_cnns
from torch import nn

import lipbounds as lb
from lipbounds.linear.operators import Dense, dense
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import SlopeStage


def random_weights(sizes, seed=0, samples=()):
    rng = np.random.default_rng(seed)
    pairs = list(zip(sizes[1:], sizes, strict=False))
    return (
        [rng.standard_normal((*samples, m, n)) for m, n in pairs],
        [rng.standard_normal((*samples, m)) for m, _ in pairs],
    )


def test_from_weights_evaluates_layer_by_layer():
    weights, biases = random_weights([3, 5, 4, 2])
    network = Network.from_weights(weights, biases, ["relu", "tanh"])
    x = np.random.default_rng(1).standard_normal((6, 3))
    y = np.maximum(x @ weights[0].T + biases[0], 0)
    y = np.tanh(y @ weights[1].T + biases[1]) @ weights[2].T + biases[2]
    np.testing.assert_allclose(network(torch.from_numpy(x)), y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(network(torch.from_numpy(x[0])), y[0], rtol=0, atol=1e-13)
    batched = network(torch.from_numpy(x.reshape(2, 3, 3)))
    np.testing.assert_allclose(batched, y.reshape(2, 3, 2), rtol=0, atol=1e-13)
    assert (network.depth, network.input_size, network.output_size) == (2, 3, 2)
    assert not network.has_pools and network.batch_shape == ()


def test_jacobian_equals_automatic_differentiation_and_differences():
    weights, biases = random_weights([3, 6, 5, 2])
    mixed = ["relu", "abs", "silu", "mish", "mish"]
    network = Network.from_weights(weights, biases, ["hardswish", mixed])
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = network.jacobian(x)
    assert jacobian.shape == (4, 2, 3)
    for one, computed in zip(x, jacobian, strict=True):
        torch.testing.assert_close(computed, torch.func.jacrev(network)(one), rtol=0, atol=1e-12)
        h = 1e-6 * torch.eye(3, dtype=torch.float64)
        differences = (network(one + h) - network(one - h)).T / 2e-6
        torch.testing.assert_close(computed, differences, rtol=0, atol=1e-7)


def test_a_network_without_stages_is_affine():
    weights, biases = random_weights([3, 2])
    network = Network.from_weights(weights, biases)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(network(x), x @ torch.from_numpy(weights[0]).T + biases[0][None])
    assert torch.equal(network.jacobian(x), torch.from_numpy(weights[0]).expand(5, 2, 3))


def test_weights_are_copied():
    weight = torch.ones(2, 2, dtype=torch.float64)
    network = Network.from_weights([weight])
    weight.fill_(7.0)
    assert float(network.affines[0].operator.weight.max()) == 1.0
    with pytest.raises(AttributeError):
        network.stages = ()


def test_ensemble_evaluates_each_member():
    weights, biases = random_weights([3, 4, 2], samples=(5,))
    network = Network.from_weights(weights, biases)
    x = torch.randn(6, 3, dtype=torch.float64)
    own = torch.randn(5, 6, 3, dtype=torch.float64)
    for s in range(5):
        member = Network.from_weights([w[s] for w in weights], [b[s] for b in biases])
        torch.testing.assert_close(network(x)[s], member(x), rtol=0, atol=1e-14)
        torch.testing.assert_close(network(own)[s], member(own[s]), rtol=0, atol=1e-14)
    with pytest.raises(lb.LipboundsError, match="single network, not an ensemble"):
        network.jacobian(x)


def test_ensemble_evaluates_a_single_input():
    weights, _ = random_weights([2, 4, 5], samples=(3,))
    network = Network.from_weights(weights)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(network(x), network(x.unsqueeze(0)).squeeze(-2))


@pytest.mark.parametrize("name", small_cnns())
def test_images_may_be_flat_or_not(name):
    module = small_cnns()[name]
    network = lb.from_torch(module, IMAGE)
    x = torch.randn(3, *IMAGE, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), module(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(network(x.flatten(1)), module(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(network(x[0]), module(x[:1])[0], rtol=0, atol=1e-12)
    assert torch.equal(network.jacobian(x), network.jacobian(x.flatten(1)))


ONE = np.ones((2, 2))
QUANTISED = torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)
BAD = {
    "empty": (dict(weights=[]), "at least one weight"),
    "vector": (dict(weights=[np.ones(3)]), "W0 has shape (3,); it must be a nonempty matrix"),
    "no rows": (dict(weights=[ONE, np.ones((0, 2))]), "W1 has shape (0, 2)"),
    "shapes": (dict(weights=[np.ones((3, 2)), ONE]), "W1 takes 2 inputs but W0 gives 3 outputs"),
    "words": (dict(weights=[[["a"]]]), "W0 is not an array of numbers"),
    "sparse": (dict(weights=[torch.eye(2).to_sparse()]), "(torch.sparse_coo); pass its to_dense()"),
    "compressed": (dict(weights=[ONE, torch.eye(2).to_sparse_csr()]), "W1 is not an array"),
    "meta": (dict(weights=[torch.eye(2, device="meta")]), "it is on the meta device, without"),
    "quantised": (dict(weights=[QUANTISED]), "it is quantised; pass its dequantize()"),
    "missing": (dict(weights=[ONE, None]), "W1 is not an array of numbers"),
    "nan": (dict(weights=[ONE, ONE * np.nan]), "W1 has NaN or infinite"),
    "inf": (dict(weights=[ONE * np.inf]), "W0 has NaN or infinite"),
    "bias nan": (dict(weights=[ONE], biases=[[1.0, np.nan]]), "b0 has NaN or infinite"),
    "bias shape": (dict(weights=[ONE], biases=[np.ones(3)]), "b0 has shape (3,); W0 needs (2,)"),
    "bias column": (dict(weights=[ONE], biases=[np.ones((2, 1))]), "b0 has shape (2, 1)"),
    "bias count": (dict(weights=[ONE, ONE], biases=[None]), "1 biases for 2 weights"),
    "ensembles": (dict(weights=[ONE, np.ones((3, 2, 2))]), "leading (ensemble) dimensions"),
    "activation": (dict(weights=[ONE, ONE], activation="swish"), "unknown activation 'swish'"),
    "activations": (
        dict(weights=[ONE, ONE], activation=["relu"] * 2), "2 activations for 1 hidden stages",
    ),
    "neurons": (
        dict(weights=[ONE, ONE], activation=[["relu"] * 3]), "stage 1: 3 activations for 2 neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_from_weights_names_what_is_wrong(case):
    arguments, message = BAD[case]
    with pytest.raises(lb.LipboundsError) as error:
        lb.from_weights(**arguments)
    assert message in str(error.value)


def test_lists_keep_double_precision():
    network = Network.from_weights([[[0.1, 1e-9]]], [[0.7]])
    assert dense(network.affines[0].operator).tolist() == [[0.1, 1e-9]]
    assert network.affines[0].offset.tolist() == [0.7]


def test_complex_weights_raise():
    with pytest.raises(lb.LipboundsError, match="W0"):
        lb.from_weights([ONE * 1j])


@pytest.mark.parametrize("shape", [(5,), (6, 6), (2, 36, 1), ()])
def test_inputs_of_the_wrong_shape_raise(shape):
    network = lb.from_torch(small_cnns()["plain"], IMAGE)
    with pytest.raises(lb.LipboundsError, match="the network takes"):
        network(torch.zeros(shape))


def test_parts_that_do_not_chain_raise():
    affine = Affine(Dense(torch.ones(2, 2).double()), torch.zeros(2).double())
    with pytest.raises(lb.LipboundsError, match="2 affine maps need 1 stages"):
        Network((affine, affine), ())
    with pytest.raises(lb.LipboundsError, match="stage 1 maps 3 inputs .* between W0 with 2"):
        Network((affine, affine), (SlopeStage.uniform("relu", 3),))


def test_it_says_what_it_is_in_a_line():
    weights = [np.ones((3, 2)), np.ones((3, 3)), np.ones((1, 3))]
    mixed = [["relu", "identity", "relu"], "tanh"]
    network = lb.from_weights(weights, activation=mixed)
    assert repr(network) == "Network(2 -> 3 relu, identity -> 3 tanh -> 1)"
    twice = lb.from_weights([np.stack([w, w]) for w in weights])
    assert repr(twice) == "Network(2 x 2 -> 3 relu -> 3 relu -> 1)"
    pooled = lb.from_torch(nn.MaxPool1d(2), (1, 4))
    assert repr(pooled) == "Network(4 -> 2 max-pooling kept whole -> 2)"

"""Every layer of CONVERTERS: the Network equals the module, and so does its Jacobian."""

import copy
import math

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.frontends.modules import CONVERTERS
from lipbounds.networks.stages import PoolStage

torch.manual_seed(0)
VECTOR, SIGNAL, SHAPE = (4,), (2, 7), (2, 6, 5)


def batch_norm(layer):
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.2, 2)
    return layer


LAYERS = {
    nn.Linear: [(nn.Linear(4, 3), VECTOR)],
    nn.Conv1d: [(nn.Conv1d(2, 3, 3, stride=2, padding=1), SIGNAL)],
    nn.Conv2d: [
        (nn.Conv2d(2, 4, (2, 3), (2, 1), (1, 2), (2, 1), groups=2), SHAPE),
        (nn.Conv2d(2, 1, 2, padding="same", bias=False), SHAPE),
    ],
    nn.BatchNorm1d: [
        (batch_norm(nn.BatchNorm1d(4)), VECTOR),
        (batch_norm(nn.BatchNorm1d(2)), SIGNAL),
    ],
    nn.BatchNorm2d: [
        (batch_norm(nn.BatchNorm2d(2)), SHAPE),
        (batch_norm(nn.BatchNorm2d(2, affine=False, eps=0.5)), SHAPE),
    ],
    nn.MaxPool1d: [
        (nn.MaxPool1d(3, 2), SIGNAL),
        (nn.MaxPool1d(2, 3, padding=1, dilation=2, ceil_mode=True), SIGNAL),
    ],
    nn.MaxPool2d: [
        (nn.MaxPool2d(2), SHAPE),
        (nn.MaxPool2d(3, 1, padding=1), SHAPE),
        (nn.MaxPool2d((2, 3), (3, 2), (1, 0), (2, 1), ceil_mode=True), SHAPE),
    ],
    nn.AvgPool1d: [(nn.AvgPool1d(3, 2, padding=1, ceil_mode=True), SIGNAL)],
    nn.AvgPool2d: [
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), SHAPE),
        (nn.AvgPool2d((3, 2), 2, ceil_mode=True, divisor_override=5), SHAPE),
    ],
    nn.AdaptiveAvgPool2d: [(nn.AdaptiveAvgPool2d((4, 2)), SHAPE)],
    nn.AdaptiveMaxPool2d: [(nn.AdaptiveMaxPool2d((4, None)), SHAPE)],
    nn.Flatten: [(nn.Flatten(), SHAPE), (nn.Flatten(-2), SHAPE), (nn.Flatten(1, 2), SHAPE)],
    nn.Unflatten: [(nn.Unflatten(1, (2, -1)), VECTOR), (nn.Unflatten(-1, (7, 1)), SIGNAL)],
    nn.Identity: [(nn.Identity(), SHAPE)],
    nn.Dropout: [(nn.Dropout(0.7), SHAPE)],
    nn.Dropout1d: [(nn.Dropout1d(), SIGNAL)],
    nn.Dropout2d: [(nn.Dropout2d(), SHAPE)],
    nn.PReLU: [(nn.PReLU(init=0.4), SHAPE), (nn.PReLU(2), SHAPE), (nn.PReLU(4), VECTOR)],
    nn.ReLU: [(nn.ReLU(), SHAPE), (nn.ReLU(inplace=True), VECTOR)],
    nn.LeakyReLU: [(nn.LeakyReLU(0.3), SHAPE)],
    nn.Tanh: [(nn.Tanh(), SHAPE)],
    nn.Sigmoid: [(nn.Sigmoid(), SHAPE)],
    nn.Hardtanh: [(nn.Hardtanh(-0.5, 2.0), SHAPE)],
    nn.ReLU6: [(nn.ReLU6(), SHAPE)],
    nn.Softplus: [(nn.Softplus(2.0), SHAPE)],
    nn.Softsign: [(nn.Softsign(), SHAPE)],
    nn.ELU: [(nn.ELU(1.5), SHAPE)],
    nn.SELU: [(nn.SELU(), SHAPE)],
    nn.CELU: [(nn.CELU(0.5), SHAPE)],
    nn.SiLU: [(nn.SiLU(), SHAPE)],
    nn.GELU: [(nn.GELU(), SHAPE), (nn.GELU(approximate="tanh"), SHAPE)],
    nn.Mish: [(nn.Mish(), SHAPE)],
    nn.Hardswish: [(nn.Hardswish(), SHAPE)],
    nn.Hardsigmoid: [(nn.Hardsigmoid(), SHAPE)],
    nn.LogSigmoid: [(nn.LogSigmoid(), SHAPE)],
    nn.Softshrink: [(nn.Softshrink(0.3), SHAPE)],
    nn.RReLU: [(nn.RReLU(), SHAPE)],
    nn.Dropout3d: [(nn.Dropout3d(), (2, 3, 2, 2))],
    nn.AlphaDropout: [(nn.AlphaDropout(), SHAPE)],
}
for layers in LAYERS.values():
    for layer, _ in layers:
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -1, 1)
NETWORKS = {
    **{
        f"{kind.__name__} {i}": (nn.Sequential(layer), shape)
        for kind, layers in LAYERS.items()
        for i, (layer, shape) in enumerate(layers)
    },
    "nested": (
        nn.Sequential(
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), batch_norm(nn.BatchNorm2d(4)), nn.PReLU(4),
                nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Dropout2d()),
            ),
            nn.Sequential(nn.AvgPool2d(2, 1), nn.GELU()),
            nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 3),
        ),
        SHAPE,
    ),
    "signal": (
        nn.Sequential(
            nn.Conv1d(2, 3, 2), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(9, 2)
        ),
        SIGNAL,
    ),
    "two pools": (nn.Sequential(nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 1), nn.ELU()), SHAPE),
    "empty": (nn.Sequential(), VECTOR),
    "one layer": (nn.Linear(4, 2), VECTOR),
}  # fmt: skip


def test_every_converter_is_tested():
    assert set(LAYERS) == set(CONVERTERS)


def points(shape, count=20):
    """Spread over the kinks of all activations (hard swish's at 3, ReLU6's at 6)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64) * 4


@pytest.mark.parametrize("treatment", ["implicit", "explicit"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_module(name, treatment):
    module, shape = NETWORKS[name]
    module = copy.deepcopy(module).double().eval()
    network = lb.from_torch(module, shape)
    if treatment == "explicit":
        network = lb.explicit(network)
        assert not network.has_pools
    x = points(shape)
    with torch.no_grad():
        expected = module(x.clone()).flatten(1)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12)
    assert (network.input_size, network.output_size) == (math.prod(shape), expected.shape[1])
    if any(isinstance(layer, nn.ReLU) and layer.inplace for layer in module.modules()):
        return  # torch differentiates no in-place function of an input
    for one, jacobian in zip(x[:4], network.jacobian(x[:4]), strict=True):
        expected = torch.func.jacrev(lambda z: module(z.unsqueeze(0)).flatten())(one)
        expected = expected.reshape(network.output_size, -1)
        torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-12)


def test_float32_modules_are_converted_exactly_and_left_alone():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    network = lb.from_torch(module, (4,))
    assert module[0].weight.dtype == torch.float32
    x = points((4,))
    torch.testing.assert_close(network(x), copy.deepcopy(module).double()(x), rtol=0, atol=1e-12)
    with torch.no_grad():
        module[0].weight.zero_()
    assert float(network.affines[0].operator.weight.abs().min()) > 0


def test_affine_layers_merge_and_stages_stay_apart():
    module, shape = NETWORKS["nested"]
    network = lb.from_torch(module.eval(), shape)
    kinds = [type(stage).__name__ for stage in network.stages]
    assert kinds == ["SlopeStage", "PoolStage", "SlopeStage", "SlopeStage", "SlopeStage"]
    assert len(network.affines) == 6


def with_nan(layer, name="weight"):
    with torch.no_grad():
        getattr(layer, name).view(-1)[0] = math.nan
    return layer


def with_variance(value, eps):
    layer = nn.BatchNorm2d(2, eps=eps)
    layer.running_var[1] = value
    return layer


BAD = {
    "softmax": (nn.Softmax(1), VECTOR, "(Softmax): softmax: its slopes depend on other entries"),
    "lstm": (nn.LSTM(4, 4), VECTOR, "(LSTM)"),
    "layer norm": (nn.LayerNorm(4), VECTOR, "(LayerNorm): layer_norm: normalises each input"),
    "indices": (nn.MaxPool2d(2, return_indices=True), SHAPE, "return_indices"),
    "no statistics": (nn.BatchNorm2d(2, track_running_stats=False), SHAPE, "track_running_stats"),
    "flatten batch": (nn.Flatten(0), SHAPE, "start_dim=0"),
    "nan": (with_nan(nn.Linear(4, 2)), VECTOR, "weight has NaN"),
    "bias": (with_nan(nn.Conv2d(2, 1, 2), "bias"), SHAPE, "bias has NaN"),
    "running": (with_nan(nn.BatchNorm2d(2), "running_var"), SHAPE, "running_var has NaN"),
    "prelu": (with_nan(nn.PReLU(2)), SHAPE, "weight has NaN"),
    "slope": (nn.LeakyReLU(math.inf), SHAPE, "not a finite slope"),
    "no flatten": (nn.Linear(60, 2), SHAPE, "takes a vector of 60; is a Flatten missing?"),
    "no fit": (nn.Linear(4, 2), SHAPE, "takes a vector of 4, not an array of 2 x 6 x 5"),
    "linear": (nn.Linear(5, 2), VECTOR, "takes a vector of 5, not of 4"),
    "channels": (nn.Conv2d(3, 1, 2), SHAPE, "takes 3 channels"),
    "axes": (nn.Conv1d(2, 1, 2), SHAPE, "1-dimensional"),
    "too large": (nn.Conv2d(2, 1, 7), SHAPE, "does not fit"),
    "pool": (nn.MaxPool2d(9), SHAPE, "pooling window of 9 does not fit"),
    "pool axes": (nn.MaxPool1d(2), SHAPE, "1-dimensional"),
    "adaptive axes": (nn.AdaptiveAvgPool2d(2), SIGNAL, "2-dimensional images"),
    "padding only": (nn.MaxPool2d(2, 1, padding=1, dilation=6), (1, 5, 5), "in the padding"),
    "norm channels": (nn.BatchNorm2d(3), SHAPE, "takes 3 channels"),
    "slopes": (nn.PReLU(3), SHAPE, "has 3 slopes for 2 channels"),
    "unflatten": (nn.Unflatten(1, (3, -1)), VECTOR, "cannot unflatten dimension 1"),
    "variance": (with_variance(-1.0, 1e-5), SHAPE, "running_var has a negative entry -1"),
    "no variance": (with_variance(0.0, 0.0), SHAPE, "running_var has the entry 0, and eps is 0"),
    "softplus": (nn.Softplus(-1.0), VECTOR, "must be positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_unsupported_layers_are_named_with_their_place(case):
    layer, shape, message = BAD[case]
    module = nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity(), layer)).eval()
    with pytest.raises(lb.LipboundsError) as error:
        lb.from_torch(module, shape)
    assert message in str(error.value)
    assert f"layer '1.1' ({type(layer).__name__})" in str(error.value)


def test_named_layers_are_named():
    module = nn.Sequential()
    module.add_module("features", nn.Sequential())
    module.features.add_module("odd", nn.GLU(1))
    with pytest.raises(lb.UnsupportedError, match=r"layer 'features.odd' \(GLU\)"):
        lb.from_torch(module.eval(), SHAPE)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2), nn.Dropout(), nn.Dropout2d(0.1)])
def test_training_mode_raises(layer):
    with pytest.raises(lb.LipboundsError, match="'1'.*training mode; call module.eval"):
        lb.from_torch(nn.Sequential(nn.ReLU(), layer), SHAPE)


def test_dropout_of_nothing_is_the_identity_in_training_mode_too():
    assert lb.from_torch(nn.Sequential(nn.Dropout(0.0)), (3,)).depth == 0


@pytest.mark.parametrize(
    "shape", [(), (0,), (3, -1), 4, None, "28", (True,), (4.0,), (torch.tensor(2.5),), [[4]]]
)
def test_input_shapes_must_be_positive(shape):
    with pytest.raises(lb.LipboundsError, match="positive integers"):
        lb.from_torch(nn.Sequential(nn.ReLU()), shape)


def test_max_pooling_stays_whole_until_it_is_made_explicit():
    module, shape = NETWORKS["two pools"]
    network = lb.from_torch(module, shape)
    assert network.has_pools and isinstance(network.stages[0], PoolStage)


def test_a_module_used_twice_is_applied_twice():
    relu, linear = nn.ReLU(), nn.Linear(3, 3).double()
    shared = nn.Sequential(linear, relu, linear, nn.Sequential(relu, linear), relu, linear)
    network = lb.from_torch(shared, (3,))
    assert network.depth == 3
    x = points((3,))
    with torch.no_grad():
        torch.testing.assert_close(network(x), shared(x), rtol=0, atol=1e-12)


HOOKED = {
    "weight norm": (lambda x: nn.utils.weight_norm(x), "WeightNorm", "remove_weight_norm(layer"),
    "spectral norm": (
        lambda x: nn.utils.spectral_norm(x), "SpectralNorm", "remove_spectral_norm(layer",
    ),
    "pruning": (
        lambda x: nn.utils.prune.l1_unstructured(x, "weight", 2),
        "L1Unstructured", "prune.remove(layer, 'weight')",
    ),
    "hook": (lambda x: x.register_forward_hook(double_it), "double_it", "hook.remove()"),
    "pre-hook": (
        lambda x: x.register_forward_pre_hook(double_it), "double_it", "hook.remove()",
    ),
    "patch": (lambda x: setattr(x, "forward", torch.sin), "forward", "del layer.forward"),
}  # fmt: skip


def double_it(layer, x, y=None):
    return None if y is None else 2 * y


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", HOOKED)
def test_hooks_and_patches_are_refused_with_the_way_out(case):
    attach, name, remedy = HOOKED[case]
    module = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(4, 3))).eval()
    attach(module[1][0])
    with pytest.raises(lb.UnsupportedError, match=r"layer '1.0' \(Linear\)") as error:
        lb.from_torch(module, VECTOR)
    assert name in str(error.value) and remedy in str(error.value)


@pytest.mark.parametrize("case", ["hook", "pre-hook", "patch"])
def test_hooks_of_containers_are_refused(case):
    inner = nn.Sequential(nn.Linear(4, 3))
    module = nn.Sequential(nn.Identity(), inner)
    HOOKED[case][0](inner)
    with pytest.raises(lb.UnsupportedError, match=r"layer '1' \(Sequential\)"):
        lb.from_torch(module, VECTOR)
    with pytest.raises(lb.UnsupportedError, match="the Sequential itself"):
        lb.from_torch(inner, VECTOR)


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ],
)
def test_hooks_of_all_modules_are_refused(register):
    handle = register(double_it)
    try:
        with pytest.raises(lb.UnsupportedError, match="of all modules, double_it; remove"):
            lb.from_torch(nn.Linear(4, 3), VECTOR)
    finally:
        handle.remove()
    assert lb.from_torch(nn.Linear(4, 3), VECTOR).depth == 0


def test_backward_hooks_do_not_matter():
    module = nn.Sequential(nn.Linear(4, 3))
    module[0].register_full_backward_hook(lambda *_: None)
    assert lb.from_torch(module, VECTOR).depth == 0


@pytest.mark.parametrize(
    "module, remedy",
    [
        (None, "of type NoneType; build the network"),
        ("model.pt", "torch.load"),
        (nn.Linear(4, 3).state_dict(), "load_state_dict"),
        (nn.ReLU, "not the class ReLU"),
    ],
)
def test_what_is_no_module_is_refused_in_a_sentence(module, remedy):
    with pytest.raises(lb.LipboundsError, match="must be a torch.nn.Module") as error:
        lb.from_torch(module, VECTOR)
    assert remedy in str(error.value)


@pytest.mark.parametrize("shape", [(2**31, 2), (10**400,), (0,), (-1,), 4, "a", (True,), (1.5,)])
def test_shapes_that_no_input_has(shape):
    with pytest.raises(lb.LipboundsError, match="^input_shape .* must be a sequence of positive"):
        lb.from_torch(nn.ReLU(), shape)


PARAMETRISED = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
}


@pytest.mark.parametrize("name", PARAMETRISED)
@pytest.mark.parametrize("layer, shape", [(nn.Linear(4, 3), VECTOR), (nn.Conv2d(2, 3, 2), SHAPE)])
def test_parametrised_layers_are_read_as_they_compute(name, layer, shape):
    layer = PARAMETRISED[name](copy.deepcopy(layer).double())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3)
    module = nn.Sequential(layer, nn.ReLU()).eval()
    before = copy.deepcopy(module.state_dict())
    network = lb.from_torch(module, shape)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    x = points(shape)
    with torch.no_grad():
        torch.testing.assert_close(network(x), module(x).flatten(1), rtol=0, atol=1e-12)


def test_a_weight_that_reading_changes_is_refused_and_left_alone():
    layer = nn.Linear(4, 3)
    layer.weight.data = torch.arange(12.0).reshape(3, 4)
    layer = nn.utils.parametrizations.spectral_norm(layer)
    # By construction the power iteration may have converged, to the last digit.
    layer.parametrizations.weight[0]._u.copy_(torch.tensor([1.0, 0, 0]))
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(lb.UnsupportedError, match=r"module.eval\(\).*remove_parametrizations"):
        lb.from_torch(nn.Sequential(layer), VECTOR)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.training


class Broken(nn.Module):
    def forward(self, x):
        if torch.is_grad_enabled():
            return x
        raise RuntimeError("no weight today")


def test_a_parametrisation_that_fails_is_refused():
    layer = nn.Linear(4, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Broken())
    with pytest.raises(lb.UnsupportedError, match="no weight today.*remove_parametrizations"):
        lb.from_torch(nn.Sequential(layer), VECTOR)


def with_weight(change):
    layer = nn.Linear(4, 3)
    layer.weight = nn.Parameter(change(layer.weight.detach()), requires_grad=False)
    return layer


UNREADABLE = {
    "complex": (lambda: nn.Linear(4, 3, dtype=torch.cfloat), "weight is complex"),
    "sparse": (lambda: with_weight(lambda w: w.to_sparse()), "weight is sparse"),
    "compressed": (lambda: with_weight(lambda w: w.to_sparse_csr()), "to_dense()"),
    "float8": (lambda: with_weight(lambda w: w.to(torch.float8_e4m3fn)), "module.float()"),
    "meta": (lambda: nn.Linear(4, 3, device="meta"), "to_empty"),
    "quantised": (
        lambda: with_weight(lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)),
        "weight is quantised",
    ),
    "lazy": (lambda: nn.LazyLinear(3), "run the module once"),
    "uninitialised": (lambda: uninitialised(nn.Linear(4, 3)), "weight is not initialised"),
}


def uninitialised(layer):
    layer.weight = nn.UninitializedParameter()
    return layer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", UNREADABLE)
def test_weights_that_are_no_plain_numbers_are_refused(case):
    make, message = UNREADABLE[case]
    module = nn.Sequential(nn.ReLU(), make()).eval()
    with pytest.raises(lb.UnsupportedError, match=r"layer '1' \(") as error:
        lb.from_torch(module, VECTOR)
    assert message in str(error.value)


def test_a_complex_buffer_is_refused():
    layer = nn.Linear(4, 3)
    layer.register_buffer("phase", torch.ones(3, dtype=torch.cfloat))
    with pytest.raises(lb.UnsupportedError, match="phase is complex"):
        lb.from_torch(layer, VECTOR)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_of_inference_mode_are_converted(inside, dtype):
    with torch.inference_mode():
        module = nn.Sequential(nn.Linear(4, 3, dtype=dtype), nn.BatchNorm1d(3), nn.ReLU())
        module = module.to(dtype).append(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
        module = module.to(dtype).eval()
    with torch.inference_mode(inside):
        network = lb.from_torch(module, VECTOR)
    x = points(VECTOR).requires_grad_()
    network(x).sum().backward()
    assert x.grad is not None


def test_what_no_hook_shows_is_noticed_by_comparing(monkeypatch):
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(60, 2)).eval()
    module[0]._conv_forward = lambda x, *_: torch.ones(len(x), 3, 5, 4)
    with pytest.raises(lb.UnsupportedError, match=r"differs by up to .* undo what changes"):
        lb.from_torch(module, SHAPE)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x.clamp(min=0, max=5))
    with pytest.raises(lb.UnsupportedError, match=r"differs by up to \d"):
        lb.from_torch(nn.Sequential(nn.Identity(), nn.ReLU()).half(), VECTOR)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gain", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Softplus, nn.GELU, nn.ELU])
def test_rounding_of_the_module_is_not_taken_for_a_difference(activation, gain, dtype, seed):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3), batch_norm(nn.BatchNorm2d(4)), nn.Flatten(), nn.Linear(48, 30)]
    module = nn.Sequential(*layers, *(m for _ in range(6) for m in (activation(), linear(gain))))
    lb.from_torch(module.to(dtype).eval(), SHAPE)


def linear(gain):
    layer = nn.Linear(30, 30)
    nn.init.normal_(layer.weight, std=gain / 30**0.5)
    return layer


def test_the_comparison_leaves_no_trace():
    module = nn.Sequential(nn.Dropout(0.0), nn.ReLU(inplace=True), nn.BatchNorm1d(4))
    module[2].eval()
    state, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    lb.from_torch(module, VECTOR)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [layer.training for layer in module] == [True, True, False]


def test_outputs_that_overflow_are_not_compared():
    module = nn.Sequential(*(linear(300.0) for _ in range(4))).half()
    assert lb.from_torch(module, (30,)).depth == 0


def test_a_module_that_fails_by_itself_is_said_to():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).double())
    with pytest.raises(lb.LipboundsError, match=r"module itself fails on torch.float32 inputs"):
        lb.from_torch(module, VECTOR)


REPLACED = {
    "none": (nn.Linear(4, 3), "weight", None),
    "rows": (nn.Linear(4, 3), "weight", torch.ones(2, 4)),
    "columns": (nn.Linear(4, 3), "weight", torch.ones(3, 5)),
    "vector": (nn.Linear(4, 3), "weight", torch.ones(3)),
    "bias": (nn.Linear(4, 3), "bias", torch.ones(2)),
    "kernel": (nn.Conv1d(4, 3, 1), "weight", torch.ones(3, 4)),
    "scale": (nn.BatchNorm1d(4).eval(), "weight", torch.ones(3)),
    "statistics": (nn.BatchNorm1d(4).eval(), "running_var", torch.ones(3)),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_weight_of_another_shape_is_refused_in_a_sentence(case):
    layer, name, value = REPLACED[case]
    if value is not None and name != "running_var":
        value = nn.Parameter(value)
    setattr(layer, name, value)
    shape = (4, 2) if isinstance(layer, nn.Conv1d) else VECTOR
    with pytest.raises(lb.LipboundsError, match="'0' .*; make the layer anew"):
        lb.from_torch(nn.Sequential(layer), shape)


def test_maps_that_cancel_one_another_are_no_patch():
    """Of 3 x - 3 x as two layers only rounding is left, of the size of the terms."""
    ahead, behind = nn.Conv1d(1, 2, 1, bias=False), nn.Conv1d(2, 1, 1, bias=False)
    ahead.weight.data, behind.weight.data = torch.ones(2, 1, 1), torch.tensor([[[3.0], [-3]]])
    network = lb.from_torch(nn.Sequential(ahead, behind), (1, 4))
    assert lb.bound(network, "K_star", 1).upper < 1e-12

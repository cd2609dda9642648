"""Modules that torch.export traces: the Network equals the module, its bounds hold, and what is not
covered is refused by its place."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_from_torch import LAYERS
from torch import nn

import lipbounds as lb

IMAGE = (2, 8, 8)
torch.manual_seed(0)


class Forward(nn.Module):
    """A forward of its own over given layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs=2, outputs=2, size=3):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


def norm(channels=2):
    layer = nn.BatchNorm2d(channels)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    return layer


class Block(nn.Module):
    """A residual block as torchvision writes it, in place."""

    def __init__(self, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 3, stride, 1, bias=False)
        self.bn1, self.relu = norm(), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(), norm()
        self.downsample = nn.Sequential(nn.Conv2d(2, 2, 1, stride), norm())

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.three, self.last = conv(size=1), conv(), conv(2, 1, 1)

    def forward(self, x):
        pooled = self.last(F.max_pool2d(x, 3, stride=1, padding=1))
        return torch.cat([F.relu(self.one(x)), torch.tanh(self.three(x)), F.relu(pooled)], 1)


def shared(module, x):
    return module.a(F.relu(module.a(x)))


def sliced(_, x):
    left, right = x.chunk(2, 1)
    top = torch.stack([left[:, 0, ::2], right[:, 0, 1::2]], 1)
    return F.pad(top, (1, 0, 2, 0)).transpose(1, 2).flatten(1)


def arithmetic(_, x):
    mean = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    return 2 - (x - mean) / torch.tensor([[[[0.3]], [[2.0]]]]) * 0.5 + (-x)


def extremes(module, x):
    y = module.a(x)
    return torch.maximum(x, y) + torch.minimum(x, 2 * y) + x.abs().clamp(max=0.7).clamp(min=-0.1)


def reductions(_, x):
    return torch.cat([x.mean((2, 3)), x.sum(1).flatten(1), x.mean(-1, keepdim=True).flatten(1)], 1)


def products(module, x):
    y = module.a(x.flatten(2))  # over 64 features, for each channel
    return torch.einsum("bcf,fg->bcg", y, module.w) + torch.matmul(y, module.w)


def inplace(_, x):
    y = x * 2
    z = y.view(-1, 128)
    z[:, :5].zero_()
    return y.relu_() + y


def activations(_, x):
    kinds = (F.hardsigmoid, F.logsigmoid, F.silu, F.mish, F.selu, F.celu, F.elu,
             F.softsign, F.relu6, F.hardtanh, F.hardswish, F.gelu, F.softplus, F.rrelu,
             F.tanhshrink, F.leaky_relu)  # fmt: skip
    return torch.cat([kind(x) for kind in kinds], 1)


def padded(_, x):
    modes = ("reflect", "replicate", "circular")
    y = torch.cat([F.pad(x, (1, 2, 0, 1), mode=mode) for mode in modes], 1)
    return F.pixel_shuffle(F.interpolate(y[:, :4], scale_factor=2), 2)


def resized(_, x):
    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool1d(up.flatten(2), 7)


def largest(_, x):
    """Over channels, over rows, over both, and with places that are not used."""
    rows = x.amin(2, keepdim=True) + x.max(3).values.unsqueeze(-1)
    return torch.cat([rows.flatten(1), x.amax((1, 3)), x.min(1)[0].flatten(1)], 1)


def parametrised(make, *layer):
    return nn.Sequential(nn.Flatten(), make(nn.Linear(*layer)), nn.ReLU(), nn.Linear(4, 2))


class Named(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


def hooked():
    module = Forward(lambda m, x: F.relu(m.a(x)), a=conv())
    module.a.register_forward_hook(lambda layer, args, output: 3 * output)
    return module


w = nn.Parameter(torch.randn(64, 3))
spectral = nn.utils.parametrizations.spectral_norm
VOLUME = (2, 5, 4, 6)
MODULES = {
    "volumes": (
        nn.Sequential(
            nn.Conv3d(2, 3, 2, padding=1),
            nn.BatchNorm3d(3),
            nn.ReLU(),
            nn.MaxPool3d((2, 3, 2), (2, 1, 2), (1, 0, 1), (1, 2, 1), ceil_mode=True),
            nn.AvgPool3d((2, 1, 3), 1, (1, 0, 1), count_include_pad=False),
        ),
        VOLUME,
    ),
    "volumes counting": (nn.AvgPool3d(2, padding=1, ceil_mode=True), VOLUME),
    "residual": (nn.Sequential(Block(), Block(2)), IMAGE),
    "inception": (nn.Sequential(Inception(), conv(5, 2)), IMAGE),
    "shared": (Forward(shared, a=conv()), IMAGE),
    "slices": (Forward(sliced), IMAGE),
    "arithmetic": (Forward(arithmetic), IMAGE),
    "extremes": (Forward(extremes, a=conv()), IMAGE),
    "reductions": (Forward(reductions), IMAGE),
    "largest": (Forward(largest), IMAGE),
    "products": (Forward(products, a=nn.Linear(64, 64), w=w), IMAGE),
    "in place": (Forward(inplace), IMAGE),
    "activations": (Forward(activations), IMAGE),
    "padding": (Forward(padded), IMAGE),
    "resized": (Forward(resized), IMAGE),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, 2, 1, groups=1), IMAGE),
    "three dimensions": (nn.Conv3d(2, 2, 2), (2, 3, 4, 3)),
    "signal": (nn.Sequential(nn.ConvTranspose1d(2, 3, 3), nn.ReLU()), (2, 7)),
    "reflecting": (nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect"), IMAGE),
    "spectral norm": (parametrised(spectral, 128, 4), IMAGE),
    "weight norm": (Forward(shared, a=nn.utils.parametrizations.weight_norm(conv())), IMAGE),
    "orthogonal": (parametrised(nn.utils.parametrizations.orthogonal, 128, 4), IMAGE),
    "subclass": (Named(nn.ReLU(), conv()), IMAGE),
    "hook": (hooked(), IMAGE),
    "parallel": (nn.DataParallel(nn.Sequential(conv(), nn.ReLU())), IMAGE),
    "compiled": (torch.compile(nn.Sequential(conv(), nn.ReLU())), IMAGE),
}


ADAPTIVE = {  # which torch exports to no ONNX file
    "volumes adaptive": (nn.AdaptiveAvgPool3d((2, None, 4)), VOLUME),
    "volumes largest": (nn.AdaptiveMaxPool3d(3), VOLUME),
    "signal adaptive": (nn.AdaptiveAvgPool1d(3), (2, 7)),
    "signal largest": (nn.AdaptiveMaxPool1d(3), (2, 7)),
    "one number for all axes": (
        Forward(lambda m, x: F.avg_pool3d(F.max_pool3d(x, [2], [1]), [2])),
        VOLUME,
    ),
    "one number for both axes": (Forward(lambda m, x: F.max_pool2d(x, [2])), IMAGE),
    "volumes divided": (nn.AvgPool3d((3, 2, 2), divisor_override=5), VOLUME),
}


@pytest.mark.parametrize("name", MODULES | ADAPTIVE)
def test_the_network_is_the_module(name):
    module, shape = (MODULES | ADAPTIVE)[name]
    module = module.eval().double()
    network = lb.from_torch(module, shape)
    plain = getattr(module, "_orig_mod", module)  # not compiled in a test
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, *shape, generator=generator, dtype=torch.float64)
    for scale in (1e-3, 1.0, 1e3):
        with torch.no_grad():
            wanted = plain(scale * x).flatten(1)
        size = float(wanted.abs().max())
        torch.testing.assert_close(network(scale * x), wanted, rtol=1e-9, atol=1e-9 * size)
    for norm in (1, 2, math.inf):
        with torch.no_grad():
            moved = torch.linalg.vector_norm((plain(x) - plain(y)).flatten(1), norm, dim=1)
        secant = float((moved / torch.linalg.vector_norm((x - y).flatten(1), norm, dim=1)).max())
        for bound in ("K_star", "K_3", "K_4", "path_norm"):
            assert lb.bound(network, bound, norm).upper >= secant * (1 - 1e-12), (bound, norm)


@pytest.mark.parametrize(
    "layer, shape", [case for cases in LAYERS.values() for case in cases], ids=str
)
def test_every_layer_is_the_same_by_both_ways(layer, shape):
    """Converted by itself, and traced in a forward of its own."""
    direct = lb.from_torch(nn.Sequential(layer).eval(), shape)
    traced = lb.from_torch(Forward(lambda m, x: m.a(x), a=layer).eval(), shape)
    x = torch.randn(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(direct(x), traced(x))
    for norm in (1, 2, math.inf):
        one, other = (lb.bound(n, "K_star", norm).upper for n in (direct, traced))
        assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("at", [0.0, -0.5, 2.0])
def test_a_threshold_that_does_not_jump_is_a_clamp(at):
    layers = nn.Linear(3, 4), nn.Threshold(at, at), nn.Linear(4, 2)
    network = lb.from_torch(nn.Sequential(*layers).eval(), (3,))
    assert network.stages[0].parts[0][0].kinks == (at,)
    jumping = nn.Sequential(nn.Linear(3, 4), nn.Threshold(at, at + 1)).double()
    with pytest.raises(lb.LipboundsError, match=f"jumps from {at + 1:g} to {at:g}"):
        lb.from_torch(jumping, (3,))


def test_softshrink_with_and_without_its_width():
    """torch takes it apart into a comparison, which no bound covers."""
    for function, width in ((F.softshrink, 0.5), (lambda x: F.softshrink(x, 0.2), 0.2)):
        module = Forward(lambda m, x, f=function: f(m.a(x)), a=nn.Linear(3, 2)).eval()
        direct = nn.Sequential(module.a, nn.Softshrink(width)).eval()
        networks = lb.from_torch(module, (3,)), lb.from_torch(direct, (3,))
        x = torch.randn(9, 3, dtype=torch.float64)
        torch.testing.assert_close(networks[0](x), networks[1](x))
        assert networks[0].stages[0].parts[0][0].name == "softshrink"


def test_the_module_is_left_alone():
    module = nn.Sequential(Block()).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    lb.from_torch(module, IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def attention(_, x):
    return torch.softmax(x.flatten(2) @ x.flatten(2).mT, -1)


def branching(_, x):
    return x if x.sum() > 0 else -x


REFUSED = {
    "product": (
        Forward(lambda m, x: x * F.relu(x)),
        "module's forward: mul: multiplies two values",
    ),
    "quotient": (Forward(lambda m, x: x / (2 + x.abs())), "div: divides by a value"),
    "attention": (Forward(attention), "multiplies two values"),
    "layer norm": (
        Forward(lambda m, x: m.norm(x), norm=nn.LayerNorm(8)),
        r"layer 'norm' \(LayerNorm\): layer_norm: normalises each input",
    ),
    "group norm": (nn.Sequential(nn.GroupNorm(1, 2)), r"layer '0' \(GroupNorm\).*normalises"),
    "branch": (Forward(branching), "torch.export cannot trace.*must not branch"),
    "two outputs": (Forward(lambda m, x: (x, x + 1)), "returns 2 outputs"),
    "constant": (Forward(lambda m, x: torch.ones(2, 3)), "depends on the input"),
    "batch": (Forward(lambda m, x: x - x.mean(0, keepdim=True)), "mixes the inputs of a batch"),
    "flip": (Forward(lambda m, x: x.flip(0)), "mixes the inputs of a batch"),
    "step": (Forward(lambda m, x: (x > 0).float() * x), "gt: compares"),
    "place": (Forward(lambda m, x: x.max(1)[1] + x), "places of sorted entries"),
    "largest of the batch": (Forward(lambda m, x: x.amax(0)), "mixes the inputs of a batch"),
    "rounding": (Forward(lambda m, x: x.round()), "round: jumps"),
    "integers": (Forward(lambda m, x: x.long().float()), "rounds to torch.int64"),
    "training": (
        Forward(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(2)).train(),
        r"layer 'norm' \(BatchNorm2d\).*training mode; call module.eval\(\)",
    ),
    "dropout": (Forward(lambda m, x: F.dropout(x, 0.5, True)), "training mode"),
    "unknown": (Forward(lambda m, x: torch.cumsum(x, 1)), "cumsum: is not supported"),
    "not finite": (Forward(shared, a=nn.Conv2d(2, 2, 1)), "weight has NaN"),
    "scripted": (torch.jit.script(nn.Sequential(nn.ReLU())), "pass the module it was made from"),
}
REFUSED["not finite"][0].a.weight.data.fill_(math.nan)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_by_its_place(name):
    module, reason = REFUSED[name]
    with pytest.raises(lb.LipboundsError, match=reason):
        lb.from_torch(module if module.training and name == "training" else module.eval(), IMAGE)


def test_a_wrong_shape_is_told_in_a_sentence(capfd):
    module = Forward(lambda m, x: m.a(x), a=nn.Linear(5, 2))
    with pytest.raises(lb.LipboundsError, match="cannot trace the module on inputs of shape"):
        lb.from_torch(module, (4,))
    assert capfd.readouterr() == ("", "")


def test_carried_values_cost_no_factor():
    """K_* of x + F(x) is 1 + K_*(F), by the graph."""
    first, second = nn.Linear(5, 5, bias=False).double(), nn.Linear(5, 5, bias=False).double()
    module = Forward(lambda m, x: x + m.b(F.relu(m.a(x))), a=first, b=second)
    network = lb.from_torch(module, (5,))
    for order in (1, 2, math.inf):
        inner = math.prod(
            float(torch.linalg.matrix_norm(layer.weight, order)) for layer in (first, second)
        )
        assert lb.bound(network, "K_star", order).upper == pytest.approx(1 + inner, rel=1e-8)


class MaxMin(nn.Module):
    """As papers on orthogonal networks write it."""

    def __init__(self, larger_first=True):
        super().__init__()
        self.larger_first = larger_first

    def forward(self, x):
        a, b = x.chunk(2, 1)
        if self.larger_first:
            return torch.cat([torch.max(a, b), torch.min(b, a)], 1)
        smaller = torch.minimum(a, b)
        return torch.cat([smaller, torch.maximum(a, b)], 1)


class GroupSort(nn.Module):
    def __init__(self, group, descending=False):
        super().__init__()
        self.group, self.descending = group, descending

    def forward(self, x):
        groups = x.reshape(len(x), -1, self.group)
        return groups.sort(-1, self.descending)[0].flatten(1)


class Neighbours(nn.Module):
    """MaxMin of neighbouring entries, each looked at by itself."""

    def forward(self, x):
        larger, smaller = x.view(-1, 3, 2).max(2).values, x.view(-1, 3, 2).amin(-1, keepdim=True)
        return torch.cat([larger.unsqueeze(2), smaller], 2).flatten(1)


SORTS = {
    "max, min": MaxMin(),
    "min, max": MaxMin(larger_first=False),
    "pairs": GroupSort(2),
    "descending": GroupSort(2, descending=True),
    "triples": GroupSort(3),
}


@pytest.mark.parametrize("sort", [*SORTS.values(), Neighbours()])
def test_sorted_groups_keep_their_constant_of_one(sort):
    """Proposition 23: the relaxation knows that the sum stays."""
    network = lb.from_torch(sort, (6,))
    x = torch.randn(50, 6, dtype=torch.float64)
    torch.testing.assert_close(network(x), sort(x))
    for norm in (1, 2, math.inf):
        optimum = lb.relaxation_optimum(network, norm)
        assert 1 - 1e-9 <= optimum.lower <= optimum.upper <= 1 + 1e-9
    assert lb.bound(network, "K_5", 2).upper <= 1 + 1e-5
    assert lb.bound(network, "K_star", 2).upper <= 1 + 1e-9


@pytest.mark.parametrize("sort", [*SORTS.values(), GroupSort(6), Neighbours()])
def test_orthogonal_layers_with_sorts_have_the_constant_one(sort):
    layers = [nn.Linear(6, 6, dtype=torch.float64) for _ in range(3)]
    layers = [nn.utils.parametrizations.orthogonal(layer) for layer in layers]
    module = nn.Sequential(layers[0], sort, layers[1], sort, layers[2]).eval()
    network = lb.from_torch(module, (6,))
    assert lb.bound(network, "K_star", 2).upper <= 1 + 1e-6


@pytest.mark.parametrize("gate", [lambda y: y * torch.sigmoid(y), lambda y: y.sigmoid() * y])
def test_silu_written_out(gate):
    module = Forward(lambda m, x: gate(m.a(x)), a=nn.Linear(4, 3)).double()
    network = lb.from_torch(module, (4,))
    assert [function.name for function, _ in network.stages[0].parts] == ["silu"]


def test_one_number_for_each_input():
    functions = lambda y: y.squeeze(-1), lambda y: y[:, 0], lambda y: y.sum(1)
    for function in functions:
        module = Forward(lambda m, x, f=function: f(m.a(x)), a=nn.Linear(4, 1)).double()
        network = lb.from_torch(module, (4,))
        x = torch.randn(5, 4, dtype=torch.float64)
        torch.testing.assert_close(network(x)[:, 0], module(x))
    smallest = lb.from_torch(Forward(lambda _, x: x.amin(1)), (4,))
    assert smallest.output_size == 1
    assert lb.bound(smallest, "K_star", math.inf).upper == pytest.approx(1)


class Counting(nn.Module):
    """Not the same function when it is called again."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.calls * self.layer(x)


def test_a_state_is_no_fixed_network():
    with pytest.raises(lb.UnsupportedError, match="another output when it is called again"):
        lb.from_torch(Counting(), (4,))


def test_sorts_that_do_not_say_more_than_an_order_are_refused():
    places = Forward(lambda _, x: x * x.sort(1)[1])
    with pytest.raises(lb.UnsupportedError, match="places of sorted entries"):
        lb.from_torch(places, (4,))
    with pytest.raises(lb.UnsupportedError, match="mixes the inputs of a batch"):
        lb.from_torch(Forward(lambda _, x: x.sort(0)[0]), (4,))
    with pytest.raises(lb.UnsupportedError, match="sorts groups of 20"):
        lb.from_torch(GroupSort(20), (20,))


def test_a_maximum_alone_stays_one_stage():
    network = lb.from_torch(Forward(lambda _, x: torch.max(*x.chunk(2, 1))), (4,))
    assert len(network.stages) == 1 and network.stages[0].kind == "maximum of two entries"

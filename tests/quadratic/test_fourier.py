"""K_5 on a torus: against dense circulant matrices, the unrolled form, and attacks."""

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from convolutions import (
    FLAT,
    LEAKY,
    MODULES,
    RELU,
    RESIDUAL,
    Residual,
    circulant,
    conv,
    network_of,
    of_layers,
)
from torch import nn

import lipbounds as lb
from lipbounds.clock import OutOfTime, left, limited
from lipbounds.errors import LipboundsError, UnsupportedError
from lipbounds.linear.windows import recognised, sliding
from lipbounds.methods import costs, ellipsoidal, plan
from lipbounds.methods.combettes_pesquet import on_a_torus
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.rewrite import explicit, maxima_first, merged
from lipbounds.quadratic.fourier import costs as fourier_costs
from lipbounds.quadratic.fourier.descent import descend
from lipbounds.quadratic.fourier.elimination import TorusElimination
from lipbounds.quadratic.fourier.embedding import Filter, Slopes, embeddings
from lipbounds.quadratic.fourier.proof import proven
from lipbounds.quadratic.fourier.rounds import Rounds
from lipbounds.quadratic.fourier.spread import spread_out
from lipbounds.quadratic.order import Pieces
from lipbounds.quadratic.structured.proof import certified_pieces
from lipbounds.results import Status

LOSS = 1e-6  # of a proof, relative


def embedded(network):
    """With as many layers on the torus as fit."""
    return embeddings(network)[-1]


def drawn_logs(elimination, seed=0):
    """Feasible multipliers, not the same for all channels."""
    logs = elimination.start() + 0.7
    generator = torch.Generator().manual_seed(seed)
    return logs + 0.3 * torch.rand(len(logs), generator=generator, dtype=torch.float64)


# --- dense circulant matrices


def matrix_of(step, channels, size):
    """Of a filter on a torus of (height, width)."""
    shape = (channels, *size)
    return circulant(step.kernel.numpy(), shape, step.stride, step.dilation, step.groups)


def picks(step, channels, size):
    """P and Q of a maximum on a torus."""
    coarse = [n // s for n, s in zip(size, step.stride, strict=True)]
    ends = []
    for offset in (0, step.offset):
        matrix = np.zeros((channels, *coarse, channels, *size))
        for c, i, j in np.ndindex(channels, *coarse):
            at = [i * step.stride[0], j * step.stride[1]]
            at[step.axis] += offset
            matrix[c, i, j, c, at[0] % size[0], at[1] % size[1]] = 1.0
        ends.append(matrix.reshape(channels * math.prod(coarse), -1))
    return ends


def dense_stages(torus):
    """(A, B, own, copies) of each stage, A = C W, B = R W, own: the rows that are not carried past
    it, and the last W, on the whole torus."""
    found, channels, size = [], torus.channels, torus.sizes[0]
    through = np.eye(channels * math.prod(size))
    for step, size in zip(torus.steps, torus.sizes, strict=False):
        if isinstance(step, Filter):
            through = matrix_of(step, channels, size) @ through
            channels = step.kernel.shape[0]
            continue
        if isinstance(step, Slopes):
            positions = len(through) // channels
            ends = [np.diag(np.repeat(e.numpy(), positions)) for e in (step.alpha, step.beta)]
        else:
            positions = channels * math.prod(size) // channels // math.prod(step.stride)
            ends = picks(step, channels, size)
        found.append(dense_stage(*ends, through, positions))
        through = np.eye(channels * positions)
    if torus.head is None:
        return found, through
    head = np.zeros((len(torus.head.entries), torus.image[0], *torus.sizes[-1]))
    _, height, width = torus.image
    head[:, :, :height, :width] = torus.head.entries.numpy().reshape(-1, *torus.image)
    through = head.reshape(len(head), -1) @ through
    for slopes, matrix in torus.tail:
        ends = [np.diag(end.numpy()) for end in (slopes.alpha, slopes.beta)]
        found.append(dense_stage(*ends, through, 1))
        through = matrix.entries.numpy()
    return found, through


def dense_stage(low, high, through, positions):
    return (low + high) / 2 @ through, (high - low) / 2 @ through, (low != high).any(1), positions


def dense_value(torus, logs):
    """sqrt(nu) and log det of Q without the outputs, from Q as one matrix in the inputs and all
    values that have a multiplier, mu = 1."""
    stages, last = dense_stages(torus)
    parts = np.split(np.exp(-logs.numpy()), np.cumsum([n for n, _ in torus.stages])[:-1])
    inputs = torus.channels * math.prod(torus.sizes[0])
    every = np.eye(inputs + sum(own.sum() for _, _, own, _ in stages))
    values, ahead = every[:inputs], every[inputs:]
    q = values.T @ values
    for (a, b, own, positions), part in zip(stages, parts, strict=True):
        weight, (fresh, ahead) = np.repeat(part, positions)[:, None], np.split(ahead, [own.sum()])
        center, radius = a @ values, b[own] @ values
        apart = fresh - center[own]
        q += apart.T @ (weight * apart) - radius.T @ (weight * radius)
        values = center
        values[own] = fresh
    side = last @ values
    sign, log_determinant = np.linalg.slogdet(q)
    assert sign > 0 and np.linalg.eigvalsh(q)[0] > 0
    return math.sqrt(np.linalg.eigvalsh(side @ np.linalg.solve(q, side.T))[-1]), log_determinant


SMALL = {
    "filters": [conv(2, 3), RELU, conv(3, 2), LEAKY, conv(2, 2)],
    "padded": [conv(2, 2, padding=1), RELU, conv(2, 2, padding=1, stride=2), LEAKY, FLAT]
    + [nn.Linear(50, 3), RELU, nn.Linear(3, 2)],
    "pooled": [conv(2, 2), RELU, nn.MaxPool2d(2), conv(2, 3, 2), nn.Tanh(), FLAT]
    + [nn.Linear(12, 2)],
    "wide windows": [conv(2, 2, 2), RELU, nn.MaxPool2d(3, 2, 1), conv(2, 2, 1), LEAKY, FLAT]
    + [nn.Linear(32, 2)],
    "dilated, grouped": [conv(2, 4, dilation=(2, 1), groups=2), nn.PReLU(4, 0.3)]
    + [conv(4, 2, (1, 3), stride=(1, 2)), RELU, FLAT, nn.Linear(30, 2)],
    "averaged": [conv(2, 2), RELU, nn.AvgPool2d(2), conv(2, 2, 1), RELU, FLAT, nn.Linear(18, 3)],
}


def named(name):
    return of_layers(SMALL[name]) if name in SMALL else network_of(name)


@pytest.mark.parametrize("name", [*SMALL, *RESIDUAL])
def test_elimination_is_that_of_the_dense_form(name):
    torus = embedded(named(name))
    elimination = TorusElimination(torus)
    logs = drawn_logs(elimination)
    point = elimination.at(logs)
    value, log_determinant = dense_value(torus, logs)
    assert float(point.value) == pytest.approx(value, rel=1e-9)
    assert float(point.log_determinant) == pytest.approx(log_determinant, rel=1e-8)
    assert float(proven(elimination, logs)) == pytest.approx(value, rel=LOSS)


@pytest.mark.parametrize("name", ["filters", "pooled", "residual", "behind"])
def test_counts_the_rows_of_the_form(name):
    torus = embedded(named(name))
    stages, last = dense_stages(torus)
    assert TorusElimination(torus).count == sum(own.sum() for *_, own, _ in stages) + len(last)
    assert torus.carries == (name in RESIDUAL)


# --- the network itself


@pytest.mark.parametrize("name", [*MODULES, *SMALL, *RESIDUAL])
def test_between_the_truth_and_where_it_begins(name):
    """Above what secants prove, wherever the torus is left."""
    network = named(name)
    truth = lb.lower_bound(network, 2, seconds=2).lower
    for torus in embeddings(network):
        elimination = TorusElimination(torus)
        logs = elimination.start()
        last, first = (
            float(proven(elimination, x)) for x in (descend(elimination, logs, 40), logs)
        )
        assert 0 < truth <= last <= first * (1 + LOSS)


@pytest.mark.parametrize("name", [*MODULES, *SMALL])
def test_multipliers_are_feasible_pixel_by_pixel(name):
    network = named(name)
    elimination = TorusElimination(embedded(network))
    logs = descend(elimination, elimination.start(), 10)
    core = merged(maxima_first(explicit(network)))
    spread = spread_out(elimination, logs, core)
    if name in ("depthwise", "wide windows"):  # trees of other maxima
        assert spread is None
        return
    pieces = certified_pieces(core, 2, spread)
    assert float(pieces.max()) <= float(proven(elimination, logs)) * (1 + 1e-4)


def circular(layers, channels=2, side=5):
    """A network on a torus as dense matrices, and the same as a torus."""
    torus = embedded(lb.from_torch(nn.Sequential(*layers).double(), (channels, side, side)))
    torus = replace(torus, sizes=tuple((side, side) for _ in torus.sizes))
    filters = torus.steps[::2]
    weights = [matrix_of(s, s.kernel.shape[1], (side, side)) for s in filters]
    affines = [lb.Network.from_weights([w]).affines[0] for w in weights]
    stages = lb.Network.from_weights(weights, activation="relu").stages
    return Network(tuple(Affine(a.operator, a.offset) for a in affines), stages), torus


def test_invariance_costs_nothing_on_a_true_torus():
    """Without a head and strides one multiplier per channel is as good as one per pixel."""
    torch.manual_seed(3)
    dense, torus = circular([conv(2, 3, padding=1), RELU, conv(3, 2, padding=1)])
    elimination = TorusElimination(torus)
    logs = descend(elimination, elimination.start(), 300)
    best = lb.bound(dense, "K_5", 2, seconds=60)
    assert best.reason == ""
    assert best.upper * (1 - 1e-6) <= float(proven(elimination, logs)) <= best.upper * 1.005


@pytest.mark.parametrize("power", [-40, 40])
def test_badly_scaled_layers_and_dead_channels(power):
    layers = [conv(2, 3), RELU, conv(3, 3), RELU, conv(3, 2)]
    module = nn.Sequential(*layers).double()
    with torch.no_grad():
        module[0].weight[1] = 0.0
        module[2].weight *= 2.0**power
        module[4].weight *= 2.0**-power
    scaled = lb.from_torch(module, (2, 9, 9))
    elimination = TorusElimination(embedded(scaled))
    logs = descend(elimination, elimination.start(), 30)
    found = float(proven(elimination, logs))
    assert found == pytest.approx(float(elimination.at(logs).value), rel=LOSS)
    assert found >= lb.lower_bound(scaled, 2, seconds=1).lower
    assert scaled.output_size == 18


def test_symmetric_under_flips_and_renamed_channels():
    layers = [conv(2, 3), RELU, conv(3, 2), RELU, FLAT, nn.Linear(50, 2)]
    value = float(TorusElimination(embedded(of_layers(layers))).at(_zeros(layers)).value)
    with torch.no_grad():
        for index in (0, 2):
            layers[index].weight.copy_(layers[index].weight.flip(2))
        layers[5].weight.copy_(layers[5].weight.reshape(2, 2, 5, 5).flip(2).reshape(2, -1))
        layers[0].weight.copy_(layers[0].weight.roll(1, 0))
        layers[2].weight.copy_(layers[2].weight.roll(1, 1))
    again = float(TorusElimination(embedded(of_layers(layers))).at(_zeros(layers)).value)
    assert again == pytest.approx(value, rel=1e-10)


def _zeros(layers):
    elimination = TorusElimination(embedded(of_layers(layers)))
    return torch.full((sum(elimination.sizes),), 3.0, dtype=torch.float64)


def test_not_definite_is_no_bound():
    elimination = TorusElimination(embedded(network_of("chain")))
    logs = elimination.start() - 5.0
    assert elimination.at(logs) is None
    assert float(proven(elimination, logs)) == math.inf


def test_a_proof_stops_with_the_time():
    elimination = TorusElimination(embedded(network_of("padded")))
    with limited(-1.0), pytest.raises(OutOfTime):
        proven(elimination, elimination.start())


# --- what fits


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([FLAT, nn.Linear(162, 3), RELU, nn.Linear(3, 2)], "does not begin with a convolution"),
        ([conv(2, 3), FLAT, nn.Linear(147, 3)], "no convolution before a stage"),
        ([conv(2, 3), RELU, nn.MaxPool2d(2, dilation=2), conv(3, 3)], "do not slide"),
        ([conv(2, 3), nn.Tanh(), nn.AdaptiveMaxPool2d(4), conv(3, 3)], "do not slide"),
    ],
)
def test_what_does_not_fit_is_named(layers, said):
    with pytest.raises(UnsupportedError, match=said):
        embedded(of_layers(layers))


def test_padding_of_what_may_not_be_zero_ends_the_torus():
    """Averages over windows that leave out a row: the padded convolution behind is a matrix."""
    torus = embedded(of_layers([conv(2, 3), RELU, nn.AvgPool2d(2), conv(3, 2, padding=1), RELU]))
    assert len(torus.steps) == 3 and torus.head.entries.shape == (18, 27)


def test_an_ensemble_is_refused():
    network = lb.Network.from_weights([torch.ones(2, 3, 4)])
    with pytest.raises(UnsupportedError, match="not an ensemble"):
        embedded(network)


WINDOWS = [*itertools.product([(6, 7), (5, 5)], [2, 3, (3, 2)], [1, 2], [0, 1], [False, True])]


@pytest.mark.parametrize(("side", "kernel", "stride", "padding", "ceil"), WINDOWS)
def test_windows_are_recognised(side, kernel, stride, padding, ceil):
    shape = (2, *side)
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    windows, _, out = sliding(shape, kernel, (stride,) * 2, (padding,) * 2, (1, 1), ceil)
    found = recognised(windows, shape)
    assert found is not None and found.out_shape == out
    assert found.stride == (stride, stride) and found.padding == (padding, padding)


def test_adaptive_windows_are_not():
    module = nn.Sequential(conv(2, 3), RELU, nn.AdaptiveMaxPool2d(5)).double()
    pool = lb.from_torch(module, (2, 9, 9)).stages[-1]
    assert recognised(pool.windows, (3, 7, 7)) is None


# --- within K_5


def wide_network():
    torch.manual_seed(0)
    layers = [conv(1, 6, padding=1), RELU, conv(6, 6, padding=1), RELU, nn.MaxPool2d(2)]
    layers += [conv(6, 6, padding=1), RELU, FLAT, nn.Linear(600, 5)]
    return lb.from_torch(nn.Sequential(*layers).double(), (1, 20, 20))


def test_k_5_takes_the_torus_where_the_unrolled_form_is_large():
    network, heard = wide_network(), []
    found = lb.bound(network, "K_5", 2, seconds=4, progress=lambda _, bound: heard.append(bound))
    elimination = TorusElimination(embedded(network))
    logs = descend(elimination, elimination.start(), 25)
    assert found.upper <= float(proven(elimination, logs)) * 1.01
    assert found.upper < lb.bound(network, "K_1", 2).upper / 1.2
    assert heard == sorted(heard, reverse=True)
    assert found.winner in ("Fourier", "descent")


def test_a_torus_that_nothing_follows_leaves_time_for_cheap_bounds(monkeypatch):
    """However long it would go on after its first round."""
    network = wide_network()
    with torch.no_grad():
        k_1 = float(on_a_torus(network))  # what K_1 has to give at once
    speed = costs.combettes_pesquet(network, 2) / 10  # an estimate of 10 s
    monkeypatch.setattr(ellipsoidal, "measured_speed", lambda *_: speed)
    monkeypatch.setattr(plan, "LEAST_SPEED", 0.0)

    def endless(rounds, steps, gain, newton):
        assert left() < math.inf
        time.sleep(max(left(), 0) if math.isinf(steps) else 0)
        return rounds.logs

    monkeypatch.setattr(Rounds, "improved", endless)
    for name in ("_newton", "_descent"):
        omitted = plan.Phase(name, math.inf, "takes more than is left", Status.TIME)
        monkeypatch.setattr(plan, name, lambda *_, omitted=omitted: omitted)
    for name in ("step", "proof"):
        monkeypatch.setattr(plan.fourier, name, lambda _: 0.0)
    found = lb.bound(network, "K_5", 2, seconds=4)
    assert found.upper <= k_1 * (1 + 1e-9) and found.seconds > 3.9


def test_the_torus_of_an_easy_network_is_left_to_newton():
    assert lb.bound(network_of("chain"), "K_5", 2, seconds=30).winner == "Newton"


def test_steps_stop_the_torus_too():
    assert lb.bound(wide_network(), "K_5", 2, seconds=2, steps=0).winner != "Fourier"


def random_layers(generator):
    """Convolutions, activations and pools with options drawn, on (2, 11, 12)."""

    def one_of(*options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    channels, layers = 2, []
    for _ in range(one_of(1, 2, 3)):
        groups = one_of(1, 1, 2)
        padding, stride = one_of(0, 1, 2), one_of(1, 1, 2)
        dilation = one_of(1, 1, (1, 2))
        layers.append(
            nn.Conv2d(
                channels, 4, one_of(1, 2, 3, (3, 1)), stride, padding, dilation, groups, bias=True
            )
        )
        channels = 4
        acts = nn.ReLU(), nn.LeakyReLU(0.3), nn.Tanh(), nn.ELU(), nn.SiLU(), nn.PReLU(4)
        pools = nn.Identity(), nn.MaxPool2d(2, ceil_mode=one_of(True, False)), nn.AvgPool2d(2)
        pools += nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 2, 1)
        layers += [one_of(*acts), one_of(*pools)]
    if one_of(True, False):
        layers += [nn.Flatten(), nn.LazyLinear(3)]
    return layers


@pytest.mark.parametrize("block", range(2))
def test_random_networks_stay_below(block):
    """Secants of a search, against multipliers drawn, and what is not known to be a torus."""
    refused = 0
    for seed in range(8 * block, 8 * block + 8):
        torch.manual_seed(seed)
        module = nn.Sequential(*random_layers(torch.Generator().manual_seed(seed)))
        try:
            module(torch.zeros(1, 2, 11, 12))
            network = lb.from_torch(module.double().eval(), (2, 11, 12))
            elimination = TorusElimination(embedded(network))
        except (RuntimeError, LipboundsError):  # images too small for a window, or unfit
            refused += 1
            continue
        logs = descend(elimination, elimination.start(), 15)
        bound = float(proven(elimination, logs))
        lower = lb.lower_bound(network, 2, seconds=0.2, seed=seed)
        assert bound >= lower.lower > 0, seed
        assert bound == pytest.approx(float(elimination.at(logs).value), rel=LOSS)
    assert refused < 6


def test_k_5_takes_residual_blocks_onto_the_torus():
    """Where the form pixel by pixel is large."""
    torch.manual_seed(0)
    blocks = [Residual(conv(8, 8, padding=1), RELU, conv(8, 8, padding=1)) for _ in range(3)]
    staged = [layer for block in blocks for layer in (block, RELU)]
    module = nn.Sequential(conv(1, 8, padding=1), RELU, *staged, conv(8, 3)).double()
    network = lb.from_torch(module, (1, 24, 24))
    found = lb.bound(network, "K_5", 2, seconds=4)
    assert found.winner == "Fourier"
    assert lb.lower_bound(network, 2, seconds=1).lower < found.upper
    assert found.upper < 0.8 * lb.bound(network, "K_star", 2).upper


def test_the_torus_counts_what_the_conversion_rounds():
    """In terms of every kernel."""
    network = network_of("halved")
    assert network.roundings > 0
    plain = replace(network, roundings=0)
    assert embedded(network).terms == embedded(plain).terms + network.roundings


def test_without_a_limit_newton_is_not_for_carried_values(monkeypatch):
    torus = embedded(network_of("residual"))
    assert fourier_costs.newton(torus) == math.inf
    monkeypatch.setattr("lipbounds.quadratic.fourier.rounds.solved", None)
    rounds = Rounds(TorusElimination(torus), Pieces(torch.full((1, 1), math.inf).double()), 0.0)
    rounds.improved(50, 1e-3, math.inf)
    assert rounds.count > 0 and float(rounds.pieces.bound) < math.inf

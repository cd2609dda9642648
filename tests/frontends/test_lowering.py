"""Graphs of values against their networks: the same function, and bounds of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import quick
from torch.nn import functional as F

import lipbounds as lb
from lipbounds.frontends import pieces, values
from lipbounds.frontends.lowering import lowered
from lipbounds.linear.blocks import Blocks
from lipbounds.linear.operators import Dense
from lipbounds.networks import activations as act
from lipbounds.networks.stages import BetweenStage, PoolStage

CPU = torch.device("cpu")


def computed(value, x):
    """The value at inputs x (b, n), operation by operation."""
    known = {}

    def at(one):
        if one not in known:
            if isinstance(one, values.Input):
                known[one] = x
            elif isinstance(one, values.Staged):
                known[one] = one.stage.evaluate(at(one.of))
            else:
                known[one] = one.offset + sum(w.apply(at(v)) for v, w in one.terms)
        return known[one]

    return at(value)


def graph(seed, operations, images):
    """A random graph on vectors, or on images of two channels, with every kind of branch."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (2, 4, 4) if images else (4,)
    known = [values.Input(shape, "input", CPU)]
    for operation in operations:
        one, two = (
            known[int(torch.randint(len(known), (), generator=generator))] for _ in range(2)
        )
        if operation == "affine" and images:
            piece = pieces.convolution(normal(2, 2, 3, 3), normal(2), shape, 1, (1, 1, 1, 1))
            made = values.applied(one, piece, operation)
        elif operation == "affine":
            made = values.applied(one, pieces.linear(normal(4, 4), normal(4), shape), operation)
        elif operation == "activation":
            made = values.applied(one, pieces.activated(act.tanh(), shape, CPU), operation)
        elif operation == "prelu":
            made = values.applied(one, pieces.prelu(normal(shape[0]).abs(), shape), operation)
        elif operation == "pool" and images:
            piece = pieces.max_pool(shape, 3, 1, 1, 1, False, 2, CPU)
            made = values.applied(one, piece, operation)
        elif operation == "pool":
            index = torch.tensor([[0, 1, 2], [1, 2, 3], [0, 3, 3], [2, 2, 2]])
            made = values.Staged(shape, operation, CPU, one, PoolStage(index, 4))
        elif operation == "maximum":
            both = values.moved([one, two], lambda a, b: torch.cat([a, b], 1), operation)
            first = torch.arange(one.size)
            stage = BetweenStage(first, first + one.size, both.size)
            made = values.Staged(shape, operation, CPU, both, stage)
        elif operation == "add":
            made = values.added([one, two], operation, [1.0, -0.5])
        else:
            made = values.moved([one], lambda a: a.flip(-1), operation)
        known.append(made)
    return known[-1] if len(operations) % 2 else values.added(known[-2:], "sum")


OPERATIONS = ("affine", "activation", "prelu", "pool", "maximum", "add", "flip")


def depends(output):
    found, stack = set(), [output]
    while stack:
        value = stack.pop()
        found.add(value)
        stack += [v for v, _ in getattr(value, "terms", ())] + (
            [value.of] if isinstance(value, values.Staged) else []
        )
    return any(isinstance(value, values.Input) for value in found)


@settings(quick, max_examples=30)
@given(
    st.integers(0, 2**20),
    st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=12),
    st.booleans(),
)
def test_the_network_computes_the_graph(seed, operations, images):
    output = graph(seed, operations, images)
    network = lowered(output)
    x = torch.randn(5, network.input_size, generator=torch.Generator().manual_seed(seed)).double()
    wanted = computed(output, x)
    torch.testing.assert_close(
        network(x), wanted, rtol=1e-10, atol=1e-10 * (1 + wanted.abs().max())
    )
    y = x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    for norm in (1, 2, math.inf):
        for name in ("K_star", "K_3", "K_4"):
            for treatment in ("implicit", "explicit"):
                upper = lb.bound(network, name, norm, treatment).upper
                moved = torch.linalg.vector_norm(computed(output, y) - wanted, norm, dim=1)
                size = torch.linalg.vector_norm(y - x, norm, dim=1)
                assert bool((moved <= upper * size * (1 + 1e-9) + 1e-12).all()), (name, norm)


def residual(scale=1.0):
    """y = x + W2 relu(W1 x): as a graph, and its two matrices."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    x = values.Input((6,), "input", CPU)
    inner = values.applied(x, pieces.linear(scale * first, None, (6,)), "first")
    inner = values.applied(inner, pieces.activated(act.relu(), (6,), CPU), "relu")
    inner = values.applied(inner, pieces.linear(second, None, (6,)), "second")
    return values.added([x, inner], "add"), scale * first, second


def test_carried_values_cost_no_factor():
    output, first, second = residual()
    network = lowered(output)
    assert network.depth == 1
    for norm in (1, 2, math.inf):
        inner = torch.linalg.matrix_norm(first, norm) * torch.linalg.matrix_norm(second, norm)
        assert lb.bound(network, "K_star", norm).upper == pytest.approx(1 + float(inner), rel=1e-8)


def test_large_blocks_stay_apart(monkeypatch):
    """The same bounds as of one dense matrix, without it."""
    output, *_ = residual()
    dense = lowered(output)
    monkeypatch.setattr("lipbounds.frontends.lowering.DENSE_ENTRIES", 0)
    apart = lowered(output)
    assert isinstance(dense.affines[0].operator, Dense)
    assert isinstance(apart.affines[0].operator, Blocks)
    for norm in (1, 2, math.inf):
        for name in ("K_star", "K_1", "K_3", "K_4", "K_5", "path_norm"):
            one, other = (lb.bound(n, name, norm, "explicit").upper for n in (dense, apart))
            assert one == pytest.approx(other, rel=1e-3 if name == "K_5" else 1e-9), (name, norm)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_blocks_of_extreme_scales(scale):
    output, first, second = residual(scale)
    value = lb.bound(lowered(output), "K_star", math.inf).upper
    inner = torch.linalg.matrix_norm(second, math.inf) * torch.linalg.matrix_norm(first, math.inf)
    assert value == pytest.approx(1 + float(inner), rel=1e-12)


def test_a_pool_that_nothing_passes_by_is_kept_whole():
    x = values.Input((2, 4, 4), "input", CPU)
    pool = pieces.max_pool((2, 4, 4), 2, 2, 0, 1, False, 2, CPU)
    alone = lowered(values.applied(x, pool, "pool"))
    assert alone.has_pools and alone.depth == 1
    inner = values.applied(x, pool, "pool")
    small = values.moved([x], lambda a: a[..., :2, :2], "cut")
    beside = lowered(values.added([inner, small], "add"))
    assert not beside.has_pools and beside.depth == 2


def test_branches_that_no_output_needs_are_left_out():
    x = values.Input((4,), "input", CPU)
    values.applied(x, pieces.activated(act.relu(), (4,), CPU), "dead")
    network = lowered(values.applied(x, pieces.linear(torch.eye(4).double(), None, (4,)), "w"))
    assert network.depth == 0


def test_an_output_that_is_constant_is_refused():
    x = values.Input((4,), "input", CPU)
    nothing = values.moved([x], lambda a: torch.zeros(2, 3), "zeros")
    with pytest.raises(lb.LipboundsError, match="does not depend on the input"):
        lowered(nothing)


MOVES = {
    "transpose": lambda a: a.transpose(1, 3),
    "slice": lambda a: a[:, :, 1:, ::2],
    "zero padding": lambda a: F.pad(a, (1, 2, 0, 1)),
    "reflected": lambda a: F.pad(a, (1, 1, 2, 1), mode="reflect"),
    "circular": lambda a: F.pad(a, (1, 1, 0, 0), mode="circular"),
    "shuffle": lambda a: F.pixel_shuffle(a, 2),
    "nearest": lambda a: F.interpolate(a, scale_factor=2, mode="nearest"),
    "flatten": lambda a: a.flatten(1),
    "repeated": lambda a: a.repeat(1, 2, 1, 1),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_only_moves_entries(name):
    x = values.Input((4, 3, 5), "input", CPU)
    made = values.moved([x], MOVES[name], name)
    given = torch.randn(6, 4, 3, 5, dtype=torch.float64)
    wanted = MOVES[name](given)
    assert made.shape == wanted.shape[1:]
    torch.testing.assert_close(computed(made, given.flatten(1)), wanted.flatten(1))


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda a: a.flip(0), "mixes the inputs of a batch"),
        (lambda a: a.sum(0, keepdim=True), "batch dimension"),
        (lambda a: a * 2, "computes"),
        (lambda a: a + 0.5, "computes"),
        (lambda a: a[:1], "batch dimension"),
    ],
)
def test_what_does_more_than_move_is_refused(function, reason):
    x = values.Input((4,), "input", CPU)
    with pytest.raises(lb.UnsupportedError, match=reason):
        values.moved([x], function, "move")


def test_linear_functions_by_their_columns():
    x = values.Input((2, 4, 4), "input", CPU)
    kernel = torch.randn(2, 3, 3, 3, dtype=torch.float64)

    def function(a):
        return F.conv_transpose2d(a, kernel, stride=2, padding=1)

    made = values.linear(x, function, "deconvolution")
    given = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(computed(made, given.flatten(1)), function(given).flatten(1))

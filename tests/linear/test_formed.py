"""Maps that are products and sums: what forming them as a matrix rounds is counted everywhere."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.arithmetic.rounding import gamma
from lipbounds.linear.blocks import Blocks, Sum
from lipbounds.linear.norms import absolute_sums, matrix_norm, operator_norm, vector_norm
from lipbounds.linear.operators import Composition, Dense, Diagonal, Identity
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import SlopeStage
from lipbounds.quadratic.newton.mixed_forms import mixed_forms
from lipbounds.truth.phases import exact_factors

A, B = 1.1, 1.3
REST = float(torch.tensor(A, dtype=torch.float64) * B)  # rounded: A B is not it, exactly
LARGE = 1e17
# |A B - REST|, from the exact values of the doubles.
TRUE = abs(
    math.prod(map(int, (A * 2**60, B * 2**60))) - int(REST * 2**120)
) / 2**120  # fmt: skip
NAMES = ("K_star", "K_1", "K_2", "K_3", "K_4", "K_5", "path_norm", "liplt", "eclipse_fast")
CONIC = ("lipsdp_neuron", "eclipse", "geolip", "lipopt", "best", "norm_equivalence")


def scalar(value):
    return Dense(torch.tensor([[value]], dtype=torch.float64))


def line(value):
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, value)
    return layer


class Cancelling(nn.Module):
    """f(x) = 1e17 act(B (A x) - fl(A B) x): only a rounding is left, and made large."""

    def __init__(self, act):
        super().__init__()
        self.first, self.second, self.rest, self.act = line(A), line(B), line(REST), act
        self.last = line(LARGE)

    def forward(self, x):
        return self.last(self.act(self.second(self.first(x)) - self.rest(x)))


class Beside(nn.Module):
    """f(x) = B (A x) - fl(A B) x + act(0 x), where the difference is carried past the stage."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.rest, self.zero = line(A), line(B), line(REST), line(0.0)

    def forward(self, x):
        return self.second(self.first(x)) - self.rest(x) + torch.relu(self.zero(x))


@pytest.mark.parametrize("norm", (1, 2, math.inf))
@pytest.mark.parametrize("treatment", ("implicit", "explicit"))
@pytest.mark.parametrize("act", (nn.ReLU(), nn.LeakyReLU(0.5)), ids=str)
def test_a_sum_that_cancels_is_no_zero(act, treatment, norm):
    network = lb.from_torch(Cancelling(act), (1,))
    assert 0.1 < LARGE * TRUE < 1
    for name in (*NAMES, *CONIC):
        if norm in lb.BOUNDS[name].norms:
            assert lb.bound(network, name, norm, treatment).upper >= LARGE * TRUE, name
    if norm != 2:
        assert lb.relaxation_optimum(network, norm, seconds=2).upper >= LARGE * TRUE


@pytest.mark.parametrize("norm", (1, 2, math.inf))
def test_nor_is_one_that_is_carried_past_a_stage(norm):
    network = lb.from_torch(Beside(), (1,))
    for name in (*NAMES, *CONIC):
        if norm in lb.BOUNDS[name].norms:
            assert lb.bound(network, name, norm).upper >= TRUE, name


def affine(operator):
    return Affine(operator, torch.zeros(operator.shape[0], dtype=torch.float64))


def relu_between(*operators):
    stages = [SlopeStage.mixed([lb.ACTIVATIONS["relu"]()] * o.shape[0]) for o in operators[:-1]]
    return Network(tuple(map(affine, operators)), tuple(stages))


def test_the_exact_constant_of_sums():
    """Of 1 + 1e16 - 1e16 + 1, which is 2 and not 1; and of what is far below one rounding."""
    row = Dense(torch.ones(1, 3, dtype=torch.float64))
    column = Dense(torch.tensor([[1.0], [1e16], [-1e16]], dtype=torch.float64))
    network = relu_between(scalar(1.0), Sum([Composition([row, column]), scalar(1.0)]))
    for norm in (1, math.inf):
        found = lb.exact(network, norm)
        assert found.lower == pytest.approx(2) and found.upper >= 2
    small = 0.9 * 2.0**-54
    network = relu_between(scalar(1.0), Sum([scalar(1.0), scalar(-small)]))
    assert lb.exact(network, math.inf).lower <= 1 - small / 2 or small < 2**-53
    column = Dense(torch.tensor([[1e-17], [1.0], [-1.0]], dtype=torch.float64))
    blocks = Blocks({(0, 0): Composition([row, column]), (1, 1): scalar(3.0)}, [1, 1], [1, 1])
    start = Dense(torch.ones(2, 1, dtype=torch.float64))
    first = Dense(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    found = lb.exact(relu_between(start, blocks, first), math.inf)
    assert found.lower == pytest.approx(1e-17, rel=1e-6) and found.upper >= 1e-17 * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_exact_factors_multiply_to_the_operator(seed):
    operator = random_tree(seed)
    product = np.eye(operator.shape[1])
    for matrix in exact_factors(operator):
        product = matrix @ product
    expected = operator.apply(torch.eye(operator.shape[1], dtype=torch.float64)).mT
    assert np.array_equal(product, expected.numpy())


def test_neurons_that_are_not_quite_linear_add_up():
    """Six stages, each of which may add a little of the carried value to a neuron that counts as
    linear: all of it is in the majorant."""
    first = Dense(torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    network = relu_between(first, Dense(torch.eye(2, dtype=torch.float64)))
    gap = 0.99 * 2 * gamma(sum(a.operator.terms + 4 for a in network.affines) + 50)
    step = torch.tensor([[1.0, 0.0], [gap, 1.0]], dtype=torch.float64)
    last = Dense(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    identity, relu = lb.ACTIVATIONS["identity"](), lb.ACTIVATIONS["relu"]()
    stage = SlopeStage.mixed([identity, relu])
    maps = [first, *[Dense(step)] * 6, last]
    network = Network(tuple(map(affine, maps)), (stage,) * 7)
    for norm in (1, 2, math.inf):
        assert lb.bound(network, "K_5", norm, seconds=1).upper >= 6 * gap * (1 - 1e-9)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    forms = mixed_forms(network, torch.zeros(1, dtype=torch.long), one, one, False)
    reach = forms.last.abs().sum() + gamma(forms.terms) * forms.majorants[-1].sum()
    assert float(reach) >= 6 * gap * (1 - 1e-9)


def test_many_entries_of_a_product_of_few_terms():
    """Row sums of a formed matrix have as many terms as it has columns."""
    kernel, last = torch.full((1, 1, 300), 0.99 * 2.0**-40), torch.full((1, 300), 2.0**-14)
    kernel[0, 0, 0] = last[0, 0] = 1.0
    layers = nn.Conv1d(1, 1, 300, stride=150, bias=False), nn.Flatten(), nn.Linear(300, 1, False)
    module = nn.Sequential(*layers).double()
    with torch.no_grad():
        layers[0].weight.copy_(kernel)
        layers[2].weight.copy_(last)
    network = lb.from_torch(module, (1, 45150))
    row = torch.zeros(45150, dtype=torch.float64)
    for place in range(300):
        row[150 * place : 150 * place + 300] += (last[0, place] * kernel[0, 0]).double()
    truth = math.fsum(row.tolist())
    for treatment in ("implicit", "explicit"):
        for name in ("K_star", "K_1", "K_3", "K_4"):
            assert lb.bound(network, name, math.inf, treatment).upper >= truth


@pytest.mark.parametrize("norm", (1.0, 2.0, math.inf))
def test_a_difference_behind_a_diagonal_keeps_its_size(norm):
    """0.5 (x - 0.9 x): each entry is a sum, though no row of the diagonal mixes."""
    size = 4
    nine = Dense(-0.9 * torch.eye(size, dtype=torch.float64))
    half = Diagonal(torch.full((size,), 0.5, dtype=torch.float64))
    operator = Composition([half, Sum([Identity(size), nine])])
    assert float(operator_norm(operator, norm)) == pytest.approx(0.05, rel=1e-9)


def random_tree(seed):
    """Sums, products and blocks of small integers over powers of two, which are exact."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(m, n):
        return Dense(torch.randint(-3, 4, (m, n), generator=generator).double() / 8)

    def tree(m, n, depth):
        kind = int(torch.randint(0, 4, (), generator=generator)) if depth else 0
        if kind == 1:
            return Composition([tree(m, 3, depth - 1), tree(3, n, depth - 1)])
        if kind == 2:
            return Sum([tree(m, n, depth - 1), tree(m, n, depth - 1)])
        if kind == 3 and m > 1:
            parts = {(0, 0): tree(1, n, depth - 1), (1, 0): tree(m - 1, n, depth - 1)}
            return Blocks(parts, [1, m - 1], [n])
        return leaf(m, n)

    return tree(3, 4, 3)


@pytest.mark.parametrize("seed", range(20))
def test_norms_of_random_trees_hold_the_exact_ones(seed):
    operator = random_tree(seed)
    matrix = operator.apply(torch.eye(4, dtype=torch.float64)).mT
    for norm in (1.0, math.inf):
        sums = matrix.abs().sum(0 if norm == 1 else 1)
        assert (absolute_sums(operator, norm) >= sums).all()
    assert operator_norm(operator, 2.0) >= torch.linalg.matrix_norm(matrix, 2) * (1 - 1e-14)
    network = relu_between(operator, Dense(matrix.T[:2, :3].contiguous()))
    explicit = lb.explicit(network)
    for norm in (1, 2, math.inf):
        for name in ("K_star", "K_3", "K_4"):
            values = [lb.bound(one, name, norm).upper for one in (network, explicit)]
            assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_at_the_ends_of_double_precision():
    ends = torch.tensor([[1.5e308]], dtype=torch.float64)
    assert 1.5e308 <= float(matrix_norm(ends, 2)) <= 1.5e308 * (1 + 1e-9)
    assert float(vector_norm(ends[0], 2)) == pytest.approx(1.5e308)
    unit = torch.eye(1, dtype=torch.float64)
    assert lb.bound(lb.from_weights([1e100 * unit] * 8 + [0 * unit]), "K_star", 2).upper == 0


def test_eclipse_where_nothing_passes_the_first_layer():
    unit = torch.eye(2, dtype=torch.float64)
    for weights in ([0 * unit, unit], [unit, 0 * unit, unit]):
        assert lb.bound(lb.from_weights(weights), "eclipse", 2).upper == pytest.approx(0, abs=1e-12)

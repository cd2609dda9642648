"""The norm of a convolution by Fourier: against matrices, of the torus and of the image."""

import itertools
import math

import numpy as np
import pytest
import torch

import lipbounds as lb
from lipbounds.linear import norms, torus
from lipbounds.linear.blocks import Blocks, Sum
from lipbounds.linear.norms import majorant_norm, operator_norm
from lipbounds.linear.operators import Composition, Convolution, Dense, Diagonal, dense
from lipbounds.linear.torus import torus_norm

OPTIONS = [
    {},
    {"stride": (2, 2)},
    {"stride": (2, 3), "padding": (1, 0, 2, 1)},
    {"dilation": (2, 1), "padding": (1, 1, 2, 2)},
    {"groups": 2, "stride": (1, 2)},
    {"padding": (1, 1, 1, 1)},
    {"padding": (0, 2, 1, 0), "stride": (3, 1)},
]
SIZES = [(4, 2, 3, 3), (2, 6, 2, 3), (2, 2, 1, 1), (6, 4, 1, 4)]
CASES = list(itertools.product(SIZES, OPTIONS))


def convolution(size, image=(7, 8), seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    groups = options.get("groups", 1)
    outputs, inputs, *taps = size
    kernel = torch.randn(outputs, inputs // groups, *taps, generator=generator, dtype=torch.float64)
    kernel = kernel / kernel.abs().max()
    return Convolution(kernel, (inputs, *image), **options)


def circulant(one, sizes):
    """The matrix of the circular convolution on `sizes` positions, entry by entry."""
    kernel, (outputs, per_group) = one.kernel.numpy(), one.kernel.shape[:2]
    inputs, out = one.image_shape[0], [n // s for n, s in zip(sizes, one.stride, strict=True)]
    matrix = np.zeros((outputs, *out, inputs, *sizes))
    for o, i, a, b in itertools.product(*(range(n) for n in kernel.shape)):
        channel = i + per_group * (o // (outputs // one.groups))
        for r, c in itertools.product(*(range(n) for n in out)):
            row = (r * one.stride[0] + a * one.dilation[0]) % sizes[0]
            column = (c * one.stride[1] + b * one.dilation[1]) % sizes[1]
            matrix[o, r, c, channel, row, column] += kernel[o, i, a, b]
    return matrix.reshape(outputs * math.prod(out), -1)


@pytest.mark.parametrize(("size", "options"), CASES)
def test_equals_the_norm_of_the_circulant_matrix_and_is_above_that_of_the_image(size, options):
    one = convolution(size, **options)
    held = [s * -(-n // s) for n, s in zip(one.padded, one.stride, strict=True)]
    exact = np.linalg.norm(circulant(one, held), 2)
    value = float(torus_norm(one))
    assert exact * (1 - 1e-13) <= value <= exact * (1 + 1e-7)
    assert np.linalg.norm(dense(one).numpy(), 2) <= value


@pytest.mark.parametrize(("size", "options"), CASES)
@pytest.mark.parametrize("fine", [4, 8, 32])
def test_a_coarser_torus_is_above_the_fine_one(size, options, fine, monkeypatch):
    one = convolution(size, (40, 41), **options)
    monkeypatch.setattr(torus, "FINE", 10**6)
    whole = float(torus_norm(one))
    monkeypatch.setattr(torus, "FINE", fine)
    coarse = float(torus_norm(one))
    assert whole * (1 - 1e-9) <= coarse <= whole / math.cos(math.pi / fine)
    if fine == 32:
        assert coarse <= 1.005 * whole


@pytest.mark.parametrize(("size", "options"), CASES)
def test_products_of_taps_give_the_gram_matrices_of_symbols(size, options):
    one = convolution(size, **options)
    symbols, products = torus._Symbols(one), torus._Products(one)
    every = slice(0, symbols.grid.count)
    (expected, own), (found, error) = symbols.gram(every), products.gram(every)
    assert len(own) == len(found) == len(error) and bool((found == found.mT).all())
    values = [torch.linalg.eigvalsh(matrix).flip(-1) for matrix in (expected, found)]
    if len(products.apart) == 1:  # real: each eigenvalue once
        values[1] = values[1].repeat_interleave(2, 1)
    least = 2 * min(symbols.side, products.side)  # a pair of each, and zeros where one is larger
    off = (values[0][:, :least] - values[1][:, :least]).abs().amax(-1)
    symbol_error = 2 * symbols.error * expected.diagonal(dim1=1, dim2=2).sum(-1).sqrt()
    assert (off <= own + error + symbol_error + 1e-14).all()
    assert (error <= 1e-9 * expected.diagonal(dim1=1, dim2=2).sum(-1).mean()).all()


@pytest.mark.parametrize(("size", "options"), CASES)
def test_both_ways_to_the_norm_agree(size, options, monkeypatch):
    one = convolution(size, **options)
    found = []
    for way in (torus._Symbols, torus._Products):
        monkeypatch.setattr(torus, "_squares_of", way)
        found.append(float(torus_norm(one)))
    assert found[1] == pytest.approx(found[0], rel=1e-7)


def test_a_coarse_torus_holds_between_its_frequencies(monkeypatch):
    """Differences have their greatest symbol at pi, where an odd grid has no point."""
    one = Convolution(torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64), (1, 1, 1000))
    monkeypatch.setattr(torus, "FINE", 4)
    assert 2 * (1 - 1e-12) <= float(torus_norm(one)) <= 2.2


@pytest.mark.parametrize("seed", range(5))
def test_the_power_iteration_is_not_what_proves_it(seed, monkeypatch):
    one = convolution((4, 4, 3, 3), seed=seed, padding=(1, 1, 1, 1))
    expected = float(torus_norm(one))
    monkeypatch.setattr(torus, "power_iterated", lambda gram: torch.zeros(len(gram)).double())
    assert float(torus_norm(one)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-290, 1e-150, 1.0, 1e150, 1e290])
def test_every_scale(scale, monkeypatch):
    monkeypatch.setattr(norms, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(norms, "FEW_ENTRIES", 0)
    monkeypatch.setattr(norms, "LARGEST_OF_PARTS", 4)
    one = convolution((4, 2, 3, 3))
    scaled = one.with_kernel(scale * one.kernel)
    value, expected = float(operator_norm(scaled, 2)), scale * float(torus_norm(one))
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-320)
    assert value >= scale * np.linalg.norm(dense(one).numpy(), 2) * (1 - 1e-14)


def test_batch_norm_is_a_part_of_the_kernel():
    one = convolution((4, 2, 3, 3), groups=2)
    pixels = math.prod(one.out_shape[1:])
    after = Diagonal(torch.tensor([1.0, -2.0, 0.5, 3.0]).double().repeat_interleave(pixels))
    before = Diagonal(torch.tensor([0.25, 7.0]).double().repeat_interleave(56))
    both = Composition([after, one, before])
    torch.testing.assert_close(dense(both.as_convolution), dense(both), rtol=1e-14, atol=0)
    uneven = Diagonal(torch.arange(float(one.shape[0])).double())
    assert Composition([uneven, one]).as_convolution is None
    assert Composition([one, one.with_kernel(one.kernel)]).as_convolution is None


def parts():
    one, other = convolution((4, 2, 3, 3), padding=(1, 1, 1, 1)), convolution((4, 2, 1, 1), seed=1)
    matrix = Dense(torch.randn(30, one.shape[0], dtype=torch.float64))
    return {
        "convolution": one,
        "sum": Sum([one, other]),
        "product": Composition([matrix, one]),
        "blocks": Blocks({(0, 0): one, (1, 0): other, (1, 1): other}, [224, 224], [112, 112]),
        "nothing": Blocks({}, [5, 5], [6, 6]),
        "matrix": matrix,
    }


@pytest.mark.parametrize("name", parts())
def test_the_norms_of_parts_bound_that_of_the_whole(name, monkeypatch):
    operator = parts()[name]
    exact = float(operator_norm(operator, 2))
    monkeypatch.setattr(norms, "_KNOWN", {})
    monkeypatch.setattr(norms, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(norms, "FEW_ENTRIES", 0)
    monkeypatch.setattr(norms, "LARGEST_OF_PARTS", 20)
    value = float(operator_norm(operator, 2))
    assert exact * (1 - 1e-9) <= value <= 3 * exact
    monkeypatch.setattr(norms, "_norm_by_parts", lambda _: torch.tensor(math.inf))
    monkeypatch.setattr(norms, "_KNOWN", {})
    assert math.isfinite(float(operator_norm(operator, 2)))


def test_a_large_convolutional_network_has_its_product_of_norms():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3, 2)]
    module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(17672, 5))
    network = lb.from_torch(module, (3, 96, 96))
    value = float(lb.bound(network, "K_star", 2).upper)
    x, y = torch.randn(2, 1, network.input_size, dtype=torch.float64)
    assert float((network(x) - network(y)).norm()) <= value * float((x - y).norm())
    assert value <= math.prod(float(majorant_norm(a.operator)) for a in network.affines)
    single = [float(operator_norm(affine.operator, 2)) for affine in network.affines]
    assert value == pytest.approx(math.prod(single), rel=1e-9)

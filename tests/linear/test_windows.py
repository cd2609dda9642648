"""Pooling windows against torch: an indicator image shows which windows a pixel belongs to."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from oracles import pool_of
from torch import nn

from lipbounds.errors import LipboundsError
from lipbounds.linear.windows import adaptive, padded_counts, sliding

SHAPE = (2, 5, 7)
OPTIONS = [
    (kernel, stride, padding, dilation, ceil)
    for kernel, stride, padding, dilation, ceil in itertools.product(
        [(1, 2), (2, 2), (3, 2), (3, 4)], [(1, 1), (2, 2), (3, 1), (4, 3)],
        [(0, 0), (1, 0), (1, 2)], [(1, 1), (2, 1)], [False, True],
    )
    if all(p <= k // 2 for p, k in zip(padding, kernel, strict=True))
]  # fmt: skip


def members(windows, inside, size):
    """Which inputs belong to which windows, (m, size)."""
    table = torch.zeros(len(windows), size, dtype=torch.float64)
    row = torch.arange(len(windows)).unsqueeze(1).expand_as(windows)
    table[row[inside], windows[inside]] = 1.0
    return table


@pytest.mark.parametrize("ceil", [False, True])
def test_sliding_windows(ceil):
    used = [option for option in OPTIONS if option[4] == ceil]
    assert len(used) > 50
    for kernel, stride, padding, dilation, _ in used:
        expected = pool_of(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil), SHAPE)
        windows, inside, out = sliding(SHAPE, kernel, stride, padding, dilation, ceil)
        assert len(windows) == len(expected.member) == out[0] * out[1] * out[2]
        computed = members(windows, inside, 70)
        assert (computed.numpy() == expected.member).all()
        # Entries in the padding repeat an entry of their own window.
        everything = torch.ones_like(inside)
        assert torch.equal(members(windows, everything, 70), computed)


@pytest.mark.parametrize("ceil", [False, True])
def test_padded_counts(ceil):
    """An image of ones averages to (entries inside) / (entries counted)."""
    for kernel, stride, padding, dilation, option in OPTIONS:
        if option != ceil or dilation != (1, 1):
            continue
        ones = torch.ones(1, *SHAPE, dtype=torch.float64)
        averages = F.avg_pool2d(ones, kernel, stride, padding, ceil, True).flatten()
        _, inside, _ = sliding(SHAPE, kernel, stride, padding, (1, 1), ceil)
        counts = padded_counts(SHAPE, kernel, stride, padding, ceil)
        torch.testing.assert_close(inside.sum(1) / counts, averages, check_dtype=False)


@pytest.mark.parametrize("output", list(itertools.product([1, 2, 3, 5, 6], [1, 3, 4, 7])))
def test_adaptive_windows(output):
    expected = pool_of(nn.AdaptiveMaxPool2d(output), SHAPE)
    windows, inside, out = adaptive(SHAPE, output)
    assert out == (2, *output)
    assert (members(windows, inside, 70).numpy() == expected.member).all()
    assert torch.equal(members(windows, torch.ones_like(inside), 70), members(windows, inside, 70))


def test_windows_that_do_not_fit_raise():
    with pytest.raises(LipboundsError, match="pooling window of 8 does not fit 5 pixels"):
        sliding(SHAPE, (8, 1), (1, 1), (0, 0), (1, 1), False)
    with pytest.raises(LipboundsError, match="entirely in the padding"):
        sliding((1, 1, 1), (2, 2), (1, 1), (1, 1), (2, 2), False)

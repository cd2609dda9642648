"""Networks with random matrices: ensembles of square ones (test 3), and single ones (test 5)."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import LipboundsError
from ...networks.network import Network

DISTRIBUTIONS = ("gaussian", "uniform")


def ensemble(distribution: str, width: int, depth: int, samples: int, seed: int) -> Network:
    """`samples` ReLU networks of `depth` hidden stages, all depth + 1 matrices width x width.

    Entries are independent with mean 0 and variance 1 / width: N(0, 1 / width) for "gaussian", and
    uniform on [-sqrt(3 / width), sqrt(3 / width)] for "uniform". No biases. The stream of random
    numbers depends on all five arguments, so that each cell of an experiment can be computed, or
    added, without the others. Raises LipboundsError for an unknown distribution or a size that is
    not a positive integer.
    """
    if distribution not in DISTRIBUTIONS:
        raise LipboundsError(f"unknown distribution {distribution!r}; take one of {DISTRIBUTIONS}")
    for name, size in (("width", width), ("depth", depth), ("samples", samples)):
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise LipboundsError(f"{name} must be a positive integer, not {size!r}")
    generator = _generator(distribution, width, depth, samples, seed)
    shape = (samples, width, width)
    weights = [_entries(distribution, shape, generator) for _ in range(depth + 1)]
    return Network.from_weights(weights, activation="relu")


def gaussian(sizes: Sequence[int], seed: int) -> Network:
    """One ReLU network with layers of these sizes, inputs first: weights N(0, 1 / inputs of the
    layer), biases N(0, 1/4). Raises LipboundsError for less than two sizes, or one that is not a
    positive integer."""
    if len(sizes) < 2 or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise LipboundsError(f"sizes must be two or more positive integers, not {sizes!r}")
    generator = _generator("single", tuple(sizes), seed)
    weights = [
        torch.randn(m, n, generator=generator, dtype=torch.float64) / math.sqrt(n)
        for n, m in itertools.pairwise(sizes)
    ]
    biases = [torch.randn(m, generator=generator, dtype=torch.float64) / 2 for m in sizes[1:]]
    return Network.from_weights(weights, biases, activation="relu")


def _entries(distribution: str, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    if distribution == "gaussian":
        unit = torch.randn(shape, generator=generator, dtype=torch.float64)
    else:
        unit = math.sqrt(3) * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
    return unit / math.sqrt(shape[-1])


def _generator(*key: str | int | tuple[int, ...]) -> torch.Generator:
    """A generator seeded by a hash of the key: nearby keys give independent streams."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

"""What the descent on a torus costs, in multiply-adds, and holds, in bytes."""

import math

from .embedding import Filter, Torus
from .grid import half

COMPLEX = 4  # real products in a complex one
SMALL = 2e5  # multiply-adds in the time that a small matrix takes besides its own
PASSES = 4  # forward, for the line search as well, and back
HELD = 12  # complex matrices of each stage's size and frequency, for the way back


def step(torus: Torus) -> float:
    """One of the descent, with its line search."""
    return PASSES * (sum(_each(torus, _multiplied)) + _tail(torus))


def proof(torus: Torus) -> float:
    """One proof: matrices of four times a stage's size."""
    return sum(_each(torus, lambda n, m: SMALL + 64 * (n**3 + n * m**2) / 3)) + 8 * _tail(torus)


def held(torus: Torus) -> float:
    """Bytes of one step."""
    return 16 * HELD * sum(_each(torus, lambda n, m: n * n + n * m))


def _multiplied(n: int, m: int) -> float:
    """What a matrix (n, m) costs times a covariance and its own adjoint, and one of Cholesky's."""
    return SMALL + COMPLEX * (n * m * m + n * n * m + 2 * n**3)


def _each(torus: Torus, cost):
    """`cost` of each step's matrices, at all frequencies."""
    channels = torus.channels
    for one, size in zip(torus.steps, torus.sizes, strict=False):
        before = channels
        channels = one.kernel.shape[0] if isinstance(one, Filter) else channels
        yield math.prod(half(size)) * cost(channels, before)


def _tail(torus: Torus) -> float:
    """Of the matrices behind: the head at each frequency, and the others."""
    if torus.head is None:
        return 0.0
    outputs, channels = torus.head.entries.shape[0], torus.image[0]
    total = COMPLEX * math.prod(half(torus.sizes[-1])) * outputs * channels * (outputs + channels)
    for _, matrix in torus.tail:
        rows, columns = matrix.entries.shape
        total += rows * columns * (rows + columns) + 2 * columns**3
    return total

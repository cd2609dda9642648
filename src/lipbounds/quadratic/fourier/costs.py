"""What the descent on a torus costs, in multiply-adds, and holds, in bytes."""

import itertools
import math

from .embedding import Filter, Torus
from .grid import half

COMPLEX = 4  # real products in a complex one
SMALL = 1e5  # multiply-adds in the time that a small matrix takes besides its own
NEWTON_STEPS = 15  # from where the descent has come, to what is worth proving
ELEMENTWISE = 40  # multiply-adds in the time of all that is done with an entry of a covariance
PASSES = 3  # forward, now and then twice, and back
HELD = 6  # complex matrices of each stage's size and frequency, for the way back
HELD_BY_HEAD = 4  # the same of the head's symbols
HELD_AT_ONCE = 20  # real matrices of the side of a stage behind the torus, in its proof
LARGE = 4.0  # times faster than small matrices, on which speed is measured, are those behind


def step(torus: Torus) -> float:
    """One of the descent, with its line search."""
    return PASSES * (sum(_each(torus, _multiplied)) + _tail(torus))


def newton(torus: Torus) -> float:
    """Newton's method, from a round of the descent on: some steps, each with its line search. It is
    not to be had where values are carried past stages."""
    if torus.carries:
        return math.inf
    coarse = math.prod(torus.sizes[-1])
    sides = [torus.channels * math.prod(torus.sizes[0]) // coarse]
    on_torus = torus.stages[: len(torus.stages) - len(torus.tail)]
    sides += [n * m // coarse for n, m in on_torus]
    rows = sides[0] + 2 * sum(sides[1:])
    chained = sum(4 * before * own * rows for before, own in itertools.pairwise(sides))
    seen = 0 if torus.head is None else torus.head.shape[0]
    each = COMPLEX * (chained + rows**2 * seen) + ELEMENTWISE * rows**2
    solved = sum(n for n, _ in torus.stages) ** 3
    search = 2 * step(torus)
    return NEWTON_STEPS * (math.prod(half(torus.sizes[-1])) * each + solved + search)


def proof(torus: Torus) -> float:
    """One proof: matrices of four times a stage's size."""
    return sum(_each(torus, lambda n, m: SMALL + 64 * (n**3 + n * m**2) / 3)) + 4 * _tail(torus)


def held(torus: Torus) -> float:
    """Bytes of one step."""
    inside = HELD * sum(_each(torus, lambda n, m: n * n + n * m))
    squares = sum(slopes.alpha.numel() ** 2 for slopes, _ in torus.tail)
    return 16 * (inside + HELD_BY_HEAD * _head(torus)) + 8 * HELD * squares + _matrices(torus)


def held_by_proof(torus: Torus) -> float:
    """Bytes of one proof: all symbols, and what belongs to one stage."""
    symbols = sum(
        math.prod(half(size)) * step.kernel.shape[0] * step.kernel.shape[1] * step.groups
        for step, size in zip(torus.steps, torus.sizes, strict=False)
        if isinstance(step, Filter)
    )
    largest = max(_each(torus, lambda n, m: n * n + n * m))
    squares = max((slopes.alpha.numel() ** 2 for slopes, _ in torus.tail), default=0)
    inside = max(HELD * largest + symbols, symbols + HELD_BY_HEAD * _head(torus))
    return 16 * inside + 8 * HELD_AT_ONCE * squares + _matrices(torus)


def _matrices(torus: Torus) -> float:
    """Bytes of those behind it, and of their majorants."""
    heads = [] if torus.head is None else [torus.head]
    return 16.0 * sum(math.prod(one.shape) for one in [*heads, *(m for _, m in torus.tail)])


def _head(torus: Torus) -> float:
    """Entries of its symbols."""
    if torus.head is None:
        return 0.0
    return math.prod(half(torus.sizes[-1])) * torus.head.shape[0] * torus.image[0]


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
    outputs, channels = torus.head.shape[0], torus.image[0]
    total = COMPLEX * math.prod(half(torus.sizes[-1])) * outputs * channels * (outputs + channels)
    for _, matrix in torus.tail:
        rows, columns = matrix.shape
        total += rows * columns * (rows + columns) + 2 * columns**3
    return total / LARGE

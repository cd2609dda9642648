"""Networks that compute polynomials in closed form: numerical tests 1 and 2.

Everything is built from the tent g(x) = 1 - R(2x - 1) - R(1 - 2x), R the ReLU, and from the series

    s(x) = x - sum_{r=1..m} g_r(x) / 4^r,    g_r = g o ... o g (r times),

the piecewise linear interpolant of x^2 at the points k / 2^m: on [0, 1], 0 <= s(x) - x^2 <=
4^-(m+1) (Yarotsky, "Error bounds for approximations with deep ReLU networks", 2017). Hidden stage r
holds the two neurons of each tent and *carries*: running sums that pass through one more ReLU,
which leaves them unchanged because they are nonnegative on the domain.

A network is written here as a list of affine maps (W, b), with a ReLU between each two. All weights
are dyadic, so that these networks are evaluated without rounding at dyadic points.

The paper's own analytical networks (Pintore & Després, arXiv:2410.21053) are not in our hands;
these are a reconstruction, as are the polarisations below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import LipboundsError
from ...networks.network import Network

Affine = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One family of networks: `builder(level)`, its domain, and the numerical test it serves.

    box: one (low, high) pair per input; the function is meant, and the exact constant taken, there.
    test: "test1" or "test2".
    """

    builder: Callable[[int], Network]
    box: tuple[tuple[float, float], ...]
    test: str


@dataclass(frozen=True)
class Writing:
    """How a stage writes a tent and a carry.

    A tent of z is `tent_out @ R(tent_in * z + tent_offset) + tent_constant`; a carry of c is
    `carry_out @ R(carry_in * c)`.
    """

    tent_in: tuple[float, ...] = (2.0, -2.0)
    tent_offset: tuple[float, ...] = (-1.0, 1.0)
    tent_out: tuple[float, ...] = (-1.0, -1.0)
    tent_constant: float = 1.0
    carry_in: tuple[float, ...] = (1.0,)
    carry_out: tuple[float, ...] = (1.0,)


SYMMETRIC = Writing()
SHIFTED_TENT = Writing(
    tent_in=(1.0, 1.0), tent_offset=(0.0, -0.5), tent_out=(2.0, -4.0), tent_constant=0.0
)
SPLIT_CARRY = Writing(carry_in=(1.0, -1.0), carry_out=(1.0, -1.0))


def sawtooth(level: int) -> Network:
    """g o ... o g (`level` times) on [0, 1]: `level` hidden stages of width 2.

    Lip = 2^level in every norm. Raises LipboundsError unless level is a positive integer.
    """
    return _network(_chain(_tents(level, subtract=np.zeros((0, 1))), [_linear([[1.0]])]))


def square(level: int) -> Network:
    """x^2 on [0, 1] as s(x) = x - sum g_r(x) / 4^r: `level` hidden stages of width 3.

    Stage r holds R(2 g_{r-1} - 1), R(1 - 2 g_{r-1}) and the carry x - sum_{q<r} g_q / 4^q >= x^2.
    Lip = 2 - 2^-level in every norm. Raises LipboundsError unless level is a positive integer.
    """
    return _network(_square(level, SYMMETRIC))


def square_shifted_tent(level: int) -> Network:
    """The function of `square` on [0, 1], each tent written 2 R(x) - 4 R(x - 1/2): width 3."""
    return _network(_square(level, SHIFTED_TENT))


def square_split_carry(level: int) -> Network:
    """The function of `square` on [0, 1], the carry written R(s) - R(-s): width 4."""
    return _network(_square(level, SPLIT_CARRY))


def fourth(level: int) -> Network:
    """x^4 on [0, 1] as s(s(x)): 2 `level` hidden stages of width 3.

    0 <= fourth(level)(x) - x^4 < 3 / 4^(level+1). Raises LipboundsError unless level is a positive
    integer.
    """
    return _network(_chain(_square(level, SYMMETRIC), _square(level, SYMMETRIC)))


def product(level: int) -> Network:
    """x y on [0, 1]^2 by polarisation: `level` hidden stages of width 5.

    x y = u^2 - v^2 + (x - y)/2 + 1/4 with u = (x + y)/2 and v = (1 + x - y)/2, both in [0, 1]; each
    square is replaced by s. The one carry is the approximation of x y so far plus 1/4; it is
    nonnegative because that approximation is within 1/4 of x y from the start.
    |product(level)(x, y) - x y| <= 4^-(level+1). Raises LipboundsError unless level is a positive
    integer.
    """
    entry = [_linear([[0.5, 0.5], [0.5, -0.5], [0.5, 0.5]], [0.0, 0.5, 0.0])]
    squares = _tents(level, subtract=np.array([[1.0, -1.0]]))
    return _network(_chain(entry, squares, [_linear([[0.0, 0.0, 1.0]], [-0.25])]))


def cube(level: int) -> Network:
    """x^3 on [0, 1] as the product of x and s(x): 2 `level` hidden stages, of width 4, then 5.

    x s(x) = u^2 - d^2 with u = (x + s(x))/2 in [0, 1] and d = (x - s(x))/2 in [0, 1/8], each square
    replaced by s. The first half carries u, which starts at x, and d, which starts at 0; both stay
    nonnegative as 0 <= s(x) <= x. The second half has one carry, which starts at u - d and stays
    nonnegative, as the approximations of the square are increasing and u >= d.
    |cube(level)(x) - x^3| <= 2 / 4^(level+1). Raises LipboundsError unless level is a positive
    integer.
    """
    entry = [_linear([[1.0], [1.0], [0.0]])]
    first = _tents(level, subtract=np.array([[0.5], [-0.5]]))
    polarise = [_linear([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, -1.0]])]
    second = _tents(level, subtract=np.array([[1.0, -1.0]]))
    return _network(_chain(entry, first, polarise, second, [_linear([[0.0, 0.0, 1.0]])]))


UNIT_INTERVAL = ((0.0, 1.0),)
UNIT_SQUARE = ((0.0, 1.0), (0.0, 1.0))

CASES = {
    "square": Case(square, UNIT_INTERVAL, "test1"),
    "sawtooth": Case(sawtooth, UNIT_INTERVAL, "test1"),
    "square_shifted_tent": Case(square_shifted_tent, UNIT_INTERVAL, "test1"),
    "square_split_carry": Case(square_split_carry, UNIT_INTERVAL, "test1"),
    "cube": Case(cube, UNIT_INTERVAL, "test2"),
    "fourth": Case(fourth, UNIT_INTERVAL, "test2"),
    "product": Case(product, UNIT_SQUARE, "test2"),
}


def _square(level: int, writing: Writing) -> list[Affine]:
    """x -> s(x): the tent and the carry both start at x, and only the carry is kept."""
    tents = _tents(level, np.array([[1.0]]), writing)
    return _chain([_linear([[1.0], [1.0]])], tents, [_linear([[0.0, 1.0]])])


def _tents(level: int, subtract: np.ndarray, writing: Writing = SYMMETRIC) -> list[Affine]:
    """(z, c) -> (g_m(z), c - sum_{r=1..m} subtract @ g_r(z) / 4^r), m = level, in m hidden stages.

    z: tents in [0, 1]; c: carries; subtract: (carries, tents).
    """
    if not isinstance(level, int) or isinstance(level, bool) or level < 1:
        raise LipboundsError(f"level must be a positive integer, not {level!r}")
    into = _into_stage(*subtract.shape, writing)
    return _chain(*([into, _out_of_stage(subtract / 4.0**r, writing)] for r in range(1, level + 1)))


def _into_stage(carries: int, tents: int, writing: Writing) -> Affine:
    """(z, c) -> the pre-activations of one hidden stage."""
    tent = np.kron(np.eye(tents), np.reshape(writing.tent_in, (-1, 1)))
    carry = np.kron(np.eye(carries), np.reshape(writing.carry_in, (-1, 1)))
    offset = np.concatenate([np.tile(writing.tent_offset, tents), np.zeros(len(carry))])
    return _block_diagonal(tent, carry), offset


def _out_of_stage(subtract: np.ndarray, writing: Writing) -> Affine:
    """The outputs of one hidden stage -> (g(z), c - subtract @ g(z))."""
    carries, tents = subtract.shape
    tent = np.kron(np.eye(tents), np.reshape(writing.tent_out, (1, -1)))
    carry = np.kron(np.eye(carries), np.reshape(writing.carry_out, (1, -1)))
    weight = _block_diagonal(tent, carry)
    weight[tents:, : tent.shape[1]] = -subtract @ tent
    constant = np.full(tents, writing.tent_constant)
    return weight, np.concatenate([constant, -subtract @ constant])


def _block_diagonal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    blocks = np.zeros((a.shape[0] + b.shape[0], a.shape[1] + b.shape[1]))
    blocks[: a.shape[0], : a.shape[1]] = a
    blocks[a.shape[0] :, a.shape[1] :] = b
    return blocks


def _linear(weight: list[list[float]], offset: list[float] | None = None) -> Affine:
    weight = np.array(weight)
    return weight, np.zeros(len(weight)) if offset is None else np.array(offset)


def _chain(*parts: list[Affine]) -> list[Affine]:
    """Networks one after another; where two meet, their affine maps become one."""
    chained = list(parts[0])
    for part in parts[1:]:
        (outer, outer_offset), (inner, inner_offset) = part[0], chained[-1]
        chained[-1:] = [(outer @ inner, outer @ inner_offset + outer_offset), *part[1:]]
    return chained


def _network(affines: list[Affine]) -> Network:
    weights, offsets = zip(*affines, strict=True)
    return Network.from_weights(list(weights), list(offsets), activation="relu")

"""The values that a model computes on its way from input to output, as a graph.

A front end makes one value of each operation of the model. What is linear becomes a `Combination`
of values before it, what is not a `Staged` one. `lowering` makes a network of the last. Shapes are
of one input, without the batch dimension; entries are numbered in row-major order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LipboundsError, ShapeError, UnsupportedError
from ..linear.operators import Diagonal, Identity, Operator, Sparse, identity_rows, slices
from ..networks.stages import BetweenStage, PoolStage, SlopeStage, Stage
from . import pieces
from .pieces import Piece, Shape

FAR = 2.0**60  # a factor to numbers larger than the constants in a network
LARGEST_GROUP = 16  # that is sorted: as many stages
LARGEST_LABEL = 2**53  # whole numbers up to which float64 is exact


@dataclass(frozen=True, eq=False)
class Value:
    """`place`: the operation that computes it, as messages name it."""

    shape: Shape
    place: str
    device: torch.device

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Input(Value):
    """What the network is a function of."""


@dataclass(frozen=True, eq=False)
class Combination(Value):
    """sum_i W_i x_i + b, `terms` being the pairs (x_i, W_i) and `offset` b (size,). roundings: of
    each entry of the maps, where they are computed from what the model holds."""

    terms: tuple[tuple[Value, Operator], ...]
    offset: Tensor
    roundings: int = 0


@dataclass(frozen=True, eq=False)
class Staged(Value):
    """stage(x), x being `of`."""

    of: Value
    stage: Stage


def mapped(
    value: Value,
    operator: Operator,
    shape: Shape,
    place: str,
    offset: Tensor | None = None,
    roundings: int = 0,
) -> Value:
    """W x + b."""
    if offset is None:
        offset = torch.zeros(operator.shape[0], dtype=torch.float64, device=value.device)
    return Combination(tuple(shape), place, value.device, ((value, operator),), offset, roundings)


def applied(value: Value, piece: Piece, place: str) -> Value:
    """What a piece makes of a value."""
    if piece.affine is not None:
        affine = piece.affine
        value = mapped(value, affine.operator, piece.shape, place, affine.offset, piece.roundings)
    if piece.stage is not None:
        value = Staged(tuple(piece.shape), place, value.device, value, piece.stage)
    return value if value.shape == tuple(piece.shape) else reshaped(value, piece.shape, place)


def reshaped(value: Value, shape: Shape, place: str) -> Value:
    """The same entries in the same order."""
    return mapped(value, Identity(value.size, value.device), shape, place)


def added(values: Sequence[Value], place: str, factors: Sequence[float] | None = None) -> Value:
    """sum_i c_i x_i of values of one shape; c_i = 1 by default."""
    first = values[0]
    if any(value.shape != first.shape for value in values):
        shapes = ", ".join(str(value.shape) for value in values)
        raise ShapeError(f"adds arrays of the shapes {shapes}")
    factors = [1.0] * len(values) if factors is None else factors
    terms = [(value, _multiple(value, c)) for value, c in zip(values, factors, strict=True)]
    zero = torch.zeros(first.size, dtype=torch.float64, device=first.device)
    return Combination(first.shape, place, first.device, tuple(terms), zero)


def _multiple(value: Value, factor: float) -> Operator:
    if factor == 1.0:
        return Identity(value.size, value.device)
    diagonal = torch.full((value.size,), factor, dtype=torch.float64, device=value.device)
    return Diagonal(diagonal)


def scaled(value: Value, factor: Tensor, place: str, roundings: int = 0) -> Value:
    """factor x entry by entry, `factor` of a shape that broadcasts to that of x."""
    diagonal = _spread(factor, value)
    return mapped(value, Diagonal(diagonal), value.shape, place, roundings=roundings)


def shifted(value: Value, constant: Tensor, place: str) -> Value:
    """x + constant, of a shape that broadcasts to that of x."""
    same = Identity(value.size, value.device)
    return mapped(value, same, value.shape, place, _spread(constant, value))


def _spread(constant: Tensor, value: Value) -> Tensor:
    constant = constant.to(value.device, torch.float64)
    if not bool(constant.isfinite().all()):
        raise LipboundsError("takes a constant with entries that are not finite")
    try:
        return constant.expand(value.shape).reshape(-1).clone()
    except RuntimeError:
        raise ShapeError(
            f"takes a constant of shape {tuple(constant.shape)} for an array of shape {value.shape}"
        ) from None


def moved(values: Sequence[Value], function: Callable[..., Tensor], place: str) -> Value:
    """A function that only moves entries, repeats them or writes constants: transpositions, slices,
    padding, concatenations, expansions, nearest-neighbour resizing ...

    function: of arrays (2, *shape), one for each value and each with a batch of two, to an array
    (2, ...). It is called with the entries' numbers, other ones for the second input of the
    batch, and says where they go; what is the same for both is a constant. Raises UnsupportedError
    where it mixes the inputs of the batch, or computes instead of moving.
    """
    total = sum(value.size for value in values)
    if 2 * total >= LARGEST_LABEL:
        raise UnsupportedError("moves too many entries to be counted")
    labels, start = [], 1
    for value in values:
        own = torch.arange(start, start + value.size, dtype=torch.float64).reshape(value.shape)
        labels.append(torch.stack([own, own + total]))
        start += value.size
    given = function(*labels)
    if given.ndim == 0 or len(given) != 2:
        raise UnsupportedError("changes the batch dimension")
    source, other = (one.flatten() for one in given)
    fixed = source == other
    if not torch.equal(other[~fixed], source[~fixed] + total):
        raise UnsupportedError("mixes the inputs of a batch, or computes where it should move")
    # With other numbers too, or a comparison with a constant would pass for a move.
    for far in (FAR, -FAR):
        again = function(*(label * far for label in labels)).flatten()
        expected = torch.where(fixed.repeat(2), given.flatten(), far * given.flatten())
        if not torch.equal(again, expected):
            raise UnsupportedError("computes where it should move")
    index, device = torch.where(fixed, 0.0, source).long(), values[0].device
    if not torch.equal(index[~fixed].double(), source[~fixed]) or bool((index > total).any()):
        raise UnsupportedError("computes where it should move")
    terms, start = [], 1
    for value in values:
        operator = _selection(index - start, value.size, device)
        terms += [] if operator is None else [(value, operator)]
        start += value.size
    offset = torch.where(fixed, source, 0.0).to(device)
    return Combination(tuple(given.shape[1:]), place, device, tuple(terms), offset)


def _selection(index: Tensor, size: int, device: torch.device) -> Operator | None:
    """y_i = x[index_i], 0 where that is none of x's; None where all are 0."""
    rows = ((index >= 0) & (index < size)).nonzero()[:, 0]
    if len(rows) == 0:
        return None
    columns = index[rows]
    if len(index) == size == len(rows) and torch.equal(columns, rows):
        return Identity(size, device)
    one = torch.ones(len(rows), dtype=torch.float64, device=device)
    return Sparse(rows.to(device), columns.to(device), one, (len(index), size))


def features(value: Value, weight: Tensor, bias: Tensor | None, place: str) -> Value:
    """W x + b along the last dimension."""
    outer, count = value.shape[:-1], math.prod(value.shape[:-1])
    if count == 1:
        inner = reshaped(value, value.shape[-1:], place) if outer else value
        made = applied(inner, pieces.linear(weight, bias, inner.shape), place)
        return reshaped(made, (*outer, *made.shape), place) if outer else made
    turned = moved([value], lambda a: a.reshape(2, count, -1).mT, place)
    made = applied(turned, pieces.convolution(weight.unsqueeze(2), bias, turned.shape), place)
    return moved([made], lambda a: a.mT.reshape(2, *outer, -1), place)


def maximum(one: Value, other: Value, place: str) -> Value:
    """max(x, y) entry by entry, of values of one shape."""
    both = moved([one, other], lambda a, b: torch.stack([a, b], 1), place)
    own = torch.arange(one.size, device=one.device)
    stage = BetweenStage(own, own + one.size, both.size)
    return Staged(one.shape, place, one.device, both, stage)


def sorted_pair(one: Value, other: Value, place: str) -> tuple[Value, Value]:
    """(max(x, y), min(x, y)), of values of one shape, as (x + y) / 2 +- |x - y| / 2: that keeps the
    sum, which two maxima would lose (docs/theory.md, proposition 23)."""
    middle = added([one, other], place, [0.5, 0.5])
    half = added([one, other], place, [0.5, -0.5])
    stage = SlopeStage.uniform("abs", one.size, one.device)
    apart = Staged(one.shape, place, one.device, half, stage)
    return added([middle, apart], place), added([middle, apart], place, [1.0, -1.0])


def kept(value: Value, place: str) -> Value:
    """The value itself, past the stage that sorts others, as the sum of two halves: the halves of
    sorted pairs are as much less than these, so that what is added up is orthogonal again."""
    halves = added([moved([value], lambda a: torch.stack([a, a], 1), place)], place, [0.5])
    stage = SlopeStage.uniform("identity", halves.size, halves.device)
    past = Staged(halves.shape, place, halves.device, halves, stage)
    return summed(past, [0], False, 1.0, place)


def is_softsign(x: object, below: Value) -> bool:
    """Whether x / below is softsign written out, x / (1 + |x|)."""
    offset = torch.zeros(below.size, dtype=torch.float64, device=below.device)
    while isinstance(below, Combination) and len(below.terms) == 1:
        ((inner, operator),) = below.terms
        if not isinstance(operator, Identity):
            return False
        below, offset = inner, offset + below.offset
    if not isinstance(below, Staged) or not isinstance(below.stage, SlopeStage):
        return False
    names = [function.name for function, _ in below.stage.parts]
    return below.of is x and names == ["abs"] and bool((offset == 1).all())


def sorted_along(value: Value, axis: int, descending: bool, place: str) -> Value:
    """In order along one dimension of the array without its batch, by rounds in which neighbours
    change places. Raises UnsupportedError for more than LARGEST_GROUP of them."""
    count = value.shape[axis]
    if count > LARGEST_GROUP:
        raise UnsupportedError(f"sorts groups of {count}; at most {LARGEST_GROUP} are taken apart")
    given = [moved([value], lambda a, k=k: a.select(axis + 1, k), place) for k in range(count)]
    for turn in range(count):
        pairs = range(turn % 2, count - 1, 2)
        for k in pairs:
            larger, smaller = sorted_pair(given[k], given[k + 1], place)
            given[k : k + 2] = smaller, larger
        for k in set(range(count)).difference(pairs, (k + 1 for k in pairs)):
            given[k] = kept(given[k], place)
    given = given[::-1] if descending else given
    return moved(given, lambda *arrays: torch.stack(arrays, axis + 1), place)


def summed(value: Value, dims: Sequence[int], keep: bool, factor: float, place: str) -> Value:
    """factor times the sum over the dimensions `dims` >= 0 of the array without its batch."""
    kept = [1 if k in dims else n for k, n in enumerate(value.shape)]
    count = math.prod(kept)
    rows = torch.arange(count).reshape(kept).expand(value.shape).reshape(-1).to(value.device)
    columns = torch.arange(value.size, device=value.device)
    entries = torch.full((value.size,), factor, dtype=torch.float64, device=value.device)
    shape = kept if keep else [n for k, n in enumerate(value.shape) if k not in dims]
    operator = Sparse(rows, columns, entries, (count, value.size))
    mantissa, _ = math.frexp(abs(factor))
    return mapped(value, operator, shape, place, roundings=int(mantissa != 0.5))


def extreme_along(value: Value, dims: Sequence[int], keep: bool, sign: float, place: str) -> Value:
    """The largest entry over the dimensions `dims` >= 0 of the array without its batch; for sign -1
    the smallest, as minus the largest of -x."""
    others = [k for k in range(len(value.shape)) if k not in dims]
    kept = [1 if k in dims else n for k, n in enumerate(value.shape)]
    numbers = torch.arange(value.size, device=value.device).reshape(value.shape)
    windows = numbers.permute(*others, *dims).reshape(math.prod(kept), -1)
    shape = tuple(kept if keep else [value.shape[k] for k in others])
    signed = added([value], place, [sign])
    made = Staged(shape, place, value.device, signed, PoolStage(windows, value.size))
    return added([made], place, [sign])


def linear(
    value: Value, function: Callable[[Tensor], Tensor], place: str, roundings: int = 0
) -> Value:
    """Any linear function of arrays (b, *shape) to (b, ...), by what it makes of the unit vectors:
    as many evaluations, in blocks. roundings: of each entry of its matrix."""
    entries, shape = [], ()
    for columns in slices(value.size, 4 * value.size):
        unit = identity_rows(value.size, columns, value.device)
        given = function(unit.reshape(-1, *value.shape))
        shape, block = tuple(given.shape[1:]), given.flatten(1)
        column, row = block.nonzero(as_tuple=True)
        entries.append((row, column + columns.start, block[column, row]))
    rows, columns, values = (torch.cat(part) for part in zip(*entries, strict=True))
    if not bool(values.isfinite().all()):
        raise LipboundsError("takes a constant with entries that are not finite")
    operator = Sparse(rows, columns, values, (math.prod(shape), value.size))
    return mapped(value, operator, shape, place, roundings=roundings)

"""Maps between vectors that are made of parts, as values side by side in a network are."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from .operators import MIXED, Dense, Diagonal, Operator, Sparse


class Blocks(Operator):
    """(W x)_i = sum_j W_ij x_j, W_ij: R^(widths[j]) -> R^(heights[i]); 0 where there is none.

    No block is an ensemble.
    """

    def __init__(
        self,
        parts: Mapping[tuple[int, int], Operator],
        heights: Sequence[int],
        widths: Sequence[int],
        device: torch.device | str = "cpu",
    ):
        self.parts, self.heights, self.widths = dict(parts), tuple(heights), tuple(widths)
        self.shape, self._device = (sum(heights), sum(widths)), torch.device(device)

    def apply(self, x):
        inputs, outputs = x.split(self.widths, -1), [None] * len(self.heights)
        for (i, j), part in self.parts.items():
            outputs[i] = _added(outputs[i], part.apply(inputs[j]))
        return _side_by_side(outputs, self.heights, x)

    def adjoint(self, y):
        outputs, inputs = y.split(self.heights, -1), [None] * len(self.widths)
        for (i, j), part in self.parts.items():
            inputs[j] = _added(inputs[j], part.adjoint(outputs[i]))
        return _side_by_side(inputs, self.widths, y)

    def absolute(self):
        return self._absolute

    @cached_property
    def _absolute(self) -> "Blocks":
        return self.each(lambda part: part.absolute())

    def scaled(self, exponent):
        return self.each(lambda part: part.scaled(exponent))

    def majorant(self):
        return self._majorant

    @cached_property
    def _majorant(self) -> "Blocks":
        return self.each(lambda part: part.majorant())

    def each(self, change: Callable[[Operator], Operator]) -> "Blocks":
        """The same with every block changed."""
        return self.with_parts({place: change(part) for place, part in self.parts.items()})

    def with_parts(self, parts: Mapping[tuple[int, int], Operator]) -> "Blocks":
        return Blocks(parts, self.heights, self.widths, self._device)

    def restricted(self, rows, columns):
        """Blocks again, where rows and columns are those of whole parts."""
        chosen = self._parts_of(rows, self.heights), self._parts_of(columns, self.widths)
        if None in chosen:
            return super().restricted(rows, columns)
        at, from_ = ({part: k for k, part in enumerate(kept)} for kept in chosen)
        parts = {
            (at[i], from_[j]): part for (i, j), part in self.parts.items() if i in at and j in from_
        }
        sizes = [self.heights[i] for i in chosen[0]], [self.widths[j] for j in chosen[1]]
        return Blocks(parts, *sizes, self._device)

    @staticmethod
    def _parts_of(index: Tensor | None, sizes: Sequence[int]) -> list[int] | None:
        """The parts whose entries, in their order, `index` lists; None where it lists others."""
        if index is None:
            return list(range(len(sizes)))
        ends = list(pairwise(accumulate(sizes, initial=0)))
        if not bool((index[1:] > index[:-1]).all()):
            return None
        below = torch.searchsorted(index, index.new_tensor([0, *(b for _, b in ends)])).tolist()
        listed = [b - a for a, b in pairwise(below)]
        if any(count not in (0, size) for count, size in zip(listed, sizes, strict=True)):
            return None
        return [k for k, count in enumerate(listed) if count] or None

    def materialized(self):
        """A matrix of the blocks' matrices, dense where one of them is."""
        parts = {place: part.materialized() for place, part in self.parts.items()}
        if any(isinstance(part, Dense) for part in parts.values()):
            return Dense(self._dense())
        rows, columns = (list(accumulate(s, initial=0)) for s in (self.heights, self.widths))
        entries = []
        for (i, j), part in parts.items():
            index, values = _entries(part)
            entries.append((index[0] + rows[i], index[1] + columns[j], values))
        if not entries:
            nothing = torch.zeros(0, dtype=torch.long, device=self._device)
            entries = [(nothing, nothing, nothing.double())]
        return Sparse(*(torch.cat(part) for part in zip(*entries, strict=True)), self.shape)

    def _dense(self) -> Tensor:
        whole = torch.zeros(self.shape, dtype=torch.float64, device=self._device)
        for (i, j), part in self.parts.items():
            row, column = sum(self.heights[:i]), sum(self.widths[:j])
            size = part.shape
            unit = torch.eye(size[1], dtype=torch.float64, device=self._device)
            whole[row : row + size[0], column : column + size[1]] += part.apply(unit).mT
        return whole

    @property
    def terms(self):
        return self.crossings * max((part.terms + 1 for part in self.parts.values()), default=0)

    @property
    def plain(self):
        return all(part.plain for part in self.parts.values())

    @property
    def crossings(self) -> int:
        """The most blocks in one row or column, and at least 1."""
        rows, columns = (Counter(place[k] for place in self.parts) for k in (0, 1))
        return max([1, *rows.values(), *columns.values()])

    @property
    def row_entries(self):
        counts = Counter()
        for (i, _), part in self.parts.items():
            counts[i] += part.row_entries
        return max(counts.values(), default=0)

    @property
    def single_rows(self):
        rows = [i for i, _ in self.parts]
        alone = len(set(rows)) == len(rows)
        return alone and all(part.single_rows for part in self.parts.values())

    @property
    def single_columns(self):
        columns = [j for _, j in self.parts]
        alone = len(set(columns)) == len(columns)
        return alone and all(part.single_columns for part in self.parts.values())

    @property
    def cost(self):
        return sum(part.cost for part in self.parts.values())

    @property
    def device(self):
        return self._device


def _added(sum_: Tensor | None, term: Tensor) -> Tensor:
    return term if sum_ is None else sum_ + term


def _side_by_side(parts: Sequence[Tensor | None], sizes: Sequence[int], like: Tensor) -> Tensor:
    """The parts as one vector, None being zeros."""
    whole = [
        like.new_zeros(*like.shape[:-1], size) if part is None else part
        for part, size in zip(parts, sizes, strict=True)
    ]
    return torch.cat(whole, -1)


def _entries(matrix: Operator) -> tuple[Tensor, Tensor]:
    """Indices (2, k) and values (k,) of a matrix that is not dense."""
    if isinstance(matrix, Sparse):
        return matrix.coo.indices(), matrix.coo.values()
    own = torch.arange(matrix.shape[0], device=matrix.device)
    one = torch.ones(len(own), dtype=torch.float64, device=matrix.device)
    values = matrix.diagonal if isinstance(matrix, Diagonal) else one
    return torch.stack([own, own]), values


class Sum(Operator):
    """W_1 + W_2 + ... of one shape, none of them an ensemble."""

    plain = False

    def __init__(self, summands: Sequence[Operator]):
        self.parts = dict(enumerate(summands))
        self.shape = summands[0].shape

    def apply(self, x):
        return sum(one.apply(x) for one in self.parts.values())

    def adjoint(self, y):
        return sum(one.adjoint(y) for one in self.parts.values())

    def absolute(self):
        return self._absolute

    @cached_property
    def _absolute(self) -> Operator:
        large = self.shape[1] * self.cost > MIXED
        return self.majorant() if large else self.materialized().absolute()

    @property
    def crossings(self) -> int:
        """How many there are."""
        return len(self.parts)

    def with_parts(self, parts: Mapping[int, Operator]) -> "Sum":
        return Sum(list(parts.values()))

    def each(self, change: Callable[[Operator], Operator]) -> "Sum":
        """The same with every summand changed."""
        return Sum([change(one) for one in self.parts.values()])

    def scaled(self, exponent):
        return self.each(lambda one: one.scaled(exponent))

    def majorant(self):
        return self.each(lambda one: one.majorant())

    @property
    def row_entries(self):
        return min(self.shape[1], sum(one.row_entries for one in self.parts.values()))

    @property
    def terms(self):
        return sum(one.terms + 1 for one in self.parts.values())

    @property
    def cost(self):
        return sum(one.cost for one in self.parts.values())

    @property
    def device(self):
        return self.parts[0].device

"""Linear maps: apply, adjoint, entrywise absolute value; and what follows from those three.

Every operator acts on the last dimension of a float64 tensor, `(..., n) -> (..., m)`; images are
flattened in C, H, W order inside, so that flatten and reshape are the identity. All leading
dimensions are batch dimensions. A `Dense` weight may itself carry leading dimensions `(S, m, n)`:
then the operator is an ensemble of S maps that share one shape.
"""

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property, reduce

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from ..arithmetic.rounding import times_power
from ..errors import LipboundsError, ShapeError

BLOCK_ENTRIES = 2**23  # 64 MiB of float64: what one block of rows or columns may take
MANY = 64  # vectors at a time, from which on it pays to form a product that is smaller
FEW_POSITIONS, MANY_IMAGES, MANY_CHANNELS = 32, 16, 128  # where convolutions are as matrices
MIXED = 1e10  # multiply-adds up to which a product is formed for its entries' absolute values


class Operator(ABC):
    """A linear map R^n -> R^m; `shape` is (m, n)."""

    shape: tuple[int, int]
    batch_shape: tuple[int, ...] = ()
    single_rows = single_columns = False  # no row, no column of W has two entries
    parts: Mapping = {}  # of blocks or of a sum
    plain = True  # its entries as a matrix are numbers that it holds, not products or sums of them

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """W x for x of shape (..., n); returns (..., m)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """W^T y for y of shape (..., m); returns (..., n)."""

    @abstractmethod
    def absolute(self) -> "Operator":
        """The operator of the entrywise absolute values |W|; of a product or a sum that would take
        long to form, the majorant."""

    def majorant(self) -> "Operator":
        """An operator M >= |W| with |computed W x - W x| <= gamma(terms) M |x|."""
        return self.absolute()

    @property
    def entries(self) -> Tensor:
        """The numbers the operator is made of, of leading dimensions `batch_shape`. The identity,
        and what is made of operators, have none of their own."""
        raise NotImplementedError(f"a {type(self).__name__} has no entries")

    def scaled(self, exponent: Tensor) -> "Operator":
        """2^exponent W, exponent of shape `batch_shape`."""
        raise NotImplementedError(f"a {type(self).__name__} has no entries to scale")

    def restricted(self, rows: Tensor | None, columns: Tensor | None) -> "Operator":
        """W_IJ, the rows and columns of the given indices; None for all of them."""
        operator = self
        if rows is not None:
            operator = compose(_selection(rows, self.shape[0]), operator)
        if columns is not None:
            operator = compose(operator, _selection(columns, self.shape[1], transposed=True))
        return operator

    def materialized(self) -> "Dense | Sparse | Diagonal | Identity":
        """The map as one matrix, dense where a factor is: the same if it is `plain`, else with the
        roundings of its products and sums, at most gamma(terms) times the majorant."""
        if any(isinstance(factor, Dense) for factor in self.factors):
            return Dense(dense(self))
        m, n = self.shape
        entries = []
        for columns in slices(n, max(m, n)):
            block = self.apply(identity_rows(n, columns, self.device))
            column, row = block.nonzero(as_tuple=True)
            entries.append((row, column + columns.start, block[column, row]))
        return Sparse(*(torch.cat(part) for part in zip(*entries, strict=True)), self.shape)

    @cached_property
    def csr(self) -> sp.csr_array:
        """As a SciPy matrix, on the CPU."""
        matrix = self.materialized()
        return sp.csr_array(dense(matrix).numpy()) if matrix is self else matrix.csr

    @property
    def as_convolution(self) -> "Convolution | None":
        """The same map as one convolution, up to a rounding of its kernel for each other factor;
        None where it is none."""
        return None

    @property
    def factors(self) -> tuple["Operator", ...]:
        """The operators that it is the product of, the last one applied first: a composition's own,
        else the operator alone."""
        return (self,)

    @property
    def row_entries(self) -> int:
        """At least the most nonzeros in a row of W."""
        return self.shape[1]

    @property
    @abstractmethod
    def terms(self) -> int:
        """The greatest number of terms summed up for one entry of W x or W^T y."""

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    def cost(self) -> int:
        """Multiply-adds of one W x, for one member of an ensemble."""
        return self.entries.numel() // math.prod(self.batch_shape)


class Dense(Operator):
    """A matrix (..., m, n); leading dimensions make an ensemble."""

    def __init__(self, weight: Tensor):
        self.weight = weight
        self.shape = (weight.shape[-2], weight.shape[-1])
        self.batch_shape = tuple(weight.shape[:-2])

    def apply(self, x):
        if x.ndim == 1:
            return (self.weight @ x.unsqueeze(-1)).squeeze(-1)
        return x @ self.weight.mT

    def adjoint(self, y):
        if y.ndim == 1:
            return (self.weight.mT @ y.unsqueeze(-1)).squeeze(-1)
        return y @ self.weight

    def absolute(self):
        return Dense(self.weight.abs())

    def materialized(self):
        return self

    @property
    def entries(self):
        return self.weight

    def scaled(self, exponent):
        return Dense(times_power(self.weight, exponent[..., None, None]))

    @property
    def terms(self):
        return max(self.shape)

    @property
    def device(self):
        return self.weight.device


class Diagonal(Operator):
    """diag(d) for d of shape (n,)."""

    single_rows = single_columns = True
    row_entries = 1

    def __init__(self, diagonal: Tensor):
        self.diagonal = diagonal
        self.shape = (len(diagonal), len(diagonal))

    def apply(self, x):
        return x * self.diagonal

    adjoint = apply

    def absolute(self):
        return Diagonal(self.diagonal.abs())

    def materialized(self):
        return self

    @property
    def entries(self):
        return self.diagonal

    def scaled(self, exponent):
        return Diagonal(times_power(self.diagonal, exponent))

    terms = 1

    @property
    def device(self):
        return self.diagonal.device


class Identity(Operator):
    """The identity of R^n: flatten, reshape, dropout in eval mode."""

    terms = cost = 0
    single_rows = single_columns = True
    row_entries = 1

    def __init__(self, size: int, device: torch.device | str = "cpu"):
        self.shape = (size, size)
        self._device = torch.device(device)

    def apply(self, x):
        return x

    adjoint = apply

    def absolute(self):
        return self

    def materialized(self):
        return self

    def scaled(self, exponent):
        one = torch.ones(self.shape[0], dtype=torch.float64, device=self._device)
        return Diagonal(times_power(one, exponent))

    @property
    def device(self):
        return self._device


class Sparse(Operator):
    """A sparse matrix, held in both row orders so that W x and W^T y are equally fast."""

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]):
        index = torch.stack([rows, columns])
        matrix = torch.sparse_coo_tensor(index, values, shape, check_invariants=False).coalesce()
        # Zeros leave the pattern only now: entries at one place may have cancelled.
        keep = matrix.values() != 0
        if not bool(keep.all()):
            matrix = torch.sparse_coo_tensor(
                matrix.indices()[:, keep], matrix.values()[keep], shape, check_invariants=False
            ).coalesce()
        self.shape = (int(shape[0]), int(shape[1]))
        self.coo = matrix

    @cached_property
    def _forward(self) -> Tensor:
        return _compressed(self.coo)

    @cached_property
    def _backward(self) -> Tensor:
        return _compressed(self.coo.t().coalesce())

    def apply(self, x):
        return _sparse_product(self._forward, x)

    def adjoint(self, y):
        return _sparse_product(self._backward, y)

    def absolute(self):
        return self._absolute

    @cached_property
    def _absolute(self) -> "Sparse":
        return self._with(self.coo.values().abs())

    @property
    def entries(self):
        return self.coo.values()

    def scaled(self, exponent):
        return self._with(times_power(self.coo.values(), exponent))

    def materialized(self):
        return self

    @cached_property
    def csr(self):
        rows, columns = self.coo.indices().numpy()
        return sp.csr_array((self.coo.values().numpy(), (rows, columns)), self.shape)

    def _with(self, values: Tensor) -> "Sparse":
        """The same pattern, which needs no sorting again."""
        other = object.__new__(Sparse)
        other.shape = self.shape
        other.coo = torch.sparse_coo_tensor(
            self.coo.indices(), values, self.shape, check_invariants=False, is_coalesced=True
        )
        return other

    @property
    def terms(self):
        return max(self._most)

    @property
    def row_entries(self):
        return self._most[0]

    @property
    def single_rows(self):
        return self._most[0] <= 1

    @property
    def single_columns(self):
        return self._most[1] <= 1

    @cached_property
    def _most(self) -> tuple[int, int]:
        """Entries in one row, and in one column."""
        rows, columns = self.coo.indices()
        return tuple(int(torch.bincount(i, minlength=1).max()) for i in (rows, columns))

    @property
    def device(self):
        return self.coo.device


def _compressed(matrix: Tensor) -> Tensor:
    """Row-compressed, without PyTorch's notice that this layout is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def _sparse_product(matrix: Tensor, x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    return (matrix @ flat.mT.contiguous()).mT.reshape(*x.shape[:-1], matrix.shape[0])


def _by_sums(device: torch.device):
    """Where convolutions err by gamma(terms) at most: cuDNN may take the FFT, which does not."""
    return nullcontext() if device.type == "cpu" else torch.backends.cudnn.flags(enabled=False)


class Convolution(Operator):
    """Cross-correlation of a (C, H, W) image with a kernel (C', C/groups, kh, kw), zero padding.

    `padding` is (left, right, top, bottom), as `torch.nn.functional.pad` takes it.
    """

    def __init__(
        self,
        kernel: Tensor,
        image_shape: tuple[int, int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ):
        self.kernel, self.image_shape, self.groups = kernel, tuple(image_shape), groups
        self.stride, self.padding, self.dilation = tuple(stride), tuple(padding), tuple(dilation)
        left, right, top, bottom = padding
        self.padded = (image_shape[1] + top + bottom, image_shape[2] + left + right)
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[2:], strict=True)]
        out = [(p - r) // s + 1 for p, r, s in zip(self.padded, reach, stride, strict=True)]
        if min(out) < 1:
            raise ShapeError(
                f"convolution kernel reaching over {tuple(reach)} pixels does not fit its padded "
                f"input of {self.padded} pixels"
            )
        self.out_shape = (kernel.shape[0], *out)
        self._uncovered = [
            p - ((o - 1) * s + r)
            for p, o, s, r in zip(self.padded, out, stride, reach, strict=True)
        ]
        self.shape = (math.prod(self.out_shape), math.prod(self.image_shape))

    def apply(self, x):
        image = F.pad(x.reshape(-1, *self.image_shape), self.padding)
        with _by_sums(x.device):
            y = F.conv2d(image, self.kernel, None, self.stride, 0, self.dilation, self.groups)
        return y.reshape(*x.shape[:-1], self.shape[0])

    def adjoint(self, y):
        image = y.reshape(-1, *self.out_shape)
        x = transposed(image, self.kernel, self.stride, self.dilation, self.groups)
        x = F.pad(x, (0, self._uncovered[1], 0, self._uncovered[0]))
        left, _, top, _ = self.padding
        x = x[..., top : top + self.image_shape[1], left : left + self.image_shape[2]]
        return x.reshape(*y.shape[:-1], self.shape[1])

    @property
    def as_convolution(self):
        return self

    def absolute(self):
        return self.with_kernel(self.kernel.abs())

    @property
    def entries(self):
        return self.kernel

    def scaled(self, exponent):
        return self.with_kernel(times_power(self.kernel, exponent))

    def materialized(self):
        return Sparse(*self._placed(torch.arange(self.shape[0], device=self.device)), self.shape)

    def formed(self) -> Tensor:
        """Its matrix, (m, n)."""
        matrix = self.kernel.new_zeros(self.shape)
        rows, columns, values = self._placed(torch.arange(self.shape[0], device=self.device))
        matrix[rows, columns] = values
        return matrix

    @cached_property
    def csr(self):
        return self.csr_rows(np.arange(self.shape[0]))

    def csr_rows(self, index: np.ndarray) -> sp.csr_array:
        """The rows of these indices, as a SciPy matrix, on the CPU."""
        rows, columns, values = (x.numpy() for x in self._placed(torch.from_numpy(index)))
        starts = np.searchsorted(rows, np.arange(len(index) + 1))
        found = sp.csr_array((values, columns, starts), (len(index), self.shape[1]))
        found.eliminate_zeros()
        return found

    def _placed(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The entries of the rows `index`: in which of them, the column, the number; row by row,
        each in the order of its columns."""
        outputs, inputs, *taps = self.kernel.shape
        height, width = self.image_shape[1:]
        positions = math.prod(self.out_shape[1:])
        channel, position = index // positions, index % positions
        at = position // self.out_shape[2], position % self.out_shape[2]
        pads = self.padding[2], self.padding[0]
        row, column = (
            (at[k] * self.stride[k] - pads[k])[:, None]
            + self.dilation[k] * torch.arange(taps[k], device=index.device)
            for k in (0, 1)
        )
        inside = (row >= 0) & (row < height), (column >= 0) & (column < width)
        pixel = row[:, :, None] * width + column[:, None, :]
        first = channel // (outputs // self.groups) * inputs
        plane = first[:, None] + torch.arange(inputs, device=index.device)
        columns = plane[:, :, None, None] * (height * width) + pixel[:, None]
        held = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).expand_as(columns)
        rows = torch.arange(len(index), device=index.device)[:, None, None, None]
        return rows.expand_as(columns)[held], columns[held], self.kernel[channel][held]

    def with_kernel(self, kernel: Tensor) -> "Convolution":
        return Convolution(
            kernel, self.image_shape, self.stride, self.padding, self.dilation, self.groups
        )

    @property
    def row_entries(self):
        return self.kernel[0].numel()

    @property
    def cost(self):
        return self.kernel.numel() * math.prod(self.out_shape[1:])

    @property
    def terms(self):
        outputs, inputs, height, width = self.kernel.shape
        return max(inputs, outputs // self.groups) * height * width

    @property
    def device(self):
        return self.kernel.device


def transposed(
    image: Tensor,
    kernel: Tensor,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """The transposed convolution of the images (b, outputs, h, w) by a kernel (outputs, inputs /
    groups, kh, kw), without cropping: (b, inputs, h', w')."""
    small = math.prod(image.shape[2:]) <= FEW_POSITIONS and len(image) >= MANY_IMAGES
    if small and image.device.type == "cpu" and (groups > 1 or len(kernel) >= MANY_CHANNELS):
        return _transposed_by_taps(image, kernel, stride, dilation, groups)
    with _by_sums(image.device):
        return F.conv_transpose2d(image, kernel, None, stride, 0, 0, groups, dilation)


def _transposed_by_taps(image: Tensor, kernel: Tensor, stride, dilation, groups: int) -> Tensor:
    """All images in one product of matrices: PyTorch has one for each, and each group."""
    (outputs, inputs, *taps), (count, _, *sides) = kernel.shape, image.shape
    by_taps = kernel.permute(0, 2, 3, 1).reshape(groups, outputs // groups, -1)
    products = image.permute(1, 0, 2, 3).reshape(groups, outputs // groups, -1).mT @ by_taps
    products = products.reshape(groups, count, *sides, *taps, inputs)
    spans = [(n - 1) * step for n, step in zip(sides, stride, strict=True)]
    reach = [s + (t - 1) * d + 1 for s, t, d in zip(spans, taps, dilation, strict=True)]
    found = image.new_zeros(groups, count, *reach, inputs)
    for tap in itertools.product(*map(range, taps)):
        at = [
            slice(t * d, t * d + span + 1, step)
            for t, d, span, step in zip(tap, dilation, spans, stride, strict=True)
        ]
        found[:, :, *at] += products[..., *tap, :]
    return found.permute(1, 0, 4, 2, 3).reshape(count, -1, *reach)


class Composition(Operator):
    """The product of its factors, the last one applied first: Composition([B, A]) x = B A x."""

    plain = False

    def __init__(self, factors: Sequence[Operator]):
        self._factors = tuple(factors)
        self.shape = (factors[0].shape[0], factors[-1].shape[1])
        self.batch_shape = next((f.batch_shape for f in factors if f.batch_shape), ())

    @property
    def factors(self):
        return self._factors

    @property
    def as_convolution(self):
        """Of a convolution and of diagonals that are constant on each channel."""
        kinds = [isinstance(factor, Convolution) for factor in self.factors]
        if sum(kinds) != 1 or not all(isinstance(f, Convolution | Diagonal) for f in self.factors):
            return None
        place = kinds.index(True)
        one = self.factors[place]
        outputs, inputs, *taps = one.kernel.shape
        kernel = one.kernel.reshape(one.groups, outputs // one.groups, inputs, *taps)
        for k, factor in enumerate(self.factors):
            channels = (one.out_shape if k < place else one.image_shape)[0]
            if k != place:
                each = factor.diagonal.reshape(channels, -1)
                if not bool((each == each[:, :1]).all()):
                    return None
                shape = (one.groups, -1, 1, 1, 1) if k < place else (one.groups, 1, -1, 1, 1)
                kernel = kernel * each[:, 0].reshape(shape)
        return one.with_kernel(kernel.reshape(one.kernel.shape))

    def apply(self, x):
        if x.ndim == 1 and self.batch_shape:  # between two ensembles, a member's vector is a row
            return self.apply(x.unsqueeze(0)).squeeze(-2)
        factors = self._factors_for(x)
        return reduce(lambda value, factor: factor.apply(value), reversed(factors), x)

    def adjoint(self, y):
        if y.ndim == 1 and self.batch_shape:
            return self.adjoint(y.unsqueeze(0)).squeeze(-2)
        return reduce(lambda value, factor: factor.adjoint(value), self._factors_for(y), y)

    def _factors_for(self, x: Tensor) -> tuple[Operator, ...]:
        """Shortened where there are vectors enough to pay for it."""
        return self.shortened if x[..., 0].numel() >= MANY else self.factors

    @cached_property
    def shortened(self) -> tuple[Operator, ...]:
        """Factors of the same product, where a matrix B behind a sparse A (k, n), n < k, is formed
        with it. An entry of B A is a sum of at most terms(A) products and an application sums
        max(m, n) <= terms(B), so that the roundings are those that `terms` counts."""
        found = [self.factors[0]]
        for factor in self.factors[1:]:
            tall = isinstance(factor, Sparse) and factor.shape[1] < factor.shape[0]
            if tall and isinstance(found[-1], Dense) and not found[-1].batch_shape:
                found[-1] = Dense(factor.adjoint(found[-1].weight))
            else:
                found.append(factor)
        return tuple(found)

    def absolute(self):
        """|B A|, which is |B| |A| where no entry of the product is a sum: where no row of B, or no
        column of A, has two entries."""
        mixing = next((k for k, f in enumerate(self.factors) if not f.single_rows), -1)
        if mixing < 0 or all(f.single_columns for f in self.factors[mixing + 1 :]):
            return Composition([factor.absolute() for factor in self.factors])
        if self.shape[1] * self.cost > MIXED:
            return self.majorant()
        return self.materialized().absolute()

    def majorant(self):
        return Composition([factor.majorant() for factor in self.factors])

    def scaled(self, exponent):
        first, *others = self.factors
        return Composition([first.scaled(exponent), *others])

    @property
    def row_entries(self):
        return min(self.shape[1], math.prod(factor.row_entries for factor in self.factors))

    @property
    def single_rows(self):
        return all(factor.single_rows for factor in self.factors)

    @property
    def single_columns(self):
        return all(factor.single_columns for factor in self.factors)

    @property
    def cost(self):
        return sum(factor.cost for factor in self.factors)

    @property
    def terms(self):
        return sum(factor.terms + 1 for factor in self.factors)

    @property
    def device(self):
        return self.factors[0].device


def compose(outer: Operator, inner: Operator) -> Operator:
    """outer . inner as one operator, identities dropped and nested products flattened.

    Raises LipboundsError where the sizes do not chain.
    """
    if outer.shape[1] != inner.shape[0]:
        raise LipboundsError(
            f"cannot compose a map of {outer.shape[1]} inputs with one of {inner.shape[0]} outputs"
        )
    factors = [
        factor
        for operator in (outer, inner)
        for factor in operator.factors
        if not isinstance(factor, Identity)
    ]
    if not factors:
        return outer
    return factors[0] if len(factors) == 1 else Composition(factors)


def _selection(index: Tensor, size: int, transposed: bool = False) -> Sparse:
    """x -> x[index], or its transpose."""
    one = torch.ones(len(index), dtype=torch.float64, device=index.device)
    place = torch.arange(len(index), device=index.device)
    if transposed:
        return Sparse(index, place, one, (size, len(index)))
    return Sparse(place, index, one, (len(index), size))


def slices(size: int, width: int) -> Iterator[slice]:
    """Slices of range(size) such that a block of `width`-entry rows stays within memory."""
    step = max(1, BLOCK_ENTRIES // max(1, width))
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def identity_rows(size: int, rows: slice, device: torch.device) -> Tensor:
    """Rows `rows` of the identity of R^size, (b, size)."""
    count = rows.stop - rows.start
    block = torch.zeros(count, size, dtype=torch.float64, device=device)
    block[torch.arange(count), torch.arange(rows.start, rows.stop)] = 1.0
    return block


def dense(operator: Operator) -> Tensor:
    """The matrix of the operator, (..., m, n)."""
    if isinstance(operator, Dense):
        return operator.weight
    if isinstance(operator, Sparse):
        return operator.coo.to_dense()
    if isinstance(operator, Convolution):
        return operator.formed()
    m, n = operator.shape
    if m < n:
        return operator.adjoint(identity_rows(m, slice(0, m), operator.device))
    return operator.apply(identity_rows(n, slice(0, n), operator.device)).mT


def average_pooling(windows: Tensor, inside: Tensor, divisor: Tensor, size: int) -> Sparse:
    """The average over windows: windows (m, w) of flat input indices, `inside` masks padding,
    `divisor` (m,) what each window's sum is divided by."""
    rows = torch.arange(len(windows), device=windows.device).unsqueeze(1).expand_as(windows)
    values = (1.0 / divisor).unsqueeze(1).expand(windows.shape)
    return Sparse(rows[inside], windows[inside], values[inside], (len(windows), size))

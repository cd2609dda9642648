"""The spectral norm of a convolution by Fourier, certified frequency by frequency.

Zero padding embeds a convolution in a circular one on a torus, which splits into one matrix of the
size of its channels for each frequency (docs/theory.md, proposition 24).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.definite import greatest_estimated, semidefinite
from ..arithmetic.rounding import gamma, outward
from ..clock import watched
from .operators import Convolution, slices

FINE = 32  # positions of the torus for each degree of the symbols, beyond which it may be coarser:
# that costs half a per cent of the norm at most
TURNS = 20  # of the power iterations that tell which frequencies to look at
LOOKED_AT = 4  # of those at a time
CLOSE = 1e-9  # what a certified eigenvalue exceeds the one that is found by, relative to it
LEAST = 1e-200  # and at least
Pair = tuple[int, int]
MOST_HELD = 2**26  # numbers in the products of all pairs of taps, 512 MiB
ROOT = 70  # roundings in a product of two roots of unity: computed angles, cosines and sines


def torus_norm(convolution: Convolution) -> Tensor:
    """An upper bound of || W ||_2, for a kernel of numbers up to about 1: the norm of the circular
    convolution on the torus that holds the padded image, or at most half a per cent above it."""
    grid, squares = _Grid.of(convolution), _squares_of(convolution)
    squared = convolution.kernel.new_zeros(())
    blocks = list(slices(grid.count, squares.entries))
    for rows in watched(blocks, "a convolution's symbols"):
        squared = raised(squared, *squares.gram(rows))
    return outward(grid.between * (squared.sqrt() + squares.error), 4)


def torus_cost(convolution: Convolution) -> int:
    """Multiply-adds of its norm, about: the symbols' Gram matrices, and Cholesky's method."""
    squares = _squares_of(convolution)
    return squares.cost + 8 * _Grid.of(convolution).count * convolution.groups * squares.side**3


@dataclass(frozen=True)
class _Grid:
    """The frequencies theta that are looked at: of two conjugate ones one is taken. between: the
    greatest norm over all frequencies is at most that over these times this."""

    sizes: Pair
    half: int  # of those along the second axis; the other ones are conjugate
    between: float

    @classmethod
    def of(cls, convolution: Convolution) -> "_Grid":
        sizes, between = [], 1.0
        for axis, taps in enumerate(convolution.kernel.shape[2:]):
            stride = convolution.stride[axis]
            degree = -(-(convolution.dilation[axis] * (taps - 1) + 1) // stride) - 1
            whole = -(-convolution.padded[axis] // stride)
            sizes.append(min(whole, FINE * degree + 1))
            if sizes[axis] < whole:
                between /= math.cos(math.pi * degree / sizes[axis])
        return cls(tuple(sizes), sizes[1] // 2 + 1, math.sqrt(between) * (1 + 1e-14))

    @property
    def count(self) -> int:
        return self.sizes[0] * self.half

    def indices(self, rows: slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Along each axis, of the frequencies `rows`."""
        index = torch.arange(rows.start, rows.stop, device=device)
        return index // self.half, index % self.half


class _Symbols:
    """M(theta) = (s_1 s_2)^(-1/2) [K(omega)]_omega, side by side over the frequencies omega that
    alias to theta; K(omega) = sum_t k_t exp(i omega t). Groups count as further frequencies.

    error: what the norm of a computed symbol may be wrong by.
    """

    def __init__(self, convolution: Convolution):
        self.grid, self.kernel = _Grid.of(convolution), _by_groups(convolution)
        self.taps, self.dilation = convolution.kernel.shape[2:], convolution.dilation
        self.stride, self.aliases = convolution.stride, math.prod(convolution.stride)
        self.groups, outputs, inputs, taps = self.kernel.shape
        self.shape = outputs, inputs * self.aliases
        self.side = min(self.shape)
        self.error = gamma(2 * taps + 2 * ROOT) * _schur(self.kernel)

    @property
    def cost(self) -> int:
        """Multiply-adds of all Gram matrices."""
        each = math.prod(self.shape) * (math.prod(self.taps) + self.side)
        return 4 * self.grid.count * self.groups * each

    @property
    def entries(self) -> int:
        """Numbers that one frequency takes in all groups."""
        each = math.prod(self.shape) + self.aliases * math.prod(self.taps) + 4 * self.side**2
        return 2 * self.groups * each

    def gram(self, rows: slice) -> tuple[Tensor, Tensor]:
        """M M* or M* M, whichever is smaller, as real symmetric matrices of twice the size, and
        what their norms may be wrong by as products of the computed symbols, (b, ...)."""
        indices = self.grid.indices(rows, self.kernel.device)
        roots_ = [self._roots(index, axis) for axis, index in enumerate(indices)]
        # (b, alias, tap) along each axis to (b, aliases, taps)
        both = roots_[0][:, :, None, :, None] * roots_[1][:, None, :, None, :]
        both = both.reshape(len(indices[0]), self.aliases, -1)
        symbol = torch.einsum("bat,goit->bgoai", both, self.kernel.to(both.dtype))
        symbol = symbol.flatten(3).flatten(0, 1) / math.sqrt(self.aliases)
        product = symbol @ symbol.mH if symbol.shape[1] <= symbol.shape[2] else symbol.mH @ symbol
        squares = outward(product.diagonal(dim1=1, dim2=2).real.sum(-1), 2 * sum(symbol.shape[1:]))
        return real_symmetric(product), gamma(4 * sum(symbol.shape[1:])) * squares

    def _roots(self, index: Tensor, axis: int) -> Tensor:
        """exp(i omega t) for the frequencies that alias to each, (b, stride, taps)."""
        size, stride = self.grid.sizes[axis], self.stride[axis]
        alias = index[:, None] + size * torch.arange(stride, device=index.device)
        return roots(alias, size * stride, self.taps[axis], self.dilation[axis])


class _Products:
    """The same Gram matrices from the products of two taps: M M* is the sum over t - t' = d of k_t
    k_t'^T times exp(i omega d), whose mean over the aliases is 0 unless s divides d; without
    strides M* M likewise. They are formed once for all frequencies.

    error: none but that of the Gram matrices.
    """

    error = 0.0

    def __init__(self, convolution: Convolution):
        self.grid, kernel = _Grid.of(convolution), _by_groups(convolution)
        first = kernel.shape[1] <= kernel.shape[2] or math.prod(convolution.stride) > 1
        self.kernel = kernel if first else kernel.transpose(1, 2)
        self.taps, self.dilation = convolution.kernel.shape[2:], convolution.dilation
        self.stride = convolution.stride
        self.groups, self.side, self.length, _ = self.kernel.shape
        self.apart = [d for d in self._differences() if d >= (0, 0)]

    def _differences(self) -> Iterator[Pair]:
        """Of two taps, those whose reach the strides divide."""
        each = [
            [d for d in range(1 - n, n) if d * self.dilation[axis] % self.stride[axis] == 0]
            for axis, n in enumerate(self.taps)
        ]
        return itertools.product(*each)

    @property
    def cost(self) -> int:
        pairs = sum((self.taps[0] - a) * (self.taps[1] - abs(b)) for a, b in self.apart)
        times = pairs * self.length + 2 * self.grid.count * len(self.apart)
        return self.groups * self.side**2 * times

    @property
    def held(self) -> int:
        """Numbers that the products take."""
        return 2 * len(self.apart) * self.groups * self.side**2

    @property
    def entries(self) -> int:
        return 10 * self.groups * self.side**2

    def gram(self, rows: slice) -> tuple[Tensor, Tensor]:
        """As `_Symbols.gram`."""
        indices = self.grid.indices(rows, self.kernel.device)
        turns = [self._turns(index, axis) for axis, index in enumerate(indices)]
        both = torch.stack([turns[0][:, a] * turns[1][:, b] for a, b in self._places], -1)
        even, odd = self._even_and_odd
        shape = -1, self.side, self.side
        matrices = (both.real @ even).reshape(shape)
        if len(self.apart) > 1:
            matrices = torch.complex(matrices, (both.imag @ odd).reshape(shape))
        count = self.kernel.shape[-1] * self.length + len(self.apart) + 2 * ROOT + 10
        error = 2 * gamma(count) * _schur(self.kernel) ** 2
        return real_symmetric(matrices), error.expand(len(matrices))

    @property
    def _places(self) -> list[Pair]:
        return [(a, b + self.taps[1] - 1) for a, b in self.apart]

    def _turns(self, index: Tensor, axis: int) -> Tensor:
        """exp(i omega d) of the differences 0, 1, ... of taps along the first axis, and 1 - n, 2 -
        n, ... along the second, (b, differences)."""
        size = self.grid.sizes[axis] * self.stride[axis]
        first = 0 if axis == 0 else 1 - self.taps[1]
        apart = torch.arange(first, self.taps[axis], device=index.device) * self.dilation[axis]
        return unit_roots(index[:, None] * apart % size, size)

    @cached_property
    def _even_and_odd(self) -> tuple[Tensor, Tensor]:
        """T_d + T_d^T and T_d - T_d^T, T_d the sum of the products of taps d apart, and T_0 itself;
        (differences, groups * side * side)."""
        image = self.kernel.unflatten(-1, tuple(self.taps))
        even, odd = [], []
        for a, b in self.apart:
            ahead = image[..., a:, max(b, 0) : self.taps[1] + min(b, 0)]
            behind = image[..., : self.taps[0] - a, max(-b, 0) : self.taps[1] - max(b, 0)]
            product = torch.einsum("goiyx,gpiyx->gop", ahead, behind)
            even.append(product if (a, b) == (0, 0) else product + product.mT)
            odd.append(product - product.mT)
        return torch.stack(even).flatten(1), torch.stack(odd).flatten(1)


def _squares_of(convolution: Convolution) -> _Symbols | _Products:
    """The way to its symbols' Gram matrices that takes less."""
    symbols, products = _Symbols(convolution), _Products(convolution)
    fits = products.held <= MOST_HELD and products.side == symbols.side
    return products if fits and products.cost < symbols.cost else symbols


def _by_groups(convolution: Convolution) -> Tensor:
    """The kernel as (groups, outputs, inputs, taps)."""
    outputs, inputs, *_ = convolution.kernel.shape
    return convolution.kernel.reshape(convolution.groups, -1, inputs, *_).flatten(3)


def _schur(kernel: Tensor) -> Tensor:
    """At least || sum_t |k_t| ||_2, the greatest of the groups."""
    size = kernel.abs().sum(-1)
    size = (size.sum(-1).amax(-1) * size.sum(-2).amax(-1)).max().sqrt()
    return outward(size, sum(kernel.shape[1:]))


def roots(index: Tensor, size: int, taps: int, dilation: int) -> Tensor:
    """exp(2 pi i k t / size) for the integers k of `index` (...) and t = 0, dilation, ..., complex
    (..., taps)."""
    tap = dilation * torch.arange(taps, device=index.device)
    return unit_roots((index.unsqueeze(-1) * tap) % size, size)


def unit_roots(turns: Tensor, size: int) -> Tensor:
    """exp(2 pi i k / size) for the integers 0 <= k < size."""
    angle = (2 * math.pi / size) * turns.double()
    return torch.polar(torch.ones_like(angle), angle)


def real_symmetric(matrix: Tensor) -> Tensor:
    """A Hermitian matrix (..., n, n) up to rounding, as a real one of twice the size, exactly
    symmetric; a real one of its own size."""
    if not matrix.is_complex():
        return (matrix + matrix.mT) / 2
    real, imaginary = (matrix.real + matrix.real.mT) / 2, matrix.imag
    imaginary = (imaginary - imaginary.mT) / 2
    upper, lower = torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)
    return torch.cat([upper, lower], -2)


def nested_sizes(reads: Sequence[Pair], steps: Sequence[Pair]) -> list[Pair]:
    """The positions of tori that hold so many each, and have as many times those of one torus as
    `steps` says: the fewest."""
    last = [
        max(-(-read[axis] // step[axis]) for read, step in zip(reads, steps, strict=True))
        for axis in (0, 1)
    ]
    return [(last[0] * step[0], last[1] * step[1]) for step in steps]


def raised(least: Tensor, gram: Tensor, error: Tensor) -> Tensor:
    """lambda >= `least`, and >= the greatest eigenvalue of every symmetric matrix within `error`
    (b,) of `gram` (b, n, n)."""
    side = gram.shape[-1]
    eye = torch.eye(side, dtype=torch.float64, device=gram.device)
    estimates, found, slack = None, least, CLOSE + gamma(side) * side
    rest = torch.arange(len(gram), device=gram.device)
    while True:
        open_ = ~semidefinite([found * eye - gram[rest]], [], error[rest] + gamma(2) * found)
        rest = rest[open_]
        if len(rest) == 0:
            return found
        if estimates is None:  # of those alone that exceed what was found in other blocks
            estimates = gram.new_zeros(len(gram))
            estimates[rest] = power_iterated(gram[rest])
        looked_at = rest[estimates[rest].argsort(descending=True)[:LOOKED_AT]]
        estimates[looked_at] = greatest_estimated(gram[looked_at]).clamp(min=0.0)
        greatest = torch.maximum(found, estimates[looked_at].max())
        found = greatest * (1 + slack) + 4 * error.max() + LEAST
        slack *= 2


def power_iterated(gram: Tensor) -> Tensor:
    """Lower bounds of the greatest eigenvalues of (b, n, n), by a few power iterations."""
    v = torch.ones(*gram.shape[:2], 1, dtype=gram.dtype, device=gram.device)
    v = v + torch.linspace(0, 1, gram.shape[1], dtype=torch.float64, device=gram.device)[:, None]
    for _ in range(TURNS):
        v = gram @ v
        v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp(min=1e-300)
    return (v.conj() * (gram @ v)).sum((1, 2)).real

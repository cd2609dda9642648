"""The spectral norm of a convolution by Fourier, certified frequency by frequency.

Zero padding embeds a convolution in a circular one on a torus, which splits into one matrix of the
size of its channels for each frequency (docs/theory.md, proposition 24).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arithmetic.definite import semidefinite
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
ROOT = 70  # roundings in a product of two roots of unity: computed angles, cosines and sines


def torus_norm(convolution: Convolution) -> Tensor:
    """An upper bound of || W ||_2, for a kernel of numbers up to about 1: the norm of the circular
    convolution on the torus that holds the padded image, or at most half a per cent above it."""
    symbols = _Symbols(convolution)
    squared = convolution.kernel.new_zeros(())
    blocks = list(slices(symbols.count, symbols.entries))
    for rows in watched(blocks, "a convolution's symbols"):
        squared = raised(squared, *symbols.gram(rows))
    return outward(symbols.between * (squared.sqrt() + symbols.error), 4)


def torus_cost(convolution: Convolution) -> int:
    """Multiply-adds of its norm, about: the symbols, their Gram matrices, and Cholesky's method."""
    symbols = _Symbols(convolution)
    groups, outputs, inputs, taps = symbols.kernel.shape
    width = inputs * symbols.aliases
    side = min(outputs, width)
    each = 4 * outputs * width * (taps + side) + 8 * side**3
    return symbols.count * groups * each


class _Symbols:
    """M(theta) = (s_1 s_2)^(-1/2) [K(omega)]_omega, side by side over the frequencies omega that
    alias to theta; K(omega) = sum_t k_t exp(i omega t). Groups count as further frequencies, and of
    two conjugate ones one is taken.

    error: what the norm of a computed symbol may be wrong by. between: the greatest norm over all
    frequencies is at most that over the ones taken times this.
    """

    def __init__(self, convolution: Convolution):
        outputs, inputs, *self.taps = convolution.kernel.shape
        groups = convolution.groups
        self.stride, self.dilation = convolution.stride, convolution.dilation
        self.kernel = convolution.kernel.reshape(groups, outputs // groups, inputs, -1)
        self.aliases, between = math.prod(self.stride), 1.0
        self.sizes = []
        for axis, (taps, stride) in enumerate(zip(self.taps, self.stride, strict=True)):
            degree = -(-(self.dilation[axis] * (taps - 1) + 1) // stride) - 1
            whole = -(-convolution.padded[axis] // stride)
            self.sizes.append(min(whole, FINE * degree + 1))
            if self.sizes[axis] < whole:
                between /= math.cos(math.pi * degree / self.sizes[axis])
        self.between = math.sqrt(between) * (1 + 1e-14)
        self.half = self.sizes[1] // 2 + 1  # the other half are conjugate
        size = self.kernel.abs().sum(-1)
        size = (size.sum(-1).amax(-1) * size.sum(-2).amax(-1)).max().sqrt()
        self.error = gamma(2 * math.prod(self.taps) + 2 * ROOT) * outward(size, outputs + inputs)

    @property
    def count(self) -> int:
        return self.sizes[0] * self.half

    @property
    def entries(self) -> int:
        """Numbers that one frequency takes in all groups."""
        groups, outputs, inputs, taps = self.kernel.shape
        width = inputs * self.aliases
        return 2 * groups * (outputs * width + self.aliases * taps + 4 * min(outputs, width) ** 2)

    def gram(self, rows: slice) -> tuple[Tensor, Tensor]:
        """M M* or M* M, whichever is smaller, as real symmetric matrices of twice the size, and
        what their norms may be wrong by as products of the computed symbols, (b, ...)."""
        index = torch.arange(rows.start, rows.stop, device=self.kernel.device)
        roots = self._roots(index // self.half, 0), self._roots(index % self.half, 1)
        # (b, alias, tap) along each axis to (b, aliases, taps)
        both = roots[0][:, :, None, :, None] * roots[1][:, None, :, None, :]
        both = both.reshape(len(index), self.aliases, -1)
        symbol = torch.einsum("bat,goit->bgoai", both, self.kernel.to(both.dtype))
        symbol = symbol.flatten(3).flatten(0, 1) / math.sqrt(self.aliases)
        product = symbol @ symbol.mH if symbol.shape[1] <= symbol.shape[2] else symbol.mH @ symbol
        squares = outward(product.diagonal(dim1=1, dim2=2).real.sum(-1), 2 * sum(symbol.shape[1:]))
        return real_symmetric(product), gamma(4 * sum(symbol.shape[1:])) * squares

    def _roots(self, index: Tensor, axis: int) -> Tensor:
        """exp(i omega t) for the frequencies that alias to each, (b, stride, taps)."""
        size, stride = self.sizes[axis], self.stride[axis]
        alias = index[:, None] + size * torch.arange(stride, device=index.device)
        return roots(alias, size * stride, self.taps[axis], self.dilation[axis])


def roots(index: Tensor, size: int, taps: int, dilation: int) -> Tensor:
    """exp(2 pi i k t / size) for the integers k of `index` (...) and t = 0, dilation, ..., complex
    (..., taps)."""
    tap = dilation * torch.arange(taps, device=index.device)
    turns = (index.unsqueeze(-1) * tap) % size
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
    estimates, found, slack = _estimated(gram), least, CLOSE + gamma(side) * side
    rest = torch.arange(len(gram), device=gram.device)
    while True:
        open_ = ~semidefinite([found * eye - gram[rest]], [], error[rest] + gamma(2) * found)
        rest = rest[open_]
        if len(rest) == 0:
            return found
        looked_at = rest[estimates[rest].argsort(descending=True)[:LOOKED_AT]]
        estimates[looked_at] = torch.linalg.eigvalsh(gram[looked_at])[:, -1].clamp(min=0.0)
        greatest = torch.maximum(found, estimates[looked_at].max())
        found = greatest * (1 + slack) + 4 * error.max() + LEAST
        slack *= 2


def _estimated(gram: Tensor) -> Tensor:
    """Lower bounds of the greatest eigenvalues, by a few power iterations."""
    v = torch.ones(*gram.shape[:2], 1, dtype=torch.float64, device=gram.device)
    v = v + torch.linspace(0, 1, gram.shape[1], dtype=torch.float64, device=gram.device)[:, None]
    for _ in range(TURNS):
        v = gram @ v
        v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp(min=1e-300)
    return (v * (gram @ v)).sum((1, 2))

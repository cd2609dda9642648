"""The forms Q of K_5's semidefinite programs, a batch of them: minimise cost . theta over the
multipliers theta > 0 with Q(theta) > 0 (docs/k5.md).

With slopes as pairs of maps, (y - A^- y_prev)_j (y - A^+ y_prev)_j <= 0 for every linearisation,
A^- = (C - R) W, A^+ = (C + R) W, the form of `lipbounds.quadratic.form` reads

    Q = sum_j mu_j x_j^2 + sum_kj lambda_kj (y_k - A_k^- y_{k-1})_j (y_k - A_k^+ y_{k-1})_j
        + sum_i nu_i s_i^2 - 2 s^T W_L y_L .

A *piece* is what one program bounds: an output row (l-infinity), an input column (l1), all (l2).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...arithmetic.rounding import gamma
from ...arithmetic.tridiagonal import factorise, inverse
from ...linear.operators import dense
from ...networks.network import Network

SPARSE = 0.1  # share of entries that are not 0

Maps = Sequence[Tensor | None]


@dataclass(frozen=True)
class Forms:
    """lows[k], highs[k]: A^-_{k+1}, A^+_{k+1} (..., n_{k+1}, n_k), a low None for 0; last: W_L
    (..., d, n_L); batch dimensions () or (b,). cost (N,), 0 but for mu and nu.

    majorants[k] >= |A^-|, |A^+|, and W_L's last: the entries above differ from the exact ones by at
    most gamma(terms) times those.

    tied: one mu for all inputs and one nu for all outputs (l2). backward: blocks are eliminated
    from the outputs to the inputs, so that a single input (l1) comes last. moving: per stage a mask
    of the network's neurons that are left; None for all.
    """

    lows: Maps
    highs: Maps
    last: Tensor
    majorants: Sequence[Tensor]
    terms: int
    cost: Tensor
    tied: bool
    backward: bool
    moving: Sequence[Tensor] | None

    @cached_property
    def sizes(self) -> list[int]:
        """Of the blocks x, y_1, ..., y_L, s."""
        inputs = (*self.highs, self.last)[0].shape[-1]
        return [inputs, *(high.shape[-2] for high in self.highs), self.last.shape[-2]]

    @cached_property
    def slices(self) -> list[slice]:
        """Where those blocks are in theta and in (x, y, s)."""
        ends = list(itertools.accumulate(self.sizes, initial=0))
        return [slice(a, b) for a, b in itertools.pairwise(ends)]

    @property
    def side(self) -> int:
        """N, rows of Q and entries of theta."""
        return sum(self.sizes)

    @property
    def end(self) -> slice:
        """The block that is eliminated last."""
        return self.slices[0 if self.backward else -1]

    @property
    def batch(self) -> int:
        """The number of programs."""
        maps = [m for m in (*self.lows, *self.highs, self.last) if m is not None]
        return max(len(m) if m.ndim > 2 else 1 for m in maps)

    def select(self, chosen: Tensor) -> "Forms":
        """The programs of a boolean mask or of indices (b,)."""
        return self._with_maps(lambda matrix: matrix if matrix.ndim < 3 else matrix[chosen])

    def to(self, dtype: torch.dtype) -> "Forms":
        """The same with maps rounded to `dtype`."""
        return self._with_maps(lambda matrix: matrix.to(dtype))

    def _with_maps(self, change: Callable[[Tensor], Tensor]) -> "Forms":
        kinds = (self.lows, self.highs, self.majorants)
        lows, highs, majorants = (
            [None if matrix is None else change(matrix) for matrix in maps] for maps in kinds
        )
        return replace(self, lows=lows, highs=highs, majorants=majorants, last=change(self.last))

    def blocks(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Q's diagonal blocks and those below them for theta (b, N), in order of elimination."""
        parts = theta.split(self.sizes, -1)
        diagonal, below = [torch.diag_embed(part) for part in parts], []
        for k, (low, high) in enumerate(zip(self.lows, self.highs, strict=True)):
            weight = parts[k + 1].unsqueeze(-1)
            below.append(-0.5 * weight * (high if low is None else low + high))
            if low is not None:
                product = times_each(self._lows[k].mT, weight * high)
                diagonal[k] = diagonal[k] + (product + product.mT) / 2
        below.append(-self.last.expand(len(theta), *self.last.shape[-2:]))
        if self.backward:
            return diagonal[::-1], [block.mT for block in below[::-1]]
        return diagonal, below

    def scaled(self, theta: Tensor, a: Tensor) -> Tensor:
        """(a mu, a lambda, nu / a): the multipliers of (x, y, s) -> (x, y, s / a), times a."""
        a = a.unsqueeze(-1)
        outputs = self.slices[-1].start
        return torch.cat([theta[:, :outputs] * a, theta[:, outputs:] / a], -1)

    def eliminated(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of all blocks but the last in order of elimination: whether they are positive, (b,), and
        log det; and the matrix less than which diag(theta_end) must not be for Q to be >= 0."""
        diagonal, below = self.blocks(theta)
        factors = factorise(diagonal[:-1], below[:-1])
        through = torch.linalg.solve_triangular(factors.cholesky[-1], below[-1].mT, upper=False)
        own = diagonal[-1] - torch.diag_embed(theta[:, self.end])  # of other multipliers
        return factors.positive, factors.log_determinant, through.mT @ through - own

    def spectrum(self, schur: Tensor) -> Tensor:
        """The eigenvalues (b, d) of that matrix, ascending; 0 where it is not finite."""
        schur = torch.nan_to_num(schur, posinf=0.0, neginf=0.0)
        return schur[..., 0] if schur.shape[-1] == 1 else torch.linalg.eigvalsh(schur)

    def exceeds(self, last: Tensor, schur: Tensor) -> Tensor:
        """Whether diag(last) is greater than that matrix, (b,)."""
        return torch.linalg.cholesky_ex(torch.diag_embed(last) - schur).info == 0

    def inverse(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Whether Q(theta) > 0, (b,), and its inverse as `gram` takes it."""
        factors = factorise(*self.blocks(theta))
        return factors.positive, self.natural(inverse(factors))

    def natural(self, whole: Tensor) -> Tensor:
        """A matrix (b, N, N) in order of elimination, put back into that of (x, y, s)."""
        if not self.backward:
            return whole
        sizes = self.sizes[::-1]
        rows = torch.cat(whole.split(sizes, -2)[::-1], -2)
        return torch.cat(rows.split(sizes, -1)[::-1], -1)

    def curvature(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """l_i^T Z h_i (b, N) and ((l_i^T Z l_j)(h_i^T Z h_j) + (l_i^T Z h_j)(h_i^T Z l_j)) / 2,
        (b, N, N): minus the first, and the second derivatives of -log det Q; Z in the precision of
        the maps."""
        ll, lh, hh = self.gram(whole.to(self.last.dtype))
        return lh.diagonal(dim1=-2, dim2=-1).clone(), (ll * hh).addcmul_(lh, lh.mT).mul_(0.5)

    def gram(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l^T Z l', l^T Z h', h^T Z h' for all pairs of multipliers and Z (b, N, N), where the term
        of a multiplier in Q is (l^T v)(h^T v), v = (x, y, s)."""
        low, high = self._applied(self._lows, whole), self._applied(self._highs, whole)
        mixed = self._applied(self._lows, high.mT)
        return self._applied(self._lows, low.mT), mixed, self._applied(self._highs, high.mT)

    def _applied(self, maps: Maps, rows: Tensor) -> Tensor:
        """v, the columns of `rows` (b, N, m), to y_k - A_k y_{k-1}; x and s are left."""
        if all(matrix is None for matrix in maps):
            return rows
        result = rows.clone(memory_format=torch.contiguous_format)
        for k in reversed(range(len(maps))):  # each block is read before it changes
            if maps[k] is not None:
                moved = times_each(maps[k], result[..., self.slices[k], :])
                result[..., self.slices[k + 1], :] -= moved
        return result

    @cached_property
    def _lows(self) -> Maps:
        return [compressed(matrix) for matrix in self.lows]

    @cached_property
    def _highs(self) -> Maps:
        return [compressed(matrix) for matrix in self.highs]

    def row_sums(self, theta: Tensor, scale: Tensor) -> Tensor:
        """Of D |Q| D, D = diag(scale), and of all that is added up to form it: upper bounds."""
        weights, scales = theta.split(self.sizes, -1), scale.split(self.sizes, -1)
        sums = [w * d for w, d in zip(weights, scales, strict=True)]
        for k, majorant in enumerate(self.majorants):
            inner = k + 1 < len(self.majorants)
            ahead = times(majorant, scales[k])
            weight = weights[k + 1] if inner else torch.ones_like(ahead)
            sums[k + 1] = sums[k + 1] + weight * ahead
            back = scales[k + 1] + ahead if inner else scales[k + 1]
            sums[k] = sums[k] + times(majorant.mT, weight * back)
        return torch.cat([d * total for d, total in zip(scales, sums, strict=True)], -1)

    @cached_property
    def free(self) -> Tensor:
        """(N,) or (b, N): the multipliers that vary. Where l = h, or the inputs do not reach the
        neuron, the larger the multiplier the better."""
        parts = [torch.ones(size, dtype=torch.bool, device=self.last.device) for size in self.sizes]
        for k, (low, high) in enumerate(zip(self.lows, self.highs, strict=True)):
            apart = (high if low is None else high != low).any(-1)
            reached = (self.majorants[k] != 0) & parts[k].unsqueeze(-2)
            parts[k + 1] = apart & reached.any(-1)
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1)

    @cached_property
    def coincident(self) -> bool:
        """Whether l = h, up to rounding, for a neuron whose input does move: it is linear for these
        weights, which `lipbounds.quadratic.newton.mixed_forms` can make use of."""
        for low, high, majorant in zip(self.lows, self.highs, self.majorants, strict=False):
            apart = high.abs() if low is None else (high - low).abs()
            still = (apart <= gamma(self.terms) * majorant).all(-1)
            if bool((still & majorant.any(-1)).any()):
                return True
        return False

    def tie(self, rows: Tensor) -> Tensor:
        """Sums over the entries of one variable, along the last dimension."""
        if not self.tied:
            return rows
        inputs, outputs = self.slices[0], self.slices[-1]
        ends = [rows[..., part].sum(-1, keepdim=True) for part in (inputs, outputs)]
        return torch.cat([ends[0], rows[..., inputs.stop : outputs.start], ends[1]], -1)

    def untie(self, variables: Tensor) -> Tensor:
        """Each variable repeated for its entries: the adjoint of `tie`."""
        if not self.tied:
            return variables
        first, last = variables[..., :1], variables[..., -1:]
        shape = variables.shape[:-1]
        repeated = first.expand(*shape, self.sizes[0]), last.expand(*shape, self.sizes[-1])
        return torch.cat([repeated[0], variables[..., 1:-1], repeated[1]], -1)


def compressed(matrix: Tensor | None) -> Tensor | None:
    """Sparse where that multiplies faster, as for convolutions and maxima."""
    if matrix is None or matrix.ndim > 2 or int((matrix != 0).sum()) > SPARSE * matrix.numel():
        return matrix
    return matrix.to_sparse().coalesce()


def times_each(matrix: Tensor, rows: Tensor) -> Tensor:
    """A X for rows (b, n, m)."""
    if matrix.is_sparse:
        return torch.stack([matrix @ one for one in rows])
    return matrix @ rows


def times(matrix: Tensor, vectors: Tensor) -> Tensor:
    """A v for vectors (b, n)."""
    return (matrix @ vectors.unsqueeze(-1)).squeeze(-1)


def chain_forms(network: Network) -> Forms:
    """Of all inputs and outputs of a network, or of each of an ensemble, of cost 0. For networks
    without implicit pools and without linear neurons."""
    lows, highs, majorants = [], [], []
    for stage, affine in zip(network.stages, network.affines, strict=False):
        weight, majorant = dense(affine.operator), dense(affine.operator.majorant())
        ends = stage.ends()
        low, high = ends.of(weight)
        lows.append(low if bool(low.any()) else None)
        highs.append(high)
        majorants.append(ends.size(majorant))
    last = network.affines[-1].operator
    majorants.append(dense(last.majorant()))
    terms = 2 + max(affine.operator.terms for affine in network.affines)
    side = network.input_size + sum(high.shape[-2] for high in highs) + network.output_size
    cost = torch.zeros(side, dtype=torch.float64, device=network.device)
    return Forms(lows, highs, dense(last), majorants, terms, cost, False, False, None)


def row_forms(forms: Forms, rows: Tensor) -> Forms:
    """Program i cut to its output row rows[i]."""

    def row(matrix: Tensor) -> Tensor:
        one = matrix[rows] if matrix.ndim < 3 else matrix[torch.arange(len(rows)), rows]
        return one.unsqueeze(-2)

    cost = torch.cat([forms.cost[: forms.slices[-1].start], forms.cost.new_zeros(1)])
    majorants = [*forms.majorants[:-1], row(forms.majorants[-1])]
    return replace(forms, last=row(forms.last), majorants=majorants, cost=cost)


def column_forms(forms: Forms, columns: Tensor) -> Forms:
    """Program i cut to its input column columns[i], which is eliminated last."""

    def first(maps: Maps) -> list[Tensor | None]:
        matrix = maps[0]
        if matrix is None:
            return list(maps)
        turned = matrix.mT
        one = turned[columns] if matrix.ndim < 3 else turned[torch.arange(len(columns)), columns]
        return [one.unsqueeze(-1), *maps[1:]]

    *lows, last = first([*forms.lows, forms.last])
    cost = torch.cat([forms.cost.new_zeros(1), forms.cost[forms.slices[0].stop :]])
    maps = {"lows": lows, "highs": first([*forms.highs, forms.last])[:-1]}
    majorants = first(forms.majorants)
    return replace(forms, **maps, last=last, majorants=majorants, cost=cost, backward=True)


def reached(forms: Forms) -> Forms:
    """A single program without the neurons that its inputs do not reach: they do not move."""

    def cut(matrix: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor | None:
        return matrix if matrix is None else matrix[..., rows, :][..., columns]

    masks = [torch.ones(forms.sizes[0], dtype=torch.bool, device=forms.cost.device)]
    for majorant in forms.majorants[:-1]:
        masks.append((majorant[..., masks[-1]] != 0).any(-1).reshape(-1))
    masks.append(torch.ones_like(masks[0][:1]).expand(forms.sizes[-1]))
    pairs = list(itertools.pairwise(masks))
    lows, highs = (
        [cut(m, rows, columns) for m, (columns, rows) in zip(maps, pairs, strict=False)]
        for maps in (forms.lows, forms.highs)
    )
    majorants = [cut(m, rows, cols) for m, (cols, rows) in zip(forms.majorants, pairs, strict=True)]
    last = cut(forms.last, masks[-1], masks[-2])
    moving, cost = masks[1:-1], forms.cost[torch.cat(masks)]
    return replace(
        forms, lows=lows, highs=highs, last=last, majorants=majorants, cost=cost, moving=moving
    )


def priced(forms: Forms, norm: float, radii: Tensor) -> Forms:
    """With the cost of the norm: radii_j^2 for mu_j and 1 for nu; in l2 their averages, tied."""
    inputs, outputs = forms.slices[0], forms.slices[-1]
    cost = torch.zeros_like(forms.cost)
    cost[inputs] = 1 / forms.sizes[0] if norm == 2 else radii.square()
    cost[outputs] = 1 / forms.sizes[-1] if norm == 2 else 1.0
    return replace(forms, cost=cost, tied=norm == 2)

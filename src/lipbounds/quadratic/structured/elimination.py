"""The form Q of `quadratic.form` on a chain of links: eliminate the inner variables of each
window, then the trunk block by block; log-determinant, values, and derivatives with respect to
every multiplier by selected inversion.

With M the part of Q without the piece's own variable - s for rows (l-infinity) and in l2, x for
columns (l1) - and b_i its coupling, q_i = b_i^T M^-1 b_i - e_i is the least multiplier of that
variable: one factorisation serves all pieces. The barrier of the program

    minimise  c . theta + h   subject to  M > 0,  h > q_i  (l2: h I > (b_i^T M^-1 b_j)_ij)

at t is phi = t (c . theta + h) - log det M - sum_i log(h - q_i), h minimising it. Since each
bracket of Q is l1 . l2, its derivative with respect to log lambda is -lambda l1^T Z l2, with Z the
inverse of M plus sum_i p_i (M^-1 b_i)(M^-1 b_i)^T, p_i = 1 / (h - q_i). Of Z only the
diagonal blocks of the trunk and those next to them are needed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...arithmetic.tridiagonal import Factors, factorise, selected_inverse
from ...linear.operators import dense
from ...networks.network import Network
from ..ends import settled
from ..form import Multipliers
from .links import Link, links, live_entries


@dataclass(frozen=True)
class Windows:
    """A link's windows after elimination: the Schur complement on (y, z) (w, 1 + m, 1 + m), the
    solution T = K_uu^-1 K_u,(y z) and the inverse of K_uu, u the inner variables."""

    schur: Tensor
    solution: Tensor
    inverse: Tensor
    log_determinant: Tensor


def eliminated(link: Link, local: Tensor) -> Windows | None:
    """The windows of a link for its multipliers (w, b); None where some K_uu is not > 0."""
    weighted = link.one.mT @ (local.unsqueeze(-1) * link.two)
    form, p = (weighted + weighted.mT) / 2, link.inner
    if not p:
        nothing = form.new_zeros(len(form), 0, form.shape[-1])
        return Windows(form, nothing, nothing[:, :, :0], form.new_zeros(()))
    factor, info = torch.linalg.cholesky_ex(form[:, :p, :p])
    if bool(info.any()):
        return None
    solution = torch.cholesky_solve(form[:, :p, p:], factor)
    schur = form[:, p:, p:] - form[:, p:, :p] @ solution
    identity = torch.eye(p, dtype=form.dtype, device=form.device).expand(len(form), p, p)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum()
    return Windows(schur, solution, torch.cholesky_solve(identity, factor), log_determinant)


def coupled(link: Link, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """What a link adds to the trunk: the diagonal of its own block (n_k,), the block below
    (n_k, n_{k-1}), and what it adds to the diagonal block before, (n_{k-1}, n_{k-1})."""
    patches, schur = link.patches, windows.schur
    c, n, m = *patches.columns.shape, schur.shape[-1] - 1
    own = schur.new_zeros(len(link.outer)).index_copy_(0, link.outer, schur[:, 0, 0])
    weight = patches.weight.view(len(link.outer), m, n)
    below = schur.new_zeros(len(link.outer), patches.size)
    at = link.outer.view(c, -1, 1), patches.columns.unsqueeze(1)
    below[at] = (schur[:, :1, 1:] @ weight).view(c, -1, n)
    before = schur.new_zeros(patches.size, patches.size)
    if bool((schur[:, 1:, 1:] != 0).any()):
        inside = (schur[:, 1:, 1:] @ weight).view(c, -1, n)
        patches.add_squares(before, patches.weight.mT @ inside)
    return own, below, before


def local_inverse(link: Link, windows: Windows, own: Tensor, below: Tensor, before: Tensor):
    """Z on the local variables of each window (w, q, q), from its blocks on the trunk: the diagonal
    of Z_kk, Z_k,k-1 and Z_k-1,k-1."""
    patches, m = link.patches, windows.schur.shape[-1] - 1
    c, n = patches.columns.shape
    weight = patches.weight.view(len(link.outer), m, n)
    through = (patches.weight @ patches.squares(before)).view(len(link.outer), m, n)
    outer = torch.empty_like(windows.schur)
    outer[:, 0, 0] = own[link.outer]
    rows = below[link.outer.view(c, -1, 1), patches.columns.unsqueeze(1)].reshape(-1, 1, n)
    outer[:, :1, 1:] = rows @ weight.mT
    outer[:, 1:, 0] = outer[:, 0, 1:]
    outer[:, 1:, 1:] = through @ weight.mT
    side = -windows.solution @ outer
    top = windows.inverse - side @ windows.solution.mT
    return torch.cat([torch.cat([top, side], 2), torch.cat([side.mT, outer], 2)], 1)


@dataclass(frozen=True)
class Eliminated:
    """The form at some multipliers. `columns`: L^-1 B of the last trunk block, B the pieces'
    coupling; `least`: q_i, in l2 the eigenvalues of b^T M^-1 b, to the axes `axes`; `total`:
    c . theta; `value`: sqrt(total max q), the bound proven up to rounding."""

    ends: Tensor
    locals: list[Tensor]
    windows: list[Windows]
    trunk: Factors
    columns: Tensor
    axes: Tensor | None
    least: Tensor
    total: Tensor

    @property
    def value(self) -> Tensor:
        return self.total.sqrt() * self.least.max().clamp(min=0).sqrt()

    @property
    def turned(self) -> Tensor:
        """`columns` along the axes."""
        return self.columns if self.axes is None else self.columns @ self.axes

    @property
    def log_determinant(self) -> Tensor:
        return self.trunk.log_determinant + sum(w.log_determinant for w in self.windows)

    def head(self, t: Tensor) -> Tensor:
        """The h > max q with sum_i 1 / (h - q_i) = t."""
        return settled(self.least, t)

    def barrier(self, t: Tensor) -> Tensor:
        """phi at t."""
        h = self.head(t)
        return t * (self.total + h) - self.log_determinant - (h - self.least).log().sum()


class Elimination:
    """Q of a single network without implicit pools, for a norm and some of its pieces.

    The free multipliers are one vector theta: the ends (mu, or nu in norm 1; a single number in
    l2), then those of each link. Exact equations keep the multipliers they have in `given`.
    """

    def __init__(self, network: Network, norm: float, given: Multipliers, pieces=None):
        self.norm, self.given, self.links = norm, given, links(network)
        live = live_entries(network)
        self.live = live[-1] if norm == 1 else live[0]
        self.before_last = live[-2].to(torch.float64)
        self.last = dense(network.affines[-1].operator) * self.before_last
        self.pieces = slice(None) if pieces is None else pieces
        self.fixed = [link.local(given.stages) for link in self.links]
        self.count = int(self.live.sum()) + sum(int(link.live.sum()) for link in self.links)

    def theta(self) -> Tensor:
        """The free multipliers of `given`."""
        ends = self.given.output if self.norm == 1 else self.given.input
        ends = ends[self.live].max().reshape(1) if self.norm == 2 else ends[self.live]
        own = [x[link.free] for x, link in zip(self.fixed, self.links, strict=True)]
        return torch.cat([ends, *own])

    def multipliers(self, theta: Tensor) -> Multipliers:
        """All multipliers; those of the pieces' own variable as in `given`."""
        ends, local = self._split(theta)
        ends = torch.where(self.live, ends, 0.0)
        stages = []
        for link, values in zip(self.links, local, strict=True):
            stages += link.spread(values, self.given.stages)
        if self.norm == 1:
            return Multipliers(self.given.input, stages, ends)
        return Multipliers(ends, stages, self.given.output)

    def at(self, theta: Tensor) -> Eliminated | None:
        """The form at theta; None where M is not positive definite."""
        ends, local = self._split(theta)
        windows = []
        for link, values in zip(self.links, local, strict=True):
            windows.append(eliminated(link, values))
            if windows[-1] is None:
                return None
        diagonal, below, columns, shift = self._blocks(ends, windows)
        trunk = factorise(diagonal, below)
        if not bool(trunk.positive):
            return None
        columns = torch.linalg.solve_triangular(trunk.cholesky[-1], columns, upper=False)
        if self.norm == 2:
            least, axes = torch.linalg.eigh(columns.mT @ columns)
            return Eliminated(
                ends, local, windows, trunk, columns, axes, least, ends[self.live].max()
            )
        least, total = columns.square().sum(0) - shift, ends[self.live].sum()
        return Eliminated(ends, local, windows, trunk, columns, None, least, total)

    def gradient(self, point: Eliminated, t: Tensor) -> Tensor:
        """The derivatives of phi with respect to log theta."""
        weights = 1 / (point.head(t) - point.least)
        diagonal, below = selected_inverse(point.trunk, point.turned, weights)
        ends, first = point.ends[self.live], diagonal[0].diagonal()[self.live]
        slope = ends * (t - first)
        if self.norm == 2:
            slope = (ends.max() * (t - first.sum())).reshape(1)
        if self.norm == 1:
            diagonal, below = self._reversed(diagonal, below, point, weights)
        parts = [slope]
        for k, (link, local) in enumerate(zip(self.links, point.locals, strict=True)):
            own = diagonal[k + 1].diagonal()
            inverse = local_inverse(link, point.windows[k], own, below[k], diagonal[k])
            products = ((link.one @ inverse) * link.two).sum(-1)
            parts.append(-(local * products)[link.free])
        return torch.cat(parts)

    def _split(self, theta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The diagonal of the end block (1 for entries left out), and each link's (w, b)."""
        counts = [int(link.free.sum()) for link in self.links]
        first, *own = theta.split([len(theta) - sum(counts), *counts])
        ends = torch.ones(len(self.live), dtype=theta.dtype, device=theta.device)
        ends[self.live] = first
        local = []
        for link, fixed, values in zip(self.links, self.fixed, own, strict=True):
            local.append(fixed.clone())
            local[-1][link.free] = values
        return ends, local

    def _blocks(self, ends: Tensor, windows: list[Windows]):
        """M's diagonal blocks, those below, the pieces' columns in the last block, and e_i."""
        parts = [coupled(link, w) for link, w in zip(self.links, windows, strict=True)]
        own = [torch.diag(part[0]) for part in parts]
        below = [part[1] for part in parts]
        added = [part[2] for part in parts]
        inner = [a + b for a, b in zip(own[:-1], added[1:], strict=True)] + own[-1:]
        if self.norm != 1:
            first = torch.diag(ends)
            first = first + added[0] if added else first
            return [first, *inner], below, self.last[self.pieces].mT, 0.0
        if not parts:
            return [torch.diag(ends)], [], -self.last[:, self.pieces], 0.0
        below = [-self.last.mT, *(b.mT for b in below[:0:-1])]
        columns, shift = parts[0][1][:, self.pieces], added[0].diagonal()[self.pieces]
        return [torch.diag(ends), *inner[::-1]], below, columns, shift

    def _reversed(self, diagonal, below, point: Eliminated, weights: Tensor):
        """Blocks of Z in the network's order, with those of x, which the pieces have one by one."""
        size = self.links[0].patches.size if self.links else len(self.last[0])
        chosen = torch.zeros(size, dtype=weights.dtype, device=weights.device)
        chosen[self.pieces] = weights
        first = torch.linalg.solve_triangular(
            point.trunk.cholesky[-1].mT, point.columns * weights, upper=True
        )
        side = first.new_zeros(len(first), size)
        side[:, self.pieces] = -first
        return [torch.diag(chosen), *diagonal[:0:-1]], [side, *(b.mT for b in below[:0:-1])]

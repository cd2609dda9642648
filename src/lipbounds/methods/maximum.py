"""max over |T| <= 1 diagonal of || X + A T Y ||_2, bracketed by branch and bound.

The function is convex in T, so the maximum is at one of 2^n vertices; finding it is NP-hard. For a
box with center c and half-widths r, and any positive diagonal D,

    || X + A T Y ||_2 <= lambda_max [[A' D A'^T, X'], [X'^T, Y'^T D^{-1} Y']],

X' = X + A diag(c) Y, A' = A diag(r)^{1/2}, Y' = diag(r)^{1/2} Y (docs/theory.md: 2 |a b| <= d a^2 +
b^2 / d). With the best D this is the semidefinite relaxation, a few per cent from the maximum; D is
improved by a fixed-point step, and every D gives a bound.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma
from ..clock import left as seconds_left
from ..linear.operators import BLOCK_ENTRIES
from ..results import Status

TOLERANCE = 1e-11  # relative gap at which a box is closed
SWEEPS = 4  # fixed-point steps on D per box
ROOT_SWEEPS = 8  # and at the root, where they pay most


@dataclass(frozen=True)
class Bracket:
    """lower <= maximum <= upper, tensors of one shape; `status`: why they do not meet."""

    upper: Tensor
    lower: Tensor
    status: Status = Status.CONVERGED


def vertex_maximum(
    center: Tensor,
    left: Tensor,
    radial: Tensor,
    cap: Tensor,
    budget: float,
    error: Tensor | float = 0.0,
) -> Bracket:
    """Bracket max_T || X + A T Y ||_2 for X (..., p, q), A (..., p, n), Y (..., n, q).

    error: how far X + A T Y may be, in l2, from the matrix that is meant (X and Y are rounded
    themselves), shape (...); the bracket is of the latter. cap: an upper bound known from
    elsewhere, shape (...). budget: of each problem, counted as boxes times (p + q)^3; the root gets
    up to 8 sweeps, and one whatever the budget. Branching ends with the limit of time as well.
    All problems of the batch advance together, one level of the tree at a time.
    """
    shape = torch.broadcast_shapes(center.shape[:-2], left.shape[:-2], radial.shape[:-2])
    x, a, y = (
        t.expand(*shape, *t.shape[-2:]).flatten(0, -3) if shape else t.unsqueeze(0)
        for t in (center, left, radial)
    )
    boxes = min(budget / (x.shape[-2] + x.shape[-1]) ** 3, 2.0**62)
    sweeps = min(max(int(20 * boxes), 1), ROOT_SWEEPS)
    cap, error = (
        torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(shape).reshape(-1)
        for t in (cap, error)
    )
    search = _VertexSearch(x, a, y, cap, error, sweeps)
    search.run(int(boxes))
    return Bracket(search.upper().reshape(shape), search.best.reshape(shape), search.status)


class _VertexSearch:
    """The open boxes of all problems: owner (N,), fixed signs (N, n) with 0 for free, D (N, n)."""

    def __init__(self, x: Tensor, a: Tensor, y: Tensor, cap: Tensor, error: Tensor, sweeps: int):
        self.x, self.a, self.y, self.cap = x, a, y, cap
        count, n = a.shape[0], a.shape[-1]
        # What rounding in A T Y, the sums and the eigenvalues can hide, far above LAPACK's error
        # bounds; the error that X and Y bring along may be far greater, where X cancelled.
        size_x, size_a, size_y = (torch.linalg.matrix_norm(t) for t in (x, a, y))
        self.size, self.error = size_x + size_a * size_y, error
        self.rounding = gamma(4 * (n + x.shape[-1] + x.shape[-2]))
        self.slack = self.rounding * self.size + error
        self.status = Status.CONVERGED
        self.best = torch.zeros_like(cap)
        self.closed = torch.zeros_like(cap)  # greatest upper end among boxes closed early
        self.used = torch.zeros(count, dtype=torch.long, device=cap.device)
        self.owner = torch.arange(count, device=cap.device)
        self.fixed = torch.zeros(count, n, dtype=torch.float64, device=cap.device)
        self.scale = self._balanced()
        self.bound, self.branch = self._look(self.owner, self.fixed, self.scale, sweeps)
        self.bound = torch.minimum(self.bound, cap)

    def run(self, boxes: int) -> None:
        while len(self.owner):
            self._close()
            if len(self.owner) == 0:
                return
            if seconds_left() <= 0:
                self._give_up(torch.ones_like(self.owner, dtype=torch.bool), Status.TIME)
                return
            self.used.index_add_(0, self.owner, torch.full_like(self.owner, 2))
            parents = self.bound.repeat(2)
            owner, scale = self.owner.repeat(2), self.scale.repeat(2, 1)
            sign = torch.ones(len(owner), dtype=torch.float64, device=owner.device)
            sign[len(self.owner) :] = -1.0
            fixed = self.fixed.repeat(2, 1)
            fixed[torch.arange(len(owner)), self.branch.repeat(2)] = sign
            if bool((self.used[owner] > boxes).any()):
                self._give_up(self.used[self.owner] > boxes, Status.STEPS)
                within = self.used[owner] <= boxes
                owner, scale, fixed, parents = (t[within] for t in (owner, scale, fixed, parents))
            self.owner, self.fixed, self.scale = owner, fixed, scale
            self.bound, self.branch = self._look(owner, fixed, self.scale, SWEEPS)
            self.bound = torch.minimum(self.bound, parents)

    def upper(self) -> Tensor:
        """The upper end once the search has stopped."""
        return torch.maximum(self.closed, self.best * (1 + TOLERANCE) + 2 * self.slack)

    def _close(self) -> None:
        """Drop the boxes that cannot hold more than the best vertex known."""
        limit = self.best * (1 + TOLERANCE) + 2 * self.slack
        self._keep(self.bound > limit[self.owner])

    def _give_up(self, spent: Tensor, status: Status) -> None:
        """The bounds of open boxes that are not gone into become their problems' upper end."""
        self.status = status
        self.closed.scatter_reduce_(0, self.owner[spent], self.bound[spent], "amax")

    def _keep(self, mask: Tensor) -> None:
        self.owner, self.fixed, self.scale = (
            self.owner[mask], self.fixed[mask], self.scale[mask]
        )  # fmt: skip
        self.bound, self.branch = self.bound[mask], self.branch[mask]

    def _balanced(self) -> Tensor:
        """D_j = ||Y_j|| / ||A_j||, so that both blocks weigh the same."""
        rows = torch.linalg.vector_norm(self.y, dim=-1)
        columns = torch.linalg.vector_norm(self.a, dim=-2)
        return _ratio(rows, columns)

    def _look(self, owner: Tensor, fixed: Tensor, scale: Tensor, sweeps: int):
        """Upper ends and branching neurons of boxes, by blocks; improves `scale` and `best`."""
        step = max(1, BLOCK_ENTRIES // (self.a[0].numel() + self.y[0].numel()))
        parts = [
            self._look_at_block(owner[i : i + step], fixed[i : i + step], scale[i : i + step],
                                sweeps)
            for i in range(0, len(owner), step)
        ]  # fmt: skip
        if not parts:
            return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _look_at_block(self, owner: Tensor, fixed: Tensor, scale: Tensor, sweeps: int):
        x, a, y = self.x[owner], self.a[owner], self.y[owner]
        free = (fixed == 0).to(x.dtype)
        x = x + (a * fixed.unsqueeze(-2)) @ y
        a, y = a * free.unsqueeze(-2), y * free.unsqueeze(-1)
        p = x.shape[-2]
        best = torch.full((len(owner),), torch.inf, dtype=x.dtype, device=x.device)
        for sweep in range(sweeps):
            top = (a * scale.unsqueeze(-2)) @ a.mT
            bottom = (y / scale.unsqueeze(-1)).mT @ y
            joint = torch.cat([torch.cat([top, x], -1), torch.cat([x.mT, bottom], -1)], -2)
            values, vectors = torch.linalg.eigh(joint)
            # With the first D their trace is at most 2 ||A|| ||Y||, maybe not with later ones.
            trace = joint.diagonal(dim1=-2, dim2=-1).sum(-1)
            size = torch.maximum(self.size[owner], trace / 2)
            best = torch.minimum(best, values[:, -1] + self.rounding * size + self.error[owner])
            u, v = vectors[:, :p, -1:], vectors[:, p:, -1:]
            into, out = (a.mT @ u).squeeze(-1), (y @ v).squeeze(-1)
            if sweep in (0, sweeps - 1):
                self._try_vertex(owner, x, a, y, u, v)
            step = _ratio(out.abs(), into.abs()) / scale
            scale.mul_(step.clamp(0.1, 10.0).sqrt())
        return best, self._branching(into, out, a, y, free)

    def _branching(self, into, out, a, y, free) -> Tensor:
        """The free neuron that the relaxation leans on most."""
        weight = (into * out).abs()
        size = torch.linalg.vector_norm(a, dim=-2) * torch.linalg.vector_norm(y, dim=-1)
        return (weight + 1e-3 * size + 1e-300 * free).masked_fill(free == 0, -1.0).argmax(-1)

    def _try_vertex(self, owner, x, a, y, u: Tensor, v: Tensor) -> None:
        """Raise `best` to || X + A T Y || at a vertex found by turns: the signs that are best for
        u and v, then u and v improved for those signs."""
        for _ in range(8):
            into, out = a.mT @ u, y @ v
            signs = torch.where(into * out < 0, -1.0, 1.0)
            u = _unit(x @ v + a @ (signs * out))
            v = _unit(x.mT @ u + y.mT @ (signs * (a.mT @ u)))
        at_vertex = x + (a * signs.mT) @ y
        value = (torch.linalg.svdvals(at_vertex)[:, 0] - self.slack[owner]).clamp(min=0)
        self.best.scatter_reduce_(0, owner, value, "amax")


def _unit(vector: Tensor) -> Tensor:
    return vector / torch.linalg.vector_norm(vector, dim=-2, keepdim=True).clamp(min=1e-300)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, kept within ten orders of magnitude where either vanishes."""
    tiny = 1e-10 * torch.maximum(above, below).amax(-1, keepdim=True).clamp(min=1e-290)
    return (above + tiny) / (below + tiny)

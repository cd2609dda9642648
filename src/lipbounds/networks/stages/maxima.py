"""Maxima: of two entries (between stages), or max-pooling kept whole."""

import math
from functools import cached_property

import torch
from torch import Tensor

from ...linear.operators import Identity, Sparse
from .stage import STIFF, Ends, Stage


class BetweenStage(Stage):
    """max(P z, Q z) entrywise, P and Q picking one entry each: y_j lies between (P z)_j and
    (Q z)_j, so C = (P + Q) / 2, R = (Q - P) / 2. Where both pick the same entry, R_j = 0."""

    entrywise = False

    def __init__(self, first: Tensor, second: Tensor, size: int):
        self.first, self.second, self.shape = first, second, (len(first), size)

    @cached_property
    def center(self):
        return self._half_sum(1.0)

    @cached_property
    def radius(self):
        return self._half_sum(-1.0)

    def _half_sum(self, sign: float) -> Sparse:
        rows = torch.arange(self.shape[0], device=self.first.device).repeat(2)
        half = torch.full((self.shape[0],), 0.5, dtype=torch.float64, device=self.first.device)
        columns = torch.cat([self.second, self.first])
        values = torch.cat([half, sign * half])
        return Sparse(rows, columns, values, self.shape)

    def evaluate(self, z):
        return torch.maximum(z[..., self.first], z[..., self.second])

    def pullback(self, z, y):
        first_wins = (z[..., self.first] >= z[..., self.second]).unsqueeze(-2)
        x = torch.zeros(*y.shape[:-1], self.shape[1], dtype=y.dtype, device=y.device)
        x.index_add_(-1, self.first, y * first_wins)
        return x.index_add_(-1, self.second, y * ~first_wins)

    def differentiable(self, z, error, constant):
        a, b = self.first, self.second
        apart = (z[..., a] - z[..., b]).abs() > error[..., a] + error[..., b]
        still = constant[..., a] & constant[..., b]
        return (apart | still | (a == b)).all(-1)

    def spread(self, bound):
        return bound

    def majorant(self, v):
        return self.center.absolute().apply(v) + self.radius.absolute().apply(v)

    def norm(self, norm):
        """Rows of S are convex combinations of two unit vectors; a column of S sums to at most the
        number of neurons that may pick it."""
        picks = torch.bincount(self.first, minlength=self.shape[1])
        picks += torch.bincount(self.second[self.first != self.second], minlength=self.shape[1])
        return float(picks.max()) ** (0.0 if norm == math.inf else 1.0 / norm)

    def partition(self, norm):
        return [(None, self.norm(norm))]

    def ends(self):
        one = torch.ones(self.shape[0], dtype=torch.float64, device=self.first.device)
        return Ends(one, self.first, one, self.second)

    def slopes(self):
        raise self.refused("picks one of two entries and has no slopes")

    def closed_form(self):
        gain = torch.tensor(self.norm(2) ** 2, dtype=torch.float64, device=self.first.device)
        return torch.where(self.first != self.second, gain / 2, STIFF), gain

    def common_radius(self):
        return self

    def tree(self):
        return [self]

    def still(self, z, constant):
        return torch.zeros(*z.shape[:-1], self.shape[0], dtype=torch.bool, device=z.device)

    def softened(self, z, v, h):
        first = torch.sigmoid((z[:, self.first] - z[:, self.second]) / h)
        return first * v[:, self.first] + (1 - first) * v[:, self.second]

    def gap(self, z, picks):
        row = picks[:, :1] % self.shape[0]
        return z.gather(1, self.first[row]) - z.gather(1, self.second[row])

    kind = "maximum of two entries"


class PoolStage(Stage):
    """Max-pooling kept whole: y_j = max of z over the indices in row j of `windows` (m, w).

    Rows of ragged windows repeat one of their own indices.
    """

    center = None
    entrywise = False

    def __init__(self, windows: Tensor, size: int):
        self.windows, self.shape = windows, (len(windows), size)

    @cached_property
    def radius(self):
        return Identity(self.shape[1], self.windows.device)

    def evaluate(self, z):
        return z[..., self.windows].amax(-1)

    def pullback(self, z, y):
        winner = torch.gather(
            self.windows.expand(*z.shape[:-1], *self.windows.shape),
            -1,
            z[..., self.windows].argmax(-1, keepdim=True),
        ).squeeze(-1)
        x = torch.zeros(*y.shape[:-1], self.shape[1], dtype=y.dtype, device=y.device)
        return x.scatter_add_(-1, winner.unsqueeze(-2).expand_as(y), y)

    def differentiable(self, z, error, constant):
        values, errors, still = (t[..., self.windows] for t in (z, error, constant))
        winner = values.argmax(-1, keepdim=True)
        best, best_error, best_still = (t.gather(-1, winner) for t in (values, errors, still))
        index = self.windows.expand(values.shape)
        same = index == index.gather(-1, winner)
        apart = best - values > best_error + errors
        return (apart | same | (still & best_still)).all(-1).all(-1)

    def spread(self, bound):
        return self.evaluate(bound)

    majorant = spread

    def majorant_adjoint(self, w):
        """The sum of w over the windows that hold an input."""
        row = torch.arange(self.shape[0], device=self.windows.device).unsqueeze(1)
        pairs = torch.unique((row * self.shape[1] + self.windows).flatten())
        v = torch.zeros(*w.shape[:-1], self.shape[1], dtype=w.dtype, device=w.device)
        return v.index_add_(-1, pairs % self.shape[1], w[..., pairs // self.shape[1]])

    def norm(self, norm):
        """1 for inf, m for 1, sqrt(m) for 2, m the most windows that one input belongs to."""
        window = torch.arange(self.shape[0], device=self.windows.device).unsqueeze(1)
        pairs = torch.unique((window * self.shape[1] + self.windows).flatten())
        most = torch.bincount(pairs % self.shape[1]).max()
        return float(most) ** (0.0 if norm == math.inf else 1.0 / norm)

    def partition(self, norm):
        return [(None, self.norm(norm))]

    def ends(self):
        raise self.refused("has more than two ends; rewrite the network with lipbounds.explicit")

    def slopes(self):
        raise self.refused("picks one of its entries and has no slopes")

    closed_form = ends

    def common_radius(self):
        return self

    def tree(self):
        return between_tree(self.windows, self.shape[1])

    def still(self, z, constant):
        return torch.zeros(*z.shape[:-1], self.shape[0], dtype=torch.bool, device=z.device)

    def softened(self, z, v, h):
        shares = torch.softmax(z[:, self.windows] / h.unsqueeze(2), -1)
        return (shares * v[:, self.windows]).sum(-1)

    def gap(self, z, picks):
        row, width = picks[:, :1] % self.shape[0], self.windows.shape[1]
        one, other = (self.windows[row, pick] for pick in (picks[:, 1:] % width).split(1, 1))
        return z.gather(1, one) - z.gather(1, other)

    kind = "max-pooling kept whole"


def between_tree(windows: Tensor, size: int) -> list[BetweenStage]:
    """Max-pooling as a tree of between stages: level by level, neighbours are paired, until one
    entry per window is left (the explicit treatment)."""
    stages, count, current = [], windows.shape[1], windows
    if count == 1:
        return [BetweenStage(windows[:, 0], windows[:, 0], size)]
    while count > 1:
        first, second = current[:, 0::2], current[:, 1::2]
        if count % 2:
            second = torch.cat([second, first[:, -1:]], 1)
        stages.append(BetweenStage(first.reshape(-1), second.reshape(-1), size))
        count = first.shape[1]
        size = first.numel()
        current = torch.arange(size, device=windows.device).reshape(-1, count)
    return stages

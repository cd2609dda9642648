"""The search tree of a chain: nodes with some signs fixed, their children and their bounds.

Signs are fixed in a static order, group by group, so that the bounds of all nodes of a level share
the matrices of `tail_averaged` and `tail_quadratic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .sign_ascent import ascended_signs, forward, path
from .sign_chain import Group, SignChain
from .tail_averaged import averaged_tail
from .tail_quadratic import quadratic_tail

STARTS, FEWEST_STARTS = 512, 16  # of the coordinate ascent
START_WORK = 2**30  # multiplications of one pass of all starts: a second
CLOSING = 1 - 1e-6  # the root bound, as optimised, that surely closes a tree once certified
FEW_SIGNS = 12  # up to here the quadratic bound costs more than it spares


@dataclass(frozen=True)
class Nodes:
    """Nodes of one level (g, m): all signs before group g are fixed, and the first m of group g.

    a (nodes, columns, n), z (nodes, columns, N): see `tail_averaged`. bound: (nodes,).
    """

    tree: SignTree
    level: tuple[int, int]
    a: Tensor
    z: Tensor
    bound: Tensor

    def __len__(self) -> int:
        return len(self.a)

    def where(self, index: Tensor | slice) -> Nodes:
        return replace(self, a=self.a[index], z=self.z[index], bound=self.bound[index])

    @staticmethod
    def concatenated(parts: list[Nodes]) -> Nodes:
        """Nodes of one tree and level."""
        joined = {
            name: torch.cat([getattr(p, name) for p in parts]) for name in ("a", "z", "bound")
        }
        return replace(parts[0], **joined)

    @property
    def width(self) -> int:
        """The entries of one state."""
        return self.a[0].numel() + self.z[0].numel()

    @property
    def entries(self) -> int:
        return len(self) * self.width

    @property
    def leaf(self) -> bool:
        """Whether the norm is known: all signs fixed, or a last group with its closed form, where
        K_4 is exact."""
        g, m = self.level
        last = len(self.tree.chain.groups) - 1
        return g == last and (self.tree.chain.scalar or m == self.z.shape[-1])


class SignTree:
    """A chain and the tree of its signs, all values in the chain's scale.

    found: the greatest norm met by coordinate ascent, before rounding is allowed for. best: a norm
    known from elsewhere; the multipliers need not be better than to close the tree at the root.
    """

    def __init__(self, chain: SignChain, best: float, expired: Callable[[], bool]):
        entries = sum(g.center.numel() + g.spread.numel() + g.radius.numel() for g in chain.groups)
        starts = min(STARTS, max(FEWEST_STARTS, START_WORK // entries))
        signs = [t[0] for t in ascended_signs(chain, starts, expired=expired)]
        self.chain, signs = _ordered(chain, signs)
        self.found = float(_spectral_norms(_jacobian(self.chain, signs)))
        self.averaged, self.quadratic = averaged_tail(self.chain), None
        self.slack = self.averaged.slack
        best = max(best, self.found)
        closed = float(self.top().bound) <= best + 4 * self.slack
        if not closed and sum(chain.signs) > FEW_SIGNS and not expired():
            self.quadratic = quadratic_tail(
                self.chain, signs, lambda root: root < best * CLOSING or expired()
            )

    def top(self) -> Nodes:
        start = torch.eye(self.chain.start, dtype=torch.float64).unsqueeze(0)
        return self._bounded(*self._enter(0, start))

    def children(self, nodes: Nodes) -> Nodes:
        """Both signs of the next neuron; one where the other is the same, or its mirror image."""
        g, m = nodes.level
        group = self.chain.groups[g]
        step = nodes.z[..., m : m + 1] * group.spread[:, m]
        if (g, m) == (0, 0) and self.chain.odd:
            a, z = nodes.a + step, nodes.z
        else:
            moved = step.flatten(1).any(1)
            a = torch.cat([nodes.a + step, (nodes.a - step)[moved]])
            z = torch.cat([nodes.z, nodes.z[moved]])
        if m + 1 == z.shape[-1] and g + 1 < len(self.chain.groups):
            return self._bounded(*self._enter(g + 1, a))
        return self._bounded((g, m + 1), a, z)

    def _enter(self, g: int, x: Tensor) -> tuple[tuple[int, int], Tensor, Tensor]:
        group = self.chain.groups[g]
        return (g, 0), x @ group.center.mT, x @ group.radius.mT

    def _bounded(self, level: tuple[int, int], a: Tensor, z: Tensor) -> Nodes:
        nodes = Nodes(self, level, a, z, self.averaged.bound(*level, a, z))
        if nodes.leaf:
            if not self.chain.scalar:
                nodes = replace(nodes, bound=_spectral_norms(a) + self.slack)
        elif self.quadratic is not None:
            bound = torch.minimum(nodes.bound, self.quadratic.bound(*level, a, z))
            nodes = replace(nodes, bound=bound)
        return nodes


def _ordered(chain: SignChain, signs: list[Tensor]) -> tuple[SignChain, list[Tensor]]:
    """The signs of each group sorted by what they add at the vertex found, the most first."""
    x, y = path(chain, signs)
    groups, sorted_signs = [], []
    for group, before, after, t in zip(chain.groups, x[:-1], y[1:], signs, strict=True):
        gain = ((group.radius @ before) * (group.spread.mT @ after)).abs()
        order = gain.argsort(descending=True)
        groups.append(Group(group.center, group.spread[:, order], group.radius[order]))
        sorted_signs.append(t[order])
    return replace(chain, groups=tuple(groups)), sorted_signs


def _jacobian(chain: SignChain, signs: list[Tensor]) -> Tensor:
    """J^T at one vertex, as a batch of one."""
    start = torch.eye(chain.start, dtype=torch.float64)
    return forward(chain, signs, start)[-1].unsqueeze(0)


def _spectral_norms(a: Tensor) -> Tensor:
    """(nodes,) of (nodes, columns, n)."""
    if a.shape[1] == 1:
        return torch.linalg.vector_norm(a.squeeze(1), dim=-1)
    return torch.linalg.svdvals(a)[:, 0]

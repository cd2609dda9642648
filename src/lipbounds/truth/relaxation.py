"""The relaxation optimum D* by branch and bound on the signs of `sign_chain`, best node first."""

from __future__ import annotations

import math
from contextlib import suppress

import torch

from ..arithmetic.rounding import finite
from ..clock import OutOfTime, limited, now
from ..linear.norms import checked_norm
from ..methods.averaged import averaged, averaged_sums
from ..methods.combettes_pesquet import combettes_pesquet
from ..networks.network import Network
from ..results import Bound
from .sign_chain import ChainFamily, sign_chains
from .sign_tree import Nodes, SignTree

TOLERANCE = 1e-10  # relative gap at which a node is closed
LEAST = 1.0  # seconds for K_4, whatever the budget: something is to be proven
SMALL_BATCH = 64  # nodes, not worth being halved
BATCH_ENTRIES = 2**18  # of the states that are branched on together: 2 MiB
OPEN_ENTRIES = 2**27  # of all open states: 1 GiB; beyond, the search goes depth first


def relaxation_optimum(
    network: Network, norm: float, seconds: float = 60.0, cap: float = math.inf
) -> Bound:
    """Both ends of D*_p = max over T in {-1, 1}^N of ||W_L S_L ... S_1 W_0||_p, with
    S_k = C_k + T_k R_k.

    The supremum over |T| <= 1 is attained at a vertex, as the norm is convex in each entry of T.
    norm: 1, 2 or inf. seconds: the budget. Where it runs out, the upper end is the greatest bound
    of an open node; else the ends agree up to TOLERANCE and rounding, which is about 1e-12 K_3.
    `lower` is the norm at a vertex, rounded down. cap: an upper bound known from elsewhere.
    Raises UnsupportedError for an ensemble, another norm or max-pooling kept whole, LipboundsError
    where a matrix of the network is too large to be formed, and OutOfTime where K_4 takes longer,
    if that is more than LEAST.

    Method: this package's own. A node's bound is the least of K_4 and the dual of the semidefinite
    relaxation of what its free signs can do.
    """
    deadline = now() + seconds
    norm = checked_norm(norm)
    with torch.no_grad():
        family = sign_chains(network, norm)
        try:
            with limited(max(deadline - now(), LEAST)):
                bounds = _first_bounds(network, norm)
        except OutOfTime:
            if math.isinf(cap):
                raise
            return Bound.of_ends(cap, 0.0, late=True)
        search = _SignSearch(family, bounds, deadline, cap)
        search.run()
        return Bound.of_ends(search.upper(), search.best, search.late)


def _first_bounds(network: Network, norm: float) -> list[float]:
    """K_4 of each chain; in l2 the least of K_4 and K_1, if there is time for it."""
    if norm != 2:
        return averaged_sums(network, norm).tolist()
    least = averaged(network, norm)
    with suppress(OutOfTime):
        least = torch.minimum(least, combettes_pesquet(network, norm))
    return [float(finite(least, "K_4"))]


class _SignSearch:
    """roots: (bound, index) of the chains not yet looked at, greatest last. best: the greatest norm
    found, rounded down. closed: no closed node exceeds it."""

    def __init__(self, family: ChainFamily, bounds: list[float], deadline: float, cap: float):
        self.family, self.deadline = family, deadline
        self.roots = sorted((bound, index) for index, bound in enumerate(bounds))
        self.cap = min(max(bounds), cap)
        self.open: list[Nodes] = []
        self.entries = 0
        self.best = self.closed = 0.0

    def run(self) -> None:
        self._plant()
        while not self._expired():
            while self.roots and self.roots[-1][0] <= self.best * (1 + TOLERANCE):
                self.closed = max(self.closed, self.roots.pop()[0])
            if self.roots and self.roots[-1][0] >= max(map(_key, self.open), default=0.0):
                self._plant()
            elif self.open:
                nodes = self._pick()
                self._add(nodes.tree.children(nodes))
            else:
                return

    def upper(self) -> float:
        ends = [self.closed, self.best, *(bound for bound, _ in self.roots), *map(_key, self.open)]
        return min(max(ends), self.cap)

    @property
    def late(self) -> bool:
        """Whether it ended before all nodes were closed."""
        return bool(self.roots or self.open)

    def _expired(self) -> bool:
        return now() >= self.deadline

    def _plant(self) -> None:
        """The tree of the chain with the greatest first bound."""
        chain = self.family[self.roots.pop()[1]]
        tree = SignTree(chain, chain.scaled(self.best), self._expired)
        self._improve(tree, tree.found)
        self._add(tree.top())

    def _improve(self, tree: SignTree, value: float) -> None:
        self.best = max(self.best, tree.chain.unscaled(max(value - tree.slack, 0.0)))

    def _add(self, nodes: Nodes) -> None:
        """Closes what cannot exceed the best norm by more than the tolerance, and keeps the rest in
        two batches, the better and the worse half."""
        tree = nodes.tree
        if nodes.leaf and len(nodes):
            self._improve(tree, float(nodes.bound.max()) - tree.slack)
        nodes = self._without_closed(nodes)
        nodes = nodes.where(nodes.bound.argsort(descending=True))
        half = (len(nodes) + 1) // 2
        parts = (
            [nodes]
            if half < SMALL_BATCH
            else [nodes.where(slice(0, half)), nodes.where(slice(half, None))]
        )
        for part in parts:
            if len(part):
                self.open.append(part)
                self.entries += part.entries

    def _without_closed(self, nodes: Nodes) -> Nodes:
        tree = nodes.tree
        limit = tree.chain.scaled(self.best) * (1 + TOLERANCE) + 4 * tree.slack
        kept = nodes.bound > limit
        if bool(kept.all()):
            return nodes
        worst = float(nodes.bound[~kept].max())
        self.closed = max(self.closed, tree.chain.unscaled(worst))
        return nodes.where(kept)

    def _pick(self) -> Nodes:
        """The batch with the greatest bound, or on the deepest level where memory is short, filled
        up with others of its level."""
        key = _depth if self.entries > OPEN_ENTRIES else _key
        first = max(self.open, key=key)
        level = [n for n in self.open if n.tree is first.tree and n.level == first.level]
        level.sort(key=_key, reverse=True)
        picked, room = [], max(1, BATCH_ENTRIES // first.width)
        while level and room > 0:
            picked.append(level.pop(0))
            room -= len(picked[-1])
        taken = set(map(id, picked))
        self.open = [n for n in self.open if id(n) not in taken]
        self.entries -= sum(n.entries for n in picked)
        return self._without_closed(Nodes.concatenated(picked))


def _key(nodes: Nodes) -> float:
    """The greatest bound of a batch, whose nodes are sorted."""
    return nodes.tree.chain.unscaled(float(nodes.bound[0]))


def _depth(nodes: Nodes) -> tuple[tuple[int, int], float]:
    return nodes.level, _key(nodes)

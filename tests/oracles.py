"""Independent dense oracles: NumPy matrices, sums over all 2^L subsets of cuts, all vertices.

Nothing here uses the recursions, operators or rounding of the package.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

NORMS = (1, 2, math.inf)
NAMES = ("K_star", "K_1", "K_3", "K_4")


@dataclass(frozen=True)
class Slope:
    """Neuron j has secant slopes in [alpha_j, beta_j]."""

    alpha: np.ndarray
    beta: np.ndarray

    @property
    def pair(self):
        return np.diag((self.alpha + self.beta) / 2), np.diag((self.beta - self.alpha) / 2)

    def factor(self, norm):
        return float(np.maximum(abs(self.alpha), abs(self.beta)).max())

    def linearisations(self):
        """All vertices S."""
        ends = [sorted({a, b}) for a, b in zip(self.alpha, self.beta, strict=True)]
        return [np.diag(slopes) for slopes in itertools.product(*ends)]


@dataclass(frozen=True)
class Between:
    """y_j lies between (P z)_j and (Q z)_j."""

    p: np.ndarray
    q: np.ndarray

    @property
    def pair(self):
        return (self.p + self.q) / 2, (self.q - self.p) / 2

    def factor(self, norm):
        return _picks(np.maximum(self.p, self.q), norm)

    def linearisations(self):
        return _choices(np.maximum(self.p, self.q))


@dataclass(frozen=True)
class Pool:
    """Max-pooling kept whole: `member` (m, n) is 1 where an input belongs to a window; `windows`,
    where their order matters: the indices of each."""

    member: np.ndarray
    windows: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def over(cls, windows, size):
        member = np.zeros((len(windows), size))
        for row, window in zip(member, windows, strict=True):
            row[list(window)] = 1
        return cls(member, tuple(map(tuple, windows)))

    def tree(self):
        """The pool as maxima of two, level by level: of neighbours in each window, a last one that
        is left over with itself."""
        stages, windows, size = [], [list(window) for window in self.windows], self.member.shape[1]
        while not stages or max(map(len, windows)) > 1:
            pairs = [
                [(window[i], window[min(i + 1, len(window) - 1)]) for i in range(0, len(window), 2)]
                for window in windows
            ]
            first, second = zip(*itertools.chain(*pairs), strict=True)
            stages.append(Between(selection(first, size), selection(second, size)))
            counter = itertools.count()
            windows = [[next(counter) for _ in window] for window in pairs]
            size = len(first)
        return stages

    def factor(self, norm):
        return _picks(self.member, norm)

    def pool(self, v):
        return np.where(self.member > 0, v, -math.inf).max(1)

    def linearisations(self):
        return _choices(self.member)


def _picks(member, norm):
    return float(member.sum(0).max()) ** (0 if norm == math.inf else 1 / norm)


def _choices(member):
    """Each row picks one of the entries it may pick."""
    eye = np.eye(member.shape[1])
    rows = [eye[np.flatnonzero(row)] for row in member]
    return [np.array(choice) for choice in itertools.product(*rows)]


def selection(index, size):
    return np.eye(size)[np.asarray(index)]


def norm_of(matrix, norm):
    return float(np.linalg.norm(matrix, norm))


def _blocks(weights, stages):
    """The network cut at its pools: [(weights, pairs)], [pools]."""
    blocks, pools = [([weights[0]], [])], []
    for weight, stage in zip(weights[1:], stages, strict=True):
        if isinstance(stage, Pool):
            pools.append(stage)
            blocks.append(([weight], []))
        else:
            blocks[-1][0].append(weight)
            blocks[-1][1].append(stage.pair)
    return blocks, pools


def segment(weights, pairs, k, j):
    """R_k W_{k-1} C_{k-1} ... C_{j+1} W_j."""
    product = weights[j]
    for i in range(j + 1, k):
        product = weights[i] @ pairs[i - 1][0] @ product
    return pairs[k - 1][1] @ product if k <= len(pairs) else product


def _paths(weights, pairs):
    """For each of the 2^L subsets of cuts its segments, first segment first."""
    depth = len(pairs)
    for size in range(depth + 1):
        for cuts in itertools.combinations(range(1, depth + 1), size):
            ends = (0, *cuts, depth + 1)
            yield [segment(weights, pairs, k, j) for j, k in itertools.pairwise(ends)]


def plain_product(weights, stages, norm):
    return math.prod(norm_of(w, norm) for w in weights) * math.prod(
        stage.factor(norm) for stage in stages
    )


def k_star(weights, stages, norm):
    """By blocks, each stage's neurons of slopes [1, 1] apart from the others, each value at most
    that of the plain product."""
    before, values, whole = [slice(None)], [1.0], 1.0
    for weight, stage in itertools.zip_longest(weights, stages):
        blocks = _blocks_of(stage, norm)
        whole *= norm_of(weight, norm) * (stage.factor(norm) if stage else 1.0)
        values = [
            min(
                s
                * sum(
                    norm_of(weight[i][:, j], norm) * v for j, v in zip(before, values, strict=True)
                ),
                whole,
            )
            for i, s in blocks
        ]
        before = [i for i, _ in blocks]
        whole = values[0] if len(values) == 1 else whole
    return whole


def _blocks_of(stage, norm):
    if not isinstance(stage, Slope):
        return [(slice(None), stage.factor(norm) if stage else 1.0)]
    carried = (stage.alpha == 1) & (stage.beta == 1)
    if carried.all() or not carried.any():
        return [(slice(None), stage.factor(norm))]
    return [
        (part, Slope(stage.alpha[part], stage.beta[part]).factor(norm))
        for part in (carried, ~carried)
    ]


def k_1(weights, stages, norm):
    """Segments cannot pass a pool, so that the bounds of the blocks between pools multiply."""
    blocks, pools = _blocks(weights, stages)
    value = math.prod(pool.factor(norm) for pool in pools)
    for block in blocks:
        value *= sum(math.prod(norm_of(a, norm) for a in path) for path in _paths(*block))
    return value


def f_3(weights, stages, v):
    v = abs(weights[0]) @ v
    for weight, stage in zip(weights[1:], stages, strict=True):
        if isinstance(stage, Pool):
            v = stage.pool(v)
        else:
            center, radius = stage.pair
            v = (abs(center) + abs(radius)) @ v
        v = abs(weight) @ v
    return v


def f_4(weights, stages, v):
    blocks, pools = _blocks(weights, stages)
    for i, block in enumerate(blocks):
        v = pools[i - 1].pool(v) if i else v
        matrix = 0
        for path in _paths(*block):
            product = np.eye(len(v))
            for factor in path:
                product = abs(factor) @ product
            matrix = matrix + product
        v = matrix @ v
    return v


def norm_from_map(one_map, weights, stages, norm):
    size = weights[0].shape[1]
    if norm == math.inf:
        return float(one_map(weights, stages, np.ones(size)).max())
    return norm_of(np.array([one_map(weights, stages, e) for e in np.eye(size)]).T, norm)


def bound(name, weights, stages, norm):
    """K_*, K_1, K_3 or K_4 by its definition."""
    if name in ("K_3", "K_4"):
        return norm_from_map(f_3 if name == "K_3" else f_4, weights, stages, norm)
    return {"K_star": k_star, "K_1": k_1}[name](weights, stages, norm)


def vertex_jacobians(weights, stages):
    """J at every vertex of the relaxation, (vertices, outputs, inputs)."""
    products = weights[0][None]
    for weight, stage in zip(weights[1:], stages, strict=True):
        choices = np.array(stage.linearisations())
        products = weight @ np.concatenate([choice @ products for choice in choices])
    return products


def norms_of(matrices, norm):
    return np.linalg.norm(matrices, norm, axis=(-2, -1))


def affine_of(module, shape):
    """(W, b) of an affine torch module, from its values at zero and at the unit vectors."""
    size = math.prod(shape)
    points = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().reshape(-1, *shape)
    with torch.no_grad():
        values = module.double()(points).reshape(size + 1, -1)
    return (values[1:] - values[0]).T.numpy(), values[0].numpy()


def pool_of(module, shape):
    """The windows of a torch max-pooling module: an indicator image pools to 1 where its pixel
    belongs to the window."""
    size = math.prod(shape)
    images = torch.eye(size, dtype=torch.float64).reshape(-1, *shape)
    return Pool(module(images).reshape(size, -1).T.numpy())

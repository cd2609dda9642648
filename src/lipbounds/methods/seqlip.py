"""K_2: SeqLip of Virmaux & Scaman (2018), bracketed by branch and bound so that it is a bound.

Each inner weight is split as W_i = B_{i+1} A_i, B_{i+1} = U_i Sigma_i^{1/2}, A_i = Sigma_i^{1/2}
V_i^T; the two outer ones stay whole. Then

    Lip_2 <= prod_k max over |T| <= 1 of || A_k (C_k + T R_k) B_k ||_2,

one factor per stage, each maximum being at a vertex of the box. The published greedy search gives
a value below the maximum, which is no bound; `maximum.py` brackets it from both sides. An implicit
pool splits the network into chains whose constants multiply, with the pool's own norm between.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, inward, outward
from ..linear.norms import majorant_norm, matrix_norm, operator_norm
from ..linear.operators import Identity, Operator, dense
from ..networks.network import Network
from ..networks.stages import Stage
from ..results import Bound, Status
from .maximum import Bracket, vertex_maximum

BUDGET = 5e7  # of branch and bound, per stage and network: boxes times (rows + columns)^3


def seqlip(network: Network, norm: float, budget: float = BUDGET) -> Bound:
    """K_2, its upper and lower end, each of shape `network.batch_shape`, for norm 2.

    `upper` bounds Lip_2; `lower` <= K_2 <= `upper` for the singular vectors as computed, and the
    two meet where branch and bound ended within its budget and the time.
    Source: A. Virmaux, K. Scaman, NeurIPS 2018, sec. 4 and 5.
    """
    splits = [_split(network, i) for i in range(network.depth + 1)]
    norms = [operator_norm(affine.operator, 2) for affine in network.affines]
    upper = lower = torch.ones(network.batch_shape, dtype=torch.float64).to(network.device)
    excess = torch.zeros_like(upper)  # prod of (1 + residual / ||W||) - 1, free of cancellation
    for one, affine, weight_norm in zip(splits, network.affines, norms, strict=True):
        if one.left is one.right is None:  # an affine map alone between two pools
            upper, lower = upper * weight_norm, lower * _norm_lower(affine.operator)
        upper, lower = upper * one.stretch, lower * one.shrink
        excess = excess + (1 + excess) * (one.residual / weight_norm.clamp(min=1e-300))
    worst, status = torch.stack(torch.broadcast_tensors(*norms)).prod(0), Status.CONVERGED
    for k, stage in enumerate(network.stages, start=1):
        worst = worst * stage.norm(2)
        if stage.center is None:
            upper, lower = upper * stage.norm(2), lower * stage.norm(2)
        else:
            bracket = _factor(splits[k].left, stage, splits[k - 1].right, budget)
            upper, lower = upper * bracket.upper, lower * bracket.lower
            status = status if bracket.status is Status.CONVERGED else bracket.status
    off = outward(worst * excess, network.terms)
    upper = torch.minimum(outward(upper + off, network.terms), outward(worst, network.terms))
    lower = (inward(lower, network.terms) - off).clamp(min=0)
    return Bound(upper, lower, status, "branch and bound open")


@dataclass(frozen=True)
class _Split:
    """W = right @ left, `right` (..., m, r) feeding the stage after it, `left` (..., r, n) fed by
    the stage before it. At an end of a chain only one of the two is there, and is W itself, or W
    but for a factor Q of norm at most `stretch` on the outer side."""

    left: Tensor | Operator | None
    right: Tensor | Operator | None
    residual: Tensor | float = 0.0  # at least || W - right left ||_2, Q included
    stretch: Tensor | float = 1.0

    @property
    def shrink(self) -> Tensor:
        """At most the least singular value of Q: 1 - || Q^T Q - I ||, and 0 where that is more."""
        return torch.as_tensor(3 - 2 * self.stretch).clamp(min=0)


def _split(network: Network, i: int) -> _Split:
    operator = network.affines[i].operator
    first = i == 0 or network.stages[i - 1].center is None
    last = i == network.depth or network.stages[i].center is None
    if first and last:
        return _Split(None, None)
    if isinstance(operator, Identity):
        return _Split(None if first else operator, None if last else operator)
    weight, rounded = dense(operator), _rounding(operator)
    if first:
        return _end(weight, rounded)
    if last:
        end = _end(weight.mT, rounded)
        return _Split(end.right.mT, None, end.residual, end.stretch)
    split = _square_roots(weight, operator.terms)
    return replace(split, residual=split.residual + rounded)


def _rounding(operator: Operator) -> Tensor | float:
    """How far `dense` may be from the operator, in l2: it forms products and sums."""
    if operator.plain:
        return 0.0
    return gamma(operator.terms) * majorant_norm(operator)


def _end(weight: Tensor, rounded: Tensor | float) -> _Split:
    """W (m, n) up to a rotation of its columns, (m, min(m, n)): the same || S W ||_2.

    W^T = Q R + E with Q and R as computed, so || S W || <= || S R^T || ||Q|| + ||S|| ||E||.
    """
    m, n = weight.shape[-2:]
    if n <= m:
        return _Split(None, weight, rounded)
    q, r = torch.linalg.qr(weight.mT)
    error = torch.linalg.matrix_norm(weight.mT - q @ r)
    error = error + gamma(m) * torch.linalg.matrix_norm(q.abs() @ r.abs())
    return _Split(None, r.mT, rounded + outward(error, m * n), _stretch(q))


def _stretch(q: Tensor) -> Tensor:
    """At least ||Q||_2 of a matrix with nearly orthonormal columns: ||Q||^2 <= 1 + ||Q^T Q - I||.
    Summing by blocks keeps the rounding error of the Gram matrix small."""
    n, m = q.shape[-2:]
    step = math.isqrt(n) + 1
    gram = sum(block.mT @ block for block in q.split(step, -2))
    terms = step + -(-n // step)
    size = torch.linalg.matrix_norm(q) ** 2  # at least || |Q|^T |Q| ||_F
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return 1 + (torch.linalg.matrix_norm(gram) + gamma(terms) * size) / 2


def _square_roots(weight: Tensor, terms: int) -> _Split:
    """U Sigma^{1/2} and Sigma^{1/2} V^T. Any product equal to W will do for a bound, so inexact
    singular vectors cost only the residual, which is measured."""
    u, sigma, v = torch.linalg.svd(weight, full_matrices=False)
    root = sigma.sqrt()
    right, left = u * root.unsqueeze(-2), root.unsqueeze(-1) * v
    error = torch.linalg.matrix_norm(weight - right @ left)
    scale = torch.linalg.matrix_norm(right) * torch.linalg.matrix_norm(left)
    return _Split(left, right, error + gamma(2 * max(weight.shape[-2:]) + terms) * scale)


def _factor(
    left: Tensor | Operator, stage: Stage, right: Tensor | Operator, budget: float
) -> Bracket:
    """A bracket of max over T of || A (C + T R) B ||_2."""
    if isinstance(left, Identity) or isinstance(right, Identity):
        return _factor_beside_identity(left, stage, right)
    # Rows of tensors are what operators act on: A C = (C^T A^T)^T, R B = (R B).
    center = stage.center.adjoint(left) @ right
    radial = stage.radius.apply(right.mT).mT
    cap = stage.norm(2) * matrix_norm(left, 2) * matrix_norm(right, 2)
    return vertex_maximum(center, left, radial, cap, budget, _product_error(left, stage, right))


def _product_error(left: Tensor, stage: Stage, right: Tensor) -> Tensor:
    """At least the l2 norm of the rounding error in A C B + A T (R B), the latter product excepted:
    it may be far greater than A C B, where that cancels."""
    center = stage.center.absolute().adjoint(left.abs()) @ right.abs()
    radial = stage.radius.absolute().apply(right.abs().mT).mT
    center, radial, size = (torch.linalg.matrix_norm(t) for t in (center, radial, left))
    terms = stage.center.terms + right.shape[-2]
    return gamma(terms) * center + gamma(stage.radius.terms) * size * radial


def _factor_beside_identity(
    left: Tensor | Operator, stage: Stage, right: Tensor | Operator
) -> Bracket:
    """Beside an identity (pooling follows or precedes): || S B || <= s || B ||, and likewise
    || A S ||; for equal slopes at all neurons the two ends meet."""
    sizes = [matrix_norm(one, 2) for one in (left, right) if not isinstance(one, Identity)]
    upper = torch.as_tensor(stage.norm(2), dtype=torch.float64, device=stage.radius.device)
    for size in sizes:
        upper = upper * size
    return Bracket(upper, _power_lower(left, stage, right))


def _norm_lower(operator: Operator, steps: int = 50) -> Tensor:
    """|| W x || / || x || after power iterations, less what rounding may add."""
    x = torch.linspace(1.0, 2.0, operator.shape[1], dtype=torch.float64, device=operator.device)
    x = x.unsqueeze(0)
    for _ in range(steps):
        x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-300)
        y = operator.apply(x)
        x = operator.adjoint(y)
    value = inward(torch.linalg.vector_norm(y, dim=-1).squeeze(-1), sum(operator.shape))
    return (value - gamma(operator.terms) * majorant_norm(operator)).clamp(min=0)


def _power_lower(left, stage: Stage, right, steps: int = 10) -> Tensor:
    """|| A (C + R) B x || / || x || after a few power iterations: a lower end, converging from
    below, at the vertex T = 1 or T = -1, whichever gives more; less what rounding may add where
    sums cancel, gamma || |A| (|C| + |R|) |B| || at most, and less that of the norms."""

    def forth(x, sign):
        x = x if isinstance(right, Identity) else x @ right.mT
        x = stage.center.apply(x) + sign * stage.radius.apply(x)
        return x if isinstance(left, Identity) else x @ left.mT

    def back(y, sign):
        y = y if isinstance(left, Identity) else y @ left
        y = stage.center.adjoint(y) + sign * stage.radius.adjoint(y)
        return y if isinstance(right, Identity) else y @ right

    best = torch.zeros((), dtype=torch.float64, device=stage.radius.device)
    size = stage.shape[1] if isinstance(right, Identity) else right.shape[-1]
    for sign in (1.0, -1.0):
        x = torch.linspace(1.0, 2.0, size, dtype=torch.float64, device=stage.radius.device)
        x = x.unsqueeze(0)
        for _ in range(steps):
            x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-300)
            y = forth(x, sign)
            x = back(y, sign)
        best = torch.maximum(best, torch.linalg.vector_norm(y, dim=-1).squeeze(-1))
    matrices = [one for one in (left, right) if not isinstance(one, Identity)]
    terms = sum(max(one.shape[-2:]) for one in matrices) + 2 * stage.radius.terms + 4
    lost = gamma(terms) * 2 * stage.norm(2)  # of |C| + |R|: at most twice that of C + T R
    for one in matrices:
        lost = lost * torch.linalg.matrix_norm(one)
    return (inward(best, size + y.shape[-1]) - lost).clamp(min=0)

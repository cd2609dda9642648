"""K_4 of what is left of a chain once its first signs are fixed.

A node of level (g, m) has all signs before group g fixed, and the first m of group g. Its state is
a = P x + the fixed signs' part of Q (t * z), and z = R x, x being what enters the group. States
have shape (nodes, columns, n), one column per entry of x_0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma
from .sign_chain import SignChain


@dataclass(frozen=True)
class AveragedTail:
    """D |T a| + d |z|, entrywise above |J|: per group g the rows T (M, n) and weights D (end, M) of
    the groups after it, and the weights d (end, N) of its own signs."""

    rows: list[Tensor]
    weights: list[Tensor]
    own: list[Tensor]
    slack: float

    def bound(self, g: int, m: int, a: Tensor, z: Tensor) -> Tensor:
        """(nodes,): exact up to rounding where both ends are scalars and group g is the last."""
        entries = (a @ self.rows[g].mT).abs() @ self.weights[g].mT
        entries = entries + z[..., m:].abs() @ self.own[g][:, m:].mT
        if entries.shape[1] == entries.shape[2] == 1:
            return entries.flatten() + self.slack
        schur = (entries.sum(1).amax(1) * entries.sum(2).amax(1)).sqrt()
        return torch.minimum(schur, torch.linalg.matrix_norm(entries)) + self.slack


def averaged_tail(chain: SignChain) -> AveragedTail:
    """From the last group to the first: a sign of group g reaches the end with weight d = D |T Q|,
    and x before the group is seen by the rows T P and R."""
    rows = weights = torch.eye(chain.end, dtype=torch.float64)
    tails = []
    for group in reversed(chain.groups):
        own = weights @ (rows @ group.spread).abs()
        tails.append((rows, weights, own))
        rows = torch.cat([rows @ group.center, group.radius])
        weights = torch.cat([weights, own], 1)
    return AveragedTail(*map(list, zip(*reversed(tails), strict=True)), slack(chain))


def slack(chain: SignChain) -> float:
    """What rounding changes at most in a norm at the end. With the chain's scale no entry there
    exceeds 1, and neither do those of K_4's sum over paths."""
    return gamma(8 * chain.terms) * math.sqrt(chain.start * chain.end)

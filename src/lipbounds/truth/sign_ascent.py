"""Good signs of a chain by coordinate ascent: the value is linear in the signs of each group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .sign_chain import SignChain

SWEEPS = 10  # down and up the chain; few starts still improve after that


def ascended_signs(
    chain: SignChain,
    starts: int,
    seed: int = 0,
    expired: Callable[[], bool] = lambda: False,
) -> list[Tensor]:
    """The signs found from `starts` random ones, per group (starts, N), best start first.

    With unit vectors u and v at the two ends, each group in turn gets the signs that maximise
    |u^T J v| while all else is fixed; then u and v turn to J v and J^T u, normalised. `expired`
    ends it after a sweep.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = [2.0 * torch.randint(0, 2, (starts, n), generator=generator) - 1 for n in chain.signs]
    signs = [t.to(torch.float64) for t in signs]
    v = torch.randn(starts, chain.start, generator=generator, dtype=torch.float64)
    v = _unit(v)
    for _ in range(SWEEPS):
        if expired():
            break
        u = _unit(forward(chain, signs, v)[-1])
        v = _unit(_sweep_down(chain, signs, u, v))
        u = _unit(_sweep_up(chain, signs, u, v))
    values = torch.linalg.vector_norm(forward(chain, signs, v)[-1], dim=-1)
    order = values.argsort(descending=True)
    return [t[order] for t in signs]


def forward(chain: SignChain, signs: list[Tensor], x: Tensor) -> list[Tensor]:
    """x and what leaves each group, (..., n) each."""
    trace = [x]
    for group, t in zip(chain.groups, signs, strict=True):
        trace.append(group.apply(trace[-1], t))
    return trace


def backward(chain: SignChain, signs: list[Tensor], y: Tensor) -> list[Tensor]:
    """J^T y cut before each group, and y itself."""
    trace = [y]
    for group, t in zip(reversed(chain.groups), reversed(signs), strict=True):
        trace.append(group.adjoint(trace[-1], t))
    return trace[::-1]


def path(chain: SignChain, signs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What passes each group, forth from the top right singular vector of J, back from the left."""
    jacobian = forward(chain, signs, torch.eye(chain.start, dtype=torch.float64))[-1].mT
    u, _, v = torch.linalg.svd(jacobian, full_matrices=False)
    return forward(chain, signs, v[0]), backward(chain, signs, u[:, 0])


def _sweep_down(chain: SignChain, signs: list[Tensor], u: Tensor, v: Tensor) -> Tensor:
    """Improves the groups from the last to the first; returns J^T u."""
    states, y = forward(chain, signs, v), u
    for k in range(len(signs) - 1, -1, -1):
        signs[k] = _best_signs(chain.groups[k], states[k], y)
        y = chain.groups[k].adjoint(y, signs[k])
    return y


def _sweep_up(chain: SignChain, signs: list[Tensor], u: Tensor, v: Tensor) -> Tensor:
    """Improves the groups from the first to the last; returns J v."""
    tails, x = backward(chain, signs, u), v
    for k in range(len(signs)):
        signs[k] = _best_signs(chain.groups[k], x, tails[k + 1])
        x = chain.groups[k].apply(x, signs[k])
    return x


def _best_signs(group, x: Tensor, y: Tensor) -> Tensor:
    """argmax over t of |y^T (P x + Q (t * R x))|."""
    fixed = (y * (x @ group.center.mT)).sum(-1, keepdim=True)
    gains = (y @ group.spread) * (x @ group.radius.mT)
    return torch.where((gains < 0) ^ (fixed < 0), -1.0, 1.0).to(torch.float64)


def _unit(vector: Tensor) -> Tensor:
    return vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True).clamp(min=1e-300)

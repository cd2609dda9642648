"""The search for steep points and directions where Jacobians are too large to be formed.

The power method for p-norms (see `ascent`) needs of J(x) only the products J v and J^T u, one pass
through the network each. Its first turns stay at a point; then x ascends along u^T J_h(x) v while u
and v follow. Rounds start at fresh points and next to the best so far.
"""

import torch
from torch import Tensor

from ..linear.norms import vector_norm
from ..linear.operators import BLOCK_ENTRIES
from ..networks.network import Network
from ..results import Status
from .ascent import gradient, tangent
from .sampling import pass_entries
from .starts import drawn, nearby, next_to_data

POINTS = 32  # that are followed at a time, fewer of networks of which a pass takes a block
ROUNDS, PATIENCE = 40, 6  # rounds at most, and rounds in a row without a gain
SETTLED = 6  # turns before x moves
STEPS = 40
WIDTH, COOLING = 0.5, 1e-3  # h at first, in units of a stage's mean |z|, and the last h over that
STEP = 0.3  # of x, in units of h and of its size
NARROW = 1e-6  # h by which points are compared
FINALISTS = 2
GAIN = 1e-9  # smaller ones are rounding


def search(
    network: Network, norm: float, points: Tensor | None, generator: torch.Generator, late
) -> tuple[Tensor, Tensor, Status]:
    """The best points found, (N, n), directions that J stretches well there, (N, n), and how the
    search ended. norm: 1.0, 2.0 or inf. `late()` ends it where it turns true."""
    count = min(POINTS, max(1, BLOCK_ENTRIES // pass_entries(network)))
    x = drawn(network, count, generator)
    if points is not None:
        x = torch.cat([next_to_data(network, points, generator), x])[:count]
    best = (x[:0], x[:0], x[:0, 0])
    stale, record = 0, -1.0
    for _ in range(ROUNDS):
        v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        kept = best[0][: count // 2]
        x[: len(kept)], v[: len(kept)] = nearby(kept, generator), best[1][: len(kept)]
        x, v, stopped = _ascended(network, x, v, norm, late)
        best = _best(best, (x, v, stretch(network, x, v, norm)), count)
        if stopped:
            return *_finalists(best), Status.TIME
        stale = 0 if float(best[2][0]) > record * (1 + GAIN) else stale + 1
        record = float(best[2][0])
        if stale == PATIENCE:
            return *_finalists(best), Status.CONVERGED
        x = drawn(network, count, generator)
    return *_finalists(best), Status.STEPS


def _ascended(network, x, v, norm, late) -> tuple[Tensor, Tensor, bool]:
    """Points next to x, directions from v that J stretches well there, and whether it was late."""
    u, width = None, torch.full_like(x[:, :1], WIDTH)
    for step in range(STEPS):
        rise, u, v = gradient(network, x, u, v, width, norm)
        if late():
            return x, v, True
        if SETTLED <= step < STEPS - SETTLED:
            length = torch.linalg.vector_norm(rise, dim=1, keepdim=True).clamp(min=1e-300)
            size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
            x = x + STEP * width * size * rise / length
            width = width * COOLING ** (1 / (STEPS - 2 * SETTLED))
    return x, v, False


def stretch(network, x, v, norm) -> Tensor:
    """||J(x) v||_p / ||v||_p, up to rounding."""
    image = tangent(network, x, v, torch.full_like(x[:, :1], NARROW))
    quotient = vector_norm(image, norm) / vector_norm(v, norm)
    return quotient.nan_to_num(nan=0.0, posinf=0.0)


def _finalists(best) -> tuple[Tensor, Tensor]:
    """Few, for secants are dear as well."""
    return best[0][:FINALISTS], best[1][:FINALISTS]


def _best(one, other, count) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` points of both of the greatest stretch, the best first."""
    x, v, value = (torch.cat(pair) for pair in zip(one, other, strict=True))
    order = value.argsort(descending=True, stable=True)[:count]
    return x[order], v[order], value[order]

"""The best true lower bound of the Lipschitz constant that can be found, with its witness.

Points are drawn at many scales, on the kinks of the first stage and at given data. The best ascend
along softened slopes (`ascent`), then walk from region to region: across the kink of a neuron drawn
at random, or by a random step of random size, kept where ||J||_p does not fall. The next round
mixes the best with fresh points, until rounds bring nothing. At last secants of many lengths are
laid through the best points; the greatest of their quotients, rounded down, is the bound. Where
Jacobians are too large to be formed, points and secants come from products with them alone.
"""

import math

import torch
from torch import Tensor

from ..clock import now
from ..errors import UnsupportedError
from ..linear.norms import checked_norm
from ..linear.operators import BLOCK_ENTRIES, slices
from ..networks.network import Network
from ..results import Bound, Status
from . import matrix_free
from .ascent import ascend, directions
from .sampling import jacobian_norms, pass_entries, point_entries, secant_quotients
from .starts import drawn, nearby, next_to_data

ROUNDS, PATIENCE = 40, 6  # rounds at most, and rounds in a row without a gain
CHAINS, FEWEST_CHAINS, CHAIN_ENTRIES = 256, 8, 2**20  # points that search at a time
POOL = 16  # points drawn per chain
SCORED = 64  # points between two looks at the clock, at most
WALK = 30  # steps
FINALISTS = 8  # points through which secants are laid
SEARCH = 0.8  # of the seconds; what is left is for the secants
LENGTHS = torch.tensor([-8.0, 0.0, -16.0, -24.0, 8.0, *range(-40, 42, 2)], dtype=torch.float64)
LENGTHS = LENGTHS.exp2()  # of secants, relative to x; first those within a region and those that
# rounding spoils least
LARGEST_JACOBIAN = 2**27  # numbers, 1 GiB, with what it takes to form it
GAIN = 1e-9  # smaller ones are rounding


def secant_lower_bound(
    network: Network,
    norm: float,
    seed: int = 0,
    points: Tensor | None = None,
    seconds: float = 10.0,
) -> Bound:
    """`lower` <= ||f(x) - f(y)||_p / ||x - y||_p <= Lip_p(f) with the `witness` x and y, (n,).

    The greatest quotient found, rounded down, so that it holds in exact arithmetic. `status` says
    whether further rounds brought nothing, or `seconds` or the rounds were over before.
    norm: 1, 2 or inf. points: (N, n), given data to search at as well. The
    same seed gives the same result unless `seconds` run out, which end the search early (large
    networks overrun them by a step and the secants). Memory is bounded by blocks.
    Raises UnsupportedError for an ensemble or another norm.
    """
    norm = checked_norm(norm)
    if network.batch_shape:
        raise UnsupportedError("the secant lower bound takes one network, not an ensemble")
    generator = torch.Generator().manual_seed(seed)
    small = point_entries(network) <= LARGEST_JACOBIAN
    search = _search if small else matrix_free.search
    begin = now()
    with torch.no_grad():
        x, v, status = search(
            network, norm, points, generator, lambda: now() - begin > SEARCH * seconds
        )
        late = lambda: now() - begin > seconds  # noqa: E731
        value, witness = _best_secant(network, x, v, norm, late)
    if value > 0 or not network.depth:
        return Bound(math.inf, value, status, witness=witness)
    left = "no secant is longer than the errors of evaluating the network"
    return Bound(math.inf, value, Status.PRECISION, left, witness=witness)


def _search(network, norm, points, generator, late) -> tuple[Tensor, Tensor, Status]:
    """The points with the greatest ||J||_p found, directions that J stretches as much, and how the
    search ended."""
    x, status = _steepest(network, norm, points, generator, late)
    x = x[:FINALISTS]
    return x, directions(network, x, norm), status


def _steepest(network, norm, points, generator, late) -> tuple[Tensor, Status]:
    """The points with the greatest ||J||_p found, best first, and how the search ended."""
    chains = min(max(CHAIN_ENTRIES // point_entries(network), FEWEST_CHAINS), CHAINS)
    x = drawn(network, POOL * chains, generator)
    if points is not None:
        x = torch.cat([next_to_data(network, points, generator), x])
    x, value = _highest(network, x, norm, chains, late)
    stale = 0
    for _ in range(ROUNDS):
        if late():
            return x, Status.TIME
        if stale == PATIENCE:
            return x, Status.CONVERGED
        new, height = ascend(network, x, norm, generator, late)
        new, height = _walk(network, new, height, norm, generator, late)
        record = float(value[0])
        best, value = torch.cat([new, x]), torch.cat([height, value])
        best, value = _distinct(best, value, chains // 2)
        stale = 0 if float(value[0]) > record * (1 + GAIN) else stale + 1
        fresh = drawn(network, POOL * chains // 2, generator)
        fresh, height = _highest(network, fresh, norm, chains // 2, late)
        x, value = torch.cat([best, fresh]), torch.cat([value, height])
    return x, Status.STEPS


def _highest(network, x, norm, count, late) -> tuple[Tensor, Tensor]:
    """The `count` points with the greatest ||J||_p and these, best first; of the first block at
    least, where it is late."""
    values = []
    for block in x.split(max(1, min(SCORED, BLOCK_ENTRIES // point_entries(network)))):
        values.append(jacobian_norms(network, block, norm))
        if late():
            break
    value = torch.cat(values)
    return _distinct(x[: len(value)], value, count)


def _distinct(x: Tensor, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest, best first, points of equal value (of one region) counted once."""
    value = value.nan_to_num(nan=0.0, posinf=0.0)
    value, order = value.sort(descending=True, stable=True)
    again = torch.zeros_like(value, dtype=torch.bool)
    again[1:] = value[:-1] - value[1:] <= GAIN * value[1:].abs()
    chosen = torch.argsort(again, stable=True)[:count]
    return x[order[chosen]], value[chosen]


def _walk(network, x, value, norm, generator, late) -> tuple[Tensor, Tensor]:
    """WALK steps of each point, across a kink or at random in turn, kept where ||J||_p rises or
    stays."""
    for step in range(WALK):
        if late():
            break
        crosses = step % 2 and network.depth
        candidate = _across(network, x, generator) if crosses else nearby(x, generator)
        reached = jacobian_norms(network, candidate, norm)
        kept = reached >= value
        x = torch.where(kept.unsqueeze(1), candidate, x)
        value = torch.where(kept, reached, value)
    return x, value


def _across(network: Network, x: Tensor, generator: torch.Generator) -> Tensor:
    """The least step in l2 that takes each point across a kink of one stage, were J constant."""
    k = int(torch.randint(network.depth, (1,), generator=generator))
    picks = torch.randint(2**62, (len(x), 3), generator=generator).to(x.device)
    share = torch.rand(len(x), 1, generator=generator, dtype=torch.float64).to(x.device)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        gap = network.stages[k].gap(network.preactivations(x)[k + 1][0], picks)
        (slope,) = torch.autograd.grad(gap.sum(), x)
    gap, x = gap.detach(), x.detach()
    beyond = 1 + 10 ** (4 * share - 3)
    step = beyond * gap / slope.square().sum(1, keepdim=True) * slope
    return torch.where(step.isfinite(), x - step, x)


def _best_secant(network, x, v, norm, late) -> tuple[float, tuple[Tensor, Tensor]]:
    """The greatest quotient of secants through each of the x along its v, to either side and to
    both, of all LENGTHS or as many as come before it is late."""
    size = x.abs().amax(1).clamp(min=1e-50)
    step = v * size[:, None]
    value, witness = -1.0, None
    for rows in slices(len(LENGTHS), 6 * len(x) * pass_entries(network)):
        if rows.start and late():
            break
        steps = LENGTHS[rows].to(x.device)[:, None, None] * step
        at = x.expand_as(steps)
        ends = torch.cat([at, at + steps, at + steps], 1).flatten(0, 1)
        others = torch.cat([at - steps, at, at - steps], 1).flatten(0, 1)
        quotients = secant_quotients(network, ends, others, norm)
        best = quotients.argmax()
        if float(quotients[best]) > value:
            value, witness = float(quotients[best]), (ends[best].clone(), others[best].clone())
    return value, witness

"""The best true lower bound of the Lipschitz constant that can be found, with its witness.

Points are drawn at many scales, on the kinks of the first stage and at given data. The best ascend
along softened slopes (`ascent`), then walk from region to region: across the kink of a neuron drawn
at random, or by a random step of random size, kept where ||J||_p does not fall. The next round
mixes the best with fresh points, until rounds bring nothing. At last secants of many lengths are
laid through the best points; the greatest of their quotients, rounded down, is the bound.
"""

import math

import torch
from torch import Tensor

from ..clock import now
from ..errors import UnsupportedError
from ..linear.norms import checked_norm
from ..networks.network import Network
from ..results import Bound, Status
from .ascent import ascend, directions
from .sampling import JITTER, jacobian_norms, point_entries, secant_quotients

ROUNDS, PATIENCE = 40, 6  # rounds at most, and rounds in a row without a gain
CHAINS, FEWEST_CHAINS, CHAIN_ENTRIES = 256, 8, 2**20  # points that search at a time
POOL = 16  # points drawn per chain
SCORED = 64  # points between two looks at the clock
WALK = 30  # steps
FINALISTS = 8  # points through which secants are laid
LENGTHS = torch.arange(-40.0, 42.0, 2.0, dtype=torch.float64).exp2()  # of secants, relative to x
SCALES = (1e-3, 1e3)  # of points, relative to 1 and to the first kinks
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
    deadline = now() + seconds
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        best, status = _search(network, norm, points, generator, lambda: now() > deadline)
        value, witness = _best_secant(network, best, norm)
    return Bound(math.inf, value, status, witness=witness)


def _search(network, norm, points, generator, late) -> tuple[Tensor, Status]:
    """The points with the greatest ||J||_p found, best first, and how the search ended."""
    chains = min(max(CHAIN_ENTRIES // point_entries(network), FEWEST_CHAINS), CHAINS)
    x = _starts(network, POOL * chains, generator)
    if points is not None:
        x = torch.cat([_given(network, points, generator), x])
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
        fresh = _starts(network, POOL * chains // 2, generator)
        fresh, height = _highest(network, fresh, norm, chains // 2, late)
        x, value = torch.cat([best, fresh]), torch.cat([value, height])
    return x, Status.STEPS


def _starts(network: Network, count: int, generator: torch.Generator) -> Tensor:
    """Half of them of all SCALES, half next to kinks of the first stage, along random rays."""
    ray = torch.randn(count, network.input_size, generator=generator, dtype=torch.float64)
    share = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    ray, low, high = ray.to(network.device), *SCALES
    scale = low * (high / low) ** share.to(ray)
    first = network.affines[0]
    slope = first.operator.apply(ray)
    neuron = torch.randint(slope.shape[1], (count, 1), generator=generator).to(ray.device)
    kink = -first.offset[neuron] / slope.gather(1, neuron)
    near = kink * (1 + 1e-2 * scale / high)  # scale / high is in (0, 1], mostly small
    on_kinks = torch.arange(count, device=ray.device).unsqueeze(1) % 2 == 1
    usable = kink.isfinite() & (kink != 0) & on_kinks
    return torch.where(usable, near, scale) * ray


def _given(network: Network, points: Tensor, generator: torch.Generator) -> Tensor:
    """Given points, moved a little and very little: flat backgrounds lie on kinks."""
    x = points.repeat(2, 1)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    noise[len(x) // 2 :] *= 1e-3
    return x + JITTER * x.abs().max().clamp(min=1e-3) * noise


def _highest(network, x, norm, count, late) -> tuple[Tensor, Tensor]:
    """The `count` points with the greatest ||J||_p and these, best first; of the first block at
    least, where it is late."""
    values = []
    for block in x.split(SCORED):
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
        candidate = _across(network, x, generator) if crosses else _nearby(x, generator)
        reached = jacobian_norms(network, candidate, norm)
        kept = reached >= value
        x = torch.where(kept.unsqueeze(1), candidate, x)
        value = torch.where(kept, reached, value)
    return x, value


def _nearby(x: Tensor, generator: torch.Generator) -> Tensor:
    size = x.abs().amax(1, keepdim=True)
    step = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    share = torch.rand(len(x), 1, generator=generator, dtype=torch.float64).to(x.device)
    return x + 10 ** (4 * share - 3.5) * size * step


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


def _best_secant(network, x, norm) -> tuple[float, tuple[Tensor, Tensor]]:
    """The greatest quotient of secants of all LENGTHS through the finalists, to either side and to
    both, along the direction that J stretches most."""
    x = x[:FINALISTS]
    size = x.abs().amax(1).clamp(min=1e-50)
    step = directions(network, x, norm).unsqueeze(1) * size[:, None, None]
    step = LENGTHS.to(x.device)[:, None] * step
    x = x.unsqueeze(1).expand_as(step)
    ends = torch.cat([x, x + step, x + step], 1).flatten(0, 1)
    others = torch.cat([x - step, x, x - step], 1).flatten(0, 1)
    quotients = secant_quotients(network, ends, others, norm)
    best = quotients.argmax()
    return float(quotients[best]), (ends[best].clone(), others[best].clone())

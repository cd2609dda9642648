"""Points at which searches for steep points start: drawn at many scales, on the kinks of the first
stage, next to given data, and next to the best so far.
"""

import torch
from torch import Tensor

from ..networks.network import Network
from .sampling import JITTER

SCALES = (1e-3, 1e3)  # of points, relative to 1 and to the first kinks


def drawn(network: Network, count: int, generator: torch.Generator) -> Tensor:
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


def next_to_data(network: Network, points: Tensor, generator: torch.Generator) -> Tensor:
    """Given points, moved a little and very little: flat backgrounds lie on kinks."""
    x = points.repeat(2, 1)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    noise[len(x) // 2 :] *= 1e-3
    return x + JITTER * x.abs().max().clamp(min=1e-3) * noise


def nearby(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random step of a random size from each point."""
    size = x.abs().amax(1, keepdim=True)
    step = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    share = torch.rand(len(x), 1, generator=generator, dtype=torch.float64).to(x.device)
    return x + 10 ** (4 * share - 3.5) * size * step

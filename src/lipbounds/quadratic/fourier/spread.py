"""Multipliers of a torus at each pixel of the network's own images, where they stay feasible."""

import torch
from torch import Tensor

from ...networks.network import Network
from ..form import Multipliers
from .elimination import TorusElimination

OUTPUT = 1 + 1e-6  # times the least multiplier of the outputs


def spread_out(elimination: TorusElimination, logs: Tensor, network: Network) -> Multipliers | None:
    """None where the network has other stages than the torus, or values are carried past them.
    Feasible but for rounding, where no interval was widened for the torus (docs/k5.md, proposition
    22)."""
    parts = logs.split(elimination.sizes)
    widths = [stage.shape[0] for stage in network.stages]
    torus = elimination.torus
    if not torus.trees or torus.carries or len(widths) != len(parts):
        return None
    stages = [
        (-part).exp().repeat_interleave(width // len(part))
        for part, width in zip(parts, widths, strict=True)
    ]
    with torch.no_grad():
        least = elimination.at(logs).gains.max()
    one = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    last = torch.ones(network.output_size, dtype=torch.float64, device=network.device)
    return Multipliers(one, stages, OUTPUT * least * last)

"""Networks without neurons that next to nothing passes (docs/k5.md, proposition 21)."""

import torch
from torch import Tensor

from ..linear.norms import majorant_norm, majorant_sums
from ..linear.operators import Dense, Operator
from .network import Affine, Network
from .rewrite import for_neurons
from .stages import SlopeStage

NEGLIGIBLE = 1e-20  # share of what may pass a stage, at most
DUAL = {1.0: torch.inf, 2.0: 2.0, torch.inf: 1.0}


def pruned(network: Network, norm: float) -> tuple[Network, Tensor]:
    """The network without neurons whose weights in and out are so small that all that passes them
    is NEGLIGIBLE, as weight decay leaves them, and a bound of || J - J' || for its linearisations,
    0-d. Multipliers of such neurons, of the order of the weights' squared inverses, are all that an
    optimiser is busy with. For single networks; of neurons between dense maps."""
    slack = torch.zeros(network.batch_shape, dtype=torch.float64, device=network.device)
    if network.batch_shape:
        return network, slack
    affines, stages = list(network.affines), list(network.stages)
    lengths = [_length(affine.operator, norm) for affine in affines]
    gains = [stage.norm(norm) for stage in stages]
    for k, stage in enumerate(stages):
        ahead, behind = affines[k].operator, affines[k + 1].operator
        if not (stage.entrywise and isinstance(ahead, Dense) and isinstance(behind, Dense)):
            continue
        rows = torch.linalg.vector_norm(ahead.weight, DUAL[norm], dim=1)
        columns = torch.linalg.vector_norm(behind.weight, norm, dim=0)
        passing = rows * columns
        kept = passing > NEGLIGIBLE * lengths[k] * lengths[k + 1]
        fewer = None if bool(kept.all()) or not bool(kept.any()) else _restricted(stage, kept)
        if fewer is None:
            continue
        others = [*lengths[:k], *lengths[k + 2 :], *map(torch.as_tensor, gains)]
        slack = slack + passing[~kept].sum() * torch.stack([x.double() for x in others]).prod()
        affines[k] = Affine(Dense(ahead.weight[kept]), affines[k].offset[kept])
        affines[k + 1] = Affine(Dense(behind.weight[:, kept]), affines[k + 1].offset)
        stages[k] = fewer
    # Far more than rounding in these few products.
    fewer = Network(tuple(affines), tuple(stages), network.input_shape, network.roundings)
    return fewer, 1.001 * slack


def _length(operator: Operator, norm: float) -> Tensor:
    """At least the operator norm; no product is formed for it."""
    return majorant_norm(operator) if norm == 2 else majorant_sums(operator, norm).amax(-1)


def _restricted(stage: SlopeStage, kept: Tensor) -> SlopeStage | None:
    """Its neurons in `kept` (m,); None where an activation cannot be had for some of them."""
    place, parts = kept.cumsum(0) - 1, []
    own = torch.arange(stage.shape[0], device=kept.device)
    for function, index in stage.parts:
        chosen = own[index][kept[index]]
        fewer = for_neurons(function, stage, chosen)
        if fewer is None:
            return None
        parts.append((fewer, place[chosen]))
    return SlopeStage(parts, int(kept.sum()), kept.device)

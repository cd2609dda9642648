"""How far the outputs can move when one input moves alone."""

import math
from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from ..arguments import breakdown_reported, check_network, check_seconds
from ..arithmetic.rounding import finite, outward
from ..clock import limited
from ..errors import LipboundsError
from ..networks.averaged_map import averaged_adjoint, averaged_map
from ..networks.network import Network
from ..networks.scaling import balanced
from .monotone import map_of_units


def influence(
    network: Network, outputs: Sequence[int] | None = None, seconds: float = math.inf
) -> Tensor:
    """Upper bounds of sum_j |f_j(x) - f_j(x')| / |x_i - x'_i|, x and x' differing in input i alone.

    outputs: the j of the sum, all by default. The bound of input i is sum_j F_4(e_i)_j, K_4's in l1
    of that input; the greatest, over all outputs, is K_4 in l1 in the same treatment. It takes one
    pass of the transposed map, with implicit pools one pass for each input.
    Returns (*batch_shape, n_0), in the outputs' units per unit of the input. Raises LipboundsError
    for outputs that there are not, and where it would take more than `seconds`.
    """
    check_network(network, "influence")
    check_seconds(seconds, "influence")
    wanted = _wanted(network, outputs)
    with torch.no_grad(), breakdown_reported("the influence"), limited(seconds):
        scale = balanced(network)
        if network.has_pools:
            moved = map_of_units(scale.network, network.input_size, averaged_map)
            sums = outward((moved * wanted).sum(-1), network.output_size)
        else:
            sums = averaged_adjoint(scale.network, wanted.unsqueeze(0)).squeeze(-2)
    return finite(scale.upper_columns(sums), "the influence")


def _wanted(network: Network, outputs: Sequence[int] | None) -> Tensor:
    """(n_out,): 1 for what is in the sum, else 0."""
    size = network.output_size
    try:
        chosen = list(range(size) if outputs is None else map(index, outputs))
    except TypeError:
        chosen = []
    if not chosen or min(chosen) < 0 or max(chosen) >= size:
        raise LipboundsError(
            f"influence: outputs {outputs} must be some of the numbers 0 to {size - 1}"
        )
    wanted = torch.zeros(size, dtype=torch.float64, device=network.device)
    wanted[chosen] = 1.0
    return wanted

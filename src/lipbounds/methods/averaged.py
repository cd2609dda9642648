"""K_4: the norm of the averaged map F_4 (Pintore & Després 2024, as reconstructed in
docs/theory.md); see `lipbounds.networks.averaged_map`. Where time is short, that of a network cut
into parts; see `lipbounds.networks.cut`."""

import math
from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor

from ..arithmetic.rounding import finite
from ..clock import OutOfTime, left, limited
from ..networks import plane
from ..networks.averaged_map import averaged_adjoint, averaged_map
from ..networks.cut import Parts
from ..networks.network import Network
from ..results import Bound, Status
from . import costs
from .absolute import absolute
from .monotone import norm_from_map


def averaged_within(network: Network, norm: float, seconds: float = math.inf) -> Bound:
    """K_4(p), or where `seconds` are not enough the least of what they are enough for: K_3; in l1
    and l-infinity K_4 without the edges of images, for stages behind convolutions (proposition 27
    of docs/theory.md); and K_4 of the network cut at every second, fourth, eighth stage ..., each
    no greater than the one before it (proposition 25).

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`. Raises
    OutOfTime where `seconds` are enough for none of them.
    """
    with limited(seconds):
        if left() == math.inf:
            return Bound(averaged(network, norm))
        least, reached = _least_of_quick(network, norm), 1
        try:
            for length in _lengths(network, norm):
                parts = Parts(network, length)
                value = norm_from_map(network, norm, parts.forward, parts.adjoint)
                least, reached = torch.minimum(least, value), length
        except OutOfTime:
            whole = network.depth + 1
            left_out = f"segments of at most {reached} of {whole} layers"
            return Bound(least, status=Status.TIME, left=left_out)
    return Bound(least)


def _least_of_quick(network: Network, norm: float) -> Tensor:
    found, late = [], None
    for bound in _quick(network, norm):
        try:
            found.append(bound(network, norm))
        except OutOfTime as error:
            late = error
    if not found:
        raise late
    return reduce(torch.minimum, found)


def _quick(network: Network, norm: float) -> list[Callable[[Network, float], Tensor]]:
    """K_3, and where K_4 takes long and there is one, the bound without the edges of images; that
    one first where K_3 takes long too, as in l1 with pools: a pass for each input."""
    dear = costs.dear(costs.averaged(network, norm))
    if norm == 2 or not dear or plane.reached(network) <= 1:
        return [absolute]
    if costs.dear(costs.absolute(network, norm)):
        return [_on_plane, absolute]
    return [absolute, _on_plane]


def _on_plane(network: Network, norm: float) -> Tensor:
    found = plane.plane_columns(network) if norm == 1 else plane.plane_sums(network)
    return found.amax()


def _lengths(network: Network, norm: float) -> Iterator[int]:
    """Of segments, doubled until they are whole; at once where that takes little time."""
    length, whole = 2, network.depth + 1
    if costs.dear(costs.averaged(network, norm)):
        while length < whole:
            yield length
            length *= 2
    yield whole


def averaged(network: Network, norm: float) -> Tensor:
    """K_4(p): max F_4(1) for p = inf, max_k sum F_4(e_k) for p = 1, and the certified spectral norm
    of the matrix with columns F_4(e_k) for p = 2.

    Returns an upper bound of Lip_p for p in {1, 2, inf}, shape `network.batch_shape`.
    """
    return norm_from_map(network, norm, averaged_map, averaged_adjoint)


def averaged_sums(network: Network, norm: float) -> Tensor:
    """K_4 of each output alone (p = inf), F_4(1), or of each input alone (p = 1), the transposed
    map at 1; (..., n_out) or (..., n_0), for networks without implicit pools. The greatest is K_4.

    Raises LipboundsError where it overflows.
    """
    size = network.input_size if norm == math.inf else network.output_size
    one_map = averaged_map if norm == math.inf else averaged_adjoint
    ones = torch.ones(1, size, dtype=torch.float64, device=network.device)
    return finite(one_map(network, ones).squeeze(-2), "K_4")

"""K_5: the least value of the quadratic form's dual, by an interior-point method of our own
(docs/k5.md). In l2 the optimum of LipSDP-Neuron, in l1 and l-infinity that of GeoLIP's natural
relaxation; never above K_4 (explicit treatment) or, in l2, K_1."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..barrier import minimised
from ..descent import descend
from ..feasibility import certified
from ..forms import Forms, chain_forms, column_forms, priced, row_forms
from ..layered import layered_start
from ..mixed_forms import MixedForms, has_linear_neurons, mixed_forms
from ..network import Network
from ..norms import checked_norm
from ..proof import certified_pieces
from ..quadratic import Multipliers
from ..rewrite import explicit, maxima_first, merged
from .averaged import averaged, averaged_map, averaged_sums
from .product import product

TOLERANCE = 1e-7  # relative gap at which a program is solved; about ten times the loss of the bound
SLACK = 0.25  # of the start, which is to be well inside the cone
STILL = 1e7  # of the start: the multiplier of a neuron that does not move of its own
LARGEST_SIDE = 2500  # of Q for Newton's method, whose step takes a second there
MEMORY = 2**30  # bytes of the Newton matrices of one batch of programs
MATRICES = 10  # of N^2 float64 that a Newton step holds for each program

Progress = Callable[[float, Tensor], None]


def ellipsoidal(
    network: Network, norm: float, seconds: float = 60.0, progress: Progress | None = None
) -> Tensor:
    """K_5(p): the greatest over output rows (inf) or input columns (1) of min sqrt(mu nu), mu and
    nu the sums of the input's and output's multipliers, with Q(mu, lambda, nu) > 0; in l2 their
    greatest entries, for all rows and columns at once (Q in `lipbounds.forms`).

    Every iterate is feasible and proves a bound: at the end of `seconds` the least certified one is
    returned, K_4 (l1, l-infinity) or K_* (l2) at first. progress(elapsed seconds, bound) is called
    after each batch of programs. A max-pooling kept whole is taken as a tree of maxima.
    Returns an upper bound of D*_p, shape `network.batch_shape`. Raises LipboundsError where a
    product of layers overflows.
    """
    norm, begin = checked_norm(norm), time.monotonic()
    plain = merged(maxima_first(explicit(network) if network.has_pools else network))
    pieces = _Pieces(_cheap(network, plain, norm), begin + seconds)
    if _side(plain, norm) > LARGEST_SIDE and not network.batch_shape:
        _descended(plain, norm, pieces, seconds)
        if progress is not None:
            progress(time.monotonic() - begin, pieces.bound.reshape(()))
        return torch.minimum(pieces.bound.reshape(()), _whole(network, norm))
    start = layered_start(plain, SLACK)
    size = _batch_size(plain, norm)
    while (chosen := pieces.open(size)) is not None:
        samples, indices = chosen
        forms = _forms(plain, norm, samples, indices)
        samples, indices = samples[: forms.batch], indices[: forms.batch]
        theta = _theta(start, forms, samples)
        found, inside = minimised(forms, theta, TOLERANCE, pieces.finished(samples))
        pieces.settle(samples, indices, certified(forms, found, (inside, theta)))
        if progress is not None:
            progress(time.monotonic() - begin, pieces.bound.reshape(network.batch_shape))
    return pieces.bound.reshape(network.batch_shape)


class _Pieces:
    """What is known of each piece of each network: proven bounds (S, pieces), and per network an
    estimate from below of the greatest of them, which spares the pieces that are less."""

    def __init__(self, uppers: Tensor, deadline: float):
        self.uppers, self.deadline = uppers, deadline
        self.waiting = uppers > 0
        self.floors = torch.zeros_like(uppers[:, 0])

    @property
    def bound(self) -> Tensor:
        return self.uppers.amax(-1)

    def open(self, size: int) -> tuple[Tensor, Tensor] | None:
        """Up to `size` pieces that may raise their network's bound, the greatest first; None where
        there are none, or time is up."""
        self.waiting &= self.uppers > self.floors.unsqueeze(-1)
        if time.monotonic() >= self.deadline or not bool(self.waiting.any()):
            return None
        rank = torch.where(self.waiting, self.uppers, -1.0).argsort(-1, descending=True).argsort(-1)
        samples, indices = self.waiting.nonzero(as_tuple=True)
        first = rank[samples, indices].argsort(stable=True)[:size]
        return samples[first], indices[first]

    def finished(self, samples: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """For `minimised`: whether a piece cannot be its network's greatest, or time is up."""

        def enough(running: Tensor, values: Tensor, lower: Tensor) -> Tensor:
            owners = samples[running]
            self.floors.scatter_reduce_(0, owners, lower, "amax")
            late = time.monotonic() >= self.deadline
            return (values < self.floors[owners]) | late

        return enough

    def settle(self, samples: Tensor, indices: Tensor, values: Tensor) -> None:
        self.uppers[samples, indices] = torch.minimum(self.uppers[samples, indices], values)
        self.waiting[samples, indices] = False


def _cheap(network: Network, plain: Network, norm: float) -> Tensor:
    """(S, pieces): K_4 of each row or column, the least of both treatments for rows; K_* in l2."""
    if norm == 2:
        return product(network, norm).reshape(-1, 1)
    sums = averaged_sums(plain, norm)
    if norm == math.inf and network.has_pools:
        ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
        sums = torch.minimum(sums, averaged_map(network, ones).squeeze(-2))
    return sums.reshape(-1, sums.shape[-1])


def _whole(network: Network, norm: float) -> Tensor:
    """K_4 of the network as it is, whose implicit pools the pieces in l1 know nothing of."""
    return averaged(network, norm) if norm == 1 else product(network, norm)


def _descended(network: Network, norm: float, pieces: _Pieces, seconds: float) -> None:
    """The structured descent, one set of multipliers for all pieces, for large networks."""
    start = layered_start(network)
    if seconds > 0:
        found = descend(network, norm, start, seconds=seconds)
        pieces.uppers = torch.minimum(pieces.uppers, certified_pieces(network, norm, found))


def _side(network: Network, norm: float) -> int:
    """The rows of Q for one piece."""
    hidden = sum(affine.operator.shape[0] for affine in network.affines[:-1])
    inputs = network.input_size if norm != 1 else 1
    outputs = network.output_size if norm != math.inf else 1
    return inputs + hidden + outputs


def _batch_size(network: Network, norm: float) -> int:
    return max(1, MEMORY // (8 * MATRICES * _side(network, norm) ** 2))


def _forms(network: Network, norm: float, samples: Tensor, indices: Tensor) -> Forms:
    """One program for each of the pairs; of the first of them alone where neurons are linear by a
    coincidence of weights, which differs from piece to piece."""
    ones = torch.ones(1, dtype=torch.float64, device=network.device)
    if has_linear_neurons(network):
        forms = _mixed(network, norm, samples, indices)
    else:
        forms = chain_forms(network, samples)
        if norm != 2:
            forms = (row_forms if norm == math.inf else column_forms)(forms, indices)
    if forms.coincident:
        forms = _mixed(network, norm, samples[:1], indices[:1])
    return priced(forms, norm, ones)


def _mixed(network: Network, norm: float, samples: Tensor, indices: Tensor) -> MixedForms:
    entry, exit = (
        torch.eye(size, dtype=torch.float64, device=network.device).expand(len(samples), -1, -1)
        for size in (network.input_size, network.output_size)
    )
    each = torch.arange(len(samples), device=network.device)
    if norm == 1:
        entry = entry[each, indices].unsqueeze(-1)
    if norm == math.inf:
        exit = exit[each, indices].unsqueeze(-2)
    return mixed_forms(network, samples, entry, exit, backward=norm == 1)


def _theta(start: Multipliers, forms: Forms, samples: Tensor) -> Tensor:
    """The start, cut to the forms' inputs, neurons and outputs, (b, N)."""
    inputs, outputs = start.input[..., : forms.sizes[0]], start.output[..., : forms.sizes[-1]]
    stages = start.stages
    if isinstance(forms, MixedForms):
        stages = [part[..., mask] for part, mask in zip(stages, forms.moving, strict=True)]
    parts = [
        part[samples] if part.ndim > 1 else part.expand(len(samples), -1)
        for part in (inputs, *stages, outputs)
    ]
    theta = torch.cat(parts, -1)
    return torch.where(forms.free, theta, STILL * theta)

"""Newton's method on the programs of K_5's pieces: in batches, the greatest first."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...clock import left, now
from ...networks.network import Network
from ..costs import MATRICES, covariance, side
from ..form import Multipliers
from ..layered import layered_start
from ..order import Pieces
from ..structured.proof import certified_pieces
from .barrier import FIRST_GAP, Barrier, Path, Point, minimised, sharpened
from .feasibility import certified
from .forms import Forms, chain_forms, column_forms, priced, reached, row_forms
from .mixed_forms import MixedForms, has_linear_neurons, mixed_forms

COARSE = 1.5  # relative gap at which the first of many programs is on the central path
TOLERANCE = 1e-7  # relative gap at which a program is solved; about ten times the loss of the bound
ROUGH, ROUGH_SIDE = 1e-3, 500  # the same from so many rows of Q on
NEAR_GAP = 0.2  # relative, where a descent ended
STEPS = 150  # for a program, at most; 30 to 60 are usual
SLACK = 0.25  # of the start, which is to be well inside the cone
STILL = 1e7  # of the start: the multiplier of a neuron that does not move of its own
MEMORY = 2**27  # bytes of the Newton matrices of one batch of programs


def improved(
    network: Network, norm: float, pieces: Pieces, found: Multipliers | None, proof: float
) -> None:
    """Bounds of the pieces, from `found` or products of norms on. Where they are many, the first
    comes to its central path and shares what it has found, and each leaves
    off for the next greatest once it is less. proof: seconds of one of what all share, estimated.
    """
    starts, size = _Starts(network, found), _batch_size(network, norm)
    chain = None if has_linear_neurons(network) else chain_forms(network)
    final = TOLERANCE if side(network, norm) < ROUGH_SIDE else ROUGH
    many = first = pieces.count > size
    while (chosen := pieces.greatest(size)) is not None:
        forms = _forms(network, chain, norm, *chosen)
        samples, indices = (x[: forms.batch] for x in chosen)
        start = starts.of(forms, samples, indices)
        prove = _prover(forms, start, pieces, (samples, indices))
        path = minimised(
            forms,
            start,
            COARSE if first else final,
            pieces.late if first else pieces.finished(samples, indices),
            int(min(STEPS, pieces.steps) - pieces.spent[samples, indices].max()),
            prove if pieces.told else None,
        )
        prove(path)
        pieces.spent[samples, indices] += path.steps
        if many:
            starts.keep(path, samples, indices)
        if not first:
            done = path.solved | (path.value < pieces.floors[samples])
            pieces.waiting[samples, indices] &= ~done
            pieces.stalled[samples, indices] = path.stalled
        elif forms.moving is None and not network.batch_shape and left() > proof:
            shared = _multipliers(network, forms, path.first[0])
            pieces.cap(certified_pieces(network, norm, shared))
        pieces.stalled |= pieces.waiting & (pieces.spent >= STEPS)
        pieces.waiting &= pieces.spent < STEPS
        first = False


def _prover(
    forms: Forms, start: Point, pieces: Pieces, chosen: tuple[Tensor, Tensor]
) -> Callable[[Path], None]:
    """What proves the values of a path where they are better than those of the pieces."""

    def prove(path: Path) -> None:
        if bool((path.value < pieces.uppers[chosen]).any()):
            began = now()
            least = sharpened(forms, path.least)
            pieces.improve(*chosen, certified(forms, least, (path.inside, start.theta)))
            pieces.proof = now() - began

    return prove


class _Starts:
    """Where programs start: where they left off, or at the least of products of norms, what the
    descent has `found`, and the first program's point of its central path."""

    def __init__(self, network: Network, found: Multipliers | None):
        self.cold, self.single = layered_start(network, SLACK), not network.batch_shape
        self.found = self.cold if found is None else found
        self.shared: Tensor | None = None
        self.own: dict[tuple[int, int], Point] = {}

    def of(self, forms: Forms, samples: Tensor, indices: Tensor) -> Point:
        places = zip(samples.tolist(), indices.tolist(), strict=True)
        own = [self.own.get(place) for place in places]
        if all(point is not None and point.theta.shape[-1] == forms.side for point in own):
            return Point.stacked(own)
        cold, warm = (_theta(start, forms, samples) for start in (self.cold, self.found))
        tried = [(cold, FIRST_GAP), (warm, NEAR_GAP)]
        if self.shared is not None and self.shared.shape == cold.shape[1:]:
            tried.append((self.shared.expand_as(cold), FIRST_GAP))
        return Barrier(forms).least([(torch.where(forms.free, x, cold), gap) for x, gap in tried])

    def keep(self, path: Path, samples: Tensor, indices: Tensor) -> None:
        places = zip(samples.tolist(), indices.tolist(), strict=True)
        self.own.update({place: path.last[i] for i, place in enumerate(places)})
        if self.single and self.shared is None:
            self.shared = path.first[0]


def _batch_size(network: Network, norm: float) -> int:
    """Columns that reach few neurons go one by one: those of a batch are not cut to what they
    reach."""
    rows = covariance(network, norm)
    whole = 1 + sum(stage.shape[0] for stage in network.stages) + network.output_size
    if norm == 1 and 2 * rows < whole:
        return 1
    return max(1, MEMORY // (8 * MATRICES * (whole if norm == 1 else rows) ** 2))


def _forms(
    network: Network, chain: Forms | None, norm: float, samples: Tensor, indices: Tensor
) -> Forms:
    """One program for each of the pairs; of the first of them alone where neurons are linear by a
    coincidence of weights, which differs from piece to piece. `chain` is of the whole network, None
    where it has linear neurons."""
    ones = torch.ones(1, dtype=torch.float64, device=network.device)
    if chain is None:
        forms = _mixed(network, norm, samples, indices)
    else:
        forms = chain.select(samples)
        if norm != 2:
            forms = (row_forms if norm == math.inf else column_forms)(forms, indices)
        if norm == 1 and len(samples) == 1:
            forms = reached(forms)
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


def _multipliers(network: Network, forms: Forms, theta: Tensor) -> Multipliers:
    """Those of one program (N,), for all pieces."""
    first, *stages, last = theta.split(forms.sizes)
    return Multipliers(first.expand(network.input_size), stages, last.expand(network.output_size))


def _theta(start: Multipliers, forms: Forms, samples: Tensor) -> Tensor:
    """The start, cut to the forms' inputs, neurons and outputs, (b, N)."""
    inputs, outputs = start.input[..., : forms.sizes[0]], start.output[..., : forms.sizes[-1]]
    stages = start.stages
    if forms.moving is not None:
        stages = [part[..., mask] for part, mask in zip(stages, forms.moving, strict=True)]
    parts = [
        part[samples] if part.ndim > 1 else part.expand(len(samples), -1)
        for part in (inputs, *stages, outputs)
    ]
    theta = torch.cat(parts, -1)
    return torch.where(forms.free, theta, STILL * theta)

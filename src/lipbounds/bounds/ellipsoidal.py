"""K_5: the least value of the quadratic form's dual, by an interior-point method of our own
(docs/k5.md). In l2 the optimum of LipSDP-Neuron, in l1 and l-infinity that of GeoLIP's natural
relaxation; never above K_4 (explicit treatment) or, in l2, K_1."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..barrier import SCHEDULE, Barrier, Path, minimised
from ..descent import descend
from ..feasibility import certified
from ..forms import Forms, chain_forms, column_forms, priced, reached, row_forms
from ..layered import layered_start
from ..mixed_forms import MixedForms, has_linear_neurons, mixed_forms
from ..network import Network
from ..norms import checked_norm
from ..proof import certified_pieces
from ..quadratic import Multipliers
from ..rewrite import explicit, maxima_first, merged
from .averaged import averaged, averaged_map, averaged_sums
from .combettes_pesquet import combettes_pesquet
from .product import product

COARSE = 1.5  # relative gap of the central path to which many programs are solved at first, their
# values being 6 % above the optimum then
TOLERANCE = 1e-7  # relative gap at which a program is solved; about ten times the loss of the bound
ROUGH, ROUGH_SIDE = 1e-3, 500  # the same from so many rows of Q on
STEPS = 150  # of Newton's method for a program, at most; 30 to 60 are usual
SLACK = 0.25  # of the start, which is to be well inside the cone
STILL = 1e7  # of the start: the multiplier of a neuron that does not move of its own
LARGEST_SIDE = 4500  # of Q for Newton's method, whose step takes two seconds there
MEMORY = 2**27  # bytes of the Newton matrices of one batch of programs
MATRICES = 10  # of N^2 float64 that a Newton step holds for each program
FEW_STAGES = 6  # whose K_1 is cheap
SHARED_STEPS = 10  # of the descent that all pieces share, where they are more than one batch
SHARED_TIME = 0.2  # of the seconds, for it
LONG = 300  # steps of a descent that no time limits
SINGLE_TIME = 0.5  # of the time left, for the piece of the greatest bound: it is halved each time

Progress = Callable[[float, Tensor], None]


def ellipsoidal(
    network: Network,
    norm: float,
    seconds: float = 60.0,
    progress: Progress | None = None,
    steps: int | None = None,
) -> Tensor:
    """K_5(p): the greatest over output rows (inf) or input columns (1) of min sqrt(mu nu), mu and
    nu the sums of the input's and output's multipliers, with Q(mu, lambda, nu) > 0; in l2 their
    greatest entries, for all rows and columns at once (Q in `lipbounds.forms`).

    Every iterate is feasible and proves a bound: at the end of `seconds`, or of `steps` steps for
    each program, the least certified one is returned; K_*, K_4 (l1, l-infinity) or K_1 (l2) at
    first. progress(elapsed seconds, bound) is called with each better one. A max-pooling kept whole
    is taken as a tree of maxima, before the activation in front of it where that is the same.
    Returns an upper bound of D*_p, shape `network.batch_shape`. Raises LipboundsError where a
    product of layers overflows.
    """
    pieces = _solved(network, checked_norm(norm), _Pieces, seconds, progress, steps)
    return pieces.bound.reshape(network.batch_shape)


def ellipsoidal_rows(
    network: Network,
    seconds: float = 60.0,
    progress: Progress | None = None,
    steps: int | None = None,
) -> Tensor:
    """What K_5(inf) is the greatest of, for every output row: |f_i(x) - f_i(x')| <= it where
    |x - x'| <= 1 entrywise. Shape (*batch_shape, n_out); otherwise as `ellipsoidal`."""
    pieces = _solved(network, math.inf, _EachPiece, seconds, progress, steps)
    return pieces.bound.reshape((*network.batch_shape, network.output_size))


def _solved(
    network: Network,
    norm: float,
    kind: type["_Pieces"],
    seconds: float,
    progress: Progress | None,
    steps: int | None,
) -> "_Pieces":
    begin = time.monotonic()
    plain = merged(maxima_first(explicit(network) if network.has_pools else network))
    pieces = kind(_cheap(network, plain, norm), _whole(network, norm), begin + seconds)
    if progress is not None:
        pieces.told = lambda bound: progress(
            time.monotonic() - begin, bound.reshape((*network.batch_shape, *bound.shape[1:]))
        )
    large, many = _side(plain, norm) > LARGEST_SIDE, pieces.count > _batch_size(plain, norm)
    if (large or many) and not network.batch_shape:
        _descend(plain, norm, pieces, steps, large)
    if norm == 1 or not large:
        _minimise(plain, norm, pieces, steps or STEPS)
    return pieces


def _minimise(network: Network, norm: float, pieces: "_Pieces", steps: int) -> None:
    """Newton's method, the pieces in batches; where they are many, coarsely at first, which tells
    the few that may be the greatest."""
    starts, size = _Starts(network), _batch_size(network, norm)
    chain = None if has_linear_neurons(network) else chain_forms(network)
    gap = 1.0
    final = TOLERANCE if _side(network, norm) < ROUGH_SIDE else ROUGH
    for tolerance in (COARSE, final) if pieces.count > size else (final,):
        while (chosen := pieces.open(size)) is not None:
            forms = _forms(network, chain, norm, *chosen)
            samples, indices = (x[: forms.batch] for x in chosen)
            if forms.side > LARGEST_SIDE:
                return
            theta = starts.theta(forms, samples, indices)

            def prove(path: Path, forms=forms, theta=theta, chosen=(samples, indices)) -> None:
                proven = certified(forms, path.least, (path.inside, theta))
                pieces.improve(*chosen, proven)

            path = minimised(
                forms,
                theta,
                tolerance,
                pieces.finished(samples),
                steps,
                prove if pieces.told else None,
                gap,
            )
            prove(path)
            pieces.waiting[samples, indices] = False
            starts.keep(path, samples, indices)
        pieces.waiting[:] = True
        gap = COARSE / SCHEDULE


class _Starts:
    """Where programs start: at products of norms, or where the first program of a single network
    came to its central path, or where they came to themselves."""

    def __init__(self, network: Network):
        self.cold, self.single = layered_start(network, SLACK), not network.batch_shape
        self.shared: Tensor | None = None
        self.own: dict[tuple[int, int], Tensor] = {}

    def theta(self, forms: Forms, samples: Tensor, indices: Tensor) -> Tensor:
        cold = _theta(self.cold, forms, samples)
        places = zip(samples.tolist(), indices.tolist(), strict=True)
        rows = [self.own.get(place, self.shared) for place in places]
        if any(row is None or row.shape != cold.shape[1:] for row in rows):
            return cold
        warm = torch.where(forms.free, torch.stack(rows), cold)
        return torch.where(Barrier(forms).inside(warm).unsqueeze(-1), warm, cold)

    def keep(self, path: Path, samples: Tensor, indices: Tensor) -> None:
        places = zip(samples.tolist(), indices.tolist(), strict=True)
        self.own.update(zip(places, path.inside, strict=True))
        if self.single and self.shared is None:
            self.shared = path.first[0]


def _descend(
    network: Network, norm: float, pieces: "_Pieces", steps: int | None, large: bool
) -> None:
    """The structured descent: multipliers that all pieces share; for large networks, where Newton's
    method does not follow, then each piece's own, the greatest first."""
    found, share = layered_start(network), SHARED_TIME
    if not large:
        steps = min(steps or SHARED_STEPS, SHARED_STEPS)
    else:
        steps = LONG if steps is None and math.isinf(pieces.left) else steps
        share = share if pieces.count > 1 else 1.0
    chosen = None
    while pieces.left > 0:
        found = descend(network, norm, found, chosen, seconds=share * pieces.left, steps=steps)
        pieces.improve_all(certified_pieces(network, norm, found))
        if chosen is not None:
            pieces.waiting[:, chosen] = False
        if norm == 1 or not large or (opened := pieces.open(1)) is None or pieces.count == 1:
            break
        chosen, share = opened[1], SINGLE_TIME


class _Pieces:
    """What is known of each piece of each network: proven bounds (S, pieces), and per network an
    estimate from below of the greatest of them, which spares the pieces that are less."""

    def __init__(self, uppers: Tensor, whole: Tensor, deadline: float):
        self.uppers, self.whole, self.deadline = uppers, whole.reshape(-1), deadline
        self.told: Callable[[Tensor], None] | None = None  # of each better bound
        self.waiting = uppers > 0
        self.floors = torch.zeros_like(uppers[:, 0])

    @property
    def bound(self) -> Tensor:
        return torch.minimum(self.uppers.amax(-1), self.whole)

    @property
    def count(self) -> int:
        return self.uppers.numel()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def open(self, size: int) -> tuple[Tensor, Tensor] | None:
        """Up to `size` pieces that may raise their network's bound, the greatest first; None where
        there are none, or time is up."""
        self.waiting &= self.uppers > self.floors.unsqueeze(-1)
        if self.left <= 0 or not bool(self.waiting.any()):
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
            late = self.left <= 0
            return (values < self.floors[owners]) | late

        return enough

    def improve(self, samples: Tensor, indices: Tensor, values: Tensor) -> None:
        """Proven bounds."""
        before = self.bound
        self.uppers[samples, indices] = torch.minimum(self.uppers[samples, indices], values)
        if self.told is not None and bool((self.bound < before).any()):
            self.told(self.bound)

    def improve_all(self, values: Tensor) -> None:
        """Proven bounds of all pieces of a single network."""
        each = torch.arange(self.count, device=values.device)
        self.improve(torch.zeros_like(each), each, values)


class _EachPiece(_Pieces):
    """The same where every piece counts for itself, (S, pieces)."""

    @property
    def bound(self) -> Tensor:
        return torch.minimum(self.uppers, self.whole.unsqueeze(-1))

    def finished(self, samples: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda running, values, lower: torch.full_like(values, self.left <= 0).bool()


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
    """The least of K_* and, of the network as it is, K_4 (l1: the pieces know nothing of implicit
    pools) or K_1 (l2: for networks too large to be solved in time)."""
    least = product(network, norm)
    if norm == 1:
        return torch.minimum(least, averaged(network, norm))
    if norm == 2 and network.depth <= FEW_STAGES and not network.batch_shape:
        return torch.minimum(least, combettes_pesquet(network, norm))
    return least


def _side(network: Network, norm: float) -> int:
    """The rows of Q for one piece."""
    hidden = sum(stage.shape[0] for stage in network.stages)
    inputs = network.input_size if norm != 1 else 1
    outputs = network.output_size if norm != math.inf else 1
    return inputs + hidden + outputs


def _batch_size(network: Network, norm: float) -> int:
    return max(1, MEMORY // (8 * MATRICES * _side(network, norm) ** 2))


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

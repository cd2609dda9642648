"""K_5: the least value of the quadratic form's dual, by an interior-point method of our own
(docs/k5.md). In l2 the optimum of LipSDP-Neuron, in l1 and l-infinity that of GeoLIP's natural
relaxation; never above K_4 (explicit treatment) or, in l2, K_1."""

import math
from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor

from ..clock import now
from ..errors import LipboundsError
from ..linear.norms import checked_norm
from ..networks.averaged_map import averaged_map
from ..networks.network import Network
from ..networks.rewrite import explicit, maxima_first, merged
from ..quadratic.form import Multipliers
from ..quadratic.layered import layered_start
from ..quadratic.newton.barrier import Barrier, Path, Point, minimised, sharpened
from ..quadratic.newton.feasibility import certified
from ..quadratic.newton.forms import Forms, chain_forms, column_forms, priced, reached, row_forms
from ..quadratic.newton.mixed_forms import MixedForms, has_linear_neurons, mixed_forms
from ..quadratic.order import EachPiece, Pieces
from ..quadratic.structured.descent import descend
from ..quadratic.structured.links import links
from ..quadratic.structured.proof import certified_pieces
from .averaged import averaged, averaged_sums
from .combettes_pesquet import combettes_pesquet
from .product import product
from .seqlip import seqlip

COARSE = 1.5  # relative gap at which the first of many programs is on the central path
TOLERANCE = 1e-7  # relative gap at which a program is solved; about ten times the loss of the bound
ROUGH, ROUGH_SIDE = 1e-3, 500  # the same from so many rows of Q on
STEPS = 150  # of Newton's method for a program, at most; 30 to 60 are usual
SLACK = 0.25  # of the start, which is to be well inside the cone
STILL = 1e7  # of the start: the multiplier of a neuron that does not move of its own
LARGEST_SIDE = 4500  # of Q for Newton's method, whose step takes two seconds there
MEMORY = 2**27  # bytes of the Newton matrices of one batch of programs
MATRICES = 10  # of N^2 float64 that a Newton step holds for each program
FEW_STAGES = 6  # whose K_1 is cheap
SLOW_SIDE = 3000  # of Q from which a descent may go before Newton's method, or in its place
CHEAP = 0.1  # cubes of its blocks, as a share of Newton's, up to which it does
CHOLESKYS = 4  # of Q, which take as long as a Newton step
SLOWEST = 0.1  # seconds of one of 1000 rows, at most
FEW_STEPS = 5  # of Newton's method for each piece, below which the descent comes further
FEWEST_STEPS = 6  # of Newton's method, below which it comes nowhere
FIRST_STEPS = 100  # of the descent that all pieces share
FIRST_TIME = 0.1  # of the seconds, for it, where there is enough for Newton's method after it
SHARED_TIME = 0.2  # the same where there is not
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
    greatest entries, for all rows and columns at once (Q in `lipbounds.quadratic.newton.forms`).

    Every iterate is feasible and proves a bound: at the end of `seconds`, or of `steps` >= 0 for
    each program, the least certified one is returned; K_*, K_4 (l1, l-infinity) or K_1 (l2) at
    first, K_2 too where Newton's method has no time for l2 and no cheaper method is there.
    progress(elapsed seconds, bound) is called with the first and each better one. A max-pooling
    kept whole is taken as a tree of maxima, before the activation in front of it where that is the
    same.
    Returns an upper bound of D*_p, shape `network.batch_shape`. Raises LipboundsError where a
    product of layers overflows, or `steps` is no such number.
    """
    pieces = _solved(network, checked_norm(norm), Pieces, seconds, progress, steps)
    return pieces.bound.reshape(network.batch_shape)


def ellipsoidal_rows(
    network: Network,
    seconds: float = 60.0,
    progress: Progress | None = None,
    steps: int | None = None,
) -> Tensor:
    """What K_5(inf) is the greatest of, for every output row: |f_i(x) - f_i(x')| <= it where
    |x - x'| <= 1 entrywise. Shape (*batch_shape, n_out); otherwise as `ellipsoidal`."""
    pieces = _solved(network, math.inf, EachPiece, seconds, progress, steps)
    return pieces.bound.reshape((*network.batch_shape, network.output_size))


def _solved(
    network: Network,
    norm: float,
    kind: type[Pieces],
    seconds: float,
    progress: Progress | None,
    steps: int | None,
) -> Pieces:
    _check_steps(steps)
    begin = now()
    plain = merged(maxima_first(explicit(network) if network.has_pools else network))
    whole = _whole(network, norm).reshape(-1, 1)
    pieces = kind(torch.minimum(_cheap(network, plain, norm), whole), begin + seconds)
    if progress is not None:
        pieces.told = lambda bound: progress(
            now() - begin, bound.reshape((*network.batch_shape, *bound.shape[1:]))
        )
        pieces.told(pieces.bound)
    if steps == 0:
        return pieces
    found, single = None, pieces.count == 1
    side = _side(plain, norm)
    newton = side <= LARGEST_SIDE
    if not network.batch_shape and pieces.left > 0:
        wanted = FEW_STEPS * (pieces.count + 1)
        possible = _steps_in_time(side, wanted, pieces.left, plain.device) if newton else 0.0
        enough = possible >= wanted
        cheap = side > SLOW_SIDE and _descent_is_cheap(plain, side)
        newton = enough or (possible >= FEWEST_STEPS and not cheap)
        if (cheap and newton) if single else (cheap or not enough):
            found = _descend(plain, norm, pieces, steps, FIRST_TIME if enough else SHARED_TIME)
        elif norm == 2 and not (enough or cheap):
            pieces.improve_all(seqlip(network, norm).upper.reshape(1))
        if not newton and norm != 1:
            _descend_each(plain, norm, pieces, steps, found or layered_start(plain))
    if norm == 1 or newton:
        _minimise(plain, norm, pieces, STEPS if steps is None else steps, found)
    return pieces


def _check_steps(steps) -> None:
    whole = isinstance(steps, Integral) and not isinstance(steps, bool)
    if steps is not None and not (whole and steps >= 0):
        raise LipboundsError(
            f"K_5: steps = {steps!r} must be a whole number that is not negative; 0 leaves the "
            "bound at the cheap ones, None at its own limit"
        )


def _descent_is_cheap(network: Network, side: int) -> bool:
    """Whether a step of the descent, which factorises no window of max-pooling and does not invert,
    is cheap beside one of Newton's method."""
    trunk = [network.input_size, *(len(link.outer) for link in links(network))]
    return sum(size**3 for size in trunk) <= CHEAP * side**3


def _steps_in_time(side: int, wanted: int, left: float, device: torch.device) -> float:
    """How many Newton steps there is time for in the seconds left, as told by that of a Cholesky
    factorisation; infinity, and none is measured, where any machine does the steps wanted."""
    size = CHOLESKYS * (side / 1000) ** 3  # in factorisations of 1000 rows
    if wanted * size * SLOWEST <= left:
        return math.inf
    matrix = torch.eye(1000, dtype=torch.float64, device=device)
    seconds = []
    for _ in range(3):
        begin = now()
        torch.linalg.cholesky_ex(matrix).info.item()
        seconds.append(now() - begin)
    return left / (size * min(seconds))


def _minimise(
    network: Network, norm: float, pieces: Pieces, steps: int, found: Multipliers | None
) -> None:
    """Newton's method, the pieces in batches, the greatest first. Where they are many, the first
    comes to its central path and shares what it has found, and each leaves off for the next
    greatest once it is less."""
    starts, size = _Starts(network, found), _batch_size(network, norm)
    chain = None if has_linear_neurons(network) else chain_forms(network)
    final = TOLERANCE if _side(network, norm) < ROUGH_SIDE else ROUGH
    many = first = pieces.count > size
    while (chosen := pieces.open(size)) is not None:
        forms = _forms(network, chain, norm, *chosen)
        samples, indices = (x[: forms.batch] for x in chosen)
        if forms.side > LARGEST_SIDE:
            return
        start = starts.of(forms, samples, indices)

        def prove(path: Path, forms=forms, start=start, chosen=(samples, indices)) -> None:
            if bool((path.value < pieces.uppers[chosen]).any()):
                least = sharpened(forms, path.least)
                pieces.improve(*chosen, certified(forms, least, (path.inside, start.theta)))

        path = minimised(
            forms,
            start,
            COARSE if first else final,
            pieces.late if first else pieces.finished(samples, indices),
            steps - int(pieces.spent[samples, indices].max()),
            prove if pieces.told else None,
        )
        prove(path)
        pieces.spent[samples, indices] += path.steps
        if many:
            starts.keep(path, samples, indices)
        if not first:
            done = path.solved | (path.value < pieces.floors[samples])
            pieces.waiting[samples, indices] &= ~done
            pieces.waiting &= pieces.spent < steps
        elif forms.moving is None and not network.batch_shape:
            shared = _multipliers(network, forms, path.first[0])
            pieces.improve_all(certified_pieces(network, norm, shared))
        first = False


class _Starts:
    """Where programs start: where they left off, or where the first program of a single network
    came to its central path, or at `found`, or at products of norms."""

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
        if self.shared is not None and self.shared.shape == cold.shape[1:]:
            warm = self.shared.expand_as(cold)
        warm, barrier = torch.where(forms.free, warm, cold), Barrier(forms)
        return barrier.first(torch.where(barrier.inside(warm).unsqueeze(-1), warm, cold))

    def keep(self, path: Path, samples: Tensor, indices: Tensor) -> None:
        places = zip(samples.tolist(), indices.tolist(), strict=True)
        self.own.update({place: path.last[i] for i, place in enumerate(places)})
        if self.single and self.shared is None:
            self.shared = path.first[0]


def _descend(
    network: Network, norm: float, pieces: Pieces, steps: int | None, share: float
) -> Multipliers:
    """The structured descent for a share of the time: multipliers that all pieces share."""
    seconds, start = share * pieces.left, layered_start(network)
    steps = FIRST_STEPS if steps is None else min(steps, FIRST_STEPS)
    found = descend(network, norm, start, seconds=seconds, steps=steps)
    pieces.improve_all(certified_pieces(network, norm, found))
    return found


def _descend_each(
    network: Network, norm: float, pieces: Pieces, steps: int | None, found: Multipliers
) -> None:
    """The same for each piece alone from there, the greatest first."""
    steps = LONG if steps is None and math.isinf(pieces.left) else steps
    share = SINGLE_TIME if pieces.count > 1 else 1.0
    while (opened := pieces.open(1)) is not None:
        chosen, seconds = opened[1], share * pieces.left
        found = descend(network, norm, found, chosen, seconds=seconds, steps=steps)
        pieces.improve_all(certified_pieces(network, norm, found))
        pieces.waiting[:, chosen] = False


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

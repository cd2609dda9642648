"""Networks scaled by powers of two, so that no bound is wrong where double precision ends.

Bounds know of a network its maps W_k and the slopes of its stages alone, and are homogeneous in
each W_k. Scaling a map by a power of two is exact. `balanced` scales each factor of each map so
that its norms in l1 and l-infinity, times those of the stage before it, are at most 1; so are then
all norms of segments. Whatever underflows on the way to a bound, 2^-1074 at a time, is never made
larger, and is counted by SLACK: the root of more than 2^100 such errors, as bounds in l2 take roots
of sums of squares. Beside a bound that is not itself so small, SLACK is lost in rounding.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .network import Affine, Network
from .operators import Composition, Identity, Operator
from .rounding import times_power

SLACK = 2.0**-480
LEAST_NORMAL = 2.0**-1022
_KNOWN: WeakKeyDictionary[Operator, dict[float, tuple[Operator, Tensor]]] = WeakKeyDictionary()
# operators are immutable, and several bounds ask for the norms of the same scaled ones


@dataclass(frozen=True)
class Balanced:
    """`network` has the linearisations of the one it stands for, times 2^-exponent, exponent being
    of shape `batch_shape`; its offsets mean nothing. slack (n_out,): of what may underflow; 0 for
    outputs to which no path leads from an input."""

    network: Network
    exponent: Tensor
    slack: Tensor

    def upper(self, value: Tensor) -> Tensor:
        """A bound of `network`, of shape `batch_shape`, as one of the original; inf where that
        overflows."""
        return self._outward(value + self.slack.max())

    def upper_rows(self, value: Tensor) -> Tensor:
        """The same for bounds of each output, (*batch_shape, n_out)."""
        return self._outward(value + self.slack)

    def lower(self, value: Tensor) -> Tensor:
        """The same for a lower end, of shape `batch_shape`."""
        scaled = times_power((value - self.slack.max()).clamp(min=0.0), self.exponent)
        down = torch.nextafter(scaled, torch.zeros_like(scaled))
        return torch.where(scaled < 2 * LEAST_NORMAL, down, scaled)

    def _outward(self, value: Tensor) -> Tensor:
        rows = value.ndim > self.exponent.ndim
        scaled = times_power(value, self.exponent.unsqueeze(-1) if rows else self.exponent)
        up = torch.nextafter(scaled, scaled.new_tensor(torch.inf))
        return torch.where((scaled < 2 * LEAST_NORMAL) & (value > 0), up, scaled)


def balanced(network: Network) -> Balanced:
    """The network with its maps scaled: exactly, but for entries that vanish beside the greatest of
    their map, which SLACK counts as well."""
    affines, exponent, waiting = [], 0, 0
    for k, affine in enumerate(network.affines):
        if k:
            waiting += _excess(network.stages[k - 1])
        operator, own, used = _scaled(affine.operator, waiting)
        waiting = 0 if used else waiting
        exponent = exponent + own
        affines.append(Affine(operator, affine.offset))
    exponent = torch.as_tensor(exponent, dtype=torch.int32, device=network.device)
    slack = SLACK * 2.0 ** min(waiting, 400) * _connected(network)
    scaled = Network(tuple(affines), network.stages, network.input_shape)
    return Balanced(scaled, exponent.expand(network.batch_shape), slack)


def _excess(stage) -> int:
    """The exponent by which a stage may enlarge a vector in l1 or l-infinity."""
    size = torch.tensor(max(stage.norm(1.0), stage.norm(torch.inf)), dtype=torch.float64)
    return int(torch.frexp(size).exponent) if size > 1 else 0


def _scaled(operator: Operator, waiting: int) -> tuple[Operator, Tensor | int, bool]:
    """The operator, less by the power of two whose exponent comes with it, of which `waiting` is
    owed to stages; whether there was a factor to scale."""
    factors = operator.factors if isinstance(operator, Composition) else (operator,)
    parts, total, used = [], 0, False
    for factor in factors:
        if not isinstance(factor, Identity):
            factor, exponent = _scaled_factor(factor, 0 if used else waiting)
            total, used = total + exponent, True
        parts.append(factor)
    same = all(a is b for a, b in zip(parts, factors, strict=True))
    return operator if same else Composition(parts) if len(parts) > 1 else parts[0], total, used


def _scaled_factor(factor: Operator, waiting: int) -> tuple[Operator, Tensor]:
    known = _KNOWN.setdefault(factor, {})
    if waiting not in known:
        known[waiting] = _computed(factor, waiting)
    scaled, exponent = known[waiting]
    return (factor if scaled is None else scaled), exponent


def _computed(factor: Operator, waiting: int) -> tuple[Operator | None, Tensor]:
    entries = factor.entries.abs()
    dims = tuple(range(len(factor.batch_shape), entries.ndim))
    greatest = torch.frexp(entries.amax(dims) if entries.numel() else entries.sum()).exponent
    unit = factor.scaled(-greatest)
    m, n = factor.shape
    device = factor.device
    ends = (
        unit.absolute().apply(torch.ones(n, dtype=torch.float64, device=device)),
        unit.absolute().adjoint(torch.ones(m, dtype=torch.float64, device=device)),
    )
    norm = torch.maximum(*(end.amax(-1) for end in ends))
    exponent = greatest + torch.frexp(norm).exponent + waiting
    if not bool(exponent.any()):
        return None, exponent
    return factor.scaled(-exponent), exponent


def _connected(network: Network) -> Tensor:
    """1 for the outputs (n_out,) to which a path of weights and slopes that are not 0 leads from
    some input, in some network of an ensemble; else 0."""
    alive = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    for k, affine in enumerate(network.affines):
        if k:
            alive = (network.stages[k - 1].majorant(alive) > 0).to(alive)
        operator = affine.operator
        factors = operator.factors if isinstance(operator, Composition) else (operator,)
        for factor in reversed(factors):
            reached = (factor.absolute().apply(alive) > 0).to(alive)
            alive = reached.reshape(-1, reached.shape[-1]).amax(0)
    return alive

"""Networks scaled by powers of two, so that no bound is wrong where double precision ends.

Bounds know of a network its maps W_k and the slopes of its stages alone, and are homogeneous in
each W_k. Scaling a map by a power of two is exact. `balanced` scales each factor of each map so
that its norms in l1 and l-infinity, times those of the stage before it, are at most 1; so are then
all norms of segments. Whatever underflows on the way to a bound, 2^-1074 at a time, is never made
larger, and is counted by SLACK: the root of more than 2^100 such errors, as bounds in l2 take roots
of sums of squares. Beside a bound that is not itself so small, SLACK is lost in rounding. What the
weights owe to their conversion is an error of the same kind, and counted at the same place.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, times_power
from ..linear.blocks import Blocks, Sum
from ..linear.operators import Composition, Identity, Operator
from .network import Affine, Network

SLACK = 2.0**-480
LEAST_NORMAL = 2.0**-1022
POWERS, TINY = 8, 1e-300  # iterations for an estimated norm; of what is divided by
Scaled = tuple[Operator | None, Tensor | int]  # the operator, None for itself; its exponent
# Operators and networks are immutable, and several bounds ask for the same ones scaled.
_KNOWN: WeakKeyDictionary[Operator, dict[int, Scaled]] = WeakKeyDictionary()
_BALANCED: WeakKeyDictionary[Network, "Balanced"] = WeakKeyDictionary()


@dataclass(frozen=True)
class Balanced:
    """`network` has the linearisations of the one it stands for, times 2^-exponent, exponent being
    of shape `batch_shape`; its offsets mean nothing. underflow, conversion (*batch_shape, n_out):
    at least the row sums of |J - J'|, J' being what J is but for underflow, or for the roundings of
    the conversion; 0 for outputs to which no path leads from an input."""

    network: Network
    exponent: Tensor
    underflow: Tensor
    conversion: Tensor

    @property
    def slack(self) -> Tensor:
        return self.underflow + self.conversion

    def upper(self, value: Tensor, counted: bool = False) -> Tensor:
        """A bound of `network`, of shape `batch_shape`, as one of the original; inf where that
        overflows. counted: whether it counts the roundings of the conversion itself."""
        slack = self.underflow if counted else self.slack
        return self._outward(value + slack.sum(-1))

    def upper_rows(self, value: Tensor) -> Tensor:
        """The same for bounds of each output, (*batch_shape, n_out)."""
        return self._outward(value + self.slack)

    def upper_columns(self, value: Tensor) -> Tensor:
        """The same for bounds of each input, column sums of |J|, (*batch_shape, n_0)."""
        return self._outward(value + self.slack.sum(-1, keepdim=True))

    def lower(self, value: Tensor) -> Tensor:
        """The same for a lower end, of shape `batch_shape`."""
        scaled = times_power((value - self.slack.sum(-1)).clamp(min=0.0), self.exponent)
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
    if network not in _BALANCED:
        _BALANCED[network] = _balanced(network)
    return _BALANCED[network]


def _balanced(network: Network) -> Balanced:
    affines, exponent, waiting = [], 0, 0
    for k, affine in enumerate(network.affines):
        if k:
            waiting += _excess(network.stages[k - 1])
        operator, own = _scaled(affine.operator, waiting)
        if any(not isinstance(factor, Identity) for factor in operator.factors):
            waiting = 0
        exponent = exponent + own
        affines.append(Affine(operator, affine.offset))
    exponent = torch.as_tensor(exponent, dtype=torch.int32, device=network.device)
    # What the last stages may enlarge, no map being left to take it.
    slack = times_power(exponent.new_tensor(SLACK, dtype=torch.float64), exponent * 0 + waiting)
    slack = torch.where(_connected(network), slack.max(), 0.0)
    scaled = Network(tuple(affines), network.stages, network.input_shape, network.roundings)
    return Balanced(scaled, exponent.expand(network.batch_shape), slack, conversion_error(scaled))


def conversion_error(network: Network) -> Tensor:
    """At least the row sums of |J - J'|, J' being a linearisation before the conversion, J the same
    one after it: gamma |W_L| (|C_L| + |R_L|) ... |W_0| 1, (*batch_shape, n_out)."""
    if network.roundings == 0:
        size = *network.batch_shape, network.output_size
        return torch.zeros(size, dtype=torch.float64, device=network.device)
    ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
    return gamma(network.roundings) * network.majorant(ones).squeeze(-2)


def _excess(stage) -> int:
    """The exponent by which a stage may enlarge a vector in l1 or l-infinity."""
    size = torch.tensor(max(stage.norm(1.0), stage.norm(torch.inf)), dtype=torch.float64)
    return int(torch.frexp(size).exponent) if size > 1 else 0


def _scaled(operator: Operator, waiting: int) -> tuple[Operator, Tensor | int]:
    """The operator, less by the power of two whose exponent comes with it, of which `waiting` is
    owed to stages; the identity cannot be scaled."""
    known = _KNOWN.setdefault(operator, {})
    if waiting not in known:
        known[waiting] = _computed(operator, waiting)
    scaled, exponent = known[waiting]
    return operator if scaled is None else scaled, exponent


def _computed(operator: Operator, waiting: int) -> Scaled:
    if isinstance(operator, Identity):
        return None, 0
    if isinstance(operator, Blocks | Sum):
        return _computed_parts(operator, waiting)
    if isinstance(operator, Composition):
        parts, total = [], 0
        for factor in operator.factors:
            part, exponent = _scaled(factor, waiting if not parts else 0)
            parts, total = [*parts, part], total + exponent
        same = all(a is b for a, b in zip(parts, operator.factors, strict=True))
        return None if same else Composition(parts), total
    exponent = _size(operator) + waiting
    return operator.scaled(-exponent) if bool(exponent.any()) else None, exponent


def _computed_parts(operator: Blocks | Sum, waiting: int) -> Scaled:
    """Each part by itself, and then less than the greatest by as much as it was."""
    scaled = {place: (part, *_scaled(part, 0)) for place, part in operator.parts.items()}
    total = max((exponent for _, _, exponent in scaled.values()), default=0)
    total = torch.as_tensor(total + waiting + (operator.crossings - 1).bit_length())
    parts = {
        place: balanced if exponent == total else balanced.scaled(exponent - total)
        for place, (_, balanced, exponent) in scaled.items()
    }
    same = all(parts[place] is part for place, (part, _, _) in scaled.items())
    return None if same else operator.with_parts(parts), total


def _size(operator: Operator) -> Tensor:
    """The least exponent, of shape `batch_shape`, whose power of two exceeds |W| in l1 and
    l-infinity, or one more; found on entries of at most 1, so that nothing overflows."""
    entries, (m, n) = operator.entries.abs(), operator.shape
    dims = tuple(range(len(operator.batch_shape), entries.ndim))
    greatest = torch.frexp(entries.amax(dims) if entries.numel() else entries.sum()).exponent
    unit = operator.scaled(-greatest).absolute()
    ones = torch.ones(max(m, n), dtype=torch.float64, device=operator.device)
    norm = torch.maximum(unit.apply(ones[:n]).amax(-1), unit.adjoint(ones[:m]).amax(-1))
    return greatest + torch.frexp(norm).exponent


def _connected(network: Network) -> Tensor:
    """The outputs (n_out,) to which a path of weights and slopes that are not 0 leads from some
    input, in some network of an ensemble."""
    alive = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    for k, affine in enumerate(network.affines):
        if k:
            alive = (network.stages[k - 1].majorant(alive) > 0).to(alive)
        for factor in reversed(affine.operator.factors):
            reached = (factor.absolute().apply(alive) > 0).to(alive)
            alive = reached.reshape(-1, reached.shape[-1]).amax(0)
    return alive > 0


def evened(network: Network) -> tuple[Network, Tensor]:
    """The network with each map times a power of two, so that it and the stage behind it change the
    length of a vector by little, and the exponent (*batch_shape) of what linearisations are less
    by. Where a layer after the other shrinks what it is given, as balanced ones may, multipliers
    are of very different sizes, and rounding stops a method early that optimises them."""
    affines, total = [], torch.zeros(network.batch_shape, dtype=torch.int32, device=network.device)
    for k, affine in enumerate(network.affines):
        operator = affine.operator
        if not isinstance(operator, Identity):
            gain = network.stages[k].norm(2.0) if k < network.depth else 1.0
            size = torch.frexp(gain * _estimated_length(operator)).exponent
            operator, total = operator.scaled(-size), total + size
        affines.append(Affine(operator, affine.offset))
    even = Network(tuple(affines), network.stages, network.input_shape, network.roundings)
    return even, total


def _estimated_length(operator: Operator) -> Tensor:
    """About the spectral norm, by a few power iterations; no bound. 1 for a map that is zero."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1, operator.shape[1], generator=generator, dtype=torch.float64)
    vector = vector.to(operator.device)
    for _ in range(POWERS):
        image = operator.apply(vector)
        vector = operator.adjoint(image)
        vector = vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True).clamp(min=TINY)
    length = torch.linalg.vector_norm(operator.apply(vector), dim=-1).squeeze(-1)
    return torch.where(length > 0, length, 1.0)

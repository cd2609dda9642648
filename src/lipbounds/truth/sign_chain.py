"""The relaxation optimum as a maximum over signs of a product of matrices.

A chain maps x_0 through groups x' = P x + Q (t * R x), each with free signs t in {-1, 1}^N, and
asks for the greatest spectral norm of the map from x_0 to the last x. Stages are groups with
P = W C, Q = W. The l1 and l-infinity norms add one group of signs at the output or the input,
and ask for one chain per input or output whose two ends are scalars.

Chains are scaled by powers of two, which is exact, so that every x and R x is at most 1 entrywise
whatever the signs: rounding errors are then at most gamma(terms) entrywise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import power_of_two
from ..linear.operators import dense
from ..networks.network import Network

MAXIMUM_ENTRIES = 2**23  # of a matrix: 64 MiB of float64
SMALLEST = 2.0**-300  # relative scale of a neuron below which it is not scaled up further


@dataclass(frozen=True)
class Group:
    """x -> P x + Q (t * R x): center P (n', n), spread Q (n', N), radius R (N, n)."""

    center: Tensor
    spread: Tensor
    radius: Tensor

    def transposed(self) -> Group:
        return Group(self.center.mT, self.radius.mT, self.spread.mT)

    def apply(self, x: Tensor, signs: Tensor) -> Tensor:
        """x (..., n), signs (..., N)."""
        return x @ self.center.mT + (signs * (x @ self.radius.mT)) @ self.spread.mT

    def adjoint(self, y: Tensor, signs: Tensor) -> Tensor:
        """The transposed map, y (..., n')."""
        return y @ self.center + (signs * (y @ self.spread)) @ self.radius


@dataclass(frozen=True)
class SignChain:
    """max over all signs of || G_last ... G_1 ||_2 is 2^exponent times that of `groups`.

    Rounding: each x and R x computed from x_0, |x_0| <= 1, errs by at most gamma(terms) entrywise.
    """

    groups: tuple[Group, ...]
    exponent: int
    terms: int

    @property
    def start(self) -> int:
        return self.groups[0].center.shape[1]

    @property
    def end(self) -> int:
        return self.groups[-1].center.shape[0]

    @property
    def scalar(self) -> bool:
        return self.start == self.end == 1

    @property
    def signs(self) -> list[int]:
        return [group.spread.shape[1] for group in self.groups]

    @property
    def odd(self) -> bool:
        """Whether turning all signs of the first group turns the sign of the value."""
        return not bool(self.groups[0].center.any())

    def scaled(self, value: float) -> float:
        """A value of the network in the chain's scale."""
        try:
            return math.ldexp(value, -self.exponent)
        except OverflowError:
            return math.inf

    def unscaled(self, value: float) -> float:
        try:
            return math.ldexp(value, self.exponent)
        except OverflowError:
            raise LipboundsError(
                "the relaxation optimum overflows double precision; rescale the weights"
            ) from None


@dataclass(frozen=True)
class ChainFamily:
    """The chains of a network and a norm: one per output (inf), one per input (1), or one (2).

    `groups` and their entrywise majorants are shared, but for the first center and radius (norm 1)
    or the last center and spread (norm inf), of which chain i takes column or row i.
    """

    groups: tuple[Group, ...]
    majorants: tuple[Group, ...]
    norm: float
    terms: int

    def __len__(self) -> int:
        if self.norm == 2:
            return 1
        ends = self.groups[0].center.shape[1], self.groups[-1].center.shape[0]
        return ends[0] if self.norm == 1 else ends[1]

    def __getitem__(self, index: int) -> SignChain:
        pairs = [_cut_out(groups, self.norm, index) for groups in (self.groups, self.majorants)]
        if _better_reversed(*pairs):
            pairs = [[group.transposed() for group in reversed(groups)] for groups in pairs]
        return _scaled(*pairs, self.terms)


def sign_chains(network: Network, norm: float) -> ChainFamily:
    """The chains whose greatest value is D*_p of one network without implicit pools.

    Raises UnsupportedError for an ensemble or an implicit pool, LipboundsError for matrices of more
    than MAXIMUM_ENTRIES entries.
    """
    _check(network)
    exact, majorant = _weights_and_pairs(network, False), _weights_and_pairs(network, True)
    groups = tuple(_groups(*exact, norm)), tuple(_groups(*majorant, norm))
    return ChainFamily(*groups, norm, 2 * network.terms + 16 * len(groups[0]))


def _check(network: Network) -> None:
    if network.batch_shape:
        raise UnsupportedError(
            "the relaxation optimum is searched for one network, not an ensemble; "
            "lipbounds.truth.enumeration takes ensembles of small networks"
        )
    for k, stage in enumerate(network.stages, start=1):
        if stage.center is None:
            raise UnsupportedError(
                f"stage {k}: the relaxation optimum is not defined for max-pooling kept whole; "
                "rewrite the network with lipbounds.explicit first"
            )
    operators = [a.operator for a in network.affines] + [s.radius for s in network.stages]
    entries = max(math.prod(operator.shape) for operator in operators)
    if entries > MAXIMUM_ENTRIES:
        raise LipboundsError(
            f"the relaxation optimum of a network with a matrix of {entries} entries: at most "
            f"{MAXIMUM_ENTRIES} are allowed, and it would not be found; use a bound instead"
        )


def _weights_and_pairs(network: Network, majorant: bool) -> tuple[list, list]:
    """W_0 ... W_L and the pairs (C_k, R_k) as matrices, or entrywise majorants of them."""
    weights = [a.operator for a in network.affines]
    pairs = [(stage.center, stage.radius) for stage in network.stages]
    if majorant:
        weights = [w.majorant() for w in weights]
        pairs = [(c.absolute(), r.absolute()) for c, r in pairs]
    return [dense(w) for w in weights], [(dense(c), dense(r)) for c, r in pairs]


def _groups(weights: list[Tensor], pairs: list, norm: float) -> list[Group]:
    if norm != 2:  # the vectors of norm 1 at whose corners the norm is attained are one stage more
        size = len(weights[-1]) if norm == 1 else weights[0].shape[1]
        eye, one = torch.eye(size, dtype=torch.float64), torch.ones(1, size, dtype=torch.float64)
        free = (torch.zeros_like(eye), eye)
        pairs = [*pairs, free] if norm == 1 else [free, *pairs]
        weights = [*weights, one] if norm == 1 else [one.mT, *weights]
    if not pairs:
        return [Group(weights[0], weights[0][:, :0], weights[0][:0])]
    groups = [
        Group(weight @ center, weight, radius)
        for weight, (center, radius) in zip(weights[1:], pairs, strict=True)
    ]
    first = groups[0]
    center, radius = first.center @ weights[0], first.radius @ weights[0]
    return [replace(first, center=center, radius=radius), *groups[1:]]


def _cut_out(groups: tuple[Group, ...], norm: float, index: int) -> list[Group]:
    """The groups of one chain of the family."""
    groups, one = list(groups), slice(index, index + 1)
    if norm == 1:
        first = groups[0]
        groups[0] = replace(first, center=first.center[:, one], radius=first.radius[:, one])
    elif norm == math.inf:
        last = groups[-1]
        groups[-1] = replace(last, center=last.center[one], spread=last.spread[one])
    return groups


def _better_reversed(groups: list[Group], majorants: list[Group]) -> bool:
    """Scalar ends: the last group has a closed form and should be the largest. Otherwise the state
    of the search has as many columns as x_0 has entries, which should be few."""
    start, end = groups[0].center.shape[1], groups[-1].center.shape[0]
    if start == end == 1:
        first, last = (int(_relevant(majorants[k]).sum()) for k in (0, -1))
        return first > last
    return end < start


def _relevant(majorant: Group) -> Tensor:
    """The signs that can change anything: neither linear neurons nor ones without a way out."""
    return majorant.radius.any(1) & majorant.spread.any(0)


def _scaled(groups: list[Group], majorants: list[Group], terms: int) -> SignChain:
    """Scaled so that |x| <= 1 and |R x| <= 1 entrywise, without signs that change nothing."""
    result, exponent = [], 0
    reach = torch.ones(groups[0].center.shape[1], dtype=torch.float64)
    scale = torch.ones_like(reach)  # entries of x over those of the scaled x
    for k, (group, majorant) in enumerate(zip(groups, majorants, strict=True)):
        inner = (majorant.radius * scale) @ reach
        kept = _relevant(majorant) & (inner > 0)
        inner, spread = inner[kept], majorant.spread[:, kept]
        outer = (majorant.center * scale) @ reach + spread @ inner
        common = power_of_two(outer.max())
        exponent += int(torch.frexp(common).exponent) - 1
        after = power_of_two((outer / common).clamp(min=SMALLEST))
        if k == len(groups) - 1:
            after = torch.ones_like(after)
        size = power_of_two(inner)
        result.append(
            Group(
                group.center * scale / common / after[:, None],
                group.spread[:, kept] * size / common / after[:, None],
                (group.radius[kept] * scale) / size[:, None],
            )
        )
        reach, scale = outer / common / after, after
    return SignChain(tuple(_without_empty(result)), exponent, terms)


def _without_empty(groups: list[Group]) -> list[Group]:
    """Groups without signs are multiplied into a neighbour."""
    merged = groups[:1]
    for group in groups[1:]:
        before = merged[-1]
        if before.spread.shape[1] == 0:
            center, radius = group.center @ before.center, group.radius @ before.center
            merged[-1] = replace(group, center=center, radius=radius)
        elif group.spread.shape[1] == 0:
            center, spread = group.center @ before.center, group.center @ before.spread
            merged[-1] = replace(before, center=center, spread=spread)
        else:
            merged.append(group)
    return merged

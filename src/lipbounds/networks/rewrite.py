"""Networks made of a network: the explicit treatment of a CNN, one output, one input."""

from dataclasses import replace

import torch

from ..errors import LipboundsError, UnsupportedError
from ..linear.blocks import Blocks, Sum
from ..linear.operators import (
    Composition,
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Operator,
    Sparse,
    compose,
    identity_rows,
)
from .activations import Activation, activation, prelu
from .network import Affine, Network
from .stages import BetweenStage, SlopeStage, Stage

TREATMENTS = ("explicit", "implicit")


def explicit(network: Network) -> Network:
    """Convolutions become sparse matrices, each max-pooling a tree of between stages."""
    if not isinstance(network, Network):
        raise LipboundsError(f"explicit takes a Network, not {type(network).__name__}")
    affines, stages = [_with_matrices(network.affines[0])], []
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        for one in stage.tree():
            stages.append(one)
            affines.append(_identity(one.shape[0], network.device))
        affines[-1] = _with_matrices(affine)
    return replace(network, affines=tuple(affines), stages=tuple(stages))


def merged(network: Network) -> Network:
    """The same function, each stage of one linearisation only (identities) composed away."""
    affines, stages = [network.affines[0]], []
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        if stage.center is None or not bool(stage.ends().met.all()):
            stages.append(stage)
            affines.append(affine)
            continue
        last = affines[-1]
        through = compose(affine.operator, stage.center)
        before = stage.evaluate(last.offset).unsqueeze(-2)  # a row for each member of an ensemble
        offset = affine.offset + affine.operator.apply(before).squeeze(-2)
        affines[-1] = Affine(compose(through, last.operator), offset)
    return replace(network, affines=tuple(affines), stages=tuple(stages))


def maxima_first(network: Network) -> Network:
    """The same function, each maximum taken before the activation in front of it where it can be:
    max(sigma(a), sigma(b)) = sigma(max(a, b)) for a nondecreasing sigma.

    The linearisations are the same, {c s : c convex weights, s a slope}, with an activation for
    each maximum instead of one for each of its entries. For explicit networks.
    """
    affines, stages = list(network.affines), list(network.stages)
    for first in range(len(stages) - 2, -1, -1):
        for k in range(first, len(stages) - 1):
            if not _is_identity(affines[k + 1]):
                break
            moved = _after_maxima(stages[k], stages[k + 1])
            if moved is None:
                break
            stages[k], stages[k + 1] = stages[k + 1], moved
            affines[k + 1] = _identity(moved.shape[0], network.device)
    return replace(network, affines=tuple(affines), stages=tuple(stages))


def output_row(network: Network, i: int) -> Network:
    """x -> f_i(x)."""
    last = network.affines[-1]
    unit = identity_rows(network.output_size, slice(i, i + 1), network.device)
    row = Affine(compose(Dense(unit), last.operator), last.offset[..., i : i + 1])
    return replace(network, affines=(*network.affines[:-1], row))


def scaled_inputs(network: Network, radii: torch.Tensor) -> Network:
    """x -> f(radii * x)."""
    first = network.affines[0]
    scaled = Affine(compose(first.operator, Diagonal(radii)), first.offset)
    return replace(network, affines=(scaled, *network.affines[1:]))


def input_column(network: Network, k: int) -> Network:
    """t -> f(t e_k)."""
    first = network.affines[0]
    unit = identity_rows(network.input_size, slice(k, k + 1), network.device)
    column = Affine(compose(first.operator, Dense(unit.mT)), first.offset)
    return replace(network, affines=(column, *network.affines[1:]), input_shape=None)


def maxima_as_relu(network: Network) -> Network:
    """Between stages as max(a, b) = b + ReLU(a - b), b carried by a neuron of slopes [1, 1].

    The same function and the same K_4, with twice the neurons and a K_1 at least as large (K_* and
    K_3 mostly grow as well): kept to show what between stages spare (docs/theory.md, section 9).
    """
    affines, stages = [network.affines[0]], []
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        if not isinstance(stage, BetweenStage):
            stages.append(stage)
            affines.append(affine)
            continue
        before, after = _difference_and_carry(stage), _add_halves(stage.shape[0], network.device)
        last = affines[-1]
        affines[-1] = Affine(compose(before, last.operator), before.apply(last.offset))
        size = stage.shape[0]
        parts = [
            (activation("relu"), torch.arange(size, device=network.device)),
            (activation("identity"), torch.arange(size, 2 * size, device=network.device)),
        ]
        stages.append(SlopeStage(parts, 2 * size, network.device))
        affines.append(Affine(compose(affine.operator, after), affine.offset))
    return replace(network, affines=tuple(affines), stages=tuple(stages))


def _after_maxima(stage: Stage, maxima: Stage) -> SlopeStage | None:
    """The activations of `stage` for the maxima of its neurons; None where two neurons of a maximum
    have different ones (or other slopes of one PReLU), or decreasing ones."""
    if not isinstance(stage, SlopeStage) or not isinstance(maxima, BetweenStage):
        return None
    owner = torch.empty(stage.shape[0], dtype=torch.long, device=maxima.first.device)
    for i, (_, index) in enumerate(stage.parts):
        owner[index] = i
    first, second = maxima.first, maxima.second
    same = owner[first] == owner[second]
    for slopes in (stage.alpha, stage.beta):  # within a part, a PReLU's slopes are these two
        same &= slopes[first] == slopes[second]
    if not bool(same.all() & (stage.alpha >= 0).all()):
        return None
    parts = []
    for i, (function, _) in enumerate(stage.parts):
        index = (owner[first] == i).nonzero()[:, 0]
        moved = for_neurons(function, stage, first[index])
        if moved is None:
            return None
        parts.append((moved, index))
    if len(parts) == 1:
        parts = [(parts[0][0], slice(None))]
    return SlopeStage(parts, len(first), owner.device)


def for_neurons(function: Activation, stage: SlopeStage, index: torch.Tensor) -> Activation | None:
    """`function`, one of those of `stage`, as neurons `index` have it: the same one unless each
    neuron has its own slopes. Of such ones only a PReLU can be built anew; None for the others."""
    if not isinstance(function.alpha, torch.Tensor) and not isinstance(function.beta, torch.Tensor):
        return function
    if function.name != "prelu":
        return None
    alpha, beta = stage.alpha[index], stage.beta[index]
    return prelu(torch.where(beta > 1, beta, alpha))  # (a, 1) for a <= 1, (1, a) for a >= 1


def _is_identity(affine: Affine) -> bool:
    return isinstance(affine.operator, Identity) and not bool(affine.offset.any())


def _with_matrices(affine: Affine) -> Affine:
    return Affine(_matrix(affine.operator), affine.offset)


def _matrix(operator: Operator) -> Operator:
    if isinstance(operator, Composition):
        return Composition([_matrix(factor) for factor in operator.factors])
    if isinstance(operator, Blocks | Sum):
        return operator.each(_matrix)
    return operator.materialized()


def _identity(size: int, device: torch.device) -> Affine:
    return Affine(Identity(size, device), torch.zeros(size, dtype=torch.float64, device=device))


def _difference_and_carry(stage: BetweenStage) -> Sparse:
    """z -> (P z - Q z, Q z)."""
    (size, inputs), device = stage.shape, stage.first.device
    rows = torch.arange(size, device=device)
    one = torch.ones(size, dtype=torch.float64, device=device)
    return Sparse(
        torch.cat([rows, rows, rows + size]),
        torch.cat([stage.first, stage.second, stage.second]),
        torch.cat([one, -one, one]),
        (2 * size, inputs),
    )


def _add_halves(size: int, device: torch.device) -> Sparse:
    columns = torch.arange(2 * size, device=device)
    one = torch.ones(2 * size, dtype=torch.float64, device=device)
    return Sparse(columns % size, columns, one, (size, 2 * size))


def treated(network: Network, treatment: str) -> Network:
    if treatment not in TREATMENTS:
        raise UnsupportedError(f"unknown treatment {treatment!r}; take one of {TREATMENTS}")
    return explicit(network) if treatment == "explicit" else network


def distinct_treatments(network: Network) -> tuple[str, ...]:
    """Both where the network has convolutions or max-pooling, else "explicit": they coincide."""
    both = network.has_pools or any(_convolves(affine.operator) for affine in network.affines)
    return TREATMENTS if both else ("explicit",)


def _convolves(operator: Operator) -> bool:
    if isinstance(operator, Blocks | Sum):
        return any(map(_convolves, operator.parts.values()))
    if isinstance(operator, Composition):
        return any(map(_convolves, operator.factors))
    return isinstance(operator, Convolution)

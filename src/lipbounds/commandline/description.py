"""A network in words: its affine maps and stages, and what each method would take."""

import math

from ..linear.blocks import Blocks
from ..linear.operators import Operator
from ..methods.costs import SPEED
from ..methods.registry import METHODS
from ..networks.network import Network
from ..networks.stages import Stage

Row = tuple[str, str, str]


def inputs_of(network: Network) -> tuple[int, ...]:
    """Their shape, that of a vector where none was given."""
    return network.input_shape or (network.input_size,)


def layers(network: Network) -> list[Row]:
    """(what, its size, more) of each affine map and stage, in order."""
    rows = []
    for k, affine in enumerate(network.affines):
        operator = affine.operator
        m, n = operator.shape
        cost = f"{operator.cost:.2g} multiply-adds"
        rows.append((f"W{k}: {kind(operator)}", f"{n} -> {m}", cost))
        if k < network.depth:
            stage = network.stages[k]
            rows.append((f"stage {k + 1}: {stage.kind}", f"{stage.shape[0]}", about(stage)))
    return rows


def kind(operator: Operator) -> str:
    """A map by its factors, the last one applied first."""
    if isinstance(operator, Blocks):
        whole = f"{len(operator.heights)} x {len(operator.widths)}"
        return f"{len(operator.parts)} of {whole} blocks"
    return " . ".join(type(factor).__name__.lower() for factor in operator.factors)


def about(stage: Stage) -> str:
    """Its activations, and how many neurons carry a value on."""
    if not stage.entrywise:
        return "maxima"
    alpha, beta = stage.slopes()
    names = dict.fromkeys(function.name for function, _ in stage.parts)
    carried = int(((alpha == 1) & (beta == 1)).sum())
    passing = f", {carried} of them carried on" if carried else ""
    return f"{', '.join(names)}: slopes in [{alpha.min():.4g}, {beta.max():.4g}]{passing}"


def estimates(network: Network, norm: float) -> list[tuple[str, str]]:
    """(method, about how long) in a norm, the shortest first."""
    rows = [
        (method.cost(network, norm) / SPEED, method.name)
        for method in METHODS
        if norm in method.norms and method.name != "best"
    ]
    return [(name, said(seconds)) for seconds, name in sorted(rows)]


def said(seconds: float) -> str:
    return "as long as it may" if math.isinf(seconds) else f"{max(seconds, 1e-4):.1g} s"

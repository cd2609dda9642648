"""Whether a network computes what it was made from, on a few inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..linear.operators import BLOCK_ENTRIES
from ..networks.network import Network

SIZES = (0.0, 1e-2, 1.0, 1e2)  # of Gaussian inputs, one each
SHAKEN = 64  # values that tell what errors make of the outputs: where these are few, by more trials


@dataclass(frozen=True)
class Source:
    """What a network was made from. function: of inputs (b, *input_shape) of type `dtype` to
    outputs (b, n_out) in float64; remedy: what the user may do where the two differ."""

    name: str
    function: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    remedy: str


@dataclass(frozen=True)
class Imported:
    """A network, and how far it was from its source at most on the inputs tried, relative to the
    largest output; None where there is no source but weights."""

    network: Network
    difference: float | None = None


def checked(network: Network, source: Source, eps: float) -> Imported:
    """The network with the largest difference found; eps: the source's precision.

    Raises UnsupportedError where it is more than rounding explains: what was converted is not what
    is computed. Inputs at which the source's output is not finite do not count; where there is no
    other, the difference is NaN.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (len(SIZES), *network.input_shape)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    x *= x.new_tensor(SIZES).view(-1, *[1] * len(network.input_shape))
    x = x.to(network.device, source.dtype)
    given = source.function(x)
    ours, slack = _with_slack(network, x.double(), eps, generator)
    if given.shape != ours.shape:
        raise UnsupportedError(
            f"the {source.name} gives {given.shape[1]} outputs, the network {ours.shape[1]}; "
            f"{source.remedy}"
        )
    difference = (given - ours).abs().amax(1)
    finite = given.isfinite().all(1)
    worse = finite & ~(difference <= slack)
    if bool(worse.any()):
        k = int((difference / slack).nan_to_num(torch.inf).where(worse, -1).argmax())
        raise UnsupportedError(
            f"the {source.name}'s output differs by up to {float(difference[k]):.3g} from that of "
            f"its layers as their classes and weights define them, where rounding in "
            f"{source.dtype} explains {float(slack[k]):.3g}; {source.remedy}"
        )
    size = ours.abs().amax(1).clamp(min=torch.finfo(torch.float64).tiny)
    relative = (difference / size).where(finite, 0).max() if bool(finite.any()) else math.nan
    return Imported(network, float(relative))


def _with_slack(
    network: Network, x: Tensor, eps: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The outputs, and per input 64 times the change that errors of eps in all values make.

    A factor of eps alone would not do: large weights amplify the errors of earlier layers.
    """

    def shaken(value: Tensor, size: Tensor) -> Tensor:
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        return value + eps * size * noise.to(value.device)

    def largest(value: Tensor) -> Tensor:
        return _finite(value).abs().amax(-1, keepdim=True)

    y = x.flatten(1)
    widest = max(max(affine.operator.shape) for affine in network.affines)
    trials = min(-(-SHAKEN // network.output_size), max(1, BLOCK_ENTRIES // (len(y) * widest)))
    near = shaken(y.expand(trials, *y.shape), largest(y))  # (trials, b, n)
    for affine, stage in zip(network.affines, (*network.stages, None), strict=True):
        for factor in reversed(affine.operator.factors):  # what cancels between two is large inside
            inside = None if factor.plain else factor.majorant().apply(_finite(y).abs())
            y, near = factor.apply(y), factor.apply(near)
            near = shaken(near, largest(y if inside is None else inside))
        y, near = y + affine.offset, near + affine.offset
        size = largest(y)
        near = shaken(near, size)
        if stage is not None:
            y, near = stage.evaluate(y), stage.evaluate(near)
            near = shaken(near, torch.maximum(size, largest(y)))
    slack = 64 * ((near - y).abs().amax((0, 2)) + eps * largest(y).squeeze(-1))
    return y, slack + 64 * torch.finfo(torch.float16).tiny * eps


def _finite(value: Tensor) -> Tensor:
    """Without -inf, which is what max-pooling may be padded with."""
    return value.where(value.isfinite(), 0.0)

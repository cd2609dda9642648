"""Activation functions with their slope intervals.

[alpha, beta] holds every secant slope (f(s) - f(t)) / (s - t). The intervals are exact where they
are simple fractions; the others are the extrema of f' rounded outward in the last digit shown.
Derivations: docs/theory.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf, isfinite

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import LipboundsError, UnsupportedError


@dataclass(frozen=True)
class Activation:
    """A function applied entry by entry, its slope interval, and the points it has kinks at.

    `alpha`, `beta` are floats, or tensors with one entry per neuron (PReLU). Raises LipboundsError
    where they are not numbers, not finite, of two shapes, or alpha exceeds beta.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    alpha: float | Tensor
    beta: float | Tensor
    kinks: tuple[float, ...] = field(default=())

    def __post_init__(self):
        try:
            ends = [torch.as_tensor(end, dtype=torch.float64) for end in (self.alpha, self.beta)]
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise self._refused("must be numbers or tensors") from None
        low, high = ends
        if low.ndim and high.ndim and low.shape != high.shape:
            shapes = f"{tuple(low.shape)} and {tuple(high.shape)}"
            raise self._refused(f"have the shapes {shapes}; both need one entry per neuron")
        if not all(bool(torch.isfinite(end).all()) for end in ends):
            raise self._refused("must be finite; there is one that is not a finite slope")
        if bool((low > high).any()):
            raise self._refused("are swapped: alpha must not exceed beta")

    def _refused(self, reason: str) -> LipboundsError:
        return LipboundsError(f"{self.name}: slopes {self.alpha} and {self.beta} {reason}")


def relu() -> Activation:
    return Activation("relu", torch.relu, 0.0, 1.0, (0.0,))


def absolute() -> Activation:
    return Activation("abs", torch.abs, -1.0, 1.0, (0.0,))


def identity() -> Activation:
    return Activation("identity", lambda z: z, 1.0, 1.0)


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    low, high = sorted((float(negative_slope), 1.0))
    return Activation(
        "leaky_relu", partial(F.leaky_relu, negative_slope=negative_slope), low, high, (0.0,)
    )


def prelu(slopes: Tensor) -> Activation:
    """max(z, 0) + a min(z, 0), one a per neuron: `slopes` has shape (n,)."""
    one = torch.ones_like(slopes)
    return Activation(
        "prelu",
        lambda z: torch.where(z >= 0, z, slopes * z),
        torch.minimum(slopes, one),
        torch.maximum(slopes, one),
        (0.0,),
    )


def tanh() -> Activation:
    return Activation("tanh", torch.tanh, 0.0, 1.0)


def sigmoid() -> Activation:
    return Activation("sigmoid", torch.sigmoid, 0.0, 0.25)


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    if not min_val <= max_val:
        raise LipboundsError(f"hardtanh: min_val = {min_val} must not exceed max_val = {max_val}")
    return Activation(
        "hardtanh",
        partial(F.hardtanh, min_val=min_val, max_val=max_val),
        0.0,
        1.0,
        (float(min_val), float(max_val)),
    )


def clamp(min_val: float = -inf, max_val: float = inf) -> Activation:
    """max(min_val, min(z, max_val)); an end may be infinite."""
    if not min_val <= max_val:
        raise LipboundsError(f"clamp: min_val = {min_val} must not exceed max_val = {max_val}")
    kinks = tuple(float(end) for end in (min_val, max_val) if isfinite(end))
    return Activation("clamp", partial(torch.clamp, min=min_val, max=max_val), 0.0, 1.0, kinks)


def relu6() -> Activation:
    return Activation("relu6", F.relu6, 0.0, 1.0, (0.0, 6.0))


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    """log(1 + exp(beta z)) / beta; PyTorch replaces it by z above `threshold` / beta, a step of at
    most exp(-threshold) / beta, which the slope interval of the smooth function leaves out."""
    _positive("softplus", "beta", beta)
    if not threshold >= 20:
        raise LipboundsError(
            f"softplus: threshold = {threshold} makes PyTorch's function step down by up to "
            "exp(-threshold) / beta, so that it has no Lipschitz constant; take 20 or more"
        )
    return Activation("softplus", partial(F.softplus, beta=beta, threshold=threshold), 0.0, 1.0)


def softsign() -> Activation:
    return Activation("softsign", F.softsign, 0.0, 1.0)


def elu(alpha: float = 1.0) -> Activation:
    """f' is alpha exp(z) below zero and 1 above."""
    if not isfinite(alpha):
        raise LipboundsError(f"elu: alpha = {alpha} must be finite")
    low, high = min(0.0, float(alpha)), max(1.0, float(alpha))
    return Activation("elu", partial(F.elu, alpha=alpha), low, high, (0.0,))


def selu() -> Activation:
    """f' is scale * alpha exp(z) below zero, whose supremum 1.75809... exceeds scale = 1.0507."""
    return Activation("selu", torch.selu, 0.0, 1.758099340847377, (0.0,))


def celu(alpha: float = 1.0) -> Activation:
    """f' is exp(z / alpha) below zero and 1 above."""
    _positive("celu", "alpha", alpha)
    return Activation("celu", partial(F.celu, alpha=alpha), 0.0, 1.0, (0.0,))


def silu() -> Activation:
    return Activation("silu", F.silu, -0.099839320128867, 1.099839320128867)


def gelu() -> Activation:
    return Activation("gelu", F.gelu, -0.128904145185155, 1.128904145185155)


def gelu_tanh() -> Activation:
    return Activation(
        "gelu_tanh", partial(F.gelu, approximate="tanh"), -0.128993068658772, 1.128993068658772
    )


def mish() -> Activation:
    return Activation("mish", F.mish, -0.112526122389463, 1.088498161251729)


def hardsigmoid() -> Activation:
    """min(max(z + 3, 0), 6) / 6; the slope 1/6 is rounded up."""
    return Activation("hardsigmoid", F.hardsigmoid, 0.0, 0.16666666666666669, (-3.0, 3.0))


def log_sigmoid() -> Activation:
    """f' = sigmoid(-z)."""
    return Activation("log_sigmoid", F.logsigmoid, 0.0, 1.0)


def softshrink(lambd: float = 0.5) -> Activation:
    """z moved towards 0 by lambd, and 0 where that would pass it."""
    if not 0 <= lambd < inf:
        raise LipboundsError(f"softshrink: lambd = {lambd} must be finite and not negative")
    kinks = (-float(lambd), float(lambd))
    return Activation("softshrink", partial(F.softshrink, lambd=lambd), 0.0, 1.0, kinks)


def hardswish() -> Activation:
    return Activation("hardswish", F.hardswish, -0.5, 1.5, (-3.0, 3.0))


ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "relu": relu,
    "abs": absolute,
    "identity": identity,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "hardtanh": hardtanh,
    "relu6": relu6,
    "softplus": softplus,
    "softsign": softsign,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "log_sigmoid": log_sigmoid,
    "softshrink": softshrink,
}


def activation(name: str | Activation) -> Activation:
    """The activation of that name with its default parameters, or the one given."""
    if isinstance(name, Activation):
        return name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedError(f"unknown activation {name!r}; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def derivative(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """f'(z) entry by entry; at a kink, one of the one-sided slopes."""
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        return torch.autograd.grad(function(z).sum(), z)[0]


def _positive(name: str, parameter: str, value: float) -> None:
    if not 0 < value < inf:
        raise LipboundsError(f"{name}: {parameter} = {value} must be positive and finite")

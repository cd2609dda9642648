"""Floating-point error bounds that turn computed values into outward-rounded ones.

Model: IEEE double precision, round to nearest, no underflow, of which `scaling` takes care (Higham,
*Accuracy and Stability of Numerical Algorithms*, ch. 3): a computed inner product of n terms errs
by at most gamma_n |x|^T |y|, gamma_n = n u / (1 - n u), whatever the order of summation.
"""

import torch
from torch import Tensor

from ..errors import LipboundsError

UNIT_ROUNDOFF = 2.0**-53


def gamma(terms: int) -> float:
    """gamma_n = n u / (1 - n u), counted twice over so that its own use is covered as well."""
    product = 2 * (terms + 4) * UNIT_ROUNDOFF
    if product >= 0.5:
        raise LipboundsError(f"{terms} roundings in a row: too many for a rounding-error bound")
    return product / (1.0 - product)


def outward(value: Tensor, terms: int) -> Tensor:
    """An upper end for a nonnegative quantity computed with `terms` roundings."""
    return value * (1.0 + gamma(terms))


def inward(value: Tensor, terms: int) -> Tensor:
    """A lower end for a nonnegative quantity computed with `terms` roundings."""
    return value * (1.0 - gamma(terms))


def times_power(value: Tensor, exponent: Tensor) -> Tensor:
    """value * 2^exponent in two steps, as 2^exponent itself may overflow or vanish; 0 stays 0."""
    half, one = exponent // 2, torch.ones_like(exponent, dtype=torch.float64)
    scaled = value * torch.ldexp(one, half) * torch.ldexp(one, exponent - half)
    return torch.where(value == 0, value, scaled)


def finite(value: Tensor, what: str) -> Tensor:
    """`value` itself, or an error where it overflowed: an infinite bound says nothing."""
    if not bool(torch.isfinite(value).all()):
        raise LipboundsError(
            f"{what} overflows double precision; rescale the weights of the network"
        )
    return value

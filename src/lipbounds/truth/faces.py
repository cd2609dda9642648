"""The boxes that the exact constant is searched over: they meet every cell of the domain.

Over R^n: multiply the offsets by a further input t >= 0. The cell of a pattern, a polyhedron in x,
becomes a cone in (x, t), whose slice at t = 1 is the cell itself; the Jacobian in x is the same
along the cone. If the cell has interior, so has the cone, and an interior point can be scaled to
max(|x|_inf, t) = 1. So the faces t = 1 and x_i = +-1 of the cube |x|_inf <= 1, 0 <= t <= 1 meet
every cell, and only patterns of cells with interior add to the greatest norm: no large box is
needed. The inside of the cube is left out because all closed cones meet at (0, 0), which would
admit all patterns. Cones may still meet at directions (x, 0), as all do where W_0 x = 0: those of
cells without interior are dropped by a certificate at the leaves (`witness.lacks_interior`).

Without offsets the cells themselves are cones, t is not needed, and scaling takes each of them that
meets a box around 0 to one of its faces that do not contain 0.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import LipboundsError
from ..networks.network import Network, real_tensor
from .phases import Chain, Interval


@dataclass(frozen=True)
class Domain:
    """faces: boxes of (x, t), ends (n + 1,), that meet every cell; hull: a box of (x, t) in which
    to look for interior points; inner: the ends (n,) of x itself, rounded inward."""

    faces: list[Interval]
    hull: Interval
    inner: Interval

    @property
    def ends(self) -> Interval:
        """The ends (n,) of x, rounded outward; infinite over R^n."""
        pairs = zip(self.inner, self.hull, strict=True)
        low, high = (np.where(np.isinf(inner), inner, hull[:-1]) for inner, hull in pairs)
        return low, high


def checked_box(network: Network, radius, center) -> tuple[np.ndarray, np.ndarray]:
    """Center and radii, (n,) each. Raises LipboundsError for shapes or values that make no box."""
    size = network.input_size
    center = _numbers(0.0 if center is None else center, "center", size)
    radius = _numbers(radius, "radius", size)
    if len(center) != size or len(radius) != size:
        raise LipboundsError(
            f"box with {len(radius)} radii around {len(center)} numbers for {size} inputs"
        )
    if not (np.isfinite(center).all() and (radius > 0).all()):
        raise LipboundsError("the box needs a finite center, and radii greater than 0")
    if np.isinf(radius).any() and not np.isinf(radius).all():
        raise LipboundsError("the radii of the box must be all finite, or all infinite")
    return center, radius


def _numbers(value, name: str, size: int) -> np.ndarray:
    """One per input, a number alone for all."""
    numbers = real_tensor(value, f"exact: {name}").detach().cpu().numpy()
    return numbers.reshape(-1) if numbers.ndim else np.full(size, numbers)


def domain(chain: Chain, center: np.ndarray, radius: np.ndarray) -> Domain:
    """The box |x - center| <= radius, or R^n where the radii are infinite."""
    everywhere = bool(np.isinf(radius).all())
    if everywhere:
        low, high = -np.ones(len(center)), np.ones(len(center))
        inner = np.full(len(center), -math.inf), np.full(len(center), math.inf)
    else:
        low, high = _rounded(center, radius, outward=True)
        inner = _rounded(center, radius, outward=False)
    earliest = 0.0 if everywhere and chain.biased else 1.0
    hull = np.append(low, earliest), np.append(high, 1.0)
    present = np.append(low, 1.0), np.append(high, 1.0)
    around = bool(((low <= 0) & (high >= 0)).all())
    if chain.biased or not around:
        return Domain([present, *_sides(hull)] if everywhere else [hull], hull, inner)
    return Domain(_sides(hull), hull, inner)


def _sides(hull: Interval) -> list[Interval]:
    """The faces x_i = low_i and x_i = high_i of the hull that do not contain x = 0."""
    faces = []
    for i, end in itertools.product(range(len(hull[0]) - 1), hull):
        if end[i] != 0:
            low, high = hull[0].copy(), hull[1].copy()
            low[i] = high[i] = end[i]
            faces.append((low, high))
    return faces


def _rounded(center: np.ndarray, radius: np.ndarray, outward: bool) -> Interval:
    """center -+ radius, rounded away from the center or towards it."""
    ends = []
    for sign in (-1, 1):
        values = center + sign * radius
        for i, value in enumerate(values):
            true = Fraction(float(center[i])) + sign * Fraction(float(radius[i]))
            short = sign * (true - Fraction(float(value)))  # > 0: the true end is further out
            if short > 0 if outward else short < 0:
                values[i] = np.nextafter(value, sign * math.inf if outward else -sign * math.inf)
        ends.append(values)
    return ends[0], ends[1]

"""Exact lower ends: slope vertices and secants in rational arithmetic, from the raw chain alone.

Doubles are dyadic, so that integers with one exponent per layer hold every product. In l2 a vector
v gives |J v|^2 / |v|^2 <= ||J||^2 exactly; `Oracle` therefore keeps squares there.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

VERTICES = 256  # enumerated at most; beyond, a random choice of so many


def integer(array):
    """(integers N, e): array = N 2^e exactly."""
    parts = [ratio(v) for v in np.asarray(array).reshape(-1)]
    shift = max(q.bit_length() - 1 for _, q in parts)
    numbers = [p << (shift - q.bit_length() + 1) for p, q in parts]
    whole = np.empty(len(numbers), dtype=object)
    whole[:] = numbers
    return whole.reshape(np.shape(array)), -shift


def ratio(v):
    """(p, q), q a power of two, of a double or of a Fraction made of doubles."""
    return (v.numerator, v.denominator) if isinstance(v, Fraction) else float(v).as_integer_ratio()


def vertex_jacobians(chain, rng):
    """(J of every slope vertex as integers (V, m, n), e, whether these are all)."""
    weights = [integer(w) for kind, w, *_ in chain if kind == "affine"]
    slopes = [integer(np.stack([a, np.ones_like(a)])) for kind, a, *_ in chain if kind == "slope"]
    sizes = [s.shape[1] for s, _ in slopes]
    total = sum(sizes)
    whole = 2**total <= VERTICES
    picks = (np.array(list(itertools.product((0, 1), repeat=total))) if whole
             else rng.integers(0, 2, (VERTICES, total)))  # fmt: skip
    product, exponent, start = weights[0][0][None], weights[0][1], 0
    for (s, shift), (w, e), size in zip(slopes, weights[1:], sizes, strict=True):
        chosen = s[picks[:, start : start + size], np.arange(size)]
        product = np.matmul(w[None], chosen[:, :, None] * product)
        exponent, start = exponent + shift + e, start + size
    return product, exponent, whole


def two_power(e):
    return Fraction(2) ** e


def vertex_oracle(jacobians, exponent, norm):
    """The greatest norm of them; in l2 its square."""
    if norm == 2:
        return greatest_square(jacobians) * two_power(2 * exponent)
    sums = np.abs(jacobians).sum(1 if norm == 1 else 2)
    return Fraction(int(sums.max())) * two_power(exponent)


def row_oracle(jacobians, exponent, radii):
    """Per output the greatest sum of |J_ij| radii_j."""
    radii, shift = integer(radii)
    sums = (np.abs(jacobians) * radii).sum(2).max(0)
    return [Fraction(int(s)) * two_power(exponent + shift) for s in sums]


def column_oracle(jacobians, exponent):
    """Per input the greatest sum of |J_ij| over the outputs."""
    sums = np.abs(jacobians).sum(1).max(0)
    return [Fraction(int(s)) * two_power(exponent) for s in sums]


def greatest_square(jacobians):
    """max |J v|^2 / |v|^2, v from a double SVD of the greatest and one exact power step."""
    top = max(int(np.abs(jacobians).max()), 1).bit_length()
    near = (jacobians * 2 ** max(64 - top, 0) // 2 ** max(top - 64, 0)).astype(float)
    near = np.ldexp(near, -64)
    first = np.linalg.svd(near, compute_uv=False)[:, 0].argmax()
    best, (v, _) = jacobians[first], integer(np.linalg.svd(near[first])[2][0])
    v = best.T.dot(best.dot(v))
    below = int((v * v).sum())
    image = best.dot(v)
    return Fraction(int((image * image).sum()), below) if below else Fraction(0)


def evaluate(chain, x):
    """f(x) in Fractions, x a vector of doubles."""
    z = np.array([Fraction(float(v)) for v in x], dtype=object)
    for kind, *parts in chain:
        if kind == "affine":
            w, b = (rational(part) for part in parts)
            z = w.dot(z) + b
        elif kind == "slope":
            z = np.where(z >= 0, z, rational(parts[0]) * z)
        else:
            z = np.array([max(z[i] for i in window) for window in parts[0]], dtype=object)
    return z


def rational(array):
    flat = np.empty(np.size(array), dtype=object)
    flat[:] = [Fraction(*ratio(v)) for v in np.reshape(array, -1)]
    return flat.reshape(np.shape(array))


def size(v, norm):
    """||v||_p exactly; in l2 its square."""
    if norm == 2:
        return sum(a * a for a in v)
    return sum(abs(a) for a in v) if norm == 1 else max(abs(a) for a in v)


def secant(chain, x, y, norm):
    """||f(x) - f(y)|| / ||x - y|| exactly; in l2 its square."""
    below = size(rational(x) - rational(y), norm)
    return size(evaluate(chain, x) - evaluate(chain, y), norm) / below if below else Fraction(0)


def attack(chain, norm, pairs, rng):
    """(the greatest exact secant found, pairs tried): doubles search, Fractions decide."""
    near = levelled(in_doubles(chain))
    x, d = starts(near, rng, max(pairs // 3, 4))
    best, record = [(x[0], x[0] + d[0])], -1.0
    for _ in range(3):
        with np.errstate(all="ignore"):
            y = x + d
            rise = np.linalg.norm(forward(near, y) - forward(near, x), norm, axis=1)
            quotient = np.nan_to_num(rise / np.linalg.norm(y - x, norm, axis=1), posinf=0)
        order = np.argsort(-quotient)
        if quotient[order[0]] > record:
            best, record = [(x[i], y[i]) for i in order[:2]], quotient[order[0]]
        keep = order[np.arange(len(x)) % max(len(x) // 4, 1)]
        x, d = varied(x[keep], d[keep], rng)
    return max(secant(chain, a, b, norm) for a, b in best), 3 * len(x)


def in_doubles(chain):
    """Fractions rounded; windows, which are lists, stay."""
    return [
        (kind, *parts) if kind == "pool" else (kind, *(np.asarray(p, dtype=float) for p in parts))
        for kind, *parts in chain
    ]


def levelled(chain):
    """A chain without biases with each matrix scaled to size one, which scales f alone."""
    if any(kind == "affine" and np.any(parts[1]) for kind, *parts in chain):
        return chain
    return [
        (kind, np.ldexp(parts[0], 1 - np.frexp(np.abs(parts[0]).max())[1]), parts[1])
        if kind == "affine"
        else (kind, *parts)
        for kind, *parts in chain
    ]


def varied(x, d, rng):
    """The best kept, their likes moved a little, turned and shortened."""
    count = len(x)
    small = 10.0 ** rng.uniform(-6, 0, (count, 1)) * (np.arange(count) >= count // 4)[:, None]
    x = x + small * rng.standard_normal(x.shape) * np.abs(x)
    shorter = 2.0 ** -rng.integers(0, 9, (count, 1))
    return x, d * (1 + small * rng.standard_normal(x.shape)) * shorter


def starts(chain, rng, count):
    """Points of many scales, half of them on kinks of the first layer; steps along unit vectors,
    signs and random directions, from tiny to long."""
    w, b = chain[0][1:]
    n = w.shape[1]
    x = rng.standard_normal((count, n)) * 10.0 ** rng.uniform(-3, 3, (count, 1))
    with np.errstate(all="ignore"):
        t = -b[rng.integers(len(w), size=count)] / (x @ w.T)[np.arange(count), 0]
    x = np.where((np.isfinite(t) & (rng.integers(0, 2, count) > 0))[:, None], x * t[:, None], x)
    units = np.eye(n)[rng.integers(n, size=count)]
    signs = rng.choice([-1.0, 1.0], (count, n))
    d = np.stack([units, signs, rng.standard_normal((count, n))])[np.arange(count) % 3,
                                                                np.arange(count)]  # fmt: skip
    return x, d * 10.0 ** rng.uniform(-6, 1, (count, 1)) * (1e-300 + np.abs(x).max(1)[:, None])


def forward(chain, x):
    """f of a batch, in doubles."""
    for kind, *parts in chain:
        if kind == "affine":
            x = x @ parts[0].T + parts[1]
        elif kind == "slope":
            x = np.where(x >= 0, x, parts[0] * x)
        else:
            x = np.stack([x[:, window].max(1) for window in parts[0]], axis=1)
    return x


def excess(value, truth, norm):
    """value / truth - 1 for the finite double `value`, correct in sign; inf where truth is 0."""
    if truth == 0:
        return math.inf if value >= 0 else -1.0
    over = (Fraction(value) ** (2 if norm == 2 else 1) - truth) / truth
    if value < 0:
        return -1.0
    try:
        gap = float(over)
    except OverflowError:
        return math.inf
    gap = math.copysign(5e-324, over) if gap == 0 and over != 0 else gap
    return math.expm1(math.log1p(gap) / 2) or gap if norm == 2 and gap > -1 else gap

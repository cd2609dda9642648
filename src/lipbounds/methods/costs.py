"""What each bound costs, in multiply-adds, as far as it can be told from the sizes alone.

Estimates, from above where sparsity helps: to choose among methods, never to prove anything. A
solver's cost is not known beforehand, and counted as infinite.
"""

import math
from typing import NamedTuple

from ..clock import left
from ..linear.blocks import Blocks
from ..linear.grams import by_taps, taps_cost
from ..linear.norms import blocks_tell, has_gram
from ..linear.operators import Convolution, Operator
from ..linear.rows import HELD, SPARSE_COST
from ..linear.torus import torus_cost
from ..networks.network import Network
from ..networks.plane import reached
from ..networks.segments import radius

EIGENVALUES = 0.5  # the greatest of a symmetric matrix, proven, in cubes of its side
FORMED = 1000.0  # for an entry of a convolution's sparse matrix
THROUGH = 16.0  # for a vector's product with an entry of sparse rows
SINGULAR = 20.0  # K_2 of a matrix, in products of its sides, the short one twice: 7 for singular
# values and vectors, the rest for norms of what they are scaled by
SPEED = 1e10  # multiply-adds in a second on one core, roughly
LARGEST_UNROLLED = 1e8  # multiply-adds of a pass, up to which pools and convolutions are unrolled
HOPELESS = 2.0  # times the seconds left: from where on not to begin
CERTAIN = 0.3  # of the seconds left: a cost up to it is no reason to begin with less


def said(cost: float) -> str:
    """What a user who gave too little time is told."""
    if math.isinf(cost):
        return "what it needs is not known beforehand; give it more, or take K_4"
    return f"it takes {cost:.1e} multiply-adds, some {cost / SPEED:.1g} s of one core, or more"


def dear(cost: float) -> bool:
    """Whether it may be wise to begin with less, in the time that is left."""
    return cost > CERTAIN * SPEED * left()


def hopeless(cost: float) -> bool:
    """Whether it is not worth beginning, in the time that is left, with what cannot be stopped."""
    return cost > HOPELESS * SPEED * left()


def one_pass(network: Network, norm: float = 2.0) -> float:
    """One vector through all layers."""
    return sum(affine.operator.cost for affine in network.affines)


def product(network: Network, norm: float) -> float:
    """K_*: a pass, or the spectral norm of each layer."""
    if norm != 2:
        return one_pass(network)
    return sum(_spectral(affine.operator) for affine in network.affines)


def absolute(network: Network, norm: float) -> float:
    """K_3: a pass, or one for each column where the matrix is wanted."""
    columns = _columns(network, norm)
    return columns * one_pass(network) + _norm_of_columns(network, norm)


def averaged(network: Network, norm: float) -> float:
    """K_4: all segments, and F_4 at each column where the matrix is wanted."""
    columns = _columns(network, norm)
    return _segments(network) + columns * _entries(network) + _norm_of_columns(network, norm)


def combettes_pesquet(network: Network, norm: float) -> float:
    """K_1: all segments, and in l2 their spectral norms."""
    spectral = sum(map(_segment_norm, _pairs(network))) if norm == 2 else 0.0
    return _segments(network) + spectral


def largest_gram(network: Network) -> int:
    """Rows of the greatest Gram matrix that K_1 in l2 needs, of its segments."""
    return max((min(one.rows, one.size) for one in _pairs(network) if not _apart(one)), default=0)


def always(network: Network, norm: float) -> bool:
    """Of a method that has less to give for less time, K_4: K_3 and what lies between them."""
    return True


def never(network: Network, norm: float) -> bool:
    """Of one that has not."""
    return False


def by_fourier(network: Network, norm: float) -> bool:
    """Of K_1, which has in l2 the segments of convolutions on a torus."""
    return norm == 2 and reached(network) > 1


def seqlip(network: Network, norm: float) -> float:
    """K_2: K_*, a singular value decomposition of each layer; its budget is counted there."""
    sizes = (sorted(affine.operator.shape) for affine in network.affines)
    return product(network, 2.0) + SINGULAR * sum(short**2 * long for short, long in sizes)


def closed_form(network: Network) -> float:
    """ECLipsE-Fast's multipliers: products and factorisations of each stage's size."""
    widths = [max(affine.operator.shape) for affine in network.affines]
    return 3.0 * sum(width**3 for width in widths)


def seqlip_bytes(network: Network) -> float:
    """What K_2 holds: each map as a matrix, and its singular vectors."""
    sizes = (affine.operator.shape for affine in network.affines)
    return 24.0 * sum(m * n for m, n in sizes)


def closed_form_bytes(network: Network) -> float:
    """What those hold: some matrices of the widest stage's side."""
    return 32.0 * max(max(affine.operator.shape) for affine in network.affines) ** 2


def eclipse_fast(network: Network, norm: float) -> float:
    """Its multipliers, and their proof, which takes most of the time."""
    return 8.0 * closed_form(network)


def norm_equivalence(network: Network, norm: float) -> float:
    """K_1 of each output, or K_4 in both other norms."""
    if norm == 2:
        return averaged(network, 1.0) + averaged(network, math.inf)
    pieces = network.output_size if norm == math.inf else min(network.input_size, 64)
    return pieces * combettes_pesquet(network, 2.0)


def unknown(network: Network, norm: float) -> float:
    """Of a solver, or of a search."""
    return math.inf


def _columns(network: Network, norm: float) -> int:
    """How many vectors `methods.monotone` puts through the network."""
    n, m = network.input_size, network.output_size
    if norm == math.inf or (norm == 1 and not network.has_pools):
        return 1
    return n if network.has_pools else min(n, m)


def _norm_of_columns(network: Network, norm: float) -> float:
    return _gram(network.input_size, network.output_size) if norm == 2 else 0.0


def _segments(network: Network) -> float:
    """The rows of every R_k, pulled back as far as its segments reach, and the matrices of
    convolutions, by which sparse rows go."""
    pulled = sum(one.rows * one.cost for one in _pairs(network))
    operators = [affine.operator for affine in network.affines]
    formed = sum(min(one.cost, HELD) for one in operators if isinstance(one, Convolution))
    return math.prod(network.batch_shape) * float(pulled) + FORMED * formed


class _Pair(NamedTuple):
    """The shape of a segment, what its first map costs a row, and its nonzeros in one, at most."""

    rows: int
    size: int
    cost: float
    reach: float


def _pairs(network: Network) -> list[_Pair]:
    """All segments, down to where a stage cuts them."""
    found = []
    for k in range(1, network.depth + 2):
        reach = radius(network, k).cost / (rows := radius(network, k).shape[0]) or 1.0
        for j in range(k - 1, -1, -1):
            operator = network.affines[j].operator
            size = operator.shape[1]
            products = reach * max(1.0, operator.cost / operator.shape[0])
            reach = min(size, products)
            found.append(_Pair(rows, size, min(operator.cost, products / SPARSE_COST), reach))
            if j == 0 or network.stages[j - 1].center is None:
                break
    return found


def _segment_norm(pair: _Pair) -> float:
    """Of rows that can hardly share a column, as in pooling alone, it is the longest row."""
    return pair.rows * pair.reach if _apart(pair) else _gram(pair.rows, pair.size)


def _apart(pair: _Pair) -> bool:
    return pair.rows * pair.reach <= pair.size


def _entries(network: Network) -> float:
    """Of all segments, as multiply-adds of a vector that goes through them."""
    return float(sum(one.rows * min(one.size, THROUGH * one.reach) for one in _pairs(network)))


def _gram(m: int, n: int) -> float:
    """A certified spectral norm of a dense matrix."""
    side = min(m, n)
    return float(side**2 * max(m, n) + EIGENVALUES * side**3)


def _spectral(operator: Operator) -> float:
    m, n = operator.shape
    if isinstance(operator, Blocks) and blocks_tell(operator):
        return operator.cost + sum(map(_spectral, operator.parts.values()))
    if operator.cost <= max(m, n):  # an entry for each row or column: an identity, a diagonal
        return float(operator.cost)
    if operator.cost >= m * n:
        return _gram(m, n)
    side = min(m, n)
    if not has_gram(operator):
        convolution = operator.as_convolution
        if convolution is not None:
            return float(torus_cost(convolution))
        parts = operator.factors if len(operator.factors) > 1 else operator.parts.values()
        return operator.cost + sum(map(_spectral, parts))
    taps = by_taps(operator)
    formed = 2 * side * operator.cost if taps is None else taps_cost(taps)
    return float(formed + EIGENVALUES * side**3)

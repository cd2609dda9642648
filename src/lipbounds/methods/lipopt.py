"""LiPopt: the greatest row or column sum of |J| as a polynomial, bounded by linear programs.

In l-infinity row i asks for max J_i t over t in [-1, 1]^n and all slopes in their intervals, J =
W_L S_L ... S_1 W_0: a polynomial of degree 1 in each variable, and of degree L + 1 in all. In l1
column k asks for max u^T J e_k, the same for the transposed network. Neurons with alpha = beta are
constants, the other variables are shifted and scaled to [0, 1]. `krivine.py` has the programs.
Source: F. Latorre, P. Rolland, V. Cevher, *Lipschitz constant estimation of neural networks via
sparse polynomial optimization*, ICLR 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..arithmetic.rounding import finite, gamma
from ..clock import left, now
from ..errors import LipboundsError, UnsupportedError
from ..linear.operators import Operator, dense
from ..networks.network import Network
from ..results import Bound, Status
from .averaged import averaged_sums
from .krivine import LARGEST_COLUMNS, Clusters, box_maximum, clique_columns, cliques, paths

CLIQUE_COLUMNS = 50_000  # seconds; paths take a fifth of that, and can be a fifth above


def lipopt(
    network: Network, norm: float, seconds: float = 60.0, degree: int | None = None
) -> Bound:
    """The greatest, over rows (norm inf) or columns (norm 1), of a linear program's value.

    degree: k takes the paper's cliques, a neuron of the last hidden stage (in l1 the first) with
        all that it depends on, and in each all products of k factors. None takes k as low as it
        can be where that makes at most CLIQUE_COLUMNS products; else only the products along one
        path, with one neuron of each stage and one input (in l1 output).
    seconds: in all; when it is up, rows not solved count with their value of K_4.
    D*_p <= LiPopt-(k + 1) <= LiPopt-k <= paths <= K_4, and LiPopt-k = D*_p in a dense network for k
    beyond all variables but the last group's (docs/competitors.md). With one hidden stage paths are
    as good as the lowest degree. Rows are solved from the greatest K_4 down, until no K_4 exceeds
    the greatest value. `upper` is a bound of Lip_p for p in {1, inf}; `status` says whether the
    time was up before all rows that count were solved. Raises UnsupportedError for an ensemble,
    another norm, or stages other than slope stages; LipboundsError where a program would be too
    large, or k too small, and where HiGHS fails.
    """
    chain = _chain(network, norm)
    greatest, deadline, statuses = 0.0, now() + min(seconds, left()), []
    averages = averaged_sums(network, norm).cpu()
    for row in averages.argsort(descending=True).tolist():
        value = float(averages[row])
        if value <= greatest:
            break
        remaining, status = deadline - now(), Status.TIME
        if remaining > 0:
            solved, status = _row_bound(chain, row, degree, remaining)
            value = min(value, solved)
        greatest = max(greatest, value)
        statuses.append(status)
    return Bound.of_parts(greatest, statuses, "rows")


@dataclass(frozen=True)
class _Chain:
    """J = W_L S_L ... S_1 W_0 S_0, or its transpose for norm 1; S_0 has the slopes -1 and 1."""

    weights: list[np.ndarray]  # W_0 ... W_L
    majorants: list[np.ndarray]  # at least |W_k|, entry by entry
    low: list[np.ndarray]  # alpha of S_0 ... S_L
    width: list[np.ndarray]  # beta - alpha
    terms: int


def _chain(network: Network, norm: float) -> _Chain:
    if norm not in (1.0, math.inf):
        raise UnsupportedError(f"lipopt is not defined for norm {norm:g}; take 1 or math.inf")
    if network.batch_shape:
        raise UnsupportedError("lipopt takes one network, not an ensemble")
    weights = [_matrix(affine.operator) for affine in network.affines]
    majorants = [_matrix(affine.operator.majorant()) for affine in network.affines]
    slopes = [(a.cpu().numpy(), b.cpu().numpy()) for a, b in network.slopes("lipopt")]
    if norm == 1:
        weights, majorants = ([w.T for w in some[::-1]] for some in (weights, majorants))
        slopes = slopes[::-1]
    ones = np.ones(weights[0].shape[1])
    slopes = [(-ones, ones), *slopes]
    low, width = [alpha for alpha, _ in slopes], [beta - alpha for alpha, beta in slopes]
    return _Chain(weights, majorants, low, width, network.terms)


def _matrix(operator: Operator) -> np.ndarray:
    return dense(operator).cpu().numpy()


def _row_bound(chain: _Chain, row: int, degree: int | None, seconds: float) -> tuple[float, Status]:
    """The program of one row, inf where the time was up; and how HiGHS ended."""
    free = _free(chain, row)
    _check_monomials(free)
    polynomial = _polynomial(chain, row, free)
    value, status = box_maximum(polynomial, _clusters(polynomial, degree), seconds)
    return value + gamma(chain.terms) * _majorant(chain, row), status


def _clusters(polynomial: np.ndarray, degree: int | None) -> Clusters:
    if degree is not None:
        return cliques(polynomial, degree)
    lowest = polynomial.ndim
    if lowest <= 2 or clique_columns(polynomial, lowest) > CLIQUE_COLUMNS:
        return paths(polynomial)
    return cliques(polynomial, lowest)


def _free(chain: _Chain, row: int) -> list[np.ndarray]:
    """For each stage the neurons with two slopes that lie on a path from an input to the row."""
    forward = [np.ones(chain.weights[0].shape[1], dtype=bool)]
    for k, majorant in enumerate(chain.majorants[:-1]):
        forward.append((majorant > 0) @ (forward[-1] & _alive(chain, k)))
    backward = [chain.majorants[-1][row] > 0]
    for k, majorant in reversed(list(enumerate(chain.majorants[:-1]))):
        backward.insert(0, (backward[0] & _alive(chain, k + 1)) @ (majorant > 0))
    both = zip(forward, backward, chain.width, strict=True)
    return [np.flatnonzero(f & b & (width > 0)) for f, b, width in both]


def _alive(chain: _Chain, k: int) -> np.ndarray:
    """The neurons of stage k whose slope is not always zero."""
    return (chain.low[k] != 0) | (chain.width[k] > 0)


def _check_monomials(free: list[np.ndarray]) -> None:
    monomials = math.prod(len(one) + 1 for one in free)
    if monomials > LARGEST_COLUMNS:
        raise LipboundsError(
            f"lipopt: a linear program for {monomials} monomials would have more than "
            f"{LARGEST_COLUMNS} columns; take a narrower or shallower network, or K_4"
        )


def _polynomial(chain: _Chain, row: int, free: list[np.ndarray]) -> np.ndarray:
    """The coefficients of J_i t, one axis for each stage with free neurons: index 0 where its
    factor is alpha, index i where it is (beta - alpha) x of the i-th free neuron."""
    x = np.ones(chain.weights[0].shape[1])
    weights = [*chain.weights[:-1], chain.weights[-1][[row]]]
    for weight, low, width, chosen in zip(weights, chain.low, chain.width, free, strict=True):
        fixed = (x * low) @ weight.T
        if len(chosen):
            varied = (x * width)[..., chosen, None] * weight.T[chosen]
            fixed = np.concatenate([fixed[..., None, :], varied], -2)
        x = fixed
    return finite(torch.from_numpy(x[..., 0]), "a coefficient of lipopt's polynomial").numpy()


def _majorant(chain: _Chain, row: int) -> float:
    """At least the sum of the absolute values that the coefficients of `_polynomial` sum up."""
    x = np.ones(chain.weights[0].shape[1])
    majorants = [*chain.majorants[:-1], chain.majorants[-1][[row]]]
    for majorant, low, width in zip(majorants, chain.low, chain.width, strict=True):
        x = majorant @ (x * (abs(low) + width))
    return float(x[0])

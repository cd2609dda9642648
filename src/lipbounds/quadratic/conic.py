"""Semidefinite programs over the multipliers of a quadratic form, handed to a conic solver.

A solver's answer only proposes multipliers; `quadratic.certified` makes the bound of them.
"""

import importlib
import itertools
import math
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..clock import real
from ..errors import LipboundsError, UnsupportedError
from ..results import Status
from .form import Form, Multipliers

# Cost of a Clarabel iteration: the sum over stages of the cubed number of entries of a clique,
# (y_{k-1}, y_k). Measured on one core, 20 iterations: 2 s at 7e9, 18 s (l2) to 35 s (l-inf) at
# 3e10, where SCS takes 4 to 11 s and its certified value is within 1e-3.
INTERIOR_POINT_WORK = 1e10
LARGEST_SIDE, LARGEST_ENTRIES = 1000, 2**23


def cvxpy():
    """The module cvxpy; LipboundsError where it is not installed."""
    try:
        return importlib.import_module("cvxpy")
    except ImportError:
        raise LipboundsError("this bound needs cvxpy: pip install 'lipbounds[solvers]'") from None


@dataclass(frozen=True)
class Program:
    """minimise cost . theta over theta >= 0 with sum theta_g Q_g + Q_0 >= 0.

    matrix: vec Q_g in column g, (N^2, groups), sparse; constant: vec Q_0. The multipliers are
    grouping @ theta.
    """

    cost: np.ndarray
    matrix: sp.csc_matrix
    constant: np.ndarray
    grouping: sp.csc_matrix


@dataclass(frozen=True)
class Solution:
    """Multipliers in the form's coordinates, or None where time ran out before there were any;
    `status`: how the solver ended."""

    multipliers: Multipliers | None
    status: Status


def solve(form: Form, method: str, seconds: float, layerwise: bool = False) -> Solution:
    """Multipliers near the optimum of (mu + nu) / 2 subject to Q >= 0. `layerwise`: one multiplier
    per stage of the network instead of one per neuron.

    Raises LipboundsError, naming `method`, where the solver fails, and UnsupportedError where Q
    has more than LARGEST_SIDE rows, or its squares more than LARGEST_ENTRIES entries.
    """
    cp = cvxpy()
    _check_size(form, method)
    program = program_of(form, layerwise)
    theta = cp.Variable(len(program.cost), nonneg=True)
    value = program.matrix @ theta + program.constant
    side = math.isqrt(len(program.constant))
    constraint = cp.reshape(value, (side, side), order="F") >> 0
    problem = cp.Problem(cp.Minimize(program.cost @ theta), [constraint])
    interior_point = _work(form) <= INTERIOR_POINT_WORK
    _run(cp, problem, method, interior_point, real(max(seconds, 1e-3)))
    # SCS has the accuracy it is asked for, or was stopped by its limit.
    inaccurate = Status.PRECISION if interior_point else Status.TIME
    ended = {cp.OPTIMAL: Status.CONVERGED, cp.OPTIMAL_INACCURATE: inaccurate}
    status = ended.get(problem.status, Status.TIME)
    if theta.value is None:
        return Solution(None, status)
    weights = torch.from_numpy(program.grouping @ theta.value)
    return Solution(_split(form, weights), status)


def _check_size(form: Form, method: str) -> None:
    widths = form.widths
    side = sum(widths)
    entries = sum(m * n * n for n, m in itertools.pairwise(widths[:-1]))
    if side > LARGEST_SIDE or entries > LARGEST_ENTRIES:
        raise UnsupportedError(
            f"{method}: a matrix inequality with {side} rows and {entries} entries is beyond the "
            f"solvers (at most {LARGEST_SIDE} and {LARGEST_ENTRIES}); take eclipse_fast or K_4"
        )


def _work(form: Form) -> float:
    cliques = [(m + n) * (m + n + 1) / 2 for n, m in itertools.pairwise(form.widths)]
    return sum(clique**3 for clique in cliques)


def _run(cp, problem, method: str, interior_point: bool, seconds: float) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            if interior_point:
                _interior_point(cp, problem, seconds)
            else:
                with redirect_stdout(sys.stderr):  # where it fails, SCS says so, asked or not
                    problem.solve(cp.SCS, time_limit_secs=seconds, eps=1e-6, max_iters=10**6)
    except cp.error.SolverError as error:
        raise LipboundsError(f"{method}: the solver failed ({error})") from None
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE, cp.USER_LIMIT):
        raise LipboundsError(f"{method}: the solver ended with status {problem.status!r}")


def _interior_point(cp, problem, seconds: float) -> None:
    # accept_unknown: a run that stalls leaves multipliers, of which the certificate is the judge.
    problem.solve(cp.CLARABEL, time_limit=seconds, accept_unknown=True, direct_solve_method="faer")


def program_of(form: Form, layerwise: bool) -> Program:
    """The program whose variables are mu, the multipliers of the stages and nu, on the differences
    that satisfy the exact equations y_j = (C z)_j, which need no multiplier then."""
    matrix, constant = _columns(form)
    ends = form.widths[0], form.widths[-1]
    first, last = (_together(n) if form.ball else sp.eye(n, format="csc") for n in ends)
    units = [_selected(~fixed) for fixed in form.fixed]
    if layerwise:
        units = [u @ _together(u.shape[1]) if u.shape[1] else u for u in units]
    grouping = sp.block_diag([first, *units, last], format="csc")
    cost = np.zeros(grouping.shape[1])
    cost[: first.shape[1]] = cost[len(cost) - last.shape[1] :] = 0.5
    return Program(cost, matrix @ grouping, constant, grouping)


def _together(size: int) -> sp.csc_matrix:
    return sp.csc_matrix(np.ones((size, 1)))


def _selected(mask: Tensor) -> sp.csc_matrix:
    """The columns of the identity at `mask`."""
    return sp.eye(len(mask), format="csc")[:, np.flatnonzero(mask.cpu().numpy())]


def _columns(form: Form) -> tuple[sp.csc_matrix, np.ndarray]:
    """vec of the matrices that multiply mu, lambda and nu, and of the constant -2 s^T W_L y_L."""
    parts = _free_coordinates(form)
    rows, signs = [parts[0]], [1.0]  # the linear forms whose squares Q adds up, and their signs
    neurons = [np.arange(form.widths[0])]
    starts = np.cumsum([0, *form.widths])
    for k, (a, b) in enumerate(zip(form.centers, form.radii, strict=True)):
        rows += [parts[k + 1] - _sparse(a) @ parts[k], _sparse(b) @ parts[k]]
        signs += [1.0, -1.0]
        neurons += [np.arange(starts[k + 1], starts[k + 2])] * 2
    rows, signs = [*rows, parts[-1]], [*signs, 1.0]
    neurons.append(np.arange(starts[-2], starts[-1]))
    width = parts[0].shape[1]
    entries = [_squares(r, n, sign) for r, n, sign in zip(rows, neurons, signs, strict=True)]
    place, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = sp.csc_matrix((value, (place, column)), shape=(width**2, starts[-1]))
    matrix.eliminate_zeros()
    constant = -(parts[-1].T @ _sparse(form.last) @ parts[-2]).toarray()
    return matrix, (constant + constant.T).reshape(-1)


def _free_coordinates(form: Form) -> list[sp.csr_matrix]:
    """x, y_1, ..., y_L, s, each as a linear map of the entries that no exact equation determines:
    the free neurons of a stage are coordinates, its other neurons are A_k y_{k-1}."""
    part = sp.eye(form.widths[0], format="csr")
    parts = [part]
    for a, fixed in zip(form.centers, form.fixed, strict=True):
        determined = _selected(fixed) @ _selected(fixed).T @ _sparse(a) @ part
        part = sp.hstack([determined, _selected(~fixed)], format="csr")
        parts.append(part)
    known, outputs = part.shape[1], form.widths[-1]
    parts.append(sp.hstack([sp.csr_matrix((outputs, known)), sp.eye(outputs)], format="csr"))
    width = known + outputs
    return [sp.csr_matrix((p.data, p.indices, p.indptr), (p.shape[0], width)) for p in parts]


def _squares(
    rows: sp.csr_matrix, numbers: np.ndarray, sign: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of the matrices r r^T, r a row: place in vec, number of the row, value."""
    rows = rows.tocsr()
    lengths = np.diff(rows.indptr)
    own = np.repeat(np.arange(len(lengths)), lengths)  # the row of each entry
    left = np.repeat(np.arange(rows.nnz), lengths[own])
    first = np.cumsum(lengths[own]) - lengths[own]
    right = np.arange(len(left)) - first[left] + rows.indptr[own[left]]
    place = rows.indices[left].astype(np.int64) + rows.shape[1] * rows.indices[right].astype(int)
    return place, numbers[own[left]], sign * rows.data[left] * rows.data[right]


def _sparse(matrix: Tensor) -> sp.csr_matrix:
    return sp.csr_matrix(matrix.cpu().numpy())


def _split(form: Form, weights: Tensor) -> Multipliers:
    first, *stages, last = weights.to(form.unit.device).split(form.widths)
    return Multipliers(first, list(stages), last)

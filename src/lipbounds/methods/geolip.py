"""GeoLIP: the natural semidefinite relaxation in l-infinity and l1 (Wang, Prakriya, Jha, *A
quantitative geometric approach to neural-network smoothness*, NeurIPS 2022)."""

import math

import torch
from torch import Tensor

from ..clock import left, now
from ..errors import UnsupportedError
from ..linear.norms import checked_norm
from ..networks.network import Network
from ..networks.rewrite import input_column, output_row
from ..quadratic.conic import solve
from ..quadratic.form import Form, certified, single
from ..results import Bound, Status
from .absolute import absolute_map
from .averaged import averaged_sums

ROUNDING = 1e-9  # K_4 over K_3, far above the error of K_4


def geolip(network: Network, norm: float, seconds: float = 60.0) -> Bound:
    """max over output rows (inf) or input columns (1) of min (sum mu + sum nu) / 2 with
    Q(mu, lambda, nu) >= 0, the row's s or the column's x a scalar (the paper's natural
    relaxation; Q in `lipbounds.quadratic.form`).

    Rows are taken in decreasing order of their K_4; those whose K_4 is no more than the greatest
    value so far cannot raise the constant, and are skipped. seconds: for the whole call; a row that
    is not solved by then counts with its K_4.
    `upper` is a bound of D*_p, p in {1, inf}, a 0-d tensor; `status` says how the solver ended,
    where not all programs were solved. Raises UnsupportedError for an
    ensemble, a pool kept whole, norm 2, or a network too large for the solver; LipboundsError where
    the solver fails or cvxpy is missing.
    """
    norm, deadline = checked_norm(norm), now() + min(seconds, left())
    if norm == 2:
        raise UnsupportedError("geolip is defined for norms 1 and inf only; take lipsdp_neuron")
    single(network, "geolip")
    piece = output_row if norm == math.inf else input_column
    cheap = averaged_sums(network, norm)
    greatest = torch.zeros((), dtype=torch.float64, device=network.device)
    statuses = []
    for i in cheap.argsort(descending=True).tolist():
        if cheap[i] <= greatest:
            break
        value, status = _piece(piece(network, i), cheap[i], deadline - now())
        greatest = torch.maximum(greatest, value)
        statuses.append(status)
    return Bound.of_parts(greatest, statuses, "programs")


def _piece(network: Network, cheap: Tensor, seconds: float) -> tuple[Tensor, Status]:
    """GeoLIP of a network with one output or one input, or its K_4 `cheap` if time runs out, or if
    all but rounding cancels and no program is left; and how the solver ended."""
    ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
    if cheap <= ROUNDING * absolute_map(network, ones).sum():
        return cheap, Status.CONVERGED
    if seconds <= 0:
        return cheap, Status.TIME
    form = Form(network, ball=False)
    solution = solve(form, "geolip", seconds)
    if solution.multipliers is None:
        return cheap, solution.status
    value = certified(form, solution.multipliers)
    if solution.status is not Status.CONVERGED:
        value = torch.minimum(value, cheap)
    return value, solution.status

"""ECLipsE and ECLipsE-Fast: LipSDP's multipliers chosen stage by stage (Xu, Sivaranjani, *ECLipsE:
efficient compositional Lipschitz constant estimation for deep neural networks*, NeurIPS 2024).

Written as ellipsoids that hold the stages' differences: y_k^T Sigma_k^-1 y_k <= 1, Sigma_0 = I,

    Sigma_k = tau + C [ H + H R^T (tau - R H R^T)^-1 R H ] C^T,   H = W_{k-1} Sigma_{k-1} W_{k-1}^T,

for any diagonal tau with tau - R H R^T > 0; the bound is sqrt(lambda_max(W_L Sigma_L W_L^T)).
Sigma_k^-1 is the paper's M_k and lambda = 1 / tau its multipliers, so that the value is certified
as that of any other multipliers; nothing computed here needs to be exact.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..clock import OutOfTime, check, left, now
from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import checked_norm, largest_eigenvalue
from ..linear.operators import Dense, Operator
from ..networks.network import Affine, Network
from ..networks.stages import Stage
from ..quadratic.conic import cvxpy, solve
from ..quadratic.form import Form, Multipliers, certified, single
from ..results import Bound, Status


def eclipse_fast(network: Network, norm: float) -> Tensor:
    """ECLipsE-Fast: tau_j = r_j (r_j + |m_j|) h, h = || H ||_2, for slopes m_j +- r_j.

    Putting h I for H makes Sigma_k diagonal, and this tau its minimiser: Sigma_k <= diag((r_j +
    |m_j|)^2) h, so that the value is at most the plain product of norms. For ReLU r = m = 1/2:
    lambda = 2 / h, as in the paper. For max(a, b) stages tau = p h / 2, p the most neurons that one
    input is picked by: then Sigma_k <= p h I, as sum_j a_j^2 + b_j^2 - y_j^2 + 2 (y_j - a_j)
    (y_j - b_j) is a sum of squares and sum_j a_j^2 + b_j^2 <= p |z|^2. (All up to
    `stages.STIFF`, where a neuron has one slope only.)
    Returns an upper bound of D*_2, a 0-d tensor. Raises UnsupportedError for an ensemble, a pool
    kept whole, or another norm than 2.
    """
    form = _form(network, norm, "eclipse_fast")
    return (
        certified(form, form.from_network(closed_form(network))) if form.cheap > 0 else form.cheap
    )


def eclipse(network: Network, norm: float, seconds: float = 60.0) -> Bound:
    """ECLipsE: per stage the tau that minimises lambda_max(W_k Sigma_k W_k^T), looking one layer
    ahead, by a semidefinite program of the stage's size (sec. 3: maximise c with Sigma_k^-1 >=
    c W_k^T W_k). With H = G G^T that is LipSDP-Neuron of the network G, stage k, W_k.

    seconds: for the whole call; a stage without a solution in that time keeps the closed form of
    ECLipsE-Fast. The result is never above that of ECLipsE-Fast.
    `upper` is a bound of D*_2, a 0-d tensor; `status` says how the solver ended, where it has not
    come to its end at all stages. Raises as `eclipse_fast`, and LipboundsError where cvxpy is
    missing.
    """
    form, deadline = _form(network, norm, "eclipse"), now() + min(seconds, left())
    if not form.cheap > 0:
        return Bound(form.cheap)
    cvxpy()
    statuses = []

    def ahead(k: int, h: Tensor) -> Tensor:
        tau, status = _looking_ahead(network, k, h, deadline - now())
        statuses.append(status)
        return tau

    upper = certified(form, form.from_network(closed_form(network)))
    try:
        own = form.from_network(_propagated(network, ahead))
    except OutOfTime:
        statuses += [Status.TIME] * (network.depth - len(statuses))
    else:
        upper = torch.minimum(certified(form, own), upper)
    return Bound.of_parts(upper, statuses, "stages")


def closed_form(network: Network) -> Multipliers:
    """The multipliers of ECLipsE-Fast."""
    return _propagated(network, lambda k, h: _closed_form(network.stages[k], h))


def _form(network: Network, norm: float, name: str) -> Form:
    if checked_norm(norm) != 2:
        raise UnsupportedError(f"{name} is defined for norm 2 only")
    return Form(single(network, name), ball=True)


def _propagated(network: Network, choose: Callable[[int, Tensor], Tensor]) -> Multipliers:
    """mu = 1, lambda = 1 / tau and nu = lambda_max(W_L Sigma_L W_L^T), where `choose(k, H)` gives
    the tau of stages[k]."""
    sigma = torch.eye(network.input_size, dtype=torch.float64, device=network.device)
    weights = []
    for k, (affine, stage) in enumerate(zip(network.affines, network.stages, strict=False)):
        check(f"stage {k + 1} of {network.depth}")
        h = _sandwich(affine.operator, sigma)
        tau, sigma = _inside_the_cone(stage, h, choose(k, h))
        weights.append(1.0 / tau)
    ones = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    nu = _greatest(_sandwich(network.affines[-1].operator, sigma))
    return Multipliers(ones, weights, nu.expand(network.output_size))


def _inside_the_cone(stage: Stage, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """tau and its Sigma; tau enlarged where rounding has put it on the edge of the cone."""
    for _ in range(64):
        sigma = _ellipsoid(stage, h, tau)
        if sigma is not None:
            return tau, sigma
        tau = 2 * tau
    raise LipboundsError("eclipse: a product of layers is not finite; rescale the weights")


def _ellipsoid(stage: Stage, h: Tensor, tau: Tensor) -> Tensor | None:
    """Sigma; None where tau - R H R^T is not positive definite."""
    factor, info = torch.linalg.cholesky_ex(torch.diag(tau) - _sandwich(stage.radius, h))
    if int(info):
        return None
    # stage.radius.apply acts on rows: H R^T, then C on the other side.
    through = stage.center.apply(stage.radius.apply(h).mT)
    part = torch.linalg.solve_triangular(factor, through, upper=False)
    return torch.diag(tau) + _sandwich(stage.center, h) + part.mT @ part


def _closed_form(stage: Stage, h: Tensor) -> Tensor:
    norm = _greatest(h) * (1 + 1e-9)  # H < norm I keeps tau - R H R^T off singular
    norm = torch.where(norm > 0, norm, 1.0)
    return norm * stage.closed_form()[0]


def _looking_ahead(network: Network, k: int, h: Tensor, seconds: float) -> tuple[Tensor, Status]:
    """ECLipsE's tau of stages[k], or the closed form where that is no better or time is up; and how
    the solver ended."""
    stage, following = network.stages[k], network.affines[k + 1]
    candidates, status = [_closed_form(stage, h)], Status.TIME
    if seconds > 0:
        values, vectors = torch.linalg.eigh(h)
        kept = values > 1e-14 * values[-1]
        if not bool(kept.any()):  # nothing passes the layers in front of it
            return candidates[0], Status.CONVERGED
        root = vectors[:, kept] * values[kept].sqrt()
        solved, status = _solved(root, stage, following, candidates[0], seconds)
        candidates += solved
    best, least = candidates[0], torch.inf
    for tau in candidates:
        sigma = _ellipsoid(stage, h, tau)
        if sigma is not None and _greatest(_sandwich(following.operator, sigma)) < least:
            best, least = tau, _greatest(_sandwich(following.operator, sigma))
    return best, status


def _solved(
    root: Tensor, stage: Stage, following: Affine, closed: Tensor, seconds: float
) -> tuple[list[Tensor], Status]:
    """tau by the semidefinite program, also slightly enlarged, as the solver may be short of it;
    `closed` for neurons with one slope only; and how the solver ended."""
    first = Affine(Dense(root), torch.zeros(len(root), dtype=root.dtype, device=root.device))
    form = Form(Network((first, following), (stage,)), ball=True)
    if not form.cheap > 0:
        return [], Status.PRECISION
    try:
        solution = solve(form, "eclipse", seconds)
    except UnsupportedError:
        raise
    except LipboundsError:
        return [], Status.PRECISION
    multipliers = solution.multipliers
    if (
        multipliers is None
        or not min(m.max() for m in (multipliers.input, *multipliers.stages)) > 0
    ):
        return [], solution.status
    own = form.to_network(multipliers)
    weight = own.stages[0] / own.input.max()
    tau = 1.0 / weight.clamp(min=1e-9 * float(weight.max()))
    tau = torch.where(form.fixed[0], closed, tau)
    return [tau * (1 + slack) for slack in (0.0, 1e-6, 1e-4)], solution.status


def _sandwich(operator: Operator, symmetric: Tensor) -> Tensor:
    """W S W^T."""
    product = operator.apply(operator.apply(symmetric).mT)
    return (product + product.mT) / 2


def _greatest(symmetric: Tensor) -> Tensor:
    return largest_eigenvalue(symmetric, symmetric.new_zeros(()))

"""Lower bounds of the Lipschitz constant from points: norms of Jacobians, and secant quotients.

Where f is differentiable, ||J(x)||_p <= Lip_p(f). At a kink the chain rule may return a matrix that
is no limit of Jacobians and exceeds the constant (R(x) - R(-x) - x at 0), and images with a flat
background sit on kinks and ties of max-pooling. So points are moved off by a little noise, and
those whose pre-activations stay closer to a kink than rounding can tell are left out. A secant
quotient needs no such care: it is a lower bound wherever its two points are.
"""

import torch
from torch import Tensor

from ..arithmetic.rounding import gamma, inward, outward
from ..errors import LipboundsError
from ..linear.norms import checked_norm, power_of_two, vector_norm
from ..linear.operators import Identity, slices
from ..networks.network import Network
from ..networks.stages import Stage

JITTER = 1e-3  # standard deviation of the noise, in units of the largest entry of the points
FUNCTION = 8  # roundings that evaluating an activation is worth, generously
UNDERFLOW = 2.0**-1074  # what one operation may lose below the least normal number
LEAST_QUOTIENT = 2.0**-1000  # a smaller one is not rounded to 53 digits, and counts as 0
SHORTEST = 1e-100  # of secants: the differences of shorter ones might underflow
SOFTPLUS_STEP = 3e-9  # PyTorch's step, exp(-20) / beta at most, over softplus(0) = log(2) / beta


def jacobian_lower_bound(network: Network, points: Tensor, norm: float, seed: int = 0) -> float:
    """max over (moved) points x of ||J(x)||_p, rounded down: a lower bound of Lip_p(f) on R^n.

    points: (N, n) or (N, *input_shape). norm: 1, 2 or inf. The noise is drawn from `seed`.
    Raises LipboundsError where no point is clear of the kinks.
    """
    norms = jacobian_norms(network, moved(network, points, seed), norm)
    return float(norms.nan_to_num(nan=0.0, posinf=0.0).max().clamp(min=0.0))


def moved(network: Network, points: Tensor, seed: int = 0) -> Tensor:
    """The points plus noise, those left out whose stages are not surely differentiable there."""
    x = torch.as_tensor(points, dtype=torch.float64, device=network.device)
    x = x.reshape(len(x), network.input_size)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    x = x + JITTER * x.abs().max().clamp(min=1e-3) * noise
    clear = torch.cat([differentiable(network, block) for block in x.split(256)])
    if not bool(clear.any()):
        raise LipboundsError(
            f"none of {len(x)} points is clear of the network's kinks: no Jacobian to trust"
        )
    return x[clear]


def differentiable(network: Network, x: Tensor) -> Tensor:
    """Whether every stage is differentiable at what reaches it, whatever rounding has done.

    x: (N, n); returns (N,), bool. A pool over neurons that are all off ties, but none of them
    moves: it is locally constant.
    """
    clear = torch.ones(len(x), dtype=torch.bool, device=x.device)
    constant = torch.zeros_like(x, dtype=torch.bool)
    trace = _with_errors(network, x)[:-1]
    for affine, stage, (z, error) in zip(network.affines, network.stages, trace, strict=False):
        if not isinstance(affine.operator, Identity):
            constant = torch.zeros_like(z, dtype=torch.bool)
        clear &= stage.differentiable(z, error, constant)
        constant = stage.still(z, constant)
    return clear


def jacobian_norms(network: Network, x: Tensor, norm: float) -> Tensor:
    """||J(x)||_p per point, (N, n) -> (N,), rounded down; norm: 1, 2 or inf.

    Lower bounds of Lip_p(f) at points where `differentiable` holds. Blocks bound the memory.
    """
    norm = checked_norm(norm)
    error = _jacobian_error(network)
    parts = [
        inward(_norms(network.jacobian(x[rows]), norm), network.terms) - error
        for rows in slices(len(x), point_entries(network))
    ]
    return torch.cat(parts)


def secant_quotients(network: Network, x: Tensor, y: Tensor, norm: float) -> Tensor:
    """||f(x) - f(y)||_p / ||x - y||_p per pair, (N, n) each -> (N,), rounded down.

    The errors of evaluating f are taken off |f(x) - f(y)|, entry by entry: each quotient is a true
    lower bound of Lip_p(f), kinks or not. norm: 1, 2 or inf. 0 where x and y are (nearly) the same
    point, or where f overflows.
    """
    norm = checked_norm(norm)
    terms = network.output_size + network.input_size + 8
    parts = []
    for rows in slices(len(x), 2 * pass_entries(network)):
        ends = torch.cat([x[rows], y[rows]])
        value, error = (side.chunk(2) for side in _with_errors(network, ends)[-1])
        rise = inward((value[0] - value[1]).abs(), 1) - (error[0] + error[1])
        run = vector_norm(x[rows] - y[rows], norm)
        quotient = vector_norm(rise.clamp(min=0.0), norm) / run
        quotient = quotient.nan_to_num(nan=0.0, posinf=0.0)
        run = torch.where(quotient > LEAST_QUOTIENT, run, 0.0)
        parts.append(torch.where(run > SHORTEST, inward(quotient, terms), 0.0))
    return torch.cat(parts)


def pass_entries(network: Network) -> int:
    """Numbers that a pass over one point takes, roughly."""
    return 4 * max(max(a.operator.shape) for a in network.affines)


def point_entries(network: Network) -> int:
    """Numbers that a pass over one point and its Jacobian takes, roughly."""
    return pass_entries(network) * network.output_size


def _with_errors(network: Network, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per stage its input as computed at x, and how far it is at most from the exact one; f(x)
    itself stands last. A running error analysis (Higham 2002, ch. 3.3): each map adds its own
    roundings to the errors that it is handed."""
    trace, error, result = network.preactivations(x), torch.zeros_like(x), []
    for k, affine in enumerate(network.affines):
        if k:
            stage, (z, y) = network.stages[k - 1], trace[k]
            own = gamma(FUNCTION) * (stage.majorant(z.abs()) + y.abs()) + _steps(stage, z, y)
            error = stage.majorant(error) + own + FUNCTION * UNDERFLOW
        size = affine.operator.majorant().apply(trace[k][1].abs()) + affine.offset.abs()
        own = gamma(affine.operator.terms + 1) * size + UNDERFLOW * (network.terms + 1)
        error = affine.operator.absolute().apply(error) + own
        z = trace[k + 1][0] if k < network.depth else affine.evaluate(trace[k][1])
        result.append((z, outward(error, network.terms)))
    return result


def _steps(stage: Stage, z: Tensor, y: Tensor) -> Tensor:
    """By how much PyTorch's softplus, which is z above a threshold, may miss log(1 + exp(z))."""
    steps = torch.zeros_like(y)
    for function, index in stage.parts:
        if function.name == "softplus":
            height = SOFTPLUS_STEP * function.function(z.new_zeros(()))
            steps[..., index] = torch.where(y[..., index] == z[..., index], height, 0.0)
    return steps


def _jacobian_error(network: Network) -> Tensor:
    """At least the sum of the absolute errors of J(x), evaluated from the output back, at all x.

    `paths` are the row sums of the maps up to a layer, taken absolutely: what a unit error there
    amounts to. The roundings are a share of all paths; below the least normal number each of the
    m rows loses UNDERFLOW by each operation, at the layer that it has reached.
    """
    paths = torch.ones(network.input_size, dtype=torch.float64, device=network.device)
    lost = paths.new_zeros(())
    for k, affine in enumerate(network.affines):
        if k:
            lost += FUNCTION * paths.sum()
            paths = network.stages[k - 1].majorant(paths) + FUNCTION * UNDERFLOW
        operator = affine.operator
        for factor in reversed(operator.factors):
            lost += (factor.terms + 1) * paths.sum()
            paths = factor.majorant().apply(paths) + (factor.terms + 1) * UNDERFLOW
    rounded = gamma(network.terms) * paths.sum()
    return rounded + 2 * network.output_size * UNDERFLOW * lost + 4 * UNDERFLOW


def _norms(jacobians: Tensor, norm: float) -> Tensor:
    if norm == 2:
        size = jacobians.abs().amax((-2, -1))
        scale = power_of_two(torch.where(size.isfinite(), size, 1.0))
        return torch.linalg.matrix_norm(jacobians / scale[..., None, None], 2) * scale
    return jacobians.abs().sum(-2 if norm == 1 else -1).amax(-1)

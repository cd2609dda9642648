"""Lower bounds of the Lipschitz constant from Jacobians at points.

Where f is differentiable, ||J(x)||_p <= Lip_p(f). At a kink the chain rule may return a matrix that
is no limit of Jacobians and exceeds the constant (R(x) - R(-x) - x at 0), and images with a flat
background sit on kinks and ties of max-pooling. So points are moved off by a little noise, and
those whose pre-activations stay closer to a kink than rounding can tell are left out.
"""

import torch
from torch import Tensor

from ..activations import derivative
from ..errors import LipboundsError
from ..network import Network
from ..norms import checked_norm
from ..operators import BLOCK_ENTRIES, Identity
from ..rounding import gamma, inward
from ..stages import SlopeStage

JITTER = 1e-3  # standard deviation of the noise, in units of the largest entry of the points


def jacobian_lower_bound(network: Network, points: Tensor, norm: float, seed: int = 0) -> float:
    """max over (moved) points x of ||J(x)||_p, rounded down: a lower bound of Lip_p(f) on R^n.

    points: (N, n) or (N, *input_shape). norm: 1, 2 or inf. The noise is drawn from `seed`.
    Raises LipboundsError where no point is clear of the kinks.
    """
    norm = checked_norm(norm)
    points = moved(network, points, seed)
    widest = max(max(affine.operator.shape) for affine in network.affines)
    step = max(1, BLOCK_ENTRIES // (4 * widest * network.output_size))
    best = max(
        float(_norms(network.jacobian(block), norm, network.terms).max())
        for block in points.split(step)
    )
    return max(best, 0.0)


def moved(network: Network, points: Tensor, seed: int = 0) -> Tensor:
    """The points plus noise, those left out whose stages are not surely differentiable there."""
    x = torch.as_tensor(points, dtype=torch.float64, device=network.device)
    x = x.reshape(len(x), network.input_size)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    x = x + JITTER * x.abs().max().clamp(min=1e-3) * noise
    clear = torch.cat([_clear(network, block) for block in x.split(256)])
    if not bool(clear.any()):
        raise LipboundsError(
            f"none of {len(x)} points is clear of the network's kinks: no Jacobian to trust"
        )
    return x[clear]


def _clear(network: Network, x: Tensor) -> Tensor:
    """Whether every stage is differentiable at what reaches it, whatever rounding has done.

    A pool over neurons that are all off ties, but none of them moves: it is locally constant.
    """
    clear = torch.ones(len(x), dtype=torch.bool, device=x.device)
    size, constant = x.abs(), torch.zeros_like(x, dtype=torch.bool)
    for k, (z, y) in enumerate(network.preactivations(x)[1:], start=1):
        affine, stage = network.affines[k - 1], network.stages[k - 1]
        if not isinstance(affine.operator, Identity):
            constant = torch.zeros_like(z, dtype=torch.bool)
        size = affine.operator.majorant().apply(size) + affine.offset.abs()
        clear &= stage.differentiable(z, 4 * gamma(network.terms) * size, constant)
        if isinstance(stage, SlopeStage):
            constant = constant | (derivative(stage.evaluate, z) == 0)
        else:
            constant = torch.zeros_like(y, dtype=torch.bool)
        size = stage.majorant(size) + y.abs()
    return clear


def _norms(jacobians: Tensor, norm: float, terms: int) -> Tensor:
    """||J||_p per point, rounded down."""
    if norm == 2:
        value = torch.linalg.svdvals(jacobians)[:, 0]
    else:
        value = jacobians.abs().sum(-2 if norm == 1 else -1).amax(-1)
    largest = jacobians.abs().sum((-1, -2))
    return inward(value, terms) - gamma(terms) * largest

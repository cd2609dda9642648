"""Multipliers from products of layers' spectral norms, for the form Q of `quadratic.form`.

ECLipsE-Fast's closed form with H, the ellipsoid in front of a stage, replaced by h I, h the product
of the squared spectral norms so far: for slopes c_j +- r_j

    lambda_kj = 1 / (r_j (r_j + |c_j|) h_k),   h_{k+1} = max_j (r_j + |c_j|)^2 || W_k ||_2^2 h_k,

and lambda_kj = 2 / (p h_k) for maxima of two, p the most neurons that one entry belongs to. The
value is K_* in l2; deep networks are often better served by it in l1 and l-infinity as well.
"""

import torch
from torch import Tensor

from ..linear.norms import operator_norm
from ..networks.network import Network
from ..networks.stages import BetweenStage, Stage
from .form import Multipliers

STIFF = 1e-6  # r_j (r_j + |c_j|) of a neuron with one slope only, in units of c_j^2: it should be 0


def layered_start(network: Network, slack: float = 1e-3) -> Multipliers:
    """Strictly feasible multipliers (..., n), with mu = 1 and nu = h_{L+1}; for networks without
    implicit pools. slack: h is so much larger in each stage, which keeps off the cone's edge."""
    h = torch.ones(network.batch_shape, dtype=torch.float64, device=network.device)
    stages = []
    for k, affine in enumerate(network.affines):
        h = (1 + slack) * h * operator_norm(affine.operator, 2).square()
        h = torch.where(h > 0, h, 1.0)
        if k < network.depth:
            width, gain = _closed_form(network.stages[k])
            stages.append(1 / (h.unsqueeze(-1) * width))
            h = h * gain
    ones = torch.ones_like(h).unsqueeze(-1)
    shapes = network.input_size, network.output_size
    mu, nu = (
        x.expand(*h.shape, n) for x, n in zip((ones, ones * h.unsqueeze(-1)), shapes, strict=True)
    )
    return Multipliers(mu.clone(), stages, nu.clone())


def _closed_form(stage: Stage) -> tuple[Tensor, Tensor]:
    """1 / lambda in units of h, and the growth of h."""
    if isinstance(stage, BetweenStage):
        gain = stage.radius.coo.values().new_tensor(stage.norm(2) ** 2)
        return torch.where(stage.first != stage.second, gain / 2, STIFF), gain
    center, radius = stage.center.diagonal.abs(), stage.radius.diagonal
    floor = STIFF * torch.clamp(center.square(), min=STIFF)
    width = torch.maximum(radius * (radius + center), floor)
    return width, ((radius + center).square() + floor).max()

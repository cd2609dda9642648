"""Multipliers from products of layers' spectral norms, for the form Q of `quadratic.form`.

ECLipsE-Fast's closed form with H, the ellipsoid in front of a stage, replaced by h I, h the product
of the squared spectral norms so far: for slopes c_j +- r_j

    lambda_kj = 1 / (r_j (r_j + |c_j|) h_k),   h_{k+1} = max_j (r_j + |c_j|)^2 || W_k ||_2^2 h_k,

and lambda_kj = 2 / (p h_k) for maxima of two, p the most neurons that one entry belongs to. The
value is K_* in l2; deep networks are often better served by it in l1 and l-infinity as well.

All this is of the network whose neurons are equalised: y_j and z_j times d_j > 0, which leaves the
slopes and K_5 what they are (docs/k5.md, proposition 14), and the start too, whatever the scales in
which the neurons are given. Between dense maps d makes the sum of all squared weights least: each
neuron's weights in and weights out are then equally long (Stock, Graham, Gribonval, Jegou, ICLR
2019).
"""

import torch
from torch import Tensor

from ..linear.norms import operator_norm
from ..linear.operators import Dense
from ..networks.network import Affine, Network
from .form import Multipliers

SWEEPS = 4  # of the equalisation, over the stages
LARGEST = 1e60  # of the squared scales, so that nothing overflows


def layered_start(network: Network, slack: float = 1e-3) -> Multipliers:
    """Strictly feasible multipliers (..., n), with mu = 1 and nu = h_{L+1}; for networks without
    implicit pools. slack: h is so much larger in each stage, which keeps off the cone's edge."""
    squares = _equalising(network)
    network = _rescaled(network, squares)
    h = torch.ones(network.batch_shape, dtype=torch.float64, device=network.device)
    stages = []
    for k, affine in enumerate(network.affines):
        h = (1 + slack) * h * operator_norm(affine.operator, 2).square()
        h = torch.where(h > 0, h, 1.0)
        if k < network.depth:
            width, gain = network.stages[k].closed_form()
            stages.append(squares[k + 1] / (h.unsqueeze(-1) * width))
            h = h * gain
    ones = torch.ones_like(h).unsqueeze(-1)
    shapes = network.input_size, network.output_size
    mu, nu = (
        x.expand(*h.shape, n) for x, n in zip((ones, ones * h.unsqueeze(-1)), shapes, strict=True)
    )
    return Multipliers(mu.clone(), stages, nu.clone())


def _equalising(network: Network) -> list[Tensor]:
    """d_k^2 of y_0, ..., y_L and the output: a single 1 but for slope stages between dense maps.
    The first sweep takes the neurons' own scales out, so that any number of sweeps is invariant."""
    maps = [affine.operator for affine in network.affines]
    weights = [m.weight.square() if isinstance(m, Dense) else None for m in maps]
    squares = [torch.ones(1, dtype=torch.float64, device=network.device)] * (len(maps) + 1)
    free = [
        k + 1
        for k, stage in enumerate(network.stages)
        if stage.entrywise and all(isinstance(m, Dense) for m in maps[k : k + 2])
    ]
    for sweep in range(SWEEPS):
        for k in free:
            ahead = (weights[k - 1] / squares[k - 1].unsqueeze(-2)).sum(-1)
            back = (weights[k] * squares[k + 1].unsqueeze(-1)).sum(-2)
            scale = (back / ahead).sqrt() if sweep else 1 / ahead
            sound = torch.isfinite(scale) & (scale > 0)
            squares[k] = torch.where(sound, scale, 1.0).clamp(1 / LARGEST, LARGEST)
    return squares


def _rescaled(network: Network, squares: list[Tensor]) -> Network:
    """The network with y_k and z_k times d_k."""
    affines = []
    for k, affine in enumerate(network.affines):
        before, after = squares[k].sqrt(), squares[k + 1].sqrt()
        operator = affine.operator
        if isinstance(operator, Dense):
            operator = Dense(after.unsqueeze(-1) * operator.weight / before.unsqueeze(-2))
        affines.append(Affine(operator, affine.offset))
    return Network(tuple(affines), network.stages, network.input_shape)

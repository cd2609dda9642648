"""Ascent of ||J(x)||_p from region to region, along Jacobians with softened slopes.

Of a ReLU network J is constant on each linear region, so its norm has no gradient to follow. With
the slope f'(z) of each neuron replaced by its mean over [z - h, z + h], (f(z + h) - f(z - h)) / 2h,
and the winner of each pool by a softmax, J_h varies with x; h shrinks while x ascends. What ascends
is u^T J_h(x) v, and u and v follow by the power method for p-norms: u is dual to J_h v in the
output norm, v to J_h^T u in the input norm (Boyd, "The power method for l^p norms", 1974; Higham,
"Estimating the matrix p-norm", 1992).
"""

import math

import torch
from torch import Tensor

from ..linear.operators import slices
from ..networks.network import Network
from .sampling import jacobian_norms, point_entries

STEPS = 100
CHECK = 10  # steps between two looks at the true Jacobian
WIDEST, NARROWEST = 2.0, 0.2  # first half-widths h, in units of a stage's mean |z|: one per point
COOLING = 1e-2  # last half-width over the first
LARGEST_STEP, SMALLEST_STEP = 1.0, 0.03  # steps, in units of h and of the size of x: one per point
MOMENTUM = 0.8


def ascend(
    network: Network, x: Tensor, norm: float, generator: torch.Generator, late
) -> tuple[Tensor, Tensor]:
    """The best points met by STEPS steps of ascent from each x, (N, n), and their ||J||_p, (N,).

    norm: 1.0, 2.0 or inf. `late()` stops the ascent where it turns true.
    """
    best, value = x, jacobian_norms(network, x, norm)
    if not network.depth:
        return best, value
    width = _spread(WIDEST, NARROWEST, x, generator)
    rate = _spread(LARGEST_STEP, SMALLEST_STEP, x, generator) * _size(x)
    velocity = torch.zeros_like(x)
    for step in range(STEPS):
        if step % CHECK == 0:
            u, v = None, directions(network, x, norm)
        rise, u, v = gradient(network, x, u, v, width, norm)
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * rise / _size(rise)
        x = x + rate * width * velocity / _size(velocity)
        width = width * COOLING ** (1 / STEPS)
        stops = late()
        if step % CHECK == CHECK - 1 or stops:
            reached = jacobian_norms(network, x, norm)
            higher = reached > value
            best = torch.where(higher.unsqueeze(1), x, best)
            value = torch.where(higher, reached, value)
        if stops:
            break
    return best, value


def directions(network: Network, x: Tensor, norm: float) -> Tensor:
    """v (N, n) with ||J(x) v||_p = ||J(x)||_p ||v||_p: signs for inf, a unit vector for 1, the
    leading right singular vector for 2."""
    return torch.cat(
        [_direction(network.jacobian(x[r]), norm) for r in slices(len(x), point_entries(network))]
    )


def _direction(jacobians: Tensor, norm: float) -> Tensor:
    if norm == 2:
        return torch.linalg.svd(jacobians, full_matrices=False).Vh[:, 0]
    if norm == 1:
        column = jacobians.abs().sum(-2).argmax(-1)
        return torch.nn.functional.one_hot(column, jacobians.shape[-1]).to(jacobians)
    row = jacobians.abs().sum(-1).argmax(-1)
    return _signs(jacobians[torch.arange(len(row), device=row.device), row])


def gradient(
    network: Network, x: Tensor, u: Tensor | None, v: Tensor, width: Tensor, norm: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of u^T J_h(x) v, and the u and v dual to J_h v and J_h^T u: a turn of the power
    method. u = None: the one dual to J_h v. width: h per point, (N, 1), in units of the mean |z|
    of a stage."""
    with torch.enable_grad():
        x, v = x.detach().requires_grad_(True), v.detach().requires_grad_(True)
        image = tangent(network, x, v, width)
        u = dual(image.detach(), norm) if u is None else u
        both = torch.autograd.grad(
            (u * image).sum(), (x, v), allow_unused=True, materialize_grads=True
        )
    transposed = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[norm]
    return both[0], dual(image.detach(), norm), dual(both[1], transposed)


def tangent(network: Network, x: Tensor, v: Tensor, width: Tensor) -> Tensor:
    """J_h(x) v, (N, m); width as in `gradient`."""
    for affine, stage in zip(network.affines, network.stages, strict=False):
        z, v = affine.evaluate(x), affine.operator.apply(v)
        h = (width * z.detach().abs().mean(1, keepdim=True)).clamp(min=1e-300)
        x, v = stage.evaluate(z), stage.softened(z, v, h)
    return network.affines[-1].operator.apply(v)


def dual(w: Tensor, norm: float) -> Tensor:
    """u (N, m) with u^T w = ||w||_p, of norm 1 in the dual norm."""
    if norm == 1:
        return _signs(w)
    if norm == 2:
        return w / torch.linalg.vector_norm(w, dim=-1, keepdim=True).clamp(min=1e-300)
    largest = w.abs().argmax(-1, keepdim=True)
    return torch.zeros_like(w).scatter(-1, largest, _signs(w.gather(-1, largest)))


def _signs(w: Tensor) -> Tensor:
    return torch.where(w >= 0, 1.0, -1.0).to(w)


def _size(x: Tensor) -> Tensor:
    """The root mean square of each row."""
    return x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-150)


def _spread(high: float, low: float, x: Tensor, generator: torch.Generator) -> Tensor:
    """One number per point, log-uniform in [low, high]."""
    share = torch.rand(len(x), 1, generator=generator, dtype=torch.float64).to(x.device)
    return low * (high / low) ** share

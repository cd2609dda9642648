"""What is left of a chain once its first signs are fixed, bounded by Lagrangian duality.

If x'^T S x' bounds the square of what x' reaches at the end, then for multipliers Lambda > 0 with
Lambda - Q^T S Q > 0

    max over |e| <= |z| of (a + Q e)^T S (a + Q e) <= a^T G a + z^T Lambda z,
    G = S + S Q (Lambda - Q^T S Q)^{-1} Q^T S,

and S of the group before is P^T G P + R^T Lambda R. With some signs fixed, Q, z and Lambda are cut
to the free ones. At the root this is the dual of the semidefinite relaxation, LipSDP-Neuron
(Fazlyab et al., NeurIPS 2019) in l2 and GeoLIP (Wang et al., NeurIPS 2022) in l-infinity, whose
block tridiagonal matrix is eliminated group by group. The same multipliers hold for all nodes: one
bound costs a quadratic form.

States as in `tail_averaged`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.definite import semidefinite
from ..arithmetic.rounding import gamma, outward
from ..linear.norms import power_of_two
from ..linear.operators import slices
from .sign_ascent import path
from .sign_chain import Group, SignChain
from .tail_averaged import slack

STEPS = 200  # of Adam on the multipliers; half as many lose a per cent
RATE = 0.1
FIRST_MARGIN = (-3.0, -1.0)  # ln of Lambda's relative distance to the cone's edge, first and others
LARGEST_COST = 1e10  # flops of the certificates, N (n + N)^3 per group of N signs
FIRST_INFLATION, LAST_INFLATION = 1e-12, 1.0  # of G, relative: the least that certifies it is taken


@dataclass(frozen=True)
class QuadraticTail:
    """Per group G (levels, n, n), one for each number m of fixed signs, the multipliers (N,), and
    sizes (levels,), sum |G| + sum Lambda: no state of entries up to 1 gives more.
    """

    forms: list[Tensor]
    multipliers: list[Tensor]
    sizes: list[Tensor]
    slack: float
    error: float

    def bound(self, g: int, m: int, a: Tensor, z: Tensor) -> Tensor:
        """(nodes,)"""
        left = z[..., m:]
        form = _inner(a @ self.forms[g][m], a) + _inner(left * self.multipliers[g][m:], left)
        size = a.shape[1] * float(self.sizes[g][m])
        square = greatest_eigenvalue(form).clamp(min=0.0) + self.error * size
        return square.sqrt() + (self.error * math.sqrt(size) + self.slack)


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """(nodes, columns, columns)"""
    if x.shape[1] == 1:
        return (x * y).sum(-1, keepdim=True)
    return x @ y.mT


def greatest_eigenvalue(form: Tensor) -> Tensor:
    """Of (nodes, d, d), up to a rounding error of gamma(d) times the trace."""
    if form.shape[-1] == 1:
        return form.flatten()
    return torch.linalg.eigvalsh((form + form.mT) / 2)[..., -1]


def quadratic_tail(
    chain: SignChain, signs: list[Tensor], enough: Callable[[float], bool]
) -> QuadraticTail | None:
    """Optimised multipliers, their forms certified; None where rounding leaves no certificate, or
    where it would cost more than LARGEST_COST.

    signs: good signs of the chain, per group (N,), from which the multipliers start. enough:
    whether to stop at a root bound.
    """
    counts = _levels(chain)
    sides = [sum(group.spread.shape) for group in chain.groups]
    if sum(n * side**3 for n, side in zip(counts, sides, strict=True)) > LARGEST_COST:
        return None
    multipliers = optimised_multipliers(chain, signs, enough)
    if multipliers is None:
        return None
    s = torch.eye(chain.end, dtype=torch.float64)
    forms, sizes = [], []
    for k in range(len(chain.groups) - 1, -1, -1):
        form = _certified_forms(chain.groups[k], s, multipliers[k], counts[k])
        if form is None:
            return None
        forms.append(form)
        free = multipliers[k].flip(0).cumsum(0).flip(0)
        sizes.append(form.abs().sum((1, 2)) + free[: counts[k]])
        s = _before(chain.groups[k], form[0], multipliers[k], chain.terms)
    error = gamma(8 * chain.terms)
    return QuadraticTail(forms[::-1], multipliers, sizes[::-1], slack(chain), error)


def _levels(chain: SignChain) -> list[int]:
    """The numbers m for which there are nodes, per group; scalar ends close the last at m = 0."""
    return [*chain.signs[:-1], 1 if chain.scalar else chain.signs[-1]]


def _before(group: Group, form: Tensor, multiplier: Tensor, terms: int) -> Tensor:
    """S >= P^T G P + R^T Lambda R, the rounding error added to the diagonal (Gershgorin)."""
    p, r = group.center, group.radius
    s = p.mT @ form @ p + (r.mT * multiplier) @ r
    size = p.abs().mT @ form.abs() @ p.abs() + (r.abs().mT * multiplier) @ r.abs()
    return (s + s.mT) / 2 + torch.diag(gamma(4 * terms) * size.sum(1))


def _certified_forms(group: Group, s: Tensor, multiplier: Tensor, levels: int) -> Tensor | None:
    """G (levels, n, n) with the first m = 0, ..., levels - 1 signs fixed, by blocks of m."""
    n, count = group.spread.shape
    free = torch.ones(count, count, dtype=torch.float64).triu()
    parts = []
    for rows in slices(levels, 8 * (n + count) ** 2):
        form = _forms(group.spread, s, multiplier, free[rows])
        if form is None:
            return None
        parts.append(form)
    return torch.cat(parts)


def _forms(q: Tensor, s: Tensor, multiplier: Tensor, free: Tensor) -> Tensor | None:
    """G (b, n, n) for masks (b, N) of free signs, inflated until it is proven."""
    coupling = (s @ q) * free[:, None, :]
    inner = torch.diag(multiplier) - free[:, :, None] * (q.mT @ s @ q) * free[:, None, :]
    solution, info = torch.linalg.solve_ex(inner, coupling.mT)
    form = s + coupling @ solution
    form = (form + form.mT) / 2
    if bool((info != 0).any()) or not bool(form.isfinite().all()):
        return None
    inflation = torch.full((len(free), 1), FIRST_INFLATION, dtype=torch.float64)
    while float(inflation.max()) <= LAST_INFLATION:
        size = form.diagonal(dim1=-2, dim2=-1).abs()
        inflated = form + torch.diag_embed(inflation * (size + size.mean(-1, keepdim=True)))
        failed = ~_proven(inflated, s, coupling, inner, q, multiplier)
        if not bool(failed.any()):
            return inflated
        inflation = torch.where(failed[:, None], 10 * inflation, inflation)
    return None


def _proven(form: Tensor, s: Tensor, coupling: Tensor, inner: Tensor, q: Tensor, multiplier):
    """Whether [[G - S, -S Q], [-Q^T S, Lambda - Q^T S Q]] >= 0 despite rounding, (b,).

    Its entries err by at most gamma times those of a majorant, after scaling.
    """
    side = sum(q.shape)
    matrix = _block_matrix(form - s, -coupling, inner)
    absolute, q = s.abs(), q.abs()
    majorant = _block_matrix(
        form.abs() + absolute,
        (absolute @ q).expand_as(coupling),
        (torch.diag(multiplier) + q.mT @ absolute @ q).expand_as(inner),
    )
    scale = majorant.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300).rsqrt()
    scale = power_of_two(scale)  # exact to apply
    matrix, majorant = (scale[..., None] * x * scale[..., None, :] for x in (matrix, majorant))
    error = outward(gamma(4 * side + 16) * majorant.sum(-1).amax(-1), 4 * side)
    return semidefinite([matrix], [], error)


def _block_matrix(top: Tensor, side: Tensor, bottom: Tensor) -> Tensor:
    """[[top, side], [side^T, bottom]]"""
    return torch.cat([torch.cat([top, side], -1), torch.cat([side.mT, bottom], -1)], -2)


def optimised_multipliers(
    chain: SignChain, signs: list[Tensor], enough: Callable[[float], bool]
) -> list[Tensor] | None:
    """Lambda per group (N,), that of the least root bound met by Adam; None where rounding breaks
    the first.

    Lambda = (1 + exp c) lambda_max(D^{-1/2} Q^T S Q D^{-1/2}) D lies inside the cone whatever the
    positive diagonal D and the number c, which are free to move.
    """
    shapes = _first_shapes(chain, signs)
    first, others = FIRST_MARGIN
    margins = [torch.tensor(others if k else first).double() for k in range(len(shapes))]
    variables = [x.requires_grad_() for x in (*shapes, *margins)]
    adam = _Adam(variables)
    best, multipliers = math.inf, None
    for step in range(STEPS):
        try:
            with torch.enable_grad():
                square, candidate = _root(chain, shapes, margins)
                objective = square.log()
        except torch.linalg.LinAlgError:  # an entry was not finite
            break
        value = float(square.detach())
        if value < best:
            best, multipliers = value, [m.detach() for m in candidate]
        if not 0 < value < math.inf or enough(math.sqrt(value)):
            break
        gradients = torch.autograd.grad(objective, variables)
        adam.step(gradients, RATE * (1 - step / STEPS))
    return multipliers


class _Adam:
    """Adam (Kingma & Ba, ICLR 2015); torch.optim takes seconds to import its compiler."""

    def __init__(self, variables: list[Tensor]):
        self.variables, self.steps = variables, 0
        self.mean = [torch.zeros_like(x) for x in variables]
        self.square = [torch.zeros_like(x) for x in variables]

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        self.steps += 1
        first, second = (1 - decay**self.steps for decay in (0.9, 0.999))
        for x, g, mean, square in zip(
            self.variables, gradients, self.mean, self.square, strict=True
        ):
            mean.lerp_(g, 0.1)
            square.lerp_(g * g, 0.001)
            x.data.sub_(rate * (mean / first) / ((square / second).sqrt() + 1e-8))


def _root(chain: SignChain, shapes: list[Tensor], margins: list[Tensor]):
    """The square of the root bound, not certified, and the multipliers."""
    s = torch.eye(chain.end, dtype=torch.float64)
    multipliers = []
    for group, shape, margin in zip(
        reversed(chain.groups), reversed(shapes), reversed(margins), strict=True
    ):
        p, q, r = group.center, group.spread, group.radius
        inner, shape = q.mT @ s @ q, shape.exp()
        root = shape.rsqrt()
        edge = torch.linalg.eigvalsh(root[:, None] * inner * root)[-1].clamp(min=1e-200)
        multiplier = shape * edge * (1 + margin.exp())
        multipliers.append(multiplier)
        coupling = s @ q
        solution = torch.linalg.solve_ex(torch.diag(multiplier) - inner, coupling.mT).result
        s = p.mT @ (s + coupling @ solution) @ p + (r.mT * multiplier) @ r
        s = (s + s.mT) / 2
    return torch.linalg.eigvalsh(s)[-1], multipliers[::-1]


def _first_shapes(chain: SignChain, signs: list[Tensor]) -> list[Tensor]:
    """ln(|Q^T y| / |R x|) at the given signs, x and y what passes the group forth and back: where
    all terms have one sign this is the optimum of a single group."""
    x, y = path(chain, signs)
    shapes = []
    for group, before, after in zip(chain.groups, x[:-1], y[1:], strict=True):
        into, out = (group.radius @ before).abs(), (group.spread.mT @ after).abs()
        floor = 1e-2 * into.mean() + 1e-100, 1e-2 * out.mean() + 1e-100
        shapes.append(((out + floor[1]) / (into + floor[0])).log())
    return shapes

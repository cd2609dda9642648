"""What multipliers on a torus prove, in floating point (docs/k5.md, proposition 25).

Sigma_k may be replaced by anything greater. From stage to stage a computed S is made so much
greater that, with E all that is computed wrong, at every frequency

    [ S - I - C H' C*   C H' R*     ]
    [ R H' C*           I - R H' R* ]  >=  E ,

which is proven by Cholesky's method. Entries of a computed H are wrong by at most rho_i rho_j, and
H + diag(rho sum rho) is no less than the exact one.
"""

import math

import torch
from torch import Tensor

from ...arithmetic.definite import semidefinite, shortfall
from ...arithmetic.rounding import gamma, outward
from ...clock import check, watched
from ...linear.beside import full_kernel
from ...linear.norms import power_of_two
from ...linear.operators import slices
from ...linear.torus import ROOT, raised, real_symmetric
from .elimination import Covariance, StageParts, TorusElimination, sloped
from .embedding import Filter, Slopes
from .grid import folded

SPARE = (4.0, 100.0, 3000.0)  # of the errors, which S is made greater for; tried in turn
FEW = 16  # roundings of an entry of a stage's parts, on a torus without maxima


def proven(elimination: TorusElimination, logs: Tensor) -> Tensor:
    """An upper bound of the network's constant in l2, 0-d, by tau = exp(logs); infinite where there
    is no proof. Raises OutOfTime once a limit of time is over."""
    with torch.no_grad():
        return _Proof(elimination, logs).bound()


class _Proof:
    """States are no less than the exact ones, whose D is the given one to the last digit."""

    def __init__(self, elimination: TorusElimination, logs: Tensor):
        self.elimination, self.torus = elimination, elimination.torus
        self.logs = iter(logs.split(elimination.sizes))

    def bound(self) -> Tensor:
        torus, state = self.torus, self.elimination.first()
        infinite = state.d.new_full((), math.inf)
        for place, step in enumerate(torus.steps):
            if isinstance(step, Filter):
                state = self._filtered(place, state)
                continue
            state = self._staged(place, state)
            if state is None:
                return infinite
        if torus.head is None:
            return _root(state.matrix * (state.d[:, None] * state.d))
        terms = 16 * torus.image[0] + 2 * math.prod(torus.sizes[-1]) + 2 * ROOT
        terms += 2 * math.prod(torus.image[1:])
        shape = torus.head.shape[0], torus.image[0], -1
        majorant = torus.head.majorant.reshape(shape).sum(-1)
        state = self._safe(self.elimination.seen(state), majorant, state, terms)
        for slopes, matrix in torus.tail:
            state = self._through(sloped(slopes, state.matrix), FEW)
            if state is None:
                return infinite
            turned = matrix.entries * state.d
            seen = turned @ state.matrix @ turned.mT
            state = self._safe(seen, matrix.majorant, state, 16 * len(state.d))
        return _root(state.matrix)

    def _filtered(self, place: int, state: Covariance) -> Covariance:
        step = self.torus.steps[place]
        found = self.elimination.filtered(place, state)
        kernel = full_kernel(step.kernel, step.groups).abs()
        taps, channels = kernel[0, 0].numel(), kernel.shape[1]
        terms = 2 * taps + 2 * ROOT + 16 * channels + 2 * math.prod(step.stride)
        return self._safe(found.matrix, kernel.sum((2, 3)), state, terms)

    def _safe(
        self, computed: Tensor, majorant: Tensor, state: Covariance, terms: int
    ) -> Covariance:
        """No less than V Sigma V*, with D = I: |V| <= majorant (m, c), and V and the product are
        computed with at most `terms` roundings, besides those that the torus owes to its network.
        """
        row = torch.linalg.vector_norm(majorant * state.d, dim=1)
        size = outward(torch.linalg.matrix_norm(state.matrix).max(), terms)
        rho = outward((gamma(4 * (terms + self.torus.terms)) * size).sqrt() * row, terms)
        middle = (computed + computed.mH) / 2
        diagonal = middle.diagonal(dim1=-2, dim2=-1)
        diagonal.copy_(outward(diagonal.real.clamp(min=0.0) + rho * rho.sum(), terms))
        return Covariance(middle, torch.ones_like(row))

    def _staged(self, place: int, state: Covariance) -> Covariance | None:
        """Behind a stage on the torus."""
        step, parts = self.torus.steps[place], self.elimination.staged(place, state)
        if isinstance(step, Slopes):
            return self._through(parts, FEW)
        # Sums over aliases of phases |c|^2, |c r*| and |r|^2, at most 1, times the covariance.
        covariance = state.matrix.abs() * (state.d[:, None] * state.d)
        size = folded(covariance, self.torus.sizes[place], step.stride)
        sizes = StageParts(size, size, size, parts.own)
        return self._through(parts, FEW + 4 * ROOT + 2 * step.step, sizes)

    def _through(self, parts: StageParts, terms: int, majorant: StageParts | None = None):
        """Behind a stage; the parts' entries are wrong by at most gamma(terms) times those of the
        majorant, of their own where there is none."""
        check("a proof on the torus")
        d = parts.scales(next(self.logs))
        majorant = (parts if majorant is None else majorant).over(d)
        sizes = [torch.linalg.matrix_norm(x) for x in _matrices(majorant)]
        error = outward(gamma(terms) * (sizes[0] + 2 * sizes[1] + sizes[2]), 4 * len(d) ** 2)
        scaled = parts.over(d)
        matrices = [x.reshape(-1, *x.shape[-2:]) for x in _matrices(scaled)]
        for spare in SPARE:
            found = _greater(StageParts(*matrices, parts.own), error.reshape(-1), spare)
            if found is not None:
                return Covariance(found.reshape(parts.center.shape), d)
        return None


def _matrices(parts: StageParts) -> tuple[Tensor, Tensor, Tensor]:
    return parts.center, parts.mixed, parts.radius


def _greater(parts: StageParts, error: Tensor, spare: float) -> Tensor | None:
    """S (b, n, n), proven for all parts within `error` (b,) of the given ones; None where the proof
    does not succeed with so much to spare."""
    count, n = parts.center.shape[:2]
    found = []
    for rows in watched(list(slices(count, 64 * n * n)), "a proof on the torus"):
        own = StageParts(*(x[rows] for x in _matrices(parts)), parts.own)
        one = _block(own, error[rows], spare)
        if one is None:
            return None
        found.append(one)
    return torch.cat(found)


def _block(parts: StageParts, error: Tensor, spare: float) -> Tensor | None:
    n, m = parts.mixed.shape[-2:]
    eye = torch.eye(m, dtype=parts.center.dtype, device=parts.center.device)
    slack = spare * (error + shortfall(error.new_full((), 16.0 * n), 4 * n))[:, None, None]
    factor, info = torch.linalg.cholesky_ex((1 - slack) * eye - parts.radius)
    if bool(info.any()):
        return None
    side = torch.linalg.solve_triangular(factor, parts.mixed.mH, upper=False)
    matrix = parts.tau + parts.center + side.mH @ side
    matrix = (matrix + matrix.mH) / 2
    top = matrix.diagonal(dim1=-2, dim2=-1).real.amax(-1)
    scale = power_of_two(top.sqrt())[:, None, None]  # of the first half of rows
    matrix.diagonal(dim1=-2, dim2=-1).add_((slack * scale.square())[:, :, 0])
    first = (matrix - parts.tau - parts.center) / scale.square()
    mixed = parts.mixed / scale
    upper, lower = torch.cat([first, mixed], 2), torch.cat([mixed.mH, eye - parts.radius], 2)
    sizes = [torch.linalg.matrix_norm(x) for x in (first, parts.radius)]
    rounding = sum(sizes) + n + 2 * top / scale.square()[:, 0, 0] * n
    wrong = outward(error + gamma(8) * outward(rounding, n * n), 8)
    whole = real_symmetric(torch.cat([upper, lower], 1))
    return matrix if bool(semidefinite([whole], [], wrong).all()) else None


def _root(covariance: Tensor) -> Tensor:
    """At least the root of the greatest eigenvalue of all, whose entries may be wrong by FEW
    roundings."""
    n = covariance.shape[-1]
    flat = real_symmetric(covariance.reshape(-1, n, n))
    error = outward(gamma(FEW) * torch.linalg.matrix_norm(flat), n * n)
    return outward(raised(flat.new_zeros(()), flat, error).sqrt(), 4)

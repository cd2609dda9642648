"""The program on a torus for Newton's method: one multiplier per channel, mu first, nu last.

`TorusForms` answers what `quadratic.newton.barrier` asks of Forms. Values come from the elimination
frequency by frequency; derivatives from covariances (`derivatives`).
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from .derivatives import Derivatives
from .elimination import TorusElimination


class TorusForms:
    """theta (1, N): mu, one lambda for each channel of each stage in turn, nu."""

    backward = False

    def __init__(self, elimination: TorusElimination):
        self.elimination, self.torus = elimination, elimination.torus
        count = sum(elimination.sizes)
        inputs = self.torus.channels * math.prod(self.torus.sizes[0])
        self.sizes = [inputs, *(n * m for n, m in self.torus.stages), elimination.outputs]
        self.slices = [slice(0, 1), slice(1, count + 1), slice(count + 1, count + 2)]
        self.cost = torch.zeros(count + 2, dtype=torch.float64, device=elimination.device)
        self.cost[[0, -1]] = 1.0
        self.free = torch.ones(count + 2, dtype=torch.bool, device=elimination.device)

    @property
    def side(self) -> int:
        """The rows of Q."""
        return sum(self.sizes)

    @property
    def end(self) -> slice:
        return self.slices[-1]

    def select(self, chosen: Tensor) -> "TorusForms":
        return self

    def to(self, dtype: torch.dtype) -> "TorusForms":
        return self

    def tie(self, rows: Tensor) -> Tensor:
        return rows

    untie = tie

    def scaled(self, theta: Tensor, a: Tensor) -> Tensor:
        """(a mu, a lambda, nu / a)."""
        a = a.unsqueeze(-1)
        return torch.cat([theta[:, :-1] * a, theta[:, -1:] / a], -1)

    def logs(self, theta: Tensor) -> Tensor:
        """log tau at mu = 1, for one theta (N,)."""
        return (theta[0] / theta[1:-1]).log()

    def theta(self, logs: Tensor) -> Tensor:
        """(1, N), mu = nu = 1."""
        one = torch.ones(1, dtype=logs.dtype, device=logs.device)
        return torch.cat([one, (-logs).exp(), one]).unsqueeze(0)

    def eliminated(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As of Forms, with the spectrum (1, d) in the place of the matrix."""
        with torch.no_grad():
            point = self.elimination.at(self.logs(theta[0]))
        if point is None:
            nothing = theta.new_zeros(1)
            return nothing.bool(), nothing, nothing.unsqueeze(-1)
        mu = theta[0, 0]
        inner = self.side - self.sizes[-1]
        gains = point.gains.repeat_interleave(point.copies.long()).sort().values / mu
        positive = torch.isfinite(gains).all().unsqueeze(0)
        return positive, (point.log_determinant + inner * mu.log()).unsqueeze(0), gains.unsqueeze(0)

    def spectrum(self, gains: Tensor) -> Tensor:
        return gains

    def exceeds(self, last: Tensor, gains: Tensor) -> Tensor:
        return (last > gains[:, -1:]).all(-1)

    def inverse(self, theta: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Whether Q > 0 up to rounding, theta, and its share of the derivatives:
        theta_i tr(Z B_i) (N,) and theta_i theta_j tr(Z B_i Z B_j), (N, N)."""
        positive = torch.ones(1, dtype=torch.bool, device=theta.device)
        try:
            with torch.no_grad():
                found = self.derivatives.at(self.logs(theta[0]), theta[0, 0] * theta[0, -1])
        except torch.linalg.LinAlgError:  # of a matrix that is not definite, or singular
            count = theta.shape[-1]
            return ~positive, (theta, theta.new_zeros(count), theta.new_zeros(count, count))
        return positive, (theta, *found)

    @cached_property
    def derivatives(self) -> Derivatives:
        return Derivatives(self.elimination)

    def curvature(self, whole: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        theta, first, second = whole
        each = theta.unsqueeze(-1) * theta.unsqueeze(-2)
        return first.unsqueeze(0) / theta, second.unsqueeze(0) / each

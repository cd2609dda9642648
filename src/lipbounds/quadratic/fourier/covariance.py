"""Q^-1 on a torus, as far as Newton's method needs it (docs/k5.md, proposition 26).

By stages, in the coordinates y' = D^-1 y, the brackets are |f|^2 - |g|^2, f = y' - A u, g = B u,
u the y' of the stage before. Seen as a Gaussian, of precision Q, the last y' is drawn first, then

    u = G y' + noise of covariance Pi,   Pi = (S^-1 + A* A - B* B)^-1,   G = Pi A* ,

which gives the covariances of all f and g. At a frequency of the coarsest torus the variables of
finer ones are there once for each of the frequencies that alias to it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Link:
    """A, B (b, n, m) of a stage, S (b, m, m) before it."""

    center: Tensor
    radius: Tensor
    before: Tensor


@dataclass(frozen=True)
class Behind:
    """The covariance of the last u, and of it with all that is `later` (b, n, w)."""

    own: Tensor
    later: Tensor


def rows_of(link: Link, end: Behind) -> tuple[Tensor, Tensor, Behind]:
    """Of (f, g) of a stage whose y' is `end`: the covariance with themselves (b, 2n, 2n), that with
    what is later (b, 2n, w), and the state before it, for which (f, g) are the first of the later.
    """
    a, b = link.center, link.radius
    precision = torch.linalg.inv(link.before) + a.mH @ a - b.mH @ b
    noise = torch.cholesky_inverse(torch.linalg.cholesky(_hermitian(precision)))
    gain = noise @ a.mH
    across = gain @ end.own  # u with y'
    own = _hermitian(across @ gain.mH + noise)
    later = gain @ end.later
    with_f, with_g = across - own @ a.mH, own @ b.mH
    f_with_u = with_f.mH
    f_f = end.own - across.mH @ a.mH - a @ with_f
    f_g, g_g = f_with_u @ b.mH, b @ with_g
    block = torch.cat([torch.cat([f_f, f_g], 2), torch.cat([f_g.mH, g_g], 2)], 1)
    rows = torch.cat([end.later - a @ later, b @ later], 1)
    return _hermitian(block), rows, Behind(own, torch.cat([with_f, with_g, later], 2))


def _hermitian(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mH) / 2

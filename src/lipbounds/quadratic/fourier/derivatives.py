"""First and second derivatives of log det Q on a torus (docs/k5.md, proposition 26).

At mu = 1, with theta_i B_i = f* f - g* g summed over the copies of multiplier i (`covariance`),

    theta_i tr(Z B_i)   and   theta_i theta_j tr(Z B_i Z B_j) ,   Z = Q^-1 .

Without a head Z is block diagonal. A head's z = E^-T g correlates all frequencies: rows f of the
torus have the covariance f Z_0 f'* + (f . g) (Y - I) (f' . g)* with each other, g having the
covariance I without what is behind the head, and Y with it.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from ...linear.operators import slices
from .covariance import Behind, Link, rows_of
from .elimination import TorusElimination
from .embedding import Filter
from .grid import half, weights
from .maps import Maps, block_diagonal, stage_maps

SINGULAR = 1e-14  # share of the greatest eigenvalue, below which what the head sees does not move


class Derivatives:
    def __init__(self, elimination: TorusElimination):
        self.elimination, self.torus = elimination, elimination.torus
        self.stages = len(elimination.sizes) - len(self.torus.tail)  # on the torus

    @cached_property
    def maps(self) -> tuple[list[Maps], Tensor]:
        return stage_maps(self.elimination)

    @cached_property
    def weight(self) -> Tensor:
        """Of each frequency of the coarsest torus."""
        return weights(self.torus.sizes[-1], self.elimination.device).flatten()

    def at(self, logs: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) and (N, N), N = 2 + the length of log tau: mu first, nu last. Raises LinAlgError
        where Q is not positive definite, or next to singular."""
        passed: list[Tensor] = []
        if self.elimination.at(logs, passed) is None:
            raise torch.linalg.LinAlgError("Q is not positive definite")
        scales = [(part / 2).exp() for part in logs.split(self.elimination.sizes)]
        if self.torus.head is None:
            return self._of_image(passed, scales, nu)
        return self._of_head(passed, scales, nu)

    def _of_image(self, passed, scales, nu) -> tuple[Tensor, Tensor]:
        first, second = 0.0, 0.0
        for rows in self._blocks():
            links, own = self._links(passed, scales, rows)
            end, spread = _from_outputs(own, self.last(scales)[rows], nu)
            whole, _ = _chained(links, end, spread, inputs=True)
            groups = self._groups(1)
            first = first + self._summed(_diagonal(whole), rows, groups)
            second = second + self._summed(whole.abs().square(), rows, groups, both=True)
        return first, second

    def _of_head(self, passed, scales, nu) -> tuple[Tensor, Tensor]:
        behind = _BehindHead(self, passed, scales, nu)
        change = behind.own - torch.eye(len(behind.own)).to(behind.own)
        groups, first, second, seen = self._groups(0), 0.0, 0.0, 0.0
        for rows in self._blocks():
            links, own = self._links(passed, scales, rows)
            end = Behind(own, own @ behind.turned[rows].mH @ behind.basis.to(own.dtype))
            unit = torch.eye(len(change)).to(own).expand(len(own), -1, -1)
            whole, _ = _chained(links, end, unit, inputs=True)
            own = slice(0, whole.shape[-1] - len(change))
            whole, with_g = whole[:, own, own], whole[:, own, own.stop :]
            moved = with_g @ change.to(with_g.dtype)
            diagonal = _diagonal(whole) + (moved * with_g.conj()).real.sum(-1)
            first = first + self._summed(diagonal, rows, groups)
            squares = _squares(whole, moved, with_g)
            second = second + self._summed(squares, rows, groups, both=True)
            seen = seen + self._seen(with_g, rows, groups)
        turned = change @ seen  # (n, r, r)
        second = second + torch.einsum("iab,jba->ij", turned, turned)
        across = _reduced((behind.later * (seen @ behind.later)).sum(1), behind.groups)
        return (
            torch.cat([first, behind.first]),
            torch.cat(
                [torch.cat([second, across], 1), torch.cat([across.mT, behind.second], 1)], 0
            ),
        )

    def last(self, scales: list[Tensor]) -> Tensor:
        """W behind the last stage on the torus, times its D, (k, n, m)."""
        return self.maps[1] * scales[self.stages - 1].repeat(self.maps[0][-1].aliases)

    def last_state(self, passed: list[Tensor]) -> Tensor:
        """S of the last stage on the torus, (k, m, m)."""
        return block_diagonal(passed[self.stages - 1], self.levels[-1], self.torus.sizes[-1])

    @property
    def levels(self) -> list[tuple[int, int]]:
        """The torus of each of the stages."""
        pairs = zip(self.torus.steps, self.torus.sizes[1:], strict=True)
        return [size for step, size in pairs if not isinstance(step, Filter)]

    def _blocks(self) -> list[slice]:
        rows = sum(2 * n for n in self._sides()) + self._inputs
        return list(slices(math.prod(half(self.torus.sizes[-1])), 3 * rows**2))

    @property
    def _inputs(self) -> int:
        return self.maps[0][0].center.shape[2]

    def _sides(self) -> list[int]:
        return [maps.center.shape[1] for maps in self.maps[0]]

    def _groups(self, outputs: int) -> list[tuple[int, int, int]]:
        """(kinds, aliases, multipliers) of the rows in turn: inputs, f and g of stages, outputs."""
        own = zip(self.maps[0], self.elimination.sizes, strict=False)
        found = [(1, self._inputs, 1), *((2, maps.aliases, n) for maps, n in own)]
        return found + [(1, self.maps[1].shape[1], 1)] * outputs

    def _links(self, passed, scales, rows: slice) -> tuple[list[Link], Tensor]:
        """Of the stages on the torus, and S of the last."""
        coarse = self.torus.sizes[-1]
        before = torch.eye(self._inputs).to(self.maps[1]).expand(rows.stop - rows.start, -1, -1)
        links, scale = [], torch.ones(self._inputs).to(self.weight)
        for maps, matrix, d, size in zip(self.maps[0], passed, scales, self.levels, strict=False):
            own = d.repeat(maps.aliases)
            center, radius = (m[rows] * scale / own[:, None] for m in (maps.center, maps.radius))
            links.append(Link(center, radius, before))
            before, scale = block_diagonal(matrix, size, coarse)[rows], own
        return links, before

    def _summed(self, values: Tensor, rows: slice, groups, both: bool = False) -> Tensor:
        total = torch.tensordot(self.weight[rows], values, 1)
        total = _reduced(total, groups)
        return _reduced(total.mT, groups).mT if both else total

    def _seen(self, with_g: Tensor, rows: slice, groups) -> Tensor:
        """sum of f* f - g* g over the copies of each multiplier, real (n, r, r)."""
        found = []
        root = self.weight[rows].sqrt()[:, None, None]
        parts = (root * with_g).split([k * a * n for k, a, n in groups], 1)
        for part, (kinds, aliases, count) in zip(parts, groups, strict=True):
            each = torch.view_as_real(part.reshape(len(part), kinds, aliases, count, -1))
            sums = torch.einsum("ktanrz,ktansz->tnrs", each, each)
            found.append(sums[0] - sums[1] if kinds == 2 else sums[0])
        return torch.cat(found)


class _BehindHead:
    """The real chain behind the head, from what it sees on.

    turned (k, m, n): from the last y' on the torus to what the head sees, z; basis E (m, r),
    g = E^T z; own Y (r, r) and later (r, w): the covariances of g with itself and with the rows
    behind; first and second: of these rows' multipliers, nu last.
    """

    def __init__(self, derivatives: Derivatives, passed, scales, nu: Tensor):
        torus, elimination = derivatives.torus, derivatives.elimination
        stages = derivatives.stages
        head = elimination.head.flatten(0, 1) / math.sqrt(math.prod(torus.sizes[-1]))
        self.turned = head @ derivatives.last(scales)
        product = (self.turned @ derivatives.last_state(passed) @ self.turned.mH).real
        seen = torch.einsum("k,kij->ij", derivatives.weight, product)
        length, axes = torch.linalg.eigh((seen + seen.mT) / 2)
        kept = length > SINGULAR * length[-1].clamp(min=1e-300)
        length, axes = length[kept], axes[:, kept]
        self.basis = axes / length.sqrt()
        matrix, before, links = axes * length.sqrt(), torch.eye(len(length)).to(axes), []
        for (slopes, following), d, own in zip(
            torus.tail, scales[stages:], passed[stages:], strict=True
        ):
            ends = [end[:, None] * matrix / d[:, None] for end in (slopes.center, slopes.radius)]
            links.append(Link(ends[0][None], ends[1][None], before[None]))
            matrix, before = following.entries * d, own
        end, spread = _from_outputs(before[None], matrix[None], nu)
        whole, behind = _chained(links, end, spread, inputs=False)
        self.own, self.later = behind.own[0], behind.later[0]
        sizes = elimination.sizes[stages:]
        self.groups = [*((2, 1, n) for n in sizes), (1, len(matrix), 1)]
        self.first = _reduced(_diagonal(whole)[0], self.groups)
        squares = _reduced(whole[0].square(), self.groups)
        self.second = _reduced(squares.mT, self.groups).mT


def _from_outputs(own: Tensor, matrix: Tensor, nu: Tensor) -> tuple[Behind, Tensor]:
    """The last state, of covariance S = `own` without the outputs s, `matrix` M before them: with
    itself and with nu^1/2 s; and the covariance of the latter."""
    moved = matrix @ own  # M S
    gains = moved @ matrix.mH
    eye = torch.eye(gains.shape[-1], dtype=gains.dtype, device=gains.device)
    outputs = torch.linalg.inv(nu * eye - (gains + gains.mH) / 2)
    later = moved.mH @ outputs
    return Behind(own + later @ moved, nu.sqrt() * later), nu * outputs


def _chained(links: list[Link], end: Behind, spread: Tensor, inputs: bool) -> tuple[Tensor, Behind]:
    """The covariance of the rows of the stages in turn and all that is later, of covariance
    `spread`, with `inputs` behind the inputs'; and the state before the first stage."""
    side = spread.shape[-1] + sum(2 * link.center.shape[1] for link in links)
    side += links[0].center.shape[2] if inputs and links else 0
    whole = spread.new_empty(len(spread), side, side)
    place = side - spread.shape[-1]
    whole[:, place:, place:] = spread
    for link in reversed(links):
        block, rows, end = rows_of(link, end)
        place = _bordered(whole, place, block, rows)
    if inputs:
        _bordered(whole, place, end.own, end.later)
    return whole, end


def _bordered(whole: Tensor, place: int, block: Tensor, rows: Tensor) -> int:
    """Fills in the rows and columns in front of `place`; where these begin."""
    first = place - block.shape[-1]
    whole[:, first:place, first:place] = block
    whole[:, first:place, place:] = rows
    whole[:, place:, first:place] = rows.mH
    return first


def _squares(whole: Tensor, moved: Tensor, with_g: Tensor) -> Tensor:
    """|Z_0|^2 + 2 Re Z_0 conj(moved with_g*), by real products, which are faster."""
    other = torch.cat([with_g.real, with_g.imag], 2).mT
    ahead = torch.cat([moved.real, moved.imag], 2) @ other
    turned = torch.cat([moved.imag, -moved.real], 2) @ other
    return whole.real * (whole.real + 2 * ahead) + whole.imag * (whole.imag + 2 * turned)


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).real


def _reduced(values: Tensor, groups: list[tuple[int, int, int]]) -> Tensor:
    """Along the last dimension: sums over the copies, those of g subtracted."""
    found = []
    for part, (kinds, aliases, count) in zip(
        values.split([k * a * n for k, a, n in groups], -1), groups, strict=True
    ):
        each = part.reshape(*part.shape[:-1], kinds, aliases, count).sum(-2)
        found.append(each[..., 0, :] - each[..., 1, :] if kinds == 2 else each[..., 0, :])
    return torch.cat(found, -1)

"""The bounds that multipliers of the form Q prove, in floating point, on a chain of links.

Where M, the part of Q without a piece's own variable, is at least m I for an m > 0, the piece's
least multiplier is for any approximate solution w of M w = b

    b^T M^-1 b - e = 2 b^T w - w^T M w - e + r^T M^-1 r <= (2 b^T w - w^T M w - e) + |r|^2 / m,

r = b - M w. With v = (w, -1), Q' being Q without that multiplier, this is (Q' v)_piece + w^T r
+ |r|^2 / m. Products with Q' need no matrix but the network's, so that their rounding is bounded by
a majorant's product; m comes from a Cholesky factorisation that runs to its end: here of a
symmetric permutation of M, inner variables first, in coordinates (powers of two) that make the
diagonal about 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...arithmetic.definite import runs_to_its_end, shortfall
from ...arithmetic.rounding import gamma, outward
from ...clock import left
from ...linear.norms import largest_eigenvalue, power_of_two
from ...linear.operators import dense
from ...networks.network import Network
from ..form import Multipliers, single
from .elimination import Eliminated, Elimination
from .links import Link

DISCOUNTS = (0.0, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.5)
CHUNK = 64  # pieces at a time


def certified_pieces(network: Network, norm: float, multipliers: Multipliers) -> Tensor:
    """For each piece an upper bound of D* restricted to it, (n_out,) for the rows of norm inf,
    (n_0,) for the columns of norm 1, (1,) for norm 2: the one that `multipliers` prove, those of
    the piece's own variable (nu, in norm 1 mu) being replaced by their least values.

    Negative and NaN multipliers count as 0. Where M cannot be proven positive definite, stage k's
    multipliers are scaled by (1 - d)^k for a few d, while time is left: the truncations of a form
    >= 0 are forms >= 0, and what is scaled is their positive combination. All entries are inf where
    none helps.
    Raises UnsupportedError for an ensemble or a pool kept whole.
    """
    network = single(network, "k5")
    given = _clipped(multipliers)
    for discount in DISCOUNTS:
        values = _proven(network, norm, discounted(given, discount))
        if values is not None:
            return values
        if left() <= 0:
            break
    return given.input.new_full((_pieces(network, norm),), torch.inf)


def _pieces(network: Network, norm: float) -> int:
    return {1: network.input_size, 2: 1}.get(norm, network.output_size)


def _clipped(given: Multipliers) -> Multipliers:
    def clip(m: Tensor) -> Tensor:
        return torch.nan_to_num(m, nan=0.0, posinf=0.0).clamp(min=0.0)

    return Multipliers(clip(given.input), [clip(m) for m in given.stages], clip(given.output))


def discounted(given: Multipliers, discount: float) -> Multipliers:
    """Stage k's multipliers times (1 - discount)^k, which leads away from the edge of the cone."""
    q = 1.0 - discount
    stages = [m * q**k for k, m in enumerate(given.stages, start=1)]
    return Multipliers(given.input, stages, given.output / q ** (len(stages) + 1))


def _proven(network: Network, norm: float, given: Multipliers) -> Tensor | None:
    elimination = Elimination(network, norm, given)
    if not bool(elimination.live.any()):
        return given.input.new_zeros(_pieces(network, norm))
    point = elimination.at(elimination.theta())
    if point is None or not bool(torch.isfinite(point.least).all()):
        return None
    form = _Form.of(network, elimination, point)
    scales = form.scales()
    least = _least_eigenvalue(form, scales)
    if least is None:
        return None
    ends = point.ends[elimination.live]
    if norm == 2:
        return _root(ends.max(), _spectrum(form, point, scales, least)).reshape(1)
    size = point.columns.shape[1]
    parts = torch.arange(size, device=ends.device).split(CHUNK)
    values = torch.cat([_quotients(form, point, scales, least, part) for part in parts])
    return _root(outward(ends.sum(), len(ends)), values)


def _root(total: Tensor, least: Tensor) -> Tensor:
    value = outward(total.sqrt() * least.clamp(min=0.0).sqrt(), 8)
    return torch.nan_to_num(value, nan=torch.inf, posinf=torch.inf)


@dataclass(frozen=True)
class _Vectors:
    """A batch of vectors of the form: x and s, y per trunk block, inner per link (w, p, b)."""

    x: Tensor
    trunk: list[Tensor]
    inner: list[Tensor]
    s: Tensor


@dataclass(frozen=True)
class _Form:
    """Q' with its majorant. `terms`: the most roundings in an entry of a product with it."""

    links: list[Link]
    majorants: list[Link]
    last: Tensor
    last_majorant: Tensor
    ends: Tensor
    locals: list[Tensor]
    backward: bool  # norm 1: the pieces are at x
    terms: int

    @classmethod
    def of(cls, network: Network, elimination: Elimination, point: Eliminated) -> "_Form":
        operators = [a.operator for a in network.affines]
        chain = elimination.links
        majorants = [link.majorant(operators[link.first]) for link in chain]
        last = outward(dense(operators[-1].majorant()), operators[-1].terms)
        terms = 64 + sum(last.shape) + 2 * max(o.terms for o in operators)
        terms += sum(link.one.shape[1] + 2 * link.one.shape[2] for link in chain)
        terms += 2 * max(
            (link.patches.size + link.patches.rows.numel() for link in chain), default=0
        )
        backward, ends = elimination.norm == 1, point.ends
        last = last * elimination.before_last
        own = -elimination.last
        return cls(chain, majorants, own, last, ends, point.locals, backward, terms)

    def product(self, v: _Vectors) -> _Vectors:
        """Q' v."""
        return self._product(v, self.links, self.last)

    def majorant(self, v: _Vectors) -> _Vectors:
        """|Q'| |v| and more, for v >= 0: all that is added up to form Q' v."""
        return self._product(v, self.majorants, self.last_majorant)

    def _product(self, v: _Vectors, chain: list[Link], last: Tensor) -> _Vectors:
        ends = self.ends.unsqueeze(1)
        x, s = (0.0 * v.x, ends * v.s) if self.backward else (ends * v.x, 0.0 * v.s)
        out, inner = [x, *(torch.zeros_like(y) for y in v.trunk)], []
        before = [v.x, *v.trunk]
        for k, (link, local) in enumerate(zip(chain, self.locals, strict=True)):
            p, windows = link.inner, len(link.outer)
            z = link.patches.apply(before[k]).reshape(windows, -1, v.x.shape[1])
            values = torch.cat([v.inner[k], before[k + 1][link.outer].unsqueeze(1), z], 1)
            weight = local.unsqueeze(-1)
            first, second = weight * (link.one @ values), weight * (link.two @ values)
            result = (link.one.mT @ second + link.two.mT @ first) / 2
            inner.append(result[:, :p])
            out[k + 1].index_add_(0, link.outer, result[:, p])
            back = result[:, p + 1 :].reshape(len(link.patches.columns), -1, v.x.shape[1])
            out[k] = out[k] + link.patches.adjoint(back)
        out[-1] = out[-1] + last.mT @ v.s
        return _Vectors(out[0], out[1:], inner, s + last @ before[-1])

    def rest(self, v: _Vectors) -> Tensor:
        """The entries without those of the pieces, (N, b)."""
        parts = [*v.trunk, *(u.flatten(0, 1) for u in v.inner), v.s if self.backward else v.x]
        return torch.cat(parts)

    def without_pieces(self, v: _Vectors) -> _Vectors:
        if self.backward:
            return _Vectors(0.0 * v.x, v.trunk, v.inner, v.s)
        return _Vectors(v.x, v.trunk, v.inner, 0.0 * v.s)

    def own(self, v: _Vectors) -> Tensor:
        """The entries of the pieces."""
        return v.x if self.backward else v.s

    def scales(self) -> _Vectors:
        """Powers of two that make M's diagonal about 1, (., 1) each."""
        x, trunk, inner, s = self.diagonals()
        return _Vectors(
            _scale(x), [_scale(y) for y in trunk], [_scale(u) for u in inner], _scale(s)
        )

    @property
    def size(self) -> int:
        """n_0."""
        return self.links[0].patches.size if self.links else self.last.shape[1]

    def diagonals(self) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """M's diagonal, laid out as in _Vectors with b = 1; 0 for the pieces' end."""
        first, s = self.ends, self.ends.new_zeros(len(self.last))
        if self.backward:
            first, s = self.ends.new_zeros(self.size), self.ends
        blocks, inner = [first.unsqueeze(1).clone()], []
        for k, (link, local) in enumerate(zip(self.links, self.locals, strict=True)):
            p, form = link.inner, _local_form(link, local)
            diagonal = form.diagonal(dim1=-2, dim2=-1)
            inner.append(diagonal[:, :p].unsqueeze(2))
            blocks.append(local.new_zeros(len(link.outer), 1))
            blocks[-1].index_copy_(0, link.outer, diagonal[:, p : p + 1])
            if k or not self.backward:
                weight = link.patches.weight.view(len(local), form.shape[1] - p - 1, -1)
                added = (weight * (form[:, p + 1 :, p + 1 :] @ weight)).sum(1)
                added = added.view(len(link.patches.columns), -1, weight.shape[2]).sum(1)
                blocks[k].index_add_(0, link.patches.columns.flatten(), added.view(-1, 1))
        return blocks[0], blocks[1:], inner, s.unsqueeze(1)


def _scale(diagonal: Tensor) -> Tensor:
    return 1.0 / power_of_two(torch.where(diagonal > 0, diagonal, 1.0).sqrt())


def _local_form(link: Link, local: Tensor) -> Tensor:
    """Q on the local variables of each window, (w, q, q)."""
    weighted = link.one.mT @ (local.unsqueeze(-1) * link.two)
    return (weighted + weighted.mT) / 2


def _times(a: _Vectors, b: _Vectors) -> _Vectors:
    def pairs(first, second):
        return [x * y for x, y in zip(first, second, strict=True)]

    return _Vectors(a.x * b.x, pairs(a.trunk, b.trunk), pairs(a.inner, b.inner), a.s * b.s)


def _least_eigenvalue(form: _Form, scales: _Vectors) -> Tensor | None:
    """A proven m > 0 with D M D >= m I, D = `scales`; None where there is none.

    D M D - shift I is factorised (see `arithmetic.definite`), inner variables first: an entry of
    the factor sums over at most the inner variables of two links and two trunk blocks. Forming M
    errs by at most gamma times the row sums of a majorant.
    """
    rows = form.rest(_times(scales, form.majorant(form.without_pieces(scales))))
    slip = gamma(form.terms) * outward(rows.max(), 2 * form.terms)
    counts = [(link.inner + 1) * len(link.outer) for link in form.links]
    band = 2 * max([0, *counts]) + len(form.ends) + 4
    diagonal = form.rest(_times(_times(scales, scales), _Vectors(*form.diagonals())))
    trace = outward(diagonal.clamp(min=0).sum(), form.terms + len(diagonal))
    shift = 2 * (slip + shortfall(2 * trace, band))
    least = shift - outward(slip + shortfall(2 * trace + len(diagonal) * shift, band), 16)
    proven = (
        bool(least > 0) and bool(torch.isfinite(shift)) and _positive_beyond(form, scales, shift)
    )
    return least * (1 - 1e-12) if proven else None


def _positive_beyond(form: _Form, scales: _Vectors, shift: Tensor) -> bool:
    """Whether the Cholesky factorisation of D M D - shift I runs to its end, inner variables first,
    each window's columns of the factor reaching over its patch of the block before."""
    blocks = [scales.x, *scales.trunk]
    size = scales.x.shape[0]
    ends = scales.s if form.backward else scales.x
    first = torch.diag(form.ends * ends[:, 0].square())
    diagonal, below = [first.new_zeros(size, size) if form.backward else first], []
    for k, (link, local) in enumerate(zip(form.links, form.locals, strict=True)):
        parts = _inner_eliminated(link, local, scales.inner[k], blocks[k], blocks[k + 1], shift)
        if parts is None:
            return False
        diagonal[k] += parts[2]
        diagonal.append(torch.diag(parts[0]))
        below.append(parts[1])
    if form.backward:
        last = form.last * scales.s * blocks[-1].mT
        diagonal = [first, *diagonal[:0:-1]]
        below = [last.mT, *(b.mT for b in below[:0:-1])] if form.links else []
    for block in diagonal:
        block.diagonal().sub_(shift)
    return bool(runs_to_its_end(diagonal, below))


def _inner_eliminated(
    link: Link, local: Tensor, inner: Tensor, before: Tensor, after: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What a link adds to the trunk of D M D - shift I, as `elimination.coupled` does, but by the
    operations of the Cholesky factorisation of the whole matrix."""
    p, patches, form = link.inner, link.patches, _local_form(link, local)
    c, n = patches.columns.shape
    own = after[link.outer].unsqueeze(1)
    scaled = patches.weight.view(len(form), -1, n)
    columns = before[patches.columns, 0].repeat_interleave(len(form) // c, 0).unsqueeze(1)
    side = own * (form[:, p : p + 1, p + 1 :] @ scaled) * columns
    corner = own[:, 0, 0].square() * form[:, p, p]
    square = (form[:, p + 1 :, p + 1 :] @ scaled).view(c, -1, n)
    square = patches.weight.mT @ square * before[patches.columns] * before[patches.columns].mT
    if p:
        matrix = inner * form[:, :p, :p] * inner.mT
        matrix.diagonal(dim1=-2, dim2=-1).sub_(shift)
        factor, info = torch.linalg.cholesky_ex(matrix.cpu())  # as `arithmetic.definite` says
        if bool(info.any()):
            return None
        through = torch.cat(
            [form[:, :p, p : p + 1] * own, form[:, :p, p + 1 :] @ scaled * columns], 2
        )
        through = torch.linalg.solve_triangular(factor, (inner * through).cpu(), upper=False)
        through = through.to(form.device)
        corner = corner - through[:, :, 0].square().sum(1)
        side = side - through[:, :, :1].mT @ through[:, :, 1:]
        stacked = through[:, :, 1:].reshape(c, -1, n)
        square = square - stacked.mT @ stacked
    added = square.new_zeros(patches.size, patches.size)
    patches.add_squares(added, square)
    below = side.new_zeros(len(link.outer), patches.size)
    below[link.outer.view(c, -1, 1), patches.columns.unsqueeze(1)] = side.view(c, -1, n)
    return corner.new_zeros(len(corner)).index_copy_(0, link.outer, corner), below, added


def _solutions(form: _Form, point: Eliminated, part: Tensor) -> _Vectors:
    """v = (w, -1) for some pieces, w about M^-1 b from the factorisation at `point`."""
    trunk, sign = point.trunk, 1.0 if form.backward else -1.0  # b = W_L^T e_i stands as -b in Q
    columns = sign * point.columns[:, part]
    w = torch.linalg.solve_triangular(trunk.cholesky[-1].mT, columns, upper=True)
    chain = [w]
    for factor, coupling in zip(trunk.cholesky[-2::-1], trunk.coupling[::-1], strict=True):
        chain.append(-torch.linalg.solve_triangular(factor.mT, coupling @ chain[-1], upper=True))
    pieces = form.size if form.backward else len(form.last)
    unit = w.new_zeros(pieces, len(part))
    unit[part, torch.arange(len(part), device=w.device)] = -1.0
    x, *blocks, s = [unit, *chain] if form.backward else [*chain[::-1], unit]
    before, inner = [x, *blocks], []
    for k, (link, windows) in enumerate(zip(form.links, point.windows, strict=True)):
        z = link.patches.apply(before[k]).reshape(len(link.outer), -1, len(part))
        outer = torch.cat([before[k + 1][link.outer].unsqueeze(1), z], 1)
        inner.append(-windows.solution @ outer)
    return _Vectors(x, blocks, inner, s)


def _residual(form: _Form, v: _Vectors) -> tuple[_Vectors, _Vectors]:
    """Q' v and a bound of its rounding error."""
    absolute = _Vectors(
        v.x.abs(), [y.abs() for y in v.trunk], [u.abs() for u in v.inner], v.s.abs()
    )
    size = form.majorant(absolute)
    g = 2 * gamma(form.terms)
    error = _Vectors(
        g * size.x, [g * y for y in size.trunk], [g * u for u in size.inner], g * size.s
    )
    return form.product(v), error


def _quotients(
    form: _Form, point: Eliminated, scales: _Vectors, least: Tensor, part: Tensor
) -> Tensor:
    """An upper bound of each piece's least multiplier."""
    v = _solutions(form, point, part)
    product, error = _residual(form, v)
    columns = torch.arange(len(part), device=part.device)
    r, e, w = form.rest(product).abs(), form.rest(error), form.rest(v).abs()
    value = form.own(product)[part, columns] + form.own(error)[part, columns]
    # w^T r, r = -(Q' v)_rest, from above.
    cross = ((r + e) * w).sum(0)
    rest = ((r + e) * form.rest(scales)).square().sum(0) / least
    terms = len(w) + 16
    return outward(value.clamp(min=0), 4) + outward(cross, terms) + outward(rest, 2 * terms)


def _spectrum(form: _Form, point: Eliminated, scales: _Vectors, least: Tensor) -> Tensor:
    """An upper bound of the greatest eigenvalue of b^T M^-1 b."""
    part = torch.arange(point.columns.shape[1], device=least.device)
    v = _solutions(form, point, part)
    product, error = _residual(form, v)
    r, e, w = form.rest(product).abs(), form.rest(error), form.rest(v).abs()
    own = form.own(product)
    cross = w.mT @ (r + e) + form.own(error)
    terms = len(w) + 16
    slip = outward(torch.maximum(cross.sum(0).max(), cross.sum(1).max()), 2 * terms)
    slip = slip + outward(((r + e) * form.rest(scales)).square().sum() / least, 4 * terms)
    return largest_eigenvalue((own + own.mT) / 2, outward(slip, 4))

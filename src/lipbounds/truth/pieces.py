"""The exact Lipschitz constant over an interval or a rectangle, by enumerating linear pieces.

A network of piecewise linear stages is affine on each cell of a subdivision of its domain. The
cells, convex polygons, are found stage by stage and neuron by neuron: a cell is cut in two where a
pre-activation changes sign inside it. On a convex domain the Lipschitz constant is the greatest
operator norm of the Jacobians of the cells. No bound of this package is used.

Tolerance. A pre-activation is taken for zero where it is at most TOLERANCE times the magnitude of
the terms it sums up, so that a kink through a vertex of a cell does not cut off a spurious sliver
by rounding. Cells thinner than that are not resolved. The analytical networks have dyadic weights
and kinks far apart at this scale: there no cell is missed, and none is spurious.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import LipboundsError, UnsupportedError
from ..linear.norms import checked_norm
from ..linear.operators import dense
from ..networks.network import Network
from ..networks.stages import Stage

TOLERANCE = 1e-12
SCALES = tuple(2.0**k for k in (-40, -20, -10, -5, -2, 0, 1, 2, 5, 10, 20, 40))

Box = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LinearPieces:
    """The cells on which a network is affine, each with nonempty interior.

    vertices: (P, V, n): the corners of each cell in order, the first one repeated as padding; for
        n = 1 the two ends of each interval.
    jacobians: (P, m, n). Neighbouring cells may have the same one.
    """

    vertices: Tensor
    jacobians: Tensor

    def __len__(self) -> int:
        return len(self.jacobians)


@dataclass(frozen=True)
class _Cells:
    """P convex polygons, with an affine map x -> slope x + shift to R^k on each."""

    vertices: Tensor  # (P, V, 2), padded with the first vertex
    counts: Tensor  # (P,) vertices without padding
    slope: Tensor  # (P, k, 2)
    shift: Tensor  # (P, k)
    zero: Tensor  # (P, k) values up to this size are taken for zero

    def where(self, index: Tensor) -> _Cells:
        return _Cells(*(getattr(self, field.name)[index] for field in fields(self)))


def exact_lipschitz(network: Network, box: Box, norm: float) -> float:
    """sup over x in `box` of ||J(x)||_p, p = 1, 2 or inf, exact up to rounding.

    box: one (low, high) per input. The Lipschitz constant over the box, as the box is convex.
    Raises as `linear_pieces`, and UnsupportedError for another norm.
    """
    norm = checked_norm(norm)
    jacobians = linear_pieces(network, box).jacobians
    return float(torch.linalg.matrix_norm(jacobians, norm).max())


def linear_pieces(network: Network, box: Box) -> LinearPieces:
    """The cells of `box` on which every stage of the network is affine.

    box: one (low, high) per input, for one or two inputs.
    Raises LipboundsError for an ensemble, another number of inputs or an invalid box, and
    UnsupportedError for a stage with another nonlinearity than one kink at 0.
    """
    cells = _box_as_cell(network, box)
    for k, affine in enumerate(network.affines):
        if k:
            below, above = one_sided_slopes(network.stages[k - 1], k)
            for neuron in (below != above).nonzero().flatten().tolist():
                cells = _cut_at_kink(cells, neuron)
            cells = _activate(cells, below, above)
        cells = _transform(cells, dense(affine.operator), affine.offset)
    if network.input_size == 2:
        return LinearPieces(cells.vertices, cells.slope)
    ends = torch.stack([cells.vertices.amin(1), cells.vertices.amax(1)], 1)
    return LinearPieces(ends[..., :1], cells.slope[..., :1])


def _box_as_cell(network: Network, box: Box) -> _Cells:
    """The box as one polygon with the identity on it; an interval gets a second, idle dimension."""
    size = network.input_size
    if network.batch_shape:
        raise LipboundsError("linear pieces are enumerated for one network, not for an ensemble")
    if size > 2:
        raise LipboundsError(f"linear pieces are enumerated for 1 or 2 inputs, not for {size}")
    ranges = torch.as_tensor(box, dtype=torch.float64)
    if ranges.shape != (size, 2):
        raise LipboundsError(f"box {box!r} must give one (low, high) for each of {size} inputs")
    if not bool((ranges.isfinite().all() & (ranges[:, 0] < ranges[:, 1])).all()):
        raise LipboundsError(f"box {box!r} must have finite ends with low < high")
    (left, right), (bottom, top) = ranges[0].tolist(), ranges[-1].tolist()
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return _Cells(
        vertices=torch.tensor([corners], dtype=torch.float64),
        counts=torch.tensor([4]),
        slope=torch.eye(size, 2, dtype=torch.float64).unsqueeze(0),
        shift=torch.zeros(1, size, dtype=torch.float64),
        zero=torch.zeros(1, size, dtype=torch.float64),
    )


def one_sided_slopes(stage: Stage, k: int) -> tuple[Tensor, Tensor]:
    """The slopes of each neuron for z < 0 and z > 0, both (n,), checked over 24 orders of ten."""
    try:
        stage.slopes()
    except UnsupportedError as error:
        raise UnsupportedError(f"linear pieces: stage {k}, {error}") from None
    at = {
        z: stage.evaluate(torch.full(stage.shape[1:], z, dtype=torch.float64))
        for z in (0.0, *SCALES, *(-s for s in SCALES))
    }
    below, above = -at[-1.0], at[1.0]
    linear = at[0.0] == 0
    for scale in SCALES:
        linear &= (at[scale] == scale * above) & (at[-scale] == -scale * below)
    if not bool(linear.all()):
        raise UnsupportedError(
            f"stage {k}: the activation of neuron {int((~linear).nonzero()[0])} is not linear on "
            "either side of 0; linear pieces are enumerated for ReLU, leaky ReLU, PReLU, abs and "
            "identity"
        )
    return below, above


def _transform(cells: _Cells, weight: Tensor, offset: Tensor) -> _Cells:
    reach = cells.vertices.abs().amax((0, 1))
    terms = (cells.slope.abs() @ reach + cells.shift.abs()) @ weight.abs().mT + offset.abs()
    return replace(
        cells,
        slope=weight @ cells.slope,
        shift=cells.shift @ weight.mT + offset,
        zero=TOLERANCE * terms,
    )


def _values(cells: _Cells, neuron: int) -> Tensor:
    """The neuron's pre-activation at the vertices, (P, V), small ones set to zero."""
    values = cells.vertices @ cells.slope[:, neuron, :, None]
    values = values.squeeze(-1) + cells.shift[:, neuron, None]
    return torch.where(values.abs() <= cells.zero[:, neuron, None], 0.0, values)


def _cut_at_kink(cells: _Cells, neuron: int) -> _Cells:
    """The cells with those cut in two in which the neuron's pre-activation changes sign."""
    values = _values(cells, neuron)
    crossed = (values.amin(1) < 0) & (values.amax(1) > 0)
    if not bool(crossed.any()):
        return cells
    both, values = cells.where(crossed), values[crossed]
    return _concatenate([cells.where(~crossed), _clip(both, values), _clip(both, -values)])


def _clip(cells: _Cells, values: Tensor) -> _Cells:
    """The part of each polygon where the affine function with these values at the vertices is
    nonnegative: kept vertices, and the crossing point of each edge on which the sign changes
    (Sutherland & Hodgman, "Reentrant polygon clipping", 1974)."""
    index = torch.arange(values.shape[1]).expand_as(values)
    real = index < cells.counts[:, None]
    following = torch.where(index + 1 < cells.counts[:, None], index + 1, 0)
    ahead = torch.gather(values, 1, following)
    target = torch.gather(cells.vertices, 1, following[..., None].expand_as(cells.vertices))
    crosses = real & (values.sign() * ahead.sign() < 0)
    fraction = torch.where(crosses, values / (values - ahead), 0.0)
    crossing = cells.vertices + fraction[..., None] * (target - cells.vertices)
    candidates = torch.stack([cells.vertices, crossing], 2).flatten(1, 2)
    kept = torch.stack([real & (values >= 0), crosses], 2).flatten(1, 2)
    order = torch.argsort(~kept, dim=1, stable=True)
    counts = kept.sum(1)
    vertices = torch.gather(candidates, 1, order[..., None].expand_as(candidates))
    return replace(cells, vertices=_pad(vertices, counts, int(counts.max())), counts=counts)


def _pad(vertices: Tensor, counts: Tensor, width: int) -> Tensor:
    """(P, V, 2) -> (P, width, 2), the first vertex in all places from `counts` on."""
    index = torch.arange(width).expand(len(counts), width)
    index = torch.where(index < counts[:, None], index, 0)
    return torch.gather(vertices, 1, index[..., None].expand(-1, -1, 2))


def _concatenate(parts: list[_Cells]) -> _Cells:
    width = max(part.vertices.shape[1] for part in parts)
    parts = [replace(p, vertices=_pad(p.vertices, p.counts, width)) for p in parts]
    return _Cells(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(_Cells)))


def _activate(cells: _Cells, below: Tensor, above: Tensor) -> _Cells:
    """The cells after a stage none of whose kinks passes through one of them."""
    inside = cells.vertices.mean(1)  # padding included: still an interior point
    values = (cells.slope @ inside[..., None]).squeeze(-1) + cells.shift
    slopes = torch.where(values > 0, above, below)
    return replace(cells, slope=slopes[..., None] * cells.slope, shift=slopes * cells.shift)

"""F_4 of convolutions without the edges of their images: rows at one position for each channel.

A convolution of the zero-padded image is one of the whole plane, or of a torus that holds it, where
beyond the image all values are 0; a stage whose interval holds 0 may be said to act there too. So
F_4 of the network on the plane bounds the network's linearisations (docs/theory.md, proposition
27). There a segment is a convolution by a composed kernel, and where r is constant on each channel
so is |A| r: what it costs grows with the kernel, as long as that is less than the image.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..arithmetic.rounding import gamma, outward
from ..clock import check
from ..linear.beside import as_one_convolution, most_factors
from ..linear.beyond import reads_beyond, zero_beyond
from ..linear.blocks import Blocks
from ..linear.operators import Convolution, Identity, Operator, slices, transposed
from ..linear.torus import Pair, nested_sizes
from .averaged_map import add_segments_adjoint, recursion, segments_total
from .network import Network
from .segments import radius, zeros
from .stages import center_and_radius

MOST_ENTRIES = 2**26  # of the kernels of maps beside one another, which are mostly zero: 512 MiB
_KNOWN: WeakKeyDictionary[Network, list[Convolution | None]] = WeakKeyDictionary()


def plane_sums(network: Network) -> Tensor:
    """F(1) >= |J| 1 for every linearisation J, (n_out,): stages behind convolutions by the plane,
    the others by their own segments. For single networks."""
    ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
    return recursion(network, ones, Plane(network).total).squeeze(0)


def plane_columns(network: Network) -> Tensor:
    """At least the greatest column sum of |J| for every linearisation J, 0-d, by the transposed
    recursion. For single networks."""
    return Plane(network).columns()


def reached(network: Network) -> int:
    """How many stages, counting the output, only convolutions lead to from the input or from the
    last implicit pool."""
    plane = Plane(network)
    return sum(plane.chain(k) is not None for k in range(1, network.depth + 2))


@dataclass(frozen=True)
class _Channels:
    """C and R of a stage, each (channels,), widened to hold slope 0 where a map behind it reads
    beyond the image."""

    center: Tensor
    radius: Tensor


class Plane:
    """A network's convolutions on the plane. maps: each affine map as a convolution, or None.
    stages: (C, R) of each stage on its channels, or None. terms: the network's, and the roundings
    of kernels that are products."""

    def __init__(self, network: Network):
        self.network = network
        self.maps = _convolutions(network)
        factors = max(most_factors(affine.operator) for affine in network.affines)
        self.terms = network.terms + 2 * (factors + 1) * (network.depth + 2)
        self.stages: list[_Channels | None] = []
        zero = None  # which channels are zero beyond the image; all are, of the input and of cuts
        for k in range(1, network.depth + 1):
            zero = self._add_channels(k, zero)
        self.r: dict[int, Tensor] = {}  # by stages: bounds of deviations on the plane, or weights
        self.sizes = self._torus_sizes()
        self.terms += sum(_most_folded(self.maps[j], size) for j, size in self.sizes.items())

    def total(self, network: Network, k: int, r: Sequence[Tensor], through: Tensor) -> Tensor:
        """A bound on |R_k z_k|, as `recursion` takes it."""
        convolutions = self.chain(k)
        if convolutions is None:
            return segments_total(network, k, r, through)
        bound = self._bound(k, convolutions, r)  # of |z_k|, on channels
        channels = None if k > network.depth else self.stages[k - 1]
        if channels is not None:
            self.r[k] = outward(channels.radius * bound, 1)
        shape = convolutions[0].out_shape
        everywhere = bound.reshape(-1, 1).expand(shape[0], shape[1] * shape[2]).reshape(1, -1)
        if k > network.depth or network.stages[k - 1].center is None:
            return everywhere
        return outward(network.stages[k - 1].radius.absolute().apply(everywhere), 1)

    def columns(self) -> Tensor:
        """Weights s_j with sum_i |f_i| <= sum s_j^T |h_j| over the stages not yet passed, from the
        output back; of stages on the plane, `self.r` holds those that other such stages give."""
        network, last = self.network, self.network.depth + 1
        s = [zeros(network, 1, affine.operator.shape[1]) for affine in network.affines]
        s.append(zeros(network, 1, network.output_size) + 1.0)
        for k in range(last, 0, -1):
            s[k] = outward(s[k], network.terms)
            if k < last and network.stages[k - 1].center is None:
                s[k] = outward(network.stages[k - 1].majorant_adjoint(s[k]), network.terms)
            convolutions = self.chain(k)
            if convolutions is None:
                self._own_segments(k, s)
            else:
                self._plane_segments(k, convolutions, s)
        return outward(s[0], network.terms).amax()

    def _own_segments(self, k: int, s: list[Tensor]) -> None:
        """Adds |A_{k<-j}|^T s_k to s_j, rounded outward."""
        network = self.network
        add_segments_adjoint(network, k, s)
        through = radius(network, k).majorant().adjoint(s[k])
        for j in range(k - 1, -1, -1):
            through = network.affines[j].operator.majorant().adjoint(through)
            s[j] += gamma(network.terms) * outward(through, network.terms)
            if j == 0 or network.stages[j - 1].center is None:
                return
            through = network.stages[j - 1].center.majorant().adjoint(through)

    def _plane_segments(self, k: int, convolutions: Sequence[Convolution], s: list[Tensor]) -> None:
        """The same where the segments are convolutions: weights constant on channels."""
        channels, weights = convolutions[0].out_shape[0], s[k]
        if k <= self.network.depth and self.stages[k - 1] is not None:
            weights = self.network.stages[k - 1].radius.absolute().adjoint(weights)
        weights = weights.reshape(channels, -1).amax(1)
        if k in self.r:
            weights = weights + self.stages[k - 1].radius * self.r[k]
        weights = outward(weights, 3)
        width, sums, sizes = 4 * self._row_entries(k, convolutions), {}, {}
        for rows in slices(channels, width):
            for j, block, majorant in self.pulled_back(k, convolutions, rows):
                sums[j] = sums.get(j, 0.0) + torch.einsum("b,bchw->chw", weights[rows], block.abs())
                sizes[j] = sizes.get(j, 0.0) + weights[rows] @ majorant
        terms = self.terms
        for j, one, stride in along(k, convolutions):
            terms += channels * sums[j][0].numel()
            column = outward(_by_phases(sums[j], stride), terms)
            column = column + gamma(terms) * outward(sizes[j], terms)
            if one is convolutions[-1]:  # the input, or a cut
                s[j] += column.repeat_interleave(s[j].numel() // len(column))
            else:
                self.r[j] = outward(self.r.get(j, 0.0) + column, 1)

    def chain(self, k: int) -> list[Convolution] | None:
        """The convolutions before stage k, the last one first, back to a cut or to the input."""
        network, found = self.network, []
        if network.batch_shape or k <= network.depth and not self._fits(k):
            return None
        for j in range(k - 1, -1, -1):
            one = self.maps[j]
            if one is None or found and found[-1].image_shape != one.out_shape:
                return None
            found.append(one)
            if j == 0 or network.stages[j - 1].center is None:
                return found
            if self.stages[j - 1] is None:
                return None
        raise AssertionError("unreachable: the loop returns at the input")

    def _torus_sizes(self) -> dict[int, Pair]:
        """By layers j: the positions of the torus that the input of W_j lies on. At least as many
        as its padded image has, and as many times those of the next layer as its stride says."""
        found: dict[int, Pair] = {}
        for k in range(self.network.depth + 1, 0, -1):
            convolutions = self.chain(k)
            if convolutions is None or k - 1 in found:
                continue
            segments = ((j, one.padded, stride) for j, one, stride in along(k, convolutions))
            layers, reads, steps = zip(*segments, strict=True)
            found |= dict(zip(layers, nested_sizes(reads, steps), strict=True))
        return found

    def _fits(self, k: int) -> bool:
        return self.stages[k - 1] is not None or self.network.stages[k - 1].center is None

    def _add_channels(self, k: int, zero: Tensor | None) -> Tensor | None:
        """Those of stage k, None where its slopes are not the same all over each channel; returns
        which of them are zero beyond the image, `zero` being those of the stage before."""
        stage, before, behind = self.network.stages[k - 1], self.maps[k - 1], self.maps[k]
        ends = None if before is None else self._ends(stage, before.out_shape[0])
        self.stages.append(None)
        if ends is None:
            return None
        if zero is None or len(zero) != before.image_shape[0]:
            zero = torch.ones(before.image_shape[0], dtype=torch.bool, device=self.network.device)
        alpha, beta = ends
        zero = (alpha <= 0) & (beta >= 0) | (alpha == beta) & zero_beyond(before, zero)
        if behind is not None and behind.image_shape == before.out_shape:
            widened = reads_beyond(behind) & ~zero
            alpha = torch.where(widened, alpha.clamp(max=0.0), alpha)
            beta = torch.where(widened, beta.clamp(min=0.0), beta)
            zero = zero | widened
        self.stages[-1] = _Channels(*center_and_radius(alpha, beta))
        return zero

    @staticmethod
    def _ends(stage, channels: int) -> list[Tensor] | None:
        """alpha and beta of each channel, if it has the same everywhere."""
        if not stage.entrywise:
            return None
        ends = [end.reshape(channels, -1) for end in stage.slopes()]
        same = all(bool((end == end[:, :1]).all()) for end in ends)
        return [end[:, 0] for end in ends] if same else None

    def _bound(self, k: int, convolutions: Sequence[Convolution], r: Sequence[Tensor]) -> Tensor:
        """sum_j |W_{k-1} C_{k-1} ... C_{j+1} W_j| r_j at any position, for each channel."""
        outputs, width = convolutions[0].out_shape[0], 4 * self._row_entries(k, convolutions)
        blocks = [self._rows_bound(k, convolutions, r, rows) for rows in slices(outputs, width)]
        return torch.cat(blocks)

    def _rows_bound(self, k, convolutions, r, rows: slice) -> Tensor:
        total, size, terms = 0.0, 0.0, self.terms
        for j, block, majorant in self.pulled_back(k, convolutions, rows):
            bound = self.r.get(j)
            if bound is None:  # the input, or a cut
                bound = r[j].reshape(block.shape[1], -1).amax(1)
            terms += block[0].numel()
            total = total + block.abs().sum((2, 3)) @ bound
            size = size + majorant @ bound
        return outward(total, terms) + gamma(terms) * outward(size, terms)

    def _row_entries(self, k: int, convolutions: Sequence[Convolution]) -> int:
        """The most entries of a row, as it is pulled back through them."""
        sides, most = (1, 1), 1
        for j, one, _ in along(k, convolutions):
            moved = zip(sides, one.stride, one.dilation, one.kernel.shape[2:], strict=True)
            sides = [(side - 1) * step + d * (taps - 1) + 1 for side, step, d, taps in moved]
            sides = [min(side, size) for side, size in zip(sides, self.sizes[j], strict=True)]
            most = max(most, one.image_shape[0] * math.prod(sides))
        return most

    def pulled_back(self, k: int, convolutions: Sequence[Convolution], rows: slice):
        """(j, rows of W_{k-1} C_{k-1} ... C_{j+1} W_j at one position (b, channels, h, w), the sums
        (b, channels) over positions of the product of absolute values) for each j, from k - 1 on
        down; `rows` are channels. Where they are longer than the torus they go around it."""
        block = torch.eye(convolutions[0].out_shape[0], dtype=torch.float64)
        block = block.to(self.network.device)[rows]
        majorant, block = block, block[:, :, None, None]
        for j, one, _ in along(k, convolutions):
            check(f"the segments that end at stage {k} of {self.network.depth + 1}")
            block = folded(_pulled(block, one), self.sizes[j])
            majorant = _pulled_sums(majorant, one)
            yield j, block, majorant
            if one is not convolutions[-1]:
                center = self.stages[j - 1].center
                block, majorant = block * center[:, None, None], majorant * center.abs()


def along(
    k: int, convolutions: Sequence[Convolution]
) -> Iterator[tuple[int, Convolution, tuple[int, int]]]:
    """(j, W_j, the stride of W_{k-1} ... W_j) for j = k - 1 on down, through a chain that ends
    before stage k."""
    stride = 1, 1
    for back, one in enumerate(convolutions, start=1):
        stride = stride[0] * one.stride[0], stride[1] * one.stride[1]
        yield k - back, one, stride


def folded(kernel: Tensor, size: Pair) -> Tensor:
    """The kernel (b, c, h, w) of the same circular convolution on a torus, no longer than it."""
    if kernel.shape[2] <= size[0] and kernel.shape[3] <= size[1]:
        return kernel
    kernel = pad(kernel, (0, -kernel.shape[3] % size[1], 0, -kernel.shape[2] % size[0]))
    rows, columns = kernel.shape[2] // size[0], kernel.shape[3] // size[1]
    return kernel.reshape(*kernel.shape[:2], rows, size[0], columns, size[1]).sum((2, 4))


def _most_folded(one: Convolution, size: Pair) -> int:
    """The most entries that come together as rows no longer than the torus go through it."""
    taps, sides = one.kernel.shape[2:], zip(size, one.dilation, strict=True)
    return math.prod(2 + d * (n - 1) // side for n, (side, d) in zip(taps, sides, strict=True))


def _by_phases(sums: Tensor, stride: tuple[int, int]) -> Tensor:
    """The greatest sum over the taps (c, h, w) that lie `stride` apart, for each channel: what one
    position of the image is read by."""
    height, width = sums.shape[1:]
    sums = pad(sums, (0, -width % stride[1], 0, -height % stride[0]))
    return (
        sums.unfold(1, stride[0], stride[0])
        .unfold(2, stride[1], stride[1])
        .sum((1, 2))
        .amax((1, 2))
    )


def _convolutions(network: Network) -> list[Convolution | None]:
    """Each affine map as a convolution, if it is one; the identity behind one, as it stands before
    a pool, by a kernel of one pixel. Of maps beside one another as many as MOST_ENTRIES allow."""
    if network not in _KNOWN:
        found, entries = [], 0
        for affine in network.affines:
            if isinstance(affine.operator, Blocks):
                check("the maps beside one another are convolutions")
            one = _convolution(affine.operator, found[-1] if found else None)
            if one is not None and isinstance(affine.operator, Blocks):
                entries += one.kernel.numel()
            found.append(None if entries > MOST_ENTRIES else one)
        _KNOWN[network] = found
    return _KNOWN[network]


def _convolution(operator: Operator, before: Convolution | None) -> Convolution | None:
    if not isinstance(operator, Identity):
        return as_one_convolution(operator, None if before is None else before.out_shape[1:])
    if before is None or operator.shape[1] != math.prod(before.out_shape):
        return None
    channels = before.out_shape[0]
    kernel = torch.ones(channels, 1, 1, 1, dtype=torch.float64, device=operator.device)
    return Convolution(kernel, before.out_shape, groups=channels)


def _pulled(rows: Tensor, one: Convolution) -> Tensor:
    """The rows times the convolution of the plane: (b, outputs, h, w) -> (b, inputs, h', w')."""
    return transposed(rows, one.kernel, one.stride, one.dilation, one.groups)


def _pulled_sums(rows: Tensor, one: Convolution) -> Tensor:
    """What |W| makes of rows >= 0, summed over the plane: (b, outputs) -> (b, inputs)."""
    sizes = one.kernel.abs().sum((2, 3)).reshape(one.groups, -1, one.kernel.shape[1])
    by_groups = rows.reshape(len(rows), one.groups, -1)
    return torch.einsum("bgo,goi->bgi", by_groups, sizes).reshape(len(rows), -1)

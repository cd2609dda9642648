"""A convolutional network on a torus, and the fully-connected layers behind it.

Each level's image, zero-padded as the next layer reads it, lies in a torus; beyond it every neuron
is to be able to be 0. Then all differences of the network are some of the torus's, so that a bound
of the torus is one of the network (docs/k5.md, proposition 22).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from ...errors import UnsupportedError
from ...linear.beside import as_one_convolution, most_factors
from ...linear.beyond import reads_beyond, zero_beyond
from ...linear.operators import (
    Composition,
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Operator,
    Sparse,
    dense,
)
from ...linear.torus import Pair, nested_sizes
from ...linear.windows import recognised
from ...networks.network import Network
from ...networks.stages import PoolStage, SlopeStage, Stage, center_and_radius

LARGEST_HEAD = 2**25  # entries of a map behind the torus that is to be written out as a matrix


@dataclass(frozen=True)
class Filter:
    """A circular convolution, kernel (c', c / groups, kh, kw); read: the (height, width) of the
    torus that it needs, the image with the padding of one side."""

    kernel: Tensor
    stride: Pair
    dilation: Pair
    groups: int
    read: Pair


@dataclass(frozen=True)
class Maximum:
    """y[n] = max(z[s n], z[s n + offset]) along an axis (0: height), for all channels."""

    axis: int
    offset: int
    step: int
    read: Pair

    @property
    def stride(self) -> Pair:
        return (self.step, 1) if self.axis == 0 else (1, self.step)


@dataclass(frozen=True)
class Slopes:
    """Activations with slopes in [alpha, beta], each (c,); `center` and `radius` as of a stage.
    Channels with alpha = beta are carried past it."""

    alpha: Tensor
    beta: Tensor

    @cached_property
    def own(self) -> Tensor:
        """The channels that are not carried, and have multipliers, (m,)."""
        return (self.alpha < self.beta).nonzero()[:, 0]

    @cached_property
    def center(self) -> Tensor:
        return center_and_radius(self.alpha, self.beta)[0]

    @cached_property
    def radius(self) -> Tensor:
        return center_and_radius(self.alpha, self.beta)[1]

    @property
    def hold_zero(self) -> Tensor:
        """Whose intervals do, (c,)."""
        return (self.alpha <= 0) & (self.beta >= 0)

    def holding_zero(self, channels: Tensor) -> "Slopes":
        """Wider intervals of `channels`, a mask (c,), that hold 0."""
        alpha = torch.where(channels, self.alpha.clamp(max=0.0), self.alpha)
        return Slopes(alpha, torch.where(channels, self.beta.clamp(min=0.0), self.beta))


Step = Filter | Maximum | Slopes
Layer = Operator | PoolStage | Slopes | Stage


@dataclass(frozen=True)
class Matrix:
    """A map (m, n) as `entries`, and a `majorant` >= |entries|; made once they are asked for."""

    operator: Operator

    @property
    def shape(self) -> Pair:
        return self.operator.shape

    @cached_property
    def entries(self) -> Tensor:
        return dense(self.operator)

    @cached_property
    def majorant(self) -> Tensor:
        plain = self.operator.plain
        return self.entries.abs() if plain else dense(self.operator.majorant())


@dataclass(frozen=True)
class Torus:
    """steps: from the input's `channels` on; head: the matrix that reads the last `image` (c, h,
    w), or None where the network ends with it; tail: the slopes and matrices behind, in turn.
    sizes: the torus that each step reads, and the last one. trees: whether the maxima of a window
    are those of the explicit treatment, rows before columns. terms: kernels and matrices differ
    from the exact ones, as they were before the conversion rounded them, by at most gamma(terms)
    times |kernel| or the majorant."""

    channels: int
    steps: tuple[Step, ...]
    image: tuple[int, int, int]
    head: "Matrix | None"
    tail: tuple[tuple[Slopes, "Matrix"], ...]
    sizes: tuple[Pair, ...]
    trees: bool
    terms: int

    @property
    def stages(self) -> list[tuple[int, int]]:
        """(multipliers, neurons of each) of the stages, those of the tail at last."""
        found, channels = [], self.channels
        for step, after in zip(self.steps, self.sizes[1:], strict=True):
            if isinstance(step, Filter):
                channels = step.kernel.shape[0]
            else:
                own = len(step.own) if isinstance(step, Slopes) else channels
                found.append((own, math.prod(after)))
        return found + [(len(slopes.own), 1) for slopes, _ in self.tail]

    @property
    def carries(self) -> bool:
        """Whether values are carried past stages."""
        every = [step for step in self.steps if isinstance(step, Slopes)]
        every += [slopes for slopes, _ in self.tail]
        return any(len(slopes.own) < len(slopes.alpha) for slopes in every)


def embeddings(network: Network) -> list[Torus]:
    """Every way to leave the torus, with a head behind one more of the layers each: the first has
    the least on the torus. Raises UnsupportedError, which names what does not fit: an ensemble, a
    network that does not begin with a convolution, windows that do not slide."""
    if network.batch_shape:
        raise UnsupportedError("the torus takes one network, not an ensemble")
    operators = [affine.operator for affine in network.affines]
    building = _Building(network)
    terms = network.roundings + max(one.terms + most_factors(one) for one in operators)
    found = [torus for _ in building.levels() if (torus := building.torus(terms))]
    if not found:
        staged = any(isinstance(step, Slopes) for step in building.steps)
        raise UnsupportedError(
            building.reason if staged else f"no convolution before a stage: {building.reason}"
        )
    return found


class _Building:
    """What stands on the torus so far. image: the (c, h, w) of the last level. zero: which of its
    channels can be 0 beyond the image, (c,)."""

    def __init__(self, network: Network):
        self.layers = _maxima_first(network)
        operator = network.affines[0].operator
        first = as_one_convolution(operator) or operator.factors[-1].as_convolution
        if first is None:
            raise UnsupportedError("the network does not begin with a convolution")
        self.image, self.channels = first.image_shape, first.image_shape[0]
        self.steps: list[Step] = []
        self.zero = torch.ones(self.channels, dtype=torch.bool, device=network.device)
        self.trees = True
        self.reason = ""  # why the next layer does not fit

    def levels(self) -> Iterator[None]:
        """Takes layers as long as they fit; stops behind each stage, and at the end."""
        while self.layers:
            layer = self.layers[0]
            try:
                rest = self._take(layer)
            except _Unfit as reason:
                self.reason = str(reason)
                break
            self.layers[:1] = rest
            if not isinstance(layer, Operator):
                yield
        if self.steps and isinstance(self.steps[-1], Filter):
            yield

    def torus(self, terms: int) -> Torus | None:
        """With all other layers behind it; None where they are no matrices and slopes in turn."""
        behind = _behind(self.layers)
        if behind is None or not any(isinstance(step, Slopes) for step in self.steps):
            return None
        head, tail = behind
        steps = tuple(self.steps)
        sizes = _sizes(steps, self.image)
        return Torus(self.channels, steps, self.image, head, tail, sizes, self.trees, terms)

    def _take(self, layer: Layer) -> list[Layer]:
        """What is left of it."""
        if isinstance(layer, Slopes):
            self._slopes(layer)
        elif isinstance(layer, PoolStage):
            self._maxima(layer)
        elif isinstance(layer, Operator):
            return self._filters(layer)
        else:
            raise _Unfit(f"a {layer.kind}")
        return []

    def _filters(self, operator: Operator) -> list[Operator]:
        """As many of its factors as are filters, and one at least; the others as a map."""
        whole = as_one_convolution(operator, self.image[1:])
        factors = list(operator.factors) if whole is None else [whole]
        self._filter(factors.pop())
        while factors:
            try:
                self._filter(factors[-1])
            except _Unfit as reason:
                self.reason = str(reason)
                return [Composition(factors)]
            factors.pop()
        return []

    def _filter(self, factor: Operator) -> None:
        if isinstance(factor, Identity):
            return
        one = _as_filter(factor, self.image)
        if one is None or one.image_shape != self.image:
            raise _Unfit(f"a {type(factor).__name__} of shape {factor.shape} is no convolution")
        unsure = reads_beyond(one) & ~self.zero
        if bool(unsure.any()):
            if not (self.steps and isinstance(self.steps[-1], Slopes)):
                raise _Unfit("zero padding of values that may not be 0")
            before = self.steps[-1]
            if bool((unsure & (before.alpha == before.beta)).any()):
                raise _Unfit("zero padding of values carried past a stage that may not be 0")
            self.steps[-1] = before.holding_zero(unsure)
            self.zero = self.zero | unsure
        left, right, top, bottom = one.padding
        read = self.image[1] + max(top, bottom), self.image[2] + max(left, right)
        self.steps.append(Filter(one.kernel, one.stride, one.dilation, one.groups, read))
        self.zero, self.image = zero_beyond(one, self.zero), one.out_shape

    def _slopes(self, slopes: Slopes) -> None:
        if len(slopes.alpha) != math.prod(self.image):
            raise _Unfit("a stage of neurons that are no image")
        alpha, beta = (end.reshape(self.image[0], -1) for end in (slopes.alpha, slopes.beta))
        slopes = Slopes(alpha.amin(1), beta.amax(1))
        self.steps.append(slopes)
        carried = slopes.alpha == slopes.beta
        self.zero = slopes.hold_zero | carried & self.zero

    def _maxima(self, stage: PoolStage) -> None:
        found = recognised(stage.windows, self.image)
        if found is None:
            raise _Unfit("windows of max-pooling that do not slide")
        if any(s > 1 and k == 1 for k, s in zip(found.kernel, found.stride, strict=True)):
            raise _Unfit("max-pooling of single entries")
        halved = all(k & (k - 1) == 0 for k in found.kernel)
        self.trees &= halved and found.kernel == found.stride and not any(found.padding)
        size = zip(self.image[1:], found.padding, found.reach, strict=True)
        read = [max(n + p, reach - p) for n, p, reach in size]
        for axis in (1, 0):  # as a tree pairs the entries of a window
            covered, kernel = 1, found.kernel[axis]
            while covered < kernel:
                offset = min(covered, kernel - covered)
                covered += offset
                step = found.stride[axis] if covered == kernel else 1
                self.steps.append(Maximum(axis, offset, step, tuple(read)))
            read[axis] = found.out_shape[1 + axis]
        self.image, self.zero = found.out_shape, torch.zeros_like(self.zero)


class _Unfit(Exception):
    """What a torus does not hold."""


def _maxima_first(network: Network) -> list[Layer]:
    """The layers in order, without identities between them; maxima before activations that do not
    decrease, which are then fewer."""
    layers: list[Layer] = [network.affines[0].operator]
    for stage, affine in zip(network.stages, network.affines[1:], strict=True):
        if isinstance(stage, SlopeStage):
            layers.append(Slopes(*stage.slopes()))
            single = len(stage.parts) == 1
        elif isinstance(stage, PoolStage) and isinstance(layers[-1], Slopes) and single:
            layers[-1:] = _exchanged(layers[-1], stage)
        else:
            layers.append(stage)
        if not isinstance(affine.operator, Identity):
            layers.append(affine.operator)
    return layers


def _exchanged(slopes: Slopes, pool: PoolStage) -> list[Layer]:
    """One activation and max-pooling, the other way about where its slopes are those of all of a
    window, and it does not decrease."""
    first = pool.windows[:, :1]
    ends = slopes.alpha, slopes.beta
    alike = all(bool((end[pool.windows] == end[first]).all()) for end in ends)
    if not alike or not bool((slopes.alpha >= 0).all()):
        return [slopes, pool]
    return [pool, Slopes(*(end[first[:, 0]] for end in ends))]


def _behind(layers: Sequence[Layer]) -> "tuple[Matrix | None, tuple] | None":
    """The head and the tail: matrices, and slopes between them."""
    if not layers:
        return None, ()
    matrices: list[Operator] = []
    slopes: list[Slopes] = []
    for layer in layers:
        if isinstance(layer, Slopes) and len(matrices) > len(slopes):
            slopes.append(layer)
        elif isinstance(layer, Operator) and len(matrices) > len(slopes):
            matrices[-1] = Composition([layer, matrices[-1]])
        elif isinstance(layer, Operator):
            matrices.append(layer)
        else:
            return None
    if len(matrices) == len(slopes):
        matrices.append(Identity(len(slopes[-1].alpha), slopes[-1].alpha.device))
    if not all(_is_matrix(one) for one in matrices):
        return None
    head, *others = map(Matrix, matrices)
    return head, tuple(zip(slopes, others, strict=True))


def _is_matrix(operator: Operator) -> bool:
    return isinstance(operator, Dense) or math.prod(operator.shape) <= LARGEST_HEAD


def _as_filter(factor: Operator, image: tuple[int, int, int]) -> Convolution | None:
    """A convolution itself, a diagonal that is constant on each channel, averages over windows."""
    if isinstance(factor, Diagonal):
        each = factor.diagonal.reshape(image[0], -1)
        if not bool((each == each[:, :1]).all()):
            return None
        return Convolution(each[:, :1].reshape(-1, 1, 1, 1), image, groups=image[0])
    if isinstance(factor, Sparse):
        return _averages(factor, image)
    return factor.as_convolution


def _averages(matrix: Sparse, image: tuple[int, int, int]) -> Convolution | None:
    """A matrix of one number, in windows of each channel that lie inside the image."""
    (rows, columns), values = matrix.coo.indices(), matrix.coo.values()
    count = len(values) // max(matrix.shape[0], 1)
    if not count or count * matrix.shape[0] != len(values) or not bool((values == values[0]).all()):
        return None
    windows = columns.reshape(-1, count)
    regular = bool((rows.reshape(-1, count) == rows.reshape(-1, count)[:, :1]).all())
    found = recognised(windows, image) if regular else None
    if found is None or any(found.padding):
        return None
    if any(reach > n for reach, n in zip(found.reach, image[1:], strict=True)):
        return None
    kernel = values[0].expand(image[0], 1, *found.kernel)
    return Convolution(kernel, image, found.stride, groups=image[0])


def _sizes(steps: Sequence[Step], image: tuple[int, int, int]) -> tuple[Pair, ...]:
    """(height, width) of the torus that each step reads, and of the last one: as many times those
    of the next as the stride says, and all that is read of the padded images."""
    strides = list(_strides(steps))
    whole = strides[-1]
    reads = [(1, 1) if isinstance(step, Slopes) else step.read for step in steps]
    ratios = [(whole[0] // stride[0], whole[1] // stride[1]) for stride in strides]
    return tuple(nested_sizes([*reads, image[1:]], ratios))


def _strides(steps: Sequence[Step]) -> Iterator[Pair]:
    """Of the input, and after each step, in positions of the input."""
    each = [(1, 1) if isinstance(step, Slopes) else step.stride for step in steps]
    return accumulate(each, lambda a, b: (a[0] * b[0], a[1] * b[1]), initial=(1, 1))

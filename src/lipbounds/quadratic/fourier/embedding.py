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

from torch import Tensor

from ...errors import UnsupportedError
from ...linear.operators import Convolution, Dense, Diagonal, Identity, Operator, Sparse, dense
from ...linear.torus import Pair, nested_sizes
from ...linear.windows import recognised
from ...networks.network import Network
from ...networks.stages import PoolStage, SlopeStage, Stage, center_and_radius

LARGEST_HEAD = 2**22  # entries of a map behind the torus that is to be written out as a matrix


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
    """Activations with slopes in [alpha, beta], each (c,); `center` and `radius` as of a stage."""

    alpha: Tensor
    beta: Tensor

    @cached_property
    def center(self) -> Tensor:
        return center_and_radius(self.alpha, self.beta)[0]

    @cached_property
    def radius(self) -> Tensor:
        return center_and_radius(self.alpha, self.beta)[1]

    @property
    def holding_zero(self) -> "Slopes":
        """Wider intervals, if need be, that hold 0."""
        return Slopes(self.alpha.clamp(max=0.0), self.beta.clamp(min=0.0))


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
    from the exact ones by at most gamma(terms) times |kernel| or the majorant."""

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
                found.append((channels, math.prod(after)))
        return found + [(len(slopes.alpha), 1) for slopes, _ in self.tail]


def embedded(network: Network) -> Torus:
    """Raises UnsupportedError, which names what does not fit: an ensemble, a network that does not
    begin with a convolution, values carried past a layer, windows that do not slide."""
    if network.batch_shape:
        raise UnsupportedError("the torus takes one network, not an ensemble")
    building = _Building(network)
    building.convolutions()
    head, tail = building.behind()
    steps = tuple(building.steps)
    sizes = _sizes(steps, building.image)
    terms = max(affine.operator.terms + len(affine.operator.factors) for affine in network.affines)
    return Torus(building.channels, steps, building.image, head, tail, sizes, building.trees, terms)


class _Building:
    """What stands on the torus so far. image: the (c, h, w) of the last level. zero: whether its
    values beyond the image can be 0."""

    def __init__(self, network: Network):
        self.layers = _maxima_first(network)
        first = network.affines[0].operator.factors[-1].as_convolution
        if first is None:
            raise UnsupportedError("the network does not begin with a convolution")
        self.image, self.channels = first.image_shape, first.image_shape[0]
        self.steps: list[Step] = []
        self.zero = self.trees = True

    def convolutions(self) -> None:
        """Takes layers as long as they fit."""
        while self.layers:
            steps, image, zero = list(self.steps), self.image, self.zero
            try:
                self._take(self.layers[0])
            except _Unfit as reason:
                self.steps, self.image, self.zero = steps, image, zero
                self.reason = reason
                return
            self.layers.pop(0)

    def behind(self) -> tuple[Matrix | None, tuple[tuple[Slopes, Matrix], ...]]:
        """The head and the tail: matrices, and slopes between them."""
        if not self.layers:
            return None, ()
        if not any(isinstance(step, Slopes) for step in self.steps):
            raise UnsupportedError(f"no convolution before a stage: {self.reason}")
        matrices, slopes = [], []
        for layer in self.layers:
            if isinstance(layer, Slopes) and len(matrices) > len(slopes):
                slopes.append(layer)
            elif _is_matrix(layer):
                matrices.append(Matrix(layer))
            else:
                raise UnsupportedError(str(self.reason))
        if len(matrices) == len(slopes):
            size, device = len(slopes[-1].alpha), slopes[-1].alpha.device
            matrices.append(Matrix(Identity(size, device)))
        return matrices[0], tuple(zip(slopes, matrices[1:], strict=True))

    def _take(self, layer: Layer) -> None:
        if isinstance(layer, Slopes):
            self._slopes(layer)
        elif isinstance(layer, PoolStage):
            self._maxima(layer)
        elif isinstance(layer, Operator):
            whole = layer.as_convolution
            for factor in reversed(layer.factors) if whole is None else [whole]:
                self._filter(factor)
        else:
            raise _Unfit(f"a {layer.kind}")

    def _filter(self, factor: Operator) -> None:
        if isinstance(factor, Identity):
            return
        one = _as_filter(factor, self.image)
        if one is None or one.image_shape != self.image:
            raise _Unfit(f"a {type(factor).__name__} of shape {factor.shape} is no convolution")
        padded = any(one.padding)
        if padded and not self.zero:
            if not (self.steps and isinstance(self.steps[-1], Slopes)):
                raise _Unfit("zero padding of values that may not be 0")
            self.steps[-1] = self.steps[-1].holding_zero
            self.zero = True
        left, right, top, bottom = one.padding
        read = self.image[1] + max(top, bottom), self.image[2] + max(left, right)
        self.steps.append(Filter(one.kernel, one.stride, one.dilation, one.groups, read))
        # Averages over disjoint windows that cover the image read nothing of it from beyond.
        apart = one.kernel.shape[2:] == one.stride and not padded
        whole = all(
            m * s == n
            for m, s, n in zip(one.out_shape[1:], one.stride, self.image[1:], strict=True)
        )
        self.zero = self.zero and apart and whole
        self.image = one.out_shape

    def _slopes(self, slopes: Slopes) -> None:
        if len(slopes.alpha) != math.prod(self.image):
            raise _Unfit("a stage of neurons that are no image")
        alpha, beta = (end.reshape(self.image[0], -1) for end in (slopes.alpha, slopes.beta))
        slopes = Slopes(alpha.amin(1), beta.amax(1))
        if not bool((slopes.alpha < slopes.beta).all()):
            raise _Unfit("values carried past a stage")
        self.steps.append(slopes)
        self.zero = bool((slopes.alpha <= 0).all() and (slopes.beta >= 0).all())

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
        self.image, self.zero = found.out_shape, False


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


def _is_matrix(layer: Layer) -> bool:
    if not isinstance(layer, Operator):
        return False
    return isinstance(layer, Dense) or math.prod(layer.shape) <= LARGEST_HEAD


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

"""What each ONNX node becomes: values of a graph, or an array where it depends on constants alone.

Arrays are as in the file, a batch dimension of 1 included; layers on channels take it off first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce

import numpy as np
import torch
from torch import Tensor

from ..errors import LipboundsError, ShapeError, UnsupportedError, first_line
from ..linear.operators import average_pooling
from ..linear.windows import sliding
from ..networks import activations as act
from ..networks.activations import Activation
from ..networks.network import Affine
from ..networks.stages import PoolStage
from . import pieces, values
from .exported import LOG_SOFTMAX, NORMALISATION, PRODUCT, SOFTMAX
from .pieces import Piece
from .values import Staged, Value


@dataclass(frozen=True)
class Node:
    """A node of the file with what its inputs are: values, arrays, or None for those left out."""

    proto: object
    number: int
    opsets: dict[str, int]
    inputs: list
    pairs: dict  # (maximum, minimum) by the names of two inputs that have both taken; None at first

    @property
    def kind(self) -> str:
        return self.proto.op_type

    @property
    def place(self) -> str:
        name = f" {self.proto.name!r}" if self.proto.name else ""
        return f"node {self.number}{name} ({self.kind})"

    @cached_property
    def attributes(self) -> dict:
        from onnx import helper

        return {one.name: helper.get_attribute_value(one) for one in self.proto.attribute}

    @property
    def values(self) -> list[Value]:
        return [one for one in self.inputs if isinstance(one, Value)]

    @property
    def value(self) -> Value:
        """The one it is a function of."""
        if len(self.values) != 1 or not isinstance(self.inputs[0], Value):
            raise UnsupportedError(PRODUCT)
        return self.inputs[0]

    def get(self, name: str, default=None):
        """An attribute."""
        found = self.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def array(self, position: int) -> np.ndarray | None:
        """An input that has to be a constant; None where it is left out."""
        one = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(one, Value):
            raise UnsupportedError(f"its input {position} depends on the network's input")
        return one

    def tensor(self, position: int) -> Tensor | None:
        """The same in float64."""
        array = self.array(position)
        return None if array is None else tensor(array)

    def run(self, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """What onnx's reference implementation computes."""
        named = {k: one for k, one in zip(self.proto.input, inputs, strict=True) if k}
        try:
            return self._evaluator.run(None, named)
        except Exception as error:  # NumPy's errors, for what does not fit
            raise LipboundsError(
                f"cannot be computed ({type(error).__name__}: {first_line(error)})"
            ) from None

    @cached_property
    def _evaluator(self):
        """Of a graph, as a node alone is taken to be of the latest opset."""
        from onnx import ValueInfoProto, helper
        from onnx.reference import ReferenceEvaluator

        names = [name for name in dict.fromkeys(self.proto.input) if name]
        ends = [[ValueInfoProto(name=n) for n in part] for part in (names, self.proto.output)]
        return ReferenceEvaluator(helper.make_graph([self.proto], "one", *ends), self.opsets)

    def of_arrays(self, *arrays: Tensor) -> Tensor:
        """Its first output as a function of arrays in the place of its values."""
        return self.outputs_of(0, *arrays)

    def outputs_of(self, k: int, *arrays: Tensor) -> Tensor:
        remaining = iter(arrays)
        inputs = [
            next(remaining).numpy() if isinstance(one, Value) else _double(one)
            for one in self.inputs
        ]
        return torch.from_numpy(np.ascontiguousarray(self.run(inputs)[k], dtype=np.float64))


def _double(array: np.ndarray | None) -> np.ndarray | None:
    floating = array is not None and np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float64) if floating else array


def tensor(array: np.ndarray) -> Tensor:
    if not np.issubdtype(array.dtype, np.number) and array.dtype.kind != "V":
        raise UnsupportedError(f"takes a constant of type {array.dtype}")
    found = torch.from_numpy(np.array(array, dtype=np.float64))
    if not bool(torch.isfinite(found).all()):
        raise LipboundsError("has a constant with NaN or infinite entries")
    return found


def value_of(node: Node) -> list[Value | np.ndarray]:
    """Its outputs."""
    if node.proto.domain not in ("", "ai.onnx"):
        raise UnsupportedError(f"is of the domain {node.proto.domain!r}; export without it")
    if node.kind == "Shape":
        return node.run([np.empty(v.shape) if isinstance(v, Value) else v for v in node.inputs])
    if not node.values:
        return node.run(node.inputs)
    if node.kind in REFUSED:
        raise UnsupportedError(REFUSED[node.kind])
    if node.kind not in NODES:
        raise UnsupportedError("is not supported; export the network without it")
    made = NODES[node.kind](node)
    return made if isinstance(made, list) else [made]


def _same(node: Node) -> Value:
    return node.value


def _cast(node: Node) -> Value:
    from onnx import TensorProto

    to = node.get("to")
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if to not in floats:
        raise UnsupportedError("rounds to a type of whole numbers: no Lipschitz constant")
    return node.value


def _dropout(node: Node) -> Value:
    training = node.array(2)
    if training is not None and bool(training) and (node.array(1) is None or node.array(1) > 0):
        raise UnsupportedError("in training mode; export the module after module.eval()")
    return node.inputs[0]


def _moved(node: Node) -> list[Value]:
    def at(k: int):
        return lambda *arrays: torch.stack([node.outputs_of(k, *one) for one in zip(*arrays)])  # noqa: B905

    return [values.moved(node.values, at(k), node.place) for k in range(len(node.proto.output))]


def _where(node: Node) -> list[Value]:
    if isinstance(node.inputs[0], Value):
        raise UnsupportedError(JUMPS)
    return _moved(node)


def _resize(node: Node) -> Value | list[Value]:
    if node.get("mode", "nearest") == "nearest":
        return _moved(node)
    return _by_columns(node, roundings=16)


def _by_columns(node: Node, roundings: int = 0) -> Value:
    """Linear in one value; evaluated at the unit vectors."""
    if len(node.values) != 1:
        raise UnsupportedError(PRODUCT)

    def function(arrays: Tensor) -> Tensor:
        return torch.stack([node.of_arrays(one) for one in arrays])

    return values.linear(node.values[0], function, node.place, roundings)


def _layer(node: Node, make: Callable[[tuple[int, ...]], Piece]) -> Value:
    """A piece on channels: the batch dimension of 1 is taken off before, and put back."""
    value = node.inputs[0]
    if not value.shape or value.shape[0] != 1:
        raise ShapeError(
            f"takes an array of shape {value.shape}; its batch dimension must be 1: give the shape "
            "of one input as input_shape, or export with a batch of 1"
        )
    inner = values.reshaped(value, value.shape[1:], node.place)
    made = values.applied(inner, make(inner.shape), node.place)
    return values.reshaped(made, (1, *made.shape), node.place)


def _gemm(node: Node) -> Value:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if not isinstance(node.inputs[0], Value) or len(node.values) > 1 or node.get("transA", 0):
        raise UnsupportedError("of other than the input times a constant matrix; use MatMul")
    weight = node.tensor(1) if node.get("transB", 0) else node.tensor(1).mT
    made = values.features(node.inputs[0], weight, None, node.place)
    if alpha != 1:
        made = values.scaled(made, torch.tensor(alpha, dtype=torch.float64), node.place)
    bias = node.tensor(2)
    return made if bias is None else _shifted(made, beta * bias, node.place)


def _matmul(node: Node) -> Value:
    one, other = node.inputs
    if isinstance(one, Value) and not isinstance(other, Value) and other.ndim == 2:
        return values.features(one, node.tensor(1).mT, None, node.place)
    return _by_columns(node)


def _shifted(value: Value, constant: Tensor, place: str) -> Value:
    shape = torch.broadcast_shapes(value.shape, constant.shape)
    return values.shifted(_expanded(value, shape, place), constant, place)


def _expanded(value: Value, shape: Sequence[int], place: str) -> Value:
    if value.shape == tuple(shape):
        return value
    ones = [1] * (len(shape) - len(value.shape))
    return values.moved(
        [value], lambda a: a.reshape(2, *ones, *value.shape).expand(2, *shape).clone(), place
    )


def _sum(*signs: float):
    def added(node: Node) -> Value:
        factors = signs or (1.0,) * len(node.inputs)
        shapes = [one.shape for one in node.inputs]
        try:
            shape = torch.broadcast_shapes(*shapes)
        except RuntimeError:
            raise ShapeError(f"adds arrays of the shapes {shapes}") from None
        pairs = list(zip(node.inputs, factors, strict=True))
        both = [(_expanded(v, shape, node.place), c) for v, c in pairs if isinstance(v, Value)]
        made = values.added([v for v, _ in both], node.place, [c for _, c in both])
        for constant, factor in pairs:
            if not isinstance(constant, Value):
                made = values.shifted(made, factor * tensor(constant), node.place)
        return made

    return added


def _mean(node: Node) -> Value:
    count = len(node.inputs)
    total = _sum()(node)
    share = torch.tensor(1 / count, dtype=torch.float64)
    return values.scaled(total, share, node.place, roundings=1)


def _product(node: Node) -> Value:
    if len(node.values) > 1:
        return _gate(node)
    constant = next(tensor(one) for one in node.inputs if not isinstance(one, Value))
    shape = torch.broadcast_shapes(node.values[0].shape, constant.shape)
    return values.scaled(_expanded(node.values[0], shape, node.place), constant, node.place)


def _gate(node: Node) -> Value:
    """x sigmoid(x) and x hardsigmoid(x), which exporters write as products."""
    for one, other in (node.inputs, node.inputs[::-1]):
        if isinstance(other, Staged) and other.of is one and len(other.stage.parts) == 1:
            ((function, _),) = other.stage.parts
            if function.name == "sigmoid":
                return _activated(one, act.silu(), node.place)
            if function.name == "hard_sigmoid":
                return _activated(one, _hard_swish(**function.function.keywords), node.place)
    raise UnsupportedError(PRODUCT)


def _hard_swish(alpha: float, beta: float) -> Activation:
    """x max(0, min(1, alpha x + beta)): its slope is 2 alpha x + beta in between, from -beta to
    2 - beta, and 0 and 1 outside."""
    if not (alpha > 0 and 0 <= beta <= 1):
        raise UnsupportedError("multiplies by a hard sigmoid of unusual parameters")
    kinks = (-beta / alpha, (1 - beta) / alpha)

    def function(x: Tensor) -> Tensor:
        return x * (alpha * x + beta).clamp(0, 1)

    return Activation("hardswish", function, -beta, 2 - beta, kinks)


def _quotient(node: Node) -> Value:
    one, other = node.inputs
    if isinstance(other, Value) and values.is_softsign(one, other):
        return _activated(one, act.softsign(), node.place)
    if not isinstance(node.inputs[0], Value) or len(node.values) > 1:
        raise UnsupportedError(
            "divides by a value that depends on the input, as normalisation of single inputs does"
        )
    constant = node.tensor(1)
    if bool((constant == 0).any()):
        raise LipboundsError("divides by 0")
    shape = torch.broadcast_shapes(node.value.shape, constant.shape)
    value = _expanded(node.value, shape, node.place)
    return values.scaled(value, 1 / constant, node.place, roundings=1)


def _negative(node: Node) -> Value:
    return values.added([node.value], node.place, [-1.0])


def _convolution(node: Node) -> Value:
    kernel, bias = node.tensor(1), node.tensor(2)
    axes = kernel.ndim - 2
    if axes > 2:
        made = _by_columns(_without_bias(node))
        return made if bias is None else _shifted(made, _by_channel(bias, made), node.place)
    stride, dilation = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    before, after = _padding(node, kernel.shape[2:], stride, dilation, node.inputs[0].shape[2:])
    sides = (before[-1], after[-1], *((before[0], after[0]) if axes == 2 else (0, 0)))
    groups = node.get("group", 1)
    return _layer(
        node,
        lambda shape: pieces.convolution(
            kernel,
            bias,
            shape,
            pieces.pair(stride, 1, axes),
            sides,
            pieces.pair(dilation, 1, axes),
            groups,
        ),
    )


def _by_channel(bias: Tensor, made: Value) -> Tensor:
    return bias.reshape(-1, *[1] * (len(made.shape) - 2))


def _without_bias(node: Node) -> Node:
    """The same without its third input."""
    import onnx

    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[2:]
    return replace(node, proto=proto, inputs=node.inputs[:2])


def _transposed_convolution(node: Node) -> Value:
    made, bias = _by_columns(_without_bias(node)), node.tensor(2)
    return made if bias is None else _shifted(made, _by_channel(bias, made), node.place)


def _padding(node: Node, kernel, stride, dilation, sizes) -> tuple[list[int], list[int]]:
    """Entries before and after each axis."""
    axes, mode = len(kernel), node.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = node.get("pads", [0] * (2 * axes))
        return list(pads[:axes]), list(pads[axes:])
    if mode == "VALID":
        return [0] * axes, [0] * axes
    before, after = [], []
    for k, s, d, n in zip(kernel, stride, dilation, sizes, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def _batch_norm(node: Node) -> Value:
    if node.get("training_mode", 0):
        raise UnsupportedError("in training mode; export the module after module.eval()")
    scale, bias, mean, variance = (node.tensor(k) for k in range(1, 5))
    eps = node.get("epsilon", 1e-5)
    return _layer(node, lambda shape: pieces.batch_norm(mean, variance, scale, bias, eps, shape))


def _pool_windows(node: Node, shape: Sequence[int]):
    """(windows, inside, out_shape) of a pool on an array with its channels first."""
    kernel, axes = node.get("kernel_shape"), len(shape) - 1
    if len(kernel) != axes:
        raise ShapeError(f"pools over {len(kernel)} dimensions of {axes} behind the channels")
    stride, dilation = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    padding = _padding(node, kernel, stride, dilation, shape[1:])
    sides = [pieces.pair(side, 0, axes) for side in padding]
    windows, inside, out = sliding(
        pieces.image(shape),
        pieces.pair(kernel, 1, axes),
        pieces.pair(stride, 1, axes),
        list(zip(*sides, strict=True)),
        pieces.pair(dilation, 1, axes),
        bool(node.get("ceil_mode", 0)),
    )
    return windows, inside, pieces.unimage(out, axes)


def _max_pool(node: Node) -> Value:
    if len(node.proto.output) > 1 or node.get("storage_order", 0):
        raise UnsupportedError("with indices")

    def piece(shape):
        windows, _, out = _pool_windows(node, shape)
        return Piece(out, stage=PoolStage(windows, math.prod(shape)))

    return _layer(node, piece)


def _average_pool(node: Node) -> Value:
    if node.get("count_include_pad", 0) or node.get("ceil_mode", 0):
        return _by_columns(node, roundings=2)

    def piece(shape):
        windows, inside, out = _pool_windows(node, shape)
        operator = average_pooling(windows, inside, inside.sum(1).double(), math.prod(shape))
        zero = torch.zeros(operator.shape[0], dtype=torch.float64)
        return Piece(out, Affine(operator, zero), roundings=1)

    return _layer(node, piece)


def _global_average(node: Node) -> Value:
    value = node.value
    dims = range(2, len(value.shape))
    count = math.prod(value.shape[2:])
    return values.summed(value, list(dims), True, 1 / count, node.place)


def _global_maximum(node: Node) -> Value:
    dims = range(2, len(node.value.shape))
    return values.extreme_along(node.value, dims, True, 1.0, node.place)


def _reduced_dims(node: Node) -> list[int]:
    """The axes that are reduced, an attribute or, later, an input; none given are all of them."""
    axes = node.get("axes") if "axes" in node.attributes else node.array(1)
    rank = len(node.inputs[0].shape)
    if axes is None or len(axes) == 0:
        return [] if node.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(axis) % rank for axis in axes})


def _reduced(average: bool):
    def reduced(node: Node) -> Value:
        value, dims = node.inputs[0], _reduced_dims(node)
        count = math.prod(value.shape[d] for d in dims)
        factor = 1 / count if average else 1.0
        return values.summed(value, dims, bool(node.get("keepdims", 1)), factor, node.place)

    return reduced


def _extreme_along(sign: float):
    def reduced(node: Node) -> Value:
        keep = bool(node.get("keepdims", 1))
        return values.extreme_along(node.inputs[0], _reduced_dims(node), keep, sign, node.place)

    return reduced


def _activated(value: Value, function: Activation, place: str) -> Value:
    piece = pieces.activated(function, (value.size,), value.device)
    return Staged(value.shape, place, value.device, value, piece.stage)


def _activation(make: Callable[[Node], Activation]):
    return lambda node: _activated(node.value, make(node), node.place)


def _prelu(node: Node) -> Value:
    value, slopes = node.inputs[0], node.tensor(1)
    each = slopes.expand(value.shape).reshape(-1).clone()
    return _activated(value, act.prelu(each), node.place)


def _selu(node: Node) -> Value:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", SELU_GAMMA)
    made = _activated(node.value, act.elu(alpha), node.place)
    return values.scaled(made, torch.tensor(gamma, dtype=torch.float64), node.place)


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if not alpha > 0:
        raise UnsupportedError(f"alpha = {alpha} must be positive")
    kinks = (-beta / alpha, (1 - beta) / alpha)
    function = partial(_hard_sigmoid_of, alpha=alpha, beta=beta)
    hard_sigmoid = Activation("hard_sigmoid", function, 0.0, alpha, kinks)
    return _activated(node.value, hard_sigmoid, node.place)


def _hard_sigmoid_of(x: Tensor, alpha: float, beta: float) -> Tensor:
    """max(0, min(1, alpha x + beta))."""
    return (alpha * x + beta).clamp(0, 1)


def _clip(node: Node) -> Value:
    if "min" in node.attributes or "max" in node.attributes or len(node.inputs) == 1:
        low, high = node.get("min", -math.inf), node.get("max", math.inf)
    else:
        ends = [node.array(k) for k in (1, 2)]
        low, high = (
            default if end is None else float(end)
            for end, default in zip(ends, (-math.inf, math.inf), strict=True)
        )
    return _activated(node.inputs[0], act.clamp(low, high), node.place)


def _shrink(node: Node) -> Value:
    lambd, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    if lambd != bias:
        raise UnsupportedError("jumps, so that it has no Lipschitz constant")
    return _activated(node.value, act.softshrink(lambd), node.place)


def _extreme(sign: float):
    """The largest of several values and constants, or minus that of their negatives."""

    def taken(node: Node) -> Value:
        place = node.place
        shape = torch.broadcast_shapes(*(one.shape for one in node.inputs))
        given = [_expanded(one, shape, place) for one in node.values]
        key = frozenset(node.proto.input)
        if len(given) == 2 and key in node.pairs:
            node.pairs[key] = node.pairs[key] or values.sorted_pair(*given, place)
            return node.pairs[key][0 if sign > 0 else 1]
        signed = [values.added([one], place, [sign]) for one in given]
        made = reduce(lambda a, b: values.maximum(a, b, place), signed)
        for one in node.inputs:
            if not isinstance(one, Value):
                constant = sign * tensor(one)
                above = values.shifted(made, -constant, place)
                above = _activated(above, act.relu(), place)
                made = values.shifted(above, constant, place)
        return values.added([made], place, [sign])

    return taken


def _top_k(node: Node) -> Value:
    """The greatest, or least, in their order; of as many as there are, a sort (GroupSort)."""
    if not node.get("sorted", 1):
        raise UnsupportedError("leaves the order of its outputs open; export it with sorted=1")
    value, count = node.inputs[0], node.tensor(1)
    count = node.get("k") if count is None else int(count)
    axis = node.get("axis", -1) % len(value.shape)
    made = values.sorted_along(value, axis, bool(node.get("largest", 1)), node.place)
    return values.moved([made], lambda a: a.narrow(axis + 1, 0, count), node.place)


ONNX_SIXTH = 0.1666666716337204  # in float32, as the operator's definition has it
SELU_GAMMA = 1.05070102214813232421875
JUMPS = "jumps, so that it has no Lipschitz constant"
REFUSED = {
    "Softmax": f"{SOFTMAX} (logits=True leaves one at the end out)",
    "LogSoftmax": f"{LOG_SOFTMAX} (logits=True leaves one at the end out)",
    **dict.fromkeys(
        ["LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization",
         "MeanVarianceNormalization", "RMSNormalization"], NORMALISATION),
    **dict.fromkeys(["Sign", "Round", "Floor", "Ceil", "Greater", "Less", "GreaterOrEqual",
                     "LessOrEqual", "Equal", "ThresholdedRelu", "Hardmax", "ArgMax"], JUMPS),
    **dict.fromkeys(["Pow", "Exp", "Log", "Sqrt", "Reciprocal"],
                    "has no finite slope; it is not Lipschitz on all inputs"),
    "Attention": PRODUCT,
}  # fmt: skip
MOVES = (
    "Reshape Flatten Transpose Squeeze Unsqueeze Concat Slice Split Gather GatherND GatherElements "
    "Pad Expand Tile DepthToSpace SpaceToDepth ReverseSequence Trilu ScatterND ScatterElements"
).split()
NODES: dict[str, Callable[[Node], Value | list[Value]]] = {
    **dict.fromkeys(MOVES, _moved),
    "Where": _where,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Resize": _resize,
    "Upsample": _resize,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _by_columns,
    "Add": _sum(1.0, 1.0),
    "Sub": _sum(1.0, -1.0),
    "Sum": _sum(),
    "Mean": _mean,
    "Mul": _product,
    "Div": _quotient,
    "Neg": _negative,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_maximum,
    "ReduceMean": _reduced(average=True),
    "ReduceSum": _reduced(average=False),
    "ReduceMax": _extreme_along(1.0),
    "ReduceMin": _extreme_along(-1.0),
    "TopK": _top_k,
    "Max": _extreme(1.0),
    "Min": _extreme(-1.0),
    "Relu": _activation(lambda node: act.relu()),
    "Abs": _activation(lambda node: act.absolute()),
    "LeakyRelu": _activation(lambda node: act.leaky_relu(node.get("alpha", 0.01))),
    "PRelu": _prelu,
    "Elu": _activation(lambda node: act.elu(node.get("alpha", 1.0))),
    "Selu": _selu,
    "Celu": _activation(lambda node: act.celu(node.get("alpha", 1.0))),
    "Sigmoid": _activation(lambda node: act.sigmoid()),
    "Tanh": _activation(lambda node: act.tanh()),
    "Softplus": _activation(lambda node: act.softplus()),
    "Softsign": _activation(lambda node: act.softsign()),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation(lambda node: _hard_swish(ONNX_SIXTH, 0.5)),
    "Gelu": _activation(
        lambda node: act.gelu_tanh() if node.get("approximate") == "tanh" else act.gelu()
    ),
    "Mish": _activation(lambda node: act.mish()),
    "Shrink": _shrink,
    "Clip": _clip,
}

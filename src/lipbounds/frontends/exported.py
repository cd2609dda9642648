"""From any `torch.nn.Module` to a graph of values, by way of torch.export.

torch.export traces the module's forward on a batch of two and gives it as a list of operations on
tensors, nothing hidden or in place. What depends on parameters alone is computed; of the rest, each
operation becomes one or a few values: `OPERATIONS` by name, `MOVES` by where their entries go.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import getitem

import torch
from torch import Tensor, fx, nn

from ..errors import LipboundsError, UnsupportedError, first_line, out_of_memory
from ..networks import activations as act
from ..networks.activations import Activation
from . import pieces, values
from .pieces import MISFITS, Shape
from .values import Input, Staged, Value

BATCH = 2
ALONG = {"amax": 1.0, "amin": -1.0, "max.dim": 1.0, "min.dim": -1.0}
VIEWS = "view reshape _unsafe_view unflatten permute transpose".split()
EXTREMES = {"maximum": 1.0, "max.other": 1.0, "minimum": -1.0, "min.other": -1.0}
aten = torch.ops.aten


def graph_of(module: nn.Module, shape: Shape, device: torch.device) -> Value:
    """The module's output as a function of one input of that shape.

    Raises UnsupportedError for an operation that is not known, or that no bound covers, and
    LipboundsError where torch.export fails, each with the place.
    """
    program = _exported(module, shape, device)
    tensors = {**program.state_dict, **program.constants}
    given = Input(shape, "input", device)
    held = {
        spec.arg.name: given if spec.target is None else tensors[spec.target]
        for spec in program.graph_signature.input_specs
    }
    reader = _Reader(held)
    for node in program.graph.nodes:
        reader.read(node)
    return reader.output(program.graph_signature.user_outputs)


def _exported(module: nn.Module, shape: Shape, device: torch.device):
    kinds = (t.dtype for t in [*module.parameters(), *module.buffers()] if t.is_floating_point())
    example = torch.zeros(BATCH, *shape, dtype=next(kinds, torch.float64), device=device)
    try:
        with _silent():
            return _kept_whole(torch.export.export(module, (example,))).run_decompositions({})
    except Exception as error:  # whatever the module's own code does
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"torch.export cannot trace the module on inputs of shape {shape} "
            f"({type(error).__name__}: {first_line(error)}); its forward must take one tensor, and "
            "must not branch on the values in it"
        ) from error


@torch.library.custom_op("lipbounds::softshrink", mutates_args=())
def _softshrink(x: Tensor, lambd: float) -> Tensor:
    return nn.functional.softshrink(x, lambd)


@_softshrink.register_fake
def _softshrink_shape(x, lambd):
    return torch.empty_like(x)


def _kept_whole(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Softshrink under a name of ours: torch takes its own apart, into a comparison."""
    for node in program.graph.nodes:
        if node.target is aten.softshrink.default:
            node.target = torch.ops.lipbounds.softshrink.default
            node.args, node.kwargs = (node.args[0], *(node.args[1:] or (0.5,))), {}
    return program


@contextmanager
def _silent():
    """Without torch's own words on what fails; the error says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Operation:
    """One node: what it is called, where it stands, and the values and constants that it takes."""

    node: fx.Node
    place: str
    args: tuple
    kwargs: dict
    shared: dict  # of the whole graph: what several operations are made from together

    def values(self) -> list[Value]:
        found = []
        fx.node.map_aggregate((self.args, self.kwargs), lambda a: found.append(a))
        return [one for one in found if isinstance(one, Value)]

    def argument(self, position: int, name: str, default=None):
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def __call__(self, *arrays: Tensor):
        """The operation itself, with arrays in the place of its values."""
        remaining = iter(arrays)

        def put(one):
            if isinstance(one, Value):
                return next(remaining)
            floating = isinstance(one, Tensor) and one.is_floating_point()
            return one.double() if floating else one

        args, kwargs = fx.node.map_aggregate((self.args, self.kwargs), put)
        return self.node.target(*args, **kwargs)


class _Reader:
    """The nodes in their order: what each one is, a value, a constant or a list of either."""

    def __init__(self, held: dict):
        self.held, self.known, self.shared = held, {}, {}

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.known[node] = self.held[node.name]
        elif node.op == "call_function":
            self.known[node] = self._called(node)
        elif node.op != "output":
            raise UnsupportedError(f"{_place(node)}: {node.op} is not supported")

    def _called(self, node: fx.Node):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.known.__getitem__)
        operation = Operation(node, _place(node), args, kwargs, self.shared)
        if not operation.values():
            with torch.no_grad():
                return node.target(*args, **kwargs)
        try:
            return _handler(operation)(operation)
        except LipboundsError as error:
            raise type(error)(f"{operation.place}: {error}") from None
        except MISFITS as error:
            if out_of_memory(error):
                raise
            raise UnsupportedError(
                f"{operation.place}: with these arguments ({first_line(error)})"
            ) from error

    def output(self, names: Sequence[str]) -> Value:
        """What the module returns, of whatever it changes in place besides."""
        found = [value for node, value in self.known.items() if node.name in names]
        if len(found) != 1 or not isinstance(found[0], Value):
            raise UnsupportedError(
                f"the module returns {len(names)} outputs; wrap it in one that returns a single "
                "tensor, which depends on the input"
            )
        return found[0]


def _place(node: fx.Node) -> str:
    """The layer that the operation belongs to, or its line in a forward."""
    _, name = _names(node)
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    kind = kind if isinstance(kind, str) else kind.__name__
    layer = f"layer {path!r} ({kind.rpartition('.')[2]})" if path else "the module's forward"
    return f"{layer}: {name}"


def _handler(operation: Operation) -> Callable[[Operation], Value]:
    if operation.node.target is getitem:
        return _item
    for known in _names(operation.node):
        if known in OPERATIONS:
            return OPERATIONS[known]
        if known in REFUSED:
            raise UnsupportedError(REFUSED[known])
    raise UnsupportedError(
        "is not supported; replace the layer, or write the network as torch.nn layers, sums and "
        "concatenations"
    )


def _item(operation: Operation) -> Value | None:
    """One of several outputs; None stands for the places of sorted and of largest entries."""
    made = operation.args[0][operation.args[1]]
    if made is None and operation.node.users:
        raise UnsupportedError("uses the places of sorted entries or of the largest, which jump")
    return made


def _names(node: fx.Node) -> tuple[str, str]:
    """With and without the overload."""
    name = str(node.target).removeprefix("aten.").removeprefix("lipbounds.")
    return name, name.partition(".")[0]


def _constant(operation: Operation, position: int, name: str) -> Tensor | None:
    """A parameter, in float64; None where there is none."""
    tensor = operation.argument(position, name)
    if isinstance(tensor, Value):
        raise UnsupportedError(f"its {name} depends on the input")
    return tensor if tensor is None else tensor.detach().to(torch.float64)


def _moved(operation: Operation) -> Value | list[Value]:
    """By where the entries go; for operations that give several arrays, each of them."""
    given = operation.values()
    several = operation.node.meta["val"]
    if isinstance(several, tuple | list):
        return [
            values.moved(given, lambda *a, k=k: operation(*a)[k], operation.place)
            for k in range(len(several))
        ]
    return values.moved(given, operation, operation.place)


def _same(operation: Operation) -> Value:
    return operation.values()[0]


def _constant_like(operation: Operation) -> Tensor:
    """What depends on the shape of a value alone."""
    (value,) = operation.values()
    return operation(torch.zeros(BATCH, *value.shape, device=value.device))


def _cast(operation: Operation) -> Value:
    dtype = operation.kwargs.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        raise UnsupportedError(f"rounds to {dtype}, which has no Lipschitz constant")
    given = operation.node.args[0].meta["val"].dtype
    if dtype is not None and torch.finfo(dtype).eps > torch.finfo(given).eps:
        raise UnsupportedError(f"rounds {given} to {dtype}; take the module in one of them")
    return _same(operation)


def _linear(operation: Operation) -> Value:
    weight, bias = _constant(operation, 1, "weight"), _constant(operation, 2, "bias")
    return values.features(operation.args[0], weight, bias, operation.place)


def _matmul(operation: Operation) -> Value:
    one, other = operation.args
    if isinstance(one, Value) and isinstance(other, Value):
        raise UnsupportedError(PRODUCT)
    if isinstance(one, Value) and other.ndim == 2:
        return values.features(one, other.detach().double().mT, None, operation.place)
    return _by_columns(operation)


def _addmm(operation: Operation) -> Value:
    if operation.kwargs or not isinstance(operation.args[1], Value):
        raise UnsupportedError("addmm with factors, or of a constant and the input")
    weight, bias = _constant(operation, 2, "mat2"), _constant(operation, 0, "input")
    return values.features(operation.args[1], weight.mT, bias, operation.place)


def _by_columns(operation: Operation, roundings: int = 0) -> Value:
    """Linear in the one value that it takes; evaluated at the unit vectors."""
    given = operation.values()
    if len(given) != 1:
        raise UnsupportedError(PRODUCT)
    return values.linear(given[0], operation, operation.place, roundings)


def _rounded_by_columns(operation: Operation) -> Value:
    """As interpolations are: entries that are products and quotients of a few numbers."""
    return _by_columns(operation, 16)


def _convolution(operation: Operation) -> Value:
    kernel, bias = _constant(operation, 1, "weight"), _constant(operation, 2, "bias")
    value, axes = operation.args[0], kernel.ndim - 2
    if axes > 2:
        return _with_bias(operation, bias)
    stride, padding = operation.argument(3, "stride", 1), operation.argument(4, "padding", 0)
    dilation, groups = operation.argument(5, "dilation", 1), operation.argument(6, "groups", 1)
    if padding == "same":
        sides = pieces.same_padding(list(kernel.shape[2:]), dilation)
    else:
        top, left = pieces.pair(0 if padding == "valid" else padding, 0, axes)
        sides = (left, left, top, top)
    size = [pieces.pair(one, 1, axes) for one in (stride, dilation)]
    piece = pieces.convolution(kernel, bias, value.shape, size[0], sides, size[1], groups)
    return values.applied(value, piece, operation.place)


def _with_bias(operation: Operation, bias: Tensor | None) -> Value:
    """A convolution of another kind by its columns, its bias by channels."""
    others = {name: value for name, value in operation.kwargs.items() if name != "bias"}
    bare = replace(operation, args=(*operation.args[:2], None, *operation.args[3:]), kwargs=others)
    made = _by_columns(bare)
    if bias is None:
        return made
    return values.shifted(made, bias.reshape(-1, *[1] * (len(made.shape) - 1)), operation.place)


def _transposed_convolution(operation: Operation) -> Value:
    return _with_bias(operation, _constant(operation, 2, "bias"))


def _batch_norm(operation: Operation) -> list[Value]:
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (
        _constant(operation, k, name) for k, name in enumerate(names, start=1)
    )
    value, eps = operation.args[0], operation.args[6]
    piece = pieces.batch_norm(mean, variance, weight, bias, eps, value.shape)
    return [values.applied(value, piece, operation.place)]


def _training(operation: Operation):
    raise UnsupportedError("in training mode; call module.eval() first")


def _dropout(operation: Operation) -> Value:
    if operation.args[1] > 0 and operation.args[2]:
        _training(operation)
    return _same(operation)


def _pool(axes: int, most: bool):
    def pooled(operation: Operation) -> Value:
        value, kernel = operation.args[:2]
        stride = operation.argument(2, "stride") or kernel
        padding = operation.argument(3, "padding", 0)
        if most:
            dilation = operation.argument(4, "dilation", 1)
            ceil = operation.argument(5, "ceil_mode", False)
            sizes = kernel, stride, padding, dilation, ceil
            piece = pieces.max_pool(value.shape, *sizes, axes, value.device)
        else:
            ceil = operation.argument(4, "ceil_mode", False)
            include = operation.argument(5, "count_include_pad", True)
            divisor = operation.argument(6, "divisor_override")
            sizes = kernel, stride, padding, ceil, include, divisor
            piece = pieces.average_pool(value.shape, *sizes, axes, value.device)
        made = values.applied(value, piece, operation.place)
        several = isinstance(operation.node.meta["val"], tuple | list)
        return [made] if several else made

    return pooled


def _adaptive(axes: int, most: bool):
    def pooled(operation: Operation) -> Value:
        value, output = operation.args
        make = pieces.adaptive_max_pool if most else pieces.adaptive_average_pool
        made = values.applied(value, make(value.shape, output, axes, value.device), operation.place)
        return [made] if most else made

    return pooled


def _activation(make: Callable[..., Activation]):
    """An activation, made of the operation's arguments behind the value."""

    def applied(operation: Operation) -> Value:
        value, function = operation.args[0], make(*operation.args[1:], **operation.kwargs)
        piece = pieces.activated(function, value.shape, value.device)
        return values.applied(value, piece, operation.place)

    return applied


def _elu(alpha=1.0, scale=1.0, input_scale=1.0) -> Activation:
    if (scale, input_scale) != (1.0, 1.0):
        raise UnsupportedError("elu with scales")
    return act.elu(alpha)


def _threshold(threshold, value) -> Activation:
    if threshold != value:
        raise UnsupportedError(
            f"jumps from {value:g} to {threshold:g}, so that it has no Lipschitz constant"
        )
    return act.clamp(min_val=threshold)


def _gelu(approximate="none") -> Activation:
    return act.gelu_tanh() if approximate == "tanh" else act.gelu()


def _clamp(low=None, high=None, min=None, max=None) -> Activation:  # as torch names them
    ends = (low if low is not None else min), (high if high is not None else max)
    if any(isinstance(end, Tensor | Value) for end in ends):
        raise UnsupportedError("clamp between tensors; write it by maximum and minimum")
    low, high = ends
    return act.clamp(-math.inf if low is None else low, math.inf if high is None else high)


def _rrelu(lower=1 / 8, upper=1 / 3, training=False, generator=None) -> Activation:
    if training:
        raise UnsupportedError("in training mode; call module.eval() first")
    return act.leaky_relu((lower + upper) / 2)


def _prelu(operation: Operation) -> Value:
    value, slopes = operation.args[0], _constant(operation, 1, "weight")
    return values.applied(value, pieces.prelu(slopes.flatten(), value.shape), operation.place)


PRODUCT = (
    "multiplies two values that both depend on the input, as attention and squeeze-and-excitation "
    "do: such a function has no Lipschitz constant on all inputs"
)


def _broadcast(operation: Operation, found: list) -> list:
    """Values expanded to the shape of the result."""
    shape = operation.node.meta["val"].shape
    return [
        values.moved([one], lambda a: a.expand(shape).clone(), operation.place)
        if isinstance(one, Value) and (BATCH, *one.shape) != tuple(shape)
        else one
        for one in found
    ]


def _unbatched(constant, operation: Operation) -> Tensor:
    """A constant that is the same for all inputs of the batch, without that dimension."""
    tensor = torch.as_tensor(constant).detach().to(torch.float64)
    if tensor.ndim == len(operation.node.meta["val"].shape):
        if len(tensor) != 1 and not torch.equal(tensor[0], tensor[-1]):
            raise UnsupportedError("treats the inputs of a batch differently")
        tensor = tensor[0]
    return tensor


def _sum(sign: float, turned: bool = False):
    """x + sign alpha y, or alpha x and sign y exchanged (`turned`): of values and constants."""

    def added(operation: Operation) -> Value:
        factors = [1.0, sign * operation.argument(2, "alpha", 1)]
        found = _broadcast(operation, list(operation.args[:2]))
        if turned:
            found = found[::-1]
        both = [pair for pair in zip(found, factors, strict=True) if isinstance(pair[0], Value)]
        made = values.added([v for v, _ in both], operation.place, [c for _, c in both])
        for constant, factor in zip(found, factors, strict=True):
            if not isinstance(constant, Value):
                shift = factor * _unbatched(constant, operation)
                made = values.shifted(made, shift, operation.place)
        return made

    return added


def _product(operation: Operation) -> Value:
    found = _broadcast(operation, list(operation.args[:2]))
    given = [one for one in found if isinstance(one, Value)]
    if len(given) > 1:
        return _gated(operation, *given)
    (constant,) = (one for one in found if not isinstance(one, Value))
    return values.scaled(given[0], _unbatched(constant, operation), operation.place)


def _gated(operation: Operation, one: Value, other: Value) -> Value:
    """x sigmoid(x), written out."""
    for value, gate in ((one, other), (other, one)):
        if isinstance(gate, Staged) and gate.of is value and gate.stage.entrywise:
            if [function.name for function, _ in gate.stage.parts] == ["sigmoid"]:
                return _activation(act.silu)(replace(operation, args=(value,), kwargs={}))
    raise UnsupportedError(PRODUCT)


def _quotient(operation: Operation) -> Value:
    if operation.kwargs.get("rounding_mode") is not None:
        raise UnsupportedError("rounds, so that it has no Lipschitz constant")
    one, other = _broadcast(operation, list(operation.args[:2]))
    if isinstance(other, Value) and values.is_softsign(one, other):
        return _activation(act.softsign)(replace(operation, args=operation.args[:1], kwargs={}))
    if isinstance(other, Value):
        raise UnsupportedError(
            "divides by a value that depends on the input, as normalisation of single inputs does"
        )
    factor = 1 / _unbatched(other, operation)
    return values.scaled(one, factor, operation.place, roundings=1)


def _negative(operation: Operation) -> Value:
    return values.added(operation.args[:1], operation.place, [-1.0])


def _extreme(sign: float):
    """max(x, y), or -max(-x, -y), of values; of a value and a number, an activation."""

    def taken(operation: Operation) -> Value:
        one, other = _broadcast(operation, list(operation.args[:2]))
        if not (isinstance(one, Value) and isinstance(other, Value)):
            raise UnsupportedError("of a value and a constant tensor; write it as a clamp")
        if _has_opposite(operation.node, sign):
            key = frozenset(operation.node.args[:2])
            if key not in operation.shared:
                operation.shared[key] = values.sorted_pair(one, other, operation.place)
            return operation.shared[key][0 if sign > 0 else 1]
        pair = (values.added([v], operation.place, [sign]) for v in (one, other))
        made = values.maximum(*pair, operation.place)
        return values.added([made], operation.place, [sign])

    return taken


def _has_opposite(node: fx.Node, sign: float) -> bool:
    """Whether the same two values have their minimum taken beside their maximum, as in MaxMin."""
    return any(
        any(EXTREMES.get(name) == -sign for name in _names(user))
        and set(user.args[:2]) == set(node.args[:2])
        for user in node.args[0].users
    )


def _sorted(operation: Operation) -> list[Value | None]:
    """In groups along a dimension (GroupSort); the second output, their places, is of no use."""
    (value,) = operation.values()
    dim = operation.argument(1, "dim", -1) % (len(value.shape) + 1)
    descending = operation.argument(2, "descending", False)
    if dim == 0:
        raise UnsupportedError("mixes the inputs of a batch")
    return [values.sorted_along(value, dim - 1, descending, operation.place), None]


def _reduced_dims(operation: Operation) -> list[int]:
    """Of the array without its batch."""
    axes = len(operation.args[0].shape) + 1
    dims = operation.argument(1, "dim")
    dims = range(axes) if dims is None or dims == [] else dims
    dims = sorted({d % axes for d in ([dims] if isinstance(dims, int) else dims)})
    if 0 in dims:
        raise UnsupportedError("mixes the inputs of a batch")
    return [d - 1 for d in dims]


def _reduced(average: bool):
    def reduced(operation: Operation) -> Value:
        value, dims = operation.args[0], _reduced_dims(operation)
        keep = operation.argument(2, "keepdim", False)
        factor = 1 / math.prod(value.shape[d] for d in dims) if average else 1.0
        return values.summed(value, dims, keep, factor, operation.place)

    return reduced


def _extreme_along(sign: float):
    def reduced(operation: Operation) -> Value:
        keep = operation.argument(2, "keepdim", False)
        value, dims = operation.args[0], _reduced_dims(operation)
        if [value.shape[d] for d in dims] == [2] and _has_opposite_along(operation.node, sign):
            return _of_pair(operation, value, dims[0], keep, sign)
        return values.extreme_along(value, dims, keep, sign, operation.place)

    return reduced


def _of_pair(operation: Operation, value: Value, dim: int, keep: bool, sign: float) -> Value:
    """Of two entries along a dimension of which both the largest and the smallest are taken."""
    place, key = operation.place, (_first_alike(operation.node.args[0]), dim)
    if key not in operation.shared:
        ends = [values.moved([value], lambda a, k=k: a.select(dim + 1, k), place) for k in (0, 1)]
        operation.shared[key] = values.sorted_pair(*ends, place)
    made = operation.shared[key][0 if sign > 0 else 1]
    return values.moved([made], lambda a: a.unsqueeze(dim + 1), place) if keep else made


def _has_opposite_along(node: fx.Node, sign: float) -> bool:
    """Whether the smallest entries along the same dimension are taken beside the largest."""

    def dims(one: fx.Node):
        given = one.args[1] if isinstance(one.args[1], list) else [one.args[1]]
        return [dim % one.args[0].meta["val"].ndim for dim in given]

    return any(
        len(one.args) > 1
        and any(ALONG.get(name) == -sign for name in _names(one))
        and _alike(one.args[0], node.args[0])
        and dims(one) == dims(node)
        for one in node.graph.nodes
    )


def _first_alike(node: fx.Node) -> fx.Node:
    return next(one for one in node.graph.nodes if _alike(one, node))


def _alike(one, other) -> bool:
    """Whether two nodes are the same view of the same value, as x.view(...) written twice is."""
    if one is other or not (isinstance(one, fx.Node) and isinstance(other, fx.Node)):
        return one == other
    if _names(one)[1] not in VIEWS or one.target is not other.target:
        return False
    pairs = zip(one.args, other.args, strict=False)
    same = len(one.args) == len(other.args) and one.kwargs == other.kwargs
    return same and all(_alike(a, b) for a, b in pairs)


def _extreme_and_place(sign: float):
    """With the place of the entry, which is of no use."""
    return lambda operation: [_extreme_along(sign)(operation), None]


NORMALISATION = (
    "normalises each input by its own mean and variance: its slopes have no finite interval; train "
    "with batch norm instead, or bound the parts of the network around it"
)
MIXES = "its slopes depend on other entries; bound the network without it, on its logits"
SOFTMAX = f"{MIXES}, and halve that: its own constant is 1/2 in every norm"
LOG_SOFTMAX = f"{MIXES}, and multiply by its own constant: 2 in linf, sqrt(n) in l2, n - 1 in l1"
REFUSED = {
    "layer_norm": NORMALISATION,
    "group_norm": NORMALISATION,
    "native_group_norm": NORMALISATION,
    "native_layer_norm": NORMALISATION,
    "instance_norm": NORMALISATION,
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "_softmax": SOFTMAX,
    "_log_softmax": LOG_SOFTMAX,
    "scaled_dot_product_attention": PRODUCT,
    "round": "jumps, so that it has no Lipschitz constant",
    "sign": "jumps, so that it has no Lipschitz constant",
    "gt": "compares, so that what follows may jump; write it as an activation",
    "lt": "compares, so that what follows may jump; write it as an activation",
    "ge": "compares, so that what follows may jump; write it as an activation",
    "le": "compares, so that what follows may jump; write it as an activation",
    "pow": "has no finite slope; it is not Lipschitz on all inputs",
}
MOVES = (
    "view _unsafe_view reshape permute transpose t movedim flatten unflatten squeeze unsqueeze "
    "slice select narrow index index_select unbind split split_with_sizes chunk cat stack diagonal "
    "tril triu zero copy flip roll expand repeat repeat_interleave unfold im2col pixel_shuffle "
    "pixel_unshuffle channel_shuffle pad constant_pad_nd reflection_pad1d reflection_pad2d "
    "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d slice_scatter select_scatter"
).split()
OPERATIONS: dict[str, Callable[[Operation], Value | list[Value]]] = {
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(["clone", "contiguous", "alias", "detach", "lift_fresh_copy"], _same),
    **dict.fromkeys(["dropout", "feature_dropout", "alpha_dropout", "native_dropout"], _dropout),
    **dict.fromkeys(["feature_alpha_dropout"], _dropout),
    **dict.fromkeys(["to", "_to_copy"], _cast),
    "_assert_tensor_metadata": _same,
    **dict.fromkeys(["zeros_like", "ones_like", "full_like"], _constant_like),
    "linear": _linear,
    **dict.fromkeys(["matmul", "mm", "bmm", "mv"], _matmul),
    "addmm": _addmm,
    "einsum": _by_columns,
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], _convolution),
    **dict.fromkeys(
        ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], _transposed_convolution
    ),
    **dict.fromkeys(
        [
            "upsample_bilinear2d",
            "upsample_linear1d",
            "upsample_trilinear3d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
        ],
        _rounded_by_columns,
    ),
    "_native_batch_norm_legit_no_training": _batch_norm,
    **dict.fromkeys(["_native_batch_norm_legit", "_native_batch_norm_legit_functional"], _training),
    **{f"max_pool{axes}d": _pool(axes, most=True) for axes in (1, 2, 3)},
    **{f"max_pool{axes}d_with_indices": _pool(axes, most=True) for axes in (1, 2, 3)},
    **{f"avg_pool{axes}d": _pool(axes, most=False) for axes in (1, 2, 3)},
    **{f"adaptive_avg_pool{axes}d": _adaptive(axes, most=False) for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": _adaptive(axes, most=True) for axes in (1, 2, 3)},
    "add": _sum(1.0),
    "sub": _sum(-1.0),
    "rsub": _sum(-1.0, turned=True),
    "mul": _product,
    "div": _quotient,
    "neg": _negative,
    **{name: _extreme(sign) for name, sign in EXTREMES.items()},
    **{name: _extreme_along(sign) for name, sign in ALONG.items() if "." not in name},
    **{name: _extreme_and_place(sign) for name, sign in ALONG.items() if "." in name},
    "sort": _sorted,
    "sum": _reduced(average=False),
    "mean": _reduced(average=True),
    "relu": _activation(act.relu),
    "relu6": _activation(act.relu6),
    "abs": _activation(act.absolute),
    "leaky_relu": _activation(act.leaky_relu),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "rrelu": _activation(_rrelu),
    "tanh": _activation(act.tanh),
    "sigmoid": _activation(act.sigmoid),
    "hardtanh": _activation(act.hardtanh),
    "hardsigmoid": _activation(act.hardsigmoid),
    "hardswish": _activation(act.hardswish),
    "log_sigmoid": _activation(act.log_sigmoid),
    "softplus": _activation(act.softplus),
    "softshrink": _activation(act.softshrink),
    "threshold": _activation(_threshold),
    "elu": _activation(_elu),
    "selu": _activation(act.selu),
    "celu": _activation(act.celu),
    "silu": _activation(act.silu),
    "gelu": _activation(_gelu),
    "mish": _activation(act.mish),
    "clamp": _activation(_clamp),
    "clamp_min": _activation(_clamp),
    "clamp_max": _activation(lambda high: act.clamp(max_val=high)),
}

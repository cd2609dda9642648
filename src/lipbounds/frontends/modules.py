"""From a `torch.nn.Module` to a `Network`; of a Sequential, layer by layer, each kind by a small
function."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..arguments import check_device
from ..errors import LipboundsError, ShapeError, UnsupportedError, first_line, out_of_memory
from ..networks import activations as act
from ..networks.activations import Activation
from ..networks.network import Network
from . import pieces
from .equality import Imported, Source, checked
from .exported import graph_of
from .lowering import lowered
from .pieces import MISFITS, Piece, Shape, checked_shape
from .values import Input, applied

AGAIN = 1e-2, 1e-6  # relative and absolute: how far the outputs of two calls may be apart
PATCHED = "undo what changes the forward of the module or its layers, or report it as a fault"


def from_torch(module: nn.Module, input_shape: Sequence[int]) -> Network:
    """The network that a module computes in eval mode, in float64.

    module: a `torch.nn.Sequential` (nested too) of known layers, or any other that torch.export can
    trace: residual and parallel branches, functional calls, parametrised and shared layers.
    input_shape: of one input, without the batch dimension, for instance (1, 28, 28).
    The Network equals the module up to rounding, which is checked on a few inputs; the module is
    not touched. It lives on the module's device. Raises UnsupportedError for an operation, layer or
    option that it does not know, or that no bound covers, and for hooks and patches of a
    Sequential, naming the place, and LipboundsError for shapes that do not fit, weights that are
    not finite, or batch norm or dropout in training mode.
    """
    return imported(module, input_shape).network


def imported(module: nn.Module, input_shape: Sequence[int]) -> Imported:
    """As `from_torch`, with the largest difference to the module that was found."""
    check_device("from_torch")
    _require_module(module)
    module = _unwrapped(module)
    shape = checked_shape(input_shape)
    # Tensors made in inference mode could not be differentiated afterwards.
    with torch.inference_mode(False), torch.no_grad():
        network = _network(module, shape)
        source = Source("module", partial(_output, module), number_type(module), PATCHED)
        return checked(network, source, roundoff(source.dtype, network.device))


def _network(module: nn.Module, shape: Shape) -> Network:
    tensors = chain(module.parameters(), module.buffers())
    tensor = next((t for t in tensors if not t.is_meta), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    if not _is_chain(module):
        _check_tensors([*module.named_parameters(), *module.named_buffers()], "the module")
        return lowered(graph_of(module, shape, device))
    value = Input(shape, "input", device)
    for place, layer in _layers(module):
        value = applied(value, _convert(layer, place, value.shape, device), place)
    return lowered(value)


def _is_chain(module: nn.Module) -> bool:
    """Whether its layers follow one another, each of a kind that is converted by itself."""

    def known(layer: nn.Module) -> bool:
        if isinstance(layer, LazyModuleMixin):
            return True  # and refused, where it is not initialised
        zeros = getattr(layer, "padding_mode", "zeros") == "zeros"
        return zeros and type_before_parametrizations(layer) in CONVERTERS

    return all(known(layer) for _, layer in _layers(module))


def _unwrapped(module: nn.Module) -> nn.Module:
    """What torch.compile and DataParallel wrap."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            "a scripted or traced module hides its operations; pass the module it was made from"
        )
    return module


def number_type(module: nn.Module) -> torch.dtype:
    tensors = chain(module.parameters(), module.buffers())
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)


def roundoff(dtype: torch.dtype, device: torch.device) -> float:
    """The module's relative precision: in float32 products may be taken in TF32 or bfloat16."""
    reduced = torch.get_float32_matmul_precision() != "highest" or device.type != "cpu"
    if dtype == torch.float32 and reduced:
        return torch.finfo(torch.bfloat16).eps
    return torch.finfo(dtype).eps


def _output(module: nn.Module, x: Tensor) -> Tensor:
    """(b, n_out), of inputs (b, *input_shape)."""
    devices = [x.device] if x.is_cuda else []
    try:
        # Dropout draws numbers in training mode, if its p is 0 too.
        with torch.random.fork_rng(devices), torch.autocast(x.device.type, enabled=False):
            given = module(x.clone()).reshape(len(x), -1).double()
            again = module(x[-1:].clone()).reshape(1, -1).double()
    except Exception as error:  # whatever the module does
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"the module itself fails on {x.dtype} inputs of shape {tuple(x.shape[1:])} in a batch "
            f"({type(error).__name__}: {first_line(error)}); make module(x) work first"
        ) from None
    if not torch.allclose(again, given[-1:], *AGAIN, equal_nan=True):
        raise UnsupportedError(
            "the module gives another output when it is called again with the same input: it "
            "changes a state of its own, or draws numbers, and is no fixed network"
        )
    return given


def _require_module(module) -> None:
    if isinstance(module, nn.Module):
        return
    remedy = "build the network, a torch.nn.Sequential, and pass it"
    if isinstance(module, Mapping):
        remedy = "build the network and give it the state dict with module.load_state_dict(...)"
    elif isinstance(module, str | PathLike):
        remedy = "load the file with torch.load(...) and pass the network itself"
    elif isinstance(module, type):
        remedy = f"pass a network, not the class {module.__name__}"
    kind = type(module).__name__
    raise LipboundsError(f"module must be a torch.nn.Module, not of type {kind}; {remedy}")


def _layers(module: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        _refuse_hooks(module, f"layer {place!r} (Sequential)" if place else "the Sequential itself")
        # Not named_children(), which leaves out the second use of a shared layer.
        for name, child in module._modules.items():
            yield from _layers(child, f"{place}.{name}" if place else name)
    else:
        yield place or "0", module


def _convert(layer: nn.Module, place: str, shape: Shape, device: torch.device) -> Piece:
    where = f"layer {place!r} ({type(layer).__name__})"
    # Before the look-up: a lazy layer is of a class of its own, and holds a hook.
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        raise UnsupportedError(f"{where} is not initialised; run the module once on an input first")
    # A parametrised layer is of a generated subclass; its `weight` is a property.
    convert = CONVERTERS[type_before_parametrizations(layer)]
    _refuse_hooks(layer, where)
    tensors = [*layer.named_parameters(), *layer.named_buffers(), *vars(layer).items()]
    _check_tensors(tensors, where)
    if is_parametrized(layer):
        layer = _evaluable(layer, where)
        _check_tensors([(name, getattr(layer, name)) for name in layer.parametrizations], where)
    try:
        piece = convert(layer, shape, device)
    except LipboundsError as error:
        raise type(error)(f"{where} with input of shape {shape}: {error}") from None
    except MISFITS as error:
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"{where}: its weights and options do not match ({first_line(error)}); make the layer "
            "anew"
        ) from error
    _check_sizes(piece, where, shape)
    return piece


def _check_sizes(piece: Piece, where: str, shape: Shape) -> None:
    """A weight put in the place of another may be of any shape."""
    if piece.affine is None:
        return
    rows, columns = piece.affine.operator.shape
    wanted = math.prod(piece.shape), math.prod(shape)
    if (rows, columns) != wanted or piece.affine.offset.shape != (rows,):
        raise LipboundsError(
            f"{where}: its options say that it maps {wanted[1]} inputs to {wanted[0]} outputs; its "
            f"weight maps {columns} to {rows}, its bias is of {len(piece.affine.offset)} entries; "
            "make the layer anew"
        )


def _check_tensors(tensors: Sequence[tuple[str, object]], where: str) -> None:
    for name, value in tensors:
        if not isinstance(value, Tensor):
            continue
        fault = _fault(value, name)
        if fault is not None:
            raise UnsupportedError(f"{where}: {name} {fault}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise LipboundsError(f"{where}: {name} has NaN or infinite entries")


def _fault(value: Tensor, name: str) -> str | None:
    """Why these entries cannot be read as real numbers, and the way out."""
    if is_lazy(value):
        return "is not initialised; run the module once on an input first"
    if value.is_meta:
        return "is on the meta device, without values; call module.to_empty(...) and load them"
    if value.is_complex():
        return "is complex; write the layer with real and imaginary parts as channels"
    if value.is_quantized:
        return "is quantised; convert the float module, or its copy with dequantize()d weights"
    if value.layout is not torch.strided:
        return f"is sparse ({value.layout}); set it to torch.nn.Parameter(layer.{name}.to_dense())"
    if value.is_floating_point() and value.dtype.itemsize == 1:
        return f"is of type {value.dtype}; call module.float() first"
    return None


def _evaluable(layer: nn.Module, where: str) -> nn.Module:
    """A copy of a parametrised layer, whose weight can be read without a trace in the layer.

    Spectral norm in training mode iterates whenever its weight is read; which weight the next
    call of the module uses is then not settled.
    """
    remedy = "call torch.nn.utils.parametrize.remove_parametrizations(layer, name) first"
    try:
        copied = copy.deepcopy(layer)
        with torch.random.fork_rng(devices=[]):
            for name in copied.parametrizations:
                getattr(copied, name)
    except Exception as error:  # a parametrisation is the user's code
        raise UnsupportedError(f"{where}: its parametrisation fails ({error}); {remedy}") from None
    after = copied.state_dict()
    if any(not torch.equal(value, after[name]) for name, value in layer.state_dict().items()):
        raise UnsupportedError(
            f"{where}: reading its parametrised weight changes its state, as in training mode; "
            f"call module.eval() first, or {remedy}"
        )
    return copied


def _refuse_hooks(layer: nn.Module, where: str) -> None:
    """A hook or a patch computes what the layer's class and weights do not say."""
    if "forward" in vars(layer):
        raise UnsupportedError(f"{where} has its forward replaced; undo it with del layer.forward")
    for kind, hooks, everywhere in (
        ("forward hook", layer._forward_hooks, torch_module._global_forward_hooks),
        ("forward pre-hook", layer._forward_pre_hooks, torch_module._global_forward_pre_hooks),
    ):
        for hook in hooks.values():
            name = getattr(hook, "__name__", type(hook).__name__)
            raise UnsupportedError(f"{where} has a {kind}, {name}; {_remedy(hook)} first")
        for hook in everywhere.values():
            name = getattr(hook, "__name__", type(hook).__name__)
            raise UnsupportedError(
                f"{where} is subject to a {kind} of all modules, {name}; remove it with "
                "remove() of the handle its registration returned first"
            )


def _remedy(hook) -> str:
    """How to make the hook's effect part of the weights, or take it off."""
    if isinstance(hook, WeightNorm):
        return f"call torch.nn.utils.remove_weight_norm(layer, {hook.name!r})"
    if isinstance(hook, SpectralNorm):
        return f"call torch.nn.utils.remove_spectral_norm(layer, {hook.name!r})"
    if isinstance(hook, BasePruningMethod):
        return f"call torch.nn.utils.prune.remove(layer, {hook._tensor_name!r})"
    return "call hook.remove() of the handle its registration returned"


def _double(value: Tensor | None) -> Tensor | None:
    return value if value is None else value.detach().to(torch.float64).clone()


def _linear(layer: nn.Linear, shape: Shape, device) -> Piece:
    weight = _weight(layer, layer.out_features, layer.in_features)
    return pieces.linear(weight, _double(layer.bias), shape)


def _weight(layer: nn.Module, *sizes: int) -> Tensor:
    if tuple(layer.weight.shape) != sizes:
        raise ValueError(f"weight of shape {tuple(layer.weight.shape)}, not {sizes}")
    return _double(layer.weight)


def _convolution(layer: nn.Conv1d | nn.Conv2d, shape: Shape, device) -> Piece:
    inputs = layer.in_channels // layer.groups
    return pieces.convolution(
        _weight(layer, layer.out_channels, inputs, *layer.kernel_size),
        _double(layer.bias),
        shape,
        layer.stride,
        _padding(layer),
        layer.dilation,
        layer.groups,
    )


def _padding(layer: nn.Conv1d | nn.Conv2d) -> tuple[int, int, int, int]:
    """(left, right, top, bottom)."""
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    if layer.padding == "same":
        return pieces.same_padding(layer.kernel_size, layer.dilation)
    top, left = pieces.pair(layer.padding, 0, _axes(layer))
    return (left, left, top, top)


def _batch_norm(layer, shape: Shape, device) -> Piece:
    _require_eval(layer)
    if layer.running_mean is None:
        raise UnsupportedError("track_running_stats=False: in eval mode it is not an affine map")
    if shape[0] != layer.num_features:
        raise ShapeError(f"takes {layer.num_features} channels")
    if (len(shape) == 3) != isinstance(layer, nn.BatchNorm2d):
        raise ShapeError("takes images (2d), or vectors and signals (1d)")
    tensors = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    return pieces.batch_norm(*map(_double, tensors), layer.eps, shape)


def _max_pool(layer: nn.MaxPool1d | nn.MaxPool2d, shape: Shape, device) -> Piece:
    _refuse_indices(layer)
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
    return pieces.max_pool(shape, *sizes, _axes(layer), device)


def _average_pool(layer: nn.AvgPool1d | nn.AvgPool2d, shape: Shape, device) -> Piece:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode
    divided = layer.count_include_pad, getattr(layer, "divisor_override", None)
    return pieces.average_pool(shape, *sizes, *divided, _axes(layer), device)


def _axes(layer) -> int:
    return int(type(layer).__name__[-2])


def _adaptive_average_pool(layer: nn.AdaptiveAvgPool2d, shape: Shape, device) -> Piece:
    return pieces.adaptive_average_pool(shape, layer.output_size, _axes(layer), device)


def _adaptive_max_pool(layer: nn.AdaptiveMaxPool2d, shape: Shape, device) -> Piece:
    _refuse_indices(layer)
    return pieces.adaptive_max_pool(shape, layer.output_size, _axes(layer), device)


def _refuse_indices(layer) -> None:
    if layer.return_indices:
        raise UnsupportedError("return_indices=True")


def _flatten(layer: nn.Flatten, shape: Shape, device) -> Piece:
    start, end = (d + len(shape) + 1 if d < 0 else d for d in (layer.start_dim, layer.end_dim))
    if start < 1:
        raise UnsupportedError("start_dim=0 would flatten the batch")
    if not start <= end <= len(shape):
        raise ShapeError(f"has no dimensions {layer.start_dim} to {layer.end_dim}")
    merged = math.prod(shape[start - 1 : end])
    return Piece((*shape[: start - 1], merged, *shape[end:]))


def _unflatten(layer: nn.Unflatten, shape: Shape, device) -> Piece:
    dim = layer.dim + len(shape) + 1 if layer.dim < 0 else layer.dim
    if not 1 <= dim <= len(shape):
        raise ShapeError(f"has no dimension {layer.dim} after the batch")
    sizes = tuple(layer.unflattened_size)
    known = math.prod(n for n in sizes if n != -1)
    sizes = tuple(shape[dim - 1] // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != shape[dim - 1]:
        raise ShapeError(f"cannot unflatten dimension {layer.dim} into {sizes}")
    return Piece((*shape[: dim - 1], *sizes, *shape[dim:]))


def _unchanged(layer: nn.Module, shape: Shape, device) -> Piece:
    return Piece(shape)


def _dropout(layer, shape: Shape, device) -> Piece:
    if layer.p > 0:
        _require_eval(layer)
    return Piece(shape)


def _prelu(layer: nn.PReLU, shape: Shape, device) -> Piece:
    return pieces.prelu(_double(layer.weight), shape)


def _rrelu(layer: nn.RReLU, shape: Shape, device) -> Piece:
    _require_eval(layer)
    return pieces.activated(act.leaky_relu((layer.lower + layer.upper) / 2), shape, device)


def _activation(make: Callable[[nn.Module], Activation]):
    return lambda layer, shape, device: pieces.activated(make(layer), shape, device)


def _require_eval(layer: nn.Module) -> None:
    if layer.training:
        raise LipboundsError("is in training mode; call module.eval() first")


def _gelu(layer: nn.GELU) -> Activation:
    return act.gelu_tanh() if layer.approximate == "tanh" else act.gelu()


CONVERTERS: dict[type[nn.Module], Callable[[nn.Module, Shape, torch.device], Piece]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool1d: _max_pool,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool1d: _average_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    nn.Identity: _unchanged,
    nn.Dropout: _dropout,
    nn.Dropout1d: _dropout,
    nn.Dropout2d: _dropout,
    nn.Dropout3d: _dropout,
    nn.AlphaDropout: _dropout,
    nn.PReLU: _prelu,
    nn.ReLU: _activation(lambda _: act.relu()),
    nn.LeakyReLU: _activation(lambda layer: act.leaky_relu(layer.negative_slope)),
    nn.Tanh: _activation(lambda _: act.tanh()),
    nn.Sigmoid: _activation(lambda _: act.sigmoid()),
    nn.Hardtanh: _activation(lambda layer: act.hardtanh(layer.min_val, layer.max_val)),
    nn.ReLU6: _activation(lambda _: act.relu6()),
    nn.Softplus: _activation(lambda layer: act.softplus(layer.beta, layer.threshold)),
    nn.Softsign: _activation(lambda _: act.softsign()),
    nn.ELU: _activation(lambda layer: act.elu(layer.alpha)),
    nn.SELU: _activation(lambda _: act.selu()),
    nn.CELU: _activation(lambda layer: act.celu(layer.alpha)),
    nn.SiLU: _activation(lambda _: act.silu()),
    nn.GELU: _activation(_gelu),
    nn.Mish: _activation(lambda _: act.mish()),
    nn.Hardswish: _activation(lambda _: act.hardswish()),
    nn.Hardsigmoid: _activation(lambda _: act.hardsigmoid()),
    nn.LogSigmoid: _activation(lambda _: act.log_sigmoid()),
    nn.Softshrink: _activation(lambda layer: act.softshrink(layer.lambd)),
    nn.RReLU: _rrelu,
}

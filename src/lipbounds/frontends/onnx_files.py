"""From an ONNX file to a `Network`: the file read and checked by onnx itself.

The model is taken as a function of one array, its batch dimension, if any, set to 1. Nodes that
depend on constants alone are computed by onnx's reference implementation; so is what nodes that
only move entries do with the entries' numbers.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_device
from ..errors import LipboundsError, UnsupportedError, first_line, out_of_memory
from ..networks.network import Network
from .equality import Imported, Source, checked
from .lowering import lowered
from .onnx_nodes import Node, value_of
from .pieces import MISFITS, checked_shape
from .values import Input, Value

OPSETS = range(7, 27)
SAME_ENTRIES = "Identity Flatten Reshape Squeeze Unsqueeze Cast".split()  # in the same order
DIFFERS = "report it as a fault of the conversion, with the file"


def from_onnx(
    path: str | os.PathLike, input_shape: Sequence[int] | None = None, logits: bool = False
) -> Network:
    """The network in an ONNX file, in float64.

    input_shape: of one input, without the batch dimension; needed where the file leaves dimensions
    other than the batch open. logits: leave out a softmax or log-softmax at the end.
    The Network equals the file's model up to rounding, which is checked on a few inputs, by
    onnxruntime where it is installed and by onnx's reference implementation elsewhere.
    Raises LipboundsError for what is no ONNX file, or not whole, weights that are not finite and
    shapes that stay open, and UnsupportedError for an operator that is not known, or that no bound
    covers, naming the node.
    """
    return imported(path, input_shape, logits).network


def imported(
    path: str | os.PathLike, input_shape: Sequence[int] | None = None, logits: bool = False
) -> Imported:
    """As `from_onnx`, with the largest difference to the file's model that was found."""
    check_device("from_onnx")
    model = _model(Path(path))
    given = _only_input(model)
    shape = _set_shape(given, input_shape)
    _refuse_narrowing(model, given)
    if logits:
        _cut_softmax(model)
    with torch.inference_mode(False), torch.no_grad():
        network = lowered(_output(model, given.name, shape))
        network = replace(network, input_shape=shape[1:] if shape[0] == 1 < len(shape) else shape)
        return checked(network, *_source(model, given, shape))


def _model(path: Path):
    """The model, whole: external data read, functions of its own put in place."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise LipboundsError(f"{path} {what}; give the path of an .onnx file")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, UnicodeDecodeError, ValueError, OSError) as error:
        raise LipboundsError(
            f"{path} is no ONNX file, or a truncated one ({first_line(error)}); export it again"
        ) from None
    if not model.graph.node and not model.graph.output:
        raise LipboundsError(f"{path} is no ONNX file, or an empty one; export it again")
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version not in OPSETS:
        raise UnsupportedError(
            f"{path} uses opset {version}; opsets {OPSETS[0]} to {OPSETS[-1]} are supported: "
            "export it again, or convert it with onnx.version_converter"
        )
    try:
        _load_external(model, path)
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise LipboundsError(f"{path} is not valid: {first_line(error)}") from None


def _load_external(model, path: Path) -> None:
    """Weights in files beside the model's, and nowhere else."""
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        if not uses_external_data(tensor):
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        file = (folder / place.get("location", "")).resolve()
        if not file.is_relative_to(folder):
            raise LipboundsError(
                f"{path}: the data of {tensor.name!r} lies outside of the model's folder, in "
                f"{place.get('location')!r}; that is refused"
            )
        if not file.is_file():
            raise LipboundsError(
                f"{path}: the data of {tensor.name!r} is missing: {file.name} is not beside it"
            )
        end = int(place.get("offset", 0)) + int(place.get("length", 0))
        if end > file.stat().st_size:
            raise LipboundsError(f"{path}: {file.name}, beside it, is shorter than it should be")
    load_external_data_for_model(model, str(folder))


def _only_input(model):
    held = {tensor.name for tensor in model.graph.initializer}
    given = [one for one in model.graph.input if one.name not in held]
    if len(given) != 1 or len(model.graph.output) != 1:
        raise UnsupportedError(
            f"the model has {len(given)} inputs and {len(model.graph.output)} outputs; a bound is "
            "of one output as a function of one input: export it so, or cut it with onnx.utils"
        )
    kind = _kind(given[0])
    if kind not in (np.float16, np.float32, np.float64):
        raise UnsupportedError(
            f"the model's input {given[0].name!r} is of type {kind}, not of floating-point "
            "numbers: cut the model behind what turns them into such"
        )
    return given[0]


def _kind(given) -> np.dtype:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)


def _set_shape(given, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The input's shape with a batch of 1, which is written into the model."""
    dims = given.type.tensor_type.shape.dim
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    if input_shape is not None:
        wanted = list(checked_shape(input_shape))
        if len(wanted) == len(sizes) - 1:
            wanted = [1, *wanted]
        fits = len(wanted) == len(sizes) and all(
            a in (0, b) or k == 0 for k, (a, b) in enumerate(zip(sizes, wanted, strict=False))
        )
        if not fits:
            raise LipboundsError(
                f"input_shape {tuple(input_shape)} does not fit the model's input {given.name!r} "
                f"of shape {_said(dims)}, batch first"
            )
        sizes = wanted
    if len(sizes) > 1 and sizes[0] == 0:
        sizes[0] = 1
    if not sizes or min(sizes) < 1:
        raise LipboundsError(
            f"the model's input {given.name!r} is of shape {_said(dims)}; say which by "
            "input_shape, of one input without the batch dimension"
        )
    for dim, size in zip(dims, sizes, strict=True):
        dim.dim_value = size
    return tuple(sizes)


def _said(dims) -> str:
    return "(" + ", ".join(str(d.dim_value or d.dim_param or "?") for d in dims) + ")"


def _cut_softmax(model) -> None:
    """The output before a softmax or log-softmax at the end, or in front of what only writes its
    entries in another shape."""
    made = {name: node for node in model.graph.node for name in node.output}
    (output,) = model.graph.output
    behind, last = None, made.get(output.name)
    while last is not None and last.op_type in SAME_ENTRIES:
        behind, last = last, made.get(last.input[0])
    if last is None or last.op_type not in ("Softmax", "LogSoftmax"):
        return
    if behind is None:
        output.name = last.input[0]
    else:
        behind.input[0] = last.input[0]


def _needed(model) -> set[int]:
    """The numbers of the nodes that lead to the output; all, where one has a graph of its own."""
    nodes = list(model.graph.node)
    if any(one.HasField("g") or one.graphs for node in nodes for one in node.attribute):
        return set(range(len(nodes)))
    wanted, found = {model.graph.output[0].name}, set()
    for number in reversed(range(len(nodes))):  # an ONNX graph is sorted
        if wanted.intersection(nodes[number].output):
            wanted.update(nodes[number].input)
            found.add(number)
    return found


def _output(model, given: str, shape: tuple[int, ...]) -> Value:
    """The graph of values that ends in the model's output."""
    from onnx import numpy_helper

    opsets = {one.domain: one.version for one in model.opset_import}
    known: dict[str, Value | np.ndarray | None] = {"": None}
    for tensor in model.graph.initializer:
        known[tensor.name] = numpy_helper.to_array(tensor)
    known[given] = Input(shape, "input", torch.device("cpu"))
    pairs, needed = dict.fromkeys(_taken(model, "Max") & _taken(model, "Min")), _needed(model)
    for number, proto in enumerate(model.graph.node):
        if number not in needed:
            continue
        missing = [name for name in proto.input if name not in known]
        if missing:
            raise LipboundsError(
                f"the model names {missing[0]!r}, which nothing in it gives in dense form; export "
                "it again"
            )
        node = Node(proto, number, opsets, [known[name] for name in proto.input], pairs)
        for name, value in zip(proto.output, _made(node), strict=False):
            known[name] = value
    output = known[model.graph.output[0].name]
    if not isinstance(output, Value):
        raise LipboundsError("the output does not depend on the input")
    return output


def _taken(model, kind: str) -> set[frozenset[str]]:
    """The pairs of names whose maximum, or minimum, is taken."""
    nodes = (node for node in model.graph.node if node.op_type == kind)
    return {frozenset(node.input) for node in nodes if len(node.input) == 2}


def _made(node: Node) -> Iterator[Value | np.ndarray]:
    try:
        return value_of(node)
    except LipboundsError as error:
        raise type(error)(f"{node.place}: {error}") from None
    except MISFITS as error:  # shapes or attributes that do not belong together
        if out_of_memory(error):
            raise
        raise LipboundsError(f"{node.place}: does not fit: {first_line(error)}") from None


def _refuse_narrowing(model, given) -> None:
    """A cast to half precision in a model that is not in it rounds, and overflows early."""
    from onnx import TensorProto

    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if given.type.tensor_type.elem_type in half:
        return
    for number, node in enumerate(model.graph.node):
        to = next((one.i for one in node.attribute if one.name == "to"), None)
        if node.op_type == "Cast" and to in half:
            raise UnsupportedError(
                f"node {number} (Cast) rounds to half precision; export the model in float32"
            )


def _source(model, given, shape: tuple[int, ...]) -> tuple[Source, float]:
    """The model as a function, and its precision."""
    kind = _kind(given)
    run = _runner(model, given.name)

    def function(x: Tensor) -> Tensor:
        outputs = [np.asarray(run(one.reshape(shape).numpy().astype(kind))) for one in x]
        return torch.from_numpy(np.stack(outputs).astype(np.float64)).flatten(1)

    dtype = torch.from_numpy(np.zeros(0, kind)).dtype
    return Source("model", function, dtype, DIFFERS), torch.finfo(dtype).eps


def _runner(model, given: str):
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(model)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        except Exception:  # opsets that it does not know yet, models of more than 2 GiB
            from onnx.reference import ReferenceEvaluator

            session = ReferenceEvaluator(model)
    return partial(_run, session, given)


def _run(session, given: str, x: np.ndarray) -> np.ndarray:
    try:
        return session.run(None, {given: x})[0]
    except Exception as error:  # whatever the runtime finds wrong
        raise LipboundsError(f"the model itself fails: {first_line(error)}") from None

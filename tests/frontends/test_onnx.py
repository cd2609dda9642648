"""ONNX files against onnxruntime: every operator with its attributes, whole networks by both of
torch's exporters, and files that are refused."""

import io
import logging
import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_exported import MODULES, SORTS
from torch import nn

import lipbounds as lb

RNG = np.random.default_rng(0)
IMAGE = (1, 2, 6, 5)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def model(kind, shape, constants=(), opset=17, outputs=1, dynamic=None, **attributes):
    """x -> one node of x and constants. A constant is an array, None where it is left out, or
    "x" for the input itself."""
    names, held = [], []
    named = any(isinstance(constant, str) for constant in constants)
    constants = constants if named else ("x", *constants)
    for k, constant in enumerate(constants):
        if constant is None or isinstance(constant, str):
            names.append(constant or "")
            continue
        names.append(f"c{k}")
        held.append(numpy_helper.from_array(np.asarray(constant), names[-1]))
    node = helper.make_node(kind, names, [f"y{k}" for k in range(outputs)], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dynamic or shape)],
        [helper.make_tensor_value_info(f"y{outputs - 1}", TensorProto.FLOAT, None)],
        held,
    )
    opsets = [helper.make_opsetid("", opset)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 19 else 10)
    made = onnx.shape_inference.infer_shapes(made)
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    made.graph.output[0].type.tensor_type.shape.SetInParent()
    return made


def same_as_onnxruntime(made, path, shape, **options):
    onnx.save(made, path)
    network = lb.from_onnx(path, **options)
    for dim, size in zip(made.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    session = onnxruntime.InferenceSession(made.SerializeToString())
    x = np.stack([normal(*shape) * scale for scale in (0.01, 1, 1, 30)])
    wanted = np.stack([session.run(None, {"x": one})[0].reshape(-1) for one in x])
    ours = network(x.reshape(len(x), -1)).numpy()
    np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-5 * abs(wanted).max())
    moved = abs(wanted[1] - wanted[2]).max() / abs(x[1] - x[2]).max()
    for name in ("K_star", "K_3"):
        assert lb.bound(network, name, math.inf).upper >= moved * (1 - 1e-5)
    return network


square = {"kernel_shape": [2, 2]}
CASES = {
    "Gemm": ("Gemm", (1, 4), [normal(4, 3), normal(3)], {}),
    "Gemm transposed": ("Gemm", (1, 4), [normal(3, 4), normal(3)],
                        {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    "Gemm without bias": ("Gemm", (1, 4), [normal(4, 3)], {}),
    "MatMul": ("MatMul", (1, 3, 4), [normal(4, 2)], {}),
    "MatMul from the left": ("MatMul", (3, 4), [normal(2, 3), "x"], {}),
    "MatMul of a vector": ("MatMul", (4,), [normal(4, 2)], {}),
    "MatMul stacked": ("MatMul", (2, 3, 4), [normal(2, 4, 2)], {}),
    "Add": ("Add", IMAGE, [normal(2, 1, 1)], {}),
    "Add from the left": ("Add", (3,), [normal(2, 3), "x"], {}),
    "Add to itself": ("Add", (3,), ["x", "x"], {}),
    "Sub": ("Sub", IMAGE, [normal(5)], {}),
    "Sub from a constant": ("Sub", IMAGE, [normal(5), "x"], {}),
    "Mul": ("Mul", IMAGE, [normal(1, 2, 1, 1)], {}),
    "Mul wider": ("Mul", (3,), [normal(2, 3)], {}),
    "Div": ("Div", IMAGE, [np.float32(0.3)], {}),
    "Sum": ("Sum", (3,), ["x", normal(3), "x"], {}),
    "Mean": ("Mean", (3,), ["x", normal(3), normal(3)], {}),
    "Neg": ("Neg", (3,), [], {}),
    "Abs": ("Abs", (3,), [], {}),
    "Max": ("Max", (3,), ["x", normal(3), np.float32([0.1, 0.2, 0.3])], {}),
    "Min": ("Min", (2, 3), ["x", normal(3)], {}),
    "Conv": ("Conv", IMAGE, [normal(4, 2, 3, 3), normal(4)], {"pads": [1, 0, 2, 1]}),
    "Conv strided": ("Conv", IMAGE, [normal(4, 1, 2, 3)],
                     {"strides": [2, 1], "dilations": [1, 2], "group": 2}),
    "Conv same upper": ("Conv", IMAGE, [normal(1, 2, 2, 2)],
                        {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv same lower": ("Conv", IMAGE, [normal(1, 2, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    "Conv valid": ("Conv", IMAGE, [normal(1, 2, 2, 2)], {"auto_pad": "VALID"}),
    "Conv signal": ("Conv", (1, 2, 7), [normal(3, 2, 3), normal(3)], {"pads": [0, 2]}),
    "Conv volume": ("Conv", (1, 2, 3, 3, 3), [normal(3, 2, 2, 2, 2), normal(3)], {}),
    "ConvTranspose": ("ConvTranspose", IMAGE, [normal(2, 3, 3, 3), normal(3)],
                      {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}),
    "ConvTranspose grouped": ("ConvTranspose", IMAGE, [normal(2, 1, 2, 2)], {"group": 2}),
    "BatchNormalization": ("BatchNormalization", IMAGE,
                           [normal(2), normal(2), normal(2), abs(normal(2)) + 0.5],
                           {"epsilon": 0.01}),
    "MaxPool": ("MaxPool", IMAGE, [], {**square, "strides": [2, 2]}),
    "MaxPool padded": ("MaxPool", IMAGE, [],
                       {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "dilations": [2, 1]}),
    "MaxPool ceil": ("MaxPool", IMAGE, [], {**square, "strides": [2, 2], "ceil_mode": 1}),
    "MaxPool same": ("MaxPool", IMAGE, [], {**square, "auto_pad": "SAME_UPPER"}),
    "MaxPool signal": ("MaxPool", (1, 2, 7), [], {"kernel_shape": [3], "strides": [2]}),
    "MaxPool volume": ("MaxPool", (1, 2, 3, 6, 5), [],
                       {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 0] * 3}),
    "AveragePool volume": ("AveragePool", (1, 2, 3, 6, 5), [],
                           {"kernel_shape": [2, 3, 2], "pads": [1, 0, 1, 0, 1, 0]}),
    "AveragePool": ("AveragePool", IMAGE, [], {**square, "pads": [1, 1, 0, 0]}),
    "AveragePool counting": ("AveragePool", IMAGE, [],
                             {**square, "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "GlobalAveragePool": ("GlobalAveragePool", IMAGE, [], {}),
    "GlobalMaxPool": ("GlobalMaxPool", IMAGE, [], {}),
    "ReduceMean": ("ReduceMean", IMAGE, [], {"axes": [2, -1]}),
    "ReduceMean flat": ("ReduceMean", IMAGE, [], {"axes": [1], "keepdims": 0}),
    "ReduceSum": ("ReduceSum", IMAGE, [np.int64([2])], {}),
    "ReduceSum of all": ("ReduceSum", IMAGE, [], {}),
    "ReduceMax": ("ReduceMax", IMAGE, [], {"axes": [1, -1]}),
    "ReduceMin flat": ("ReduceMin", IMAGE, [], {"axes": [2], "keepdims": 0}),
    "ReduceMax of all": ("ReduceMax", IMAGE, [], {}),
    "Relu": ("Relu", (3,), [], {}),
    "LeakyRelu": ("LeakyRelu", (3,), [], {"alpha": 0.3}),
    "PRelu": ("PRelu", IMAGE, [normal(2, 1, 1)], {}),
    "Elu": ("Elu", (3,), [], {"alpha": 1.5}),
    "Selu": ("Selu", (3,), [], {"alpha": 1.2, "gamma": 1.5}),
    "Celu": ("Celu", (3,), [], {"alpha": 0.7}),
    "Sigmoid": ("Sigmoid", (3,), [], {}),
    "Tanh": ("Tanh", (3,), [], {}),
    "Softplus": ("Softplus", (3,), [], {}),
    "Softsign": ("Softsign", (3,), [], {}),
    "HardSigmoid": ("HardSigmoid", (3,), [], {"alpha": 0.3, "beta": 0.4}),
    "HardSwish": ("HardSwish", (3,), [], {}),
    "Shrink": ("Shrink", (3,), [], {"lambd": 0.4, "bias": 0.4}),
    "Clip": ("Clip", (3,), [np.float32(-0.5), np.float32(0.7)], {}),
    "Clip above": ("Clip", (3,), [None, np.float32(0.7)], {}),
    "Flatten": ("Flatten", IMAGE, [], {"axis": 1}),
    "Reshape": ("Reshape", IMAGE, [np.int64([0, -1])], {}),
    "Transpose": ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}),
    "Squeeze": ("Squeeze", (1, 3), [np.int64([0])], {}),
    "Unsqueeze": ("Unsqueeze", (3,), [np.int64([0, 2])], {}),
    "Concat": ("Concat", (2, 3), ["x", normal(2, 1), "x"], {"axis": 1}),
    "Slice": ("Slice", IMAGE, [np.int64([1, 5]), np.int64([6, -9]), np.int64([2, 3]),
                               np.int64([2, -2])], {}),
    "Gather": ("Gather", IMAGE, [np.int64([3, 0, 3])], {"axis": 2}),
    "Pad": ("Pad", IMAGE, [np.int64([0, 0, 1, 0, 0, 1, 0, 2]), np.float32(0.5)], {}),
    "Pad reflected": ("Pad", IMAGE, [np.int64([0, 0, 1, 2, 0, 0, 0, 0])], {"mode": "reflect"}),
    "Pad edge": ("Pad", IMAGE, [np.int64([0, 0, 1, 2, 0, 0, 0, 0])], {"mode": "edge"}),
    "Expand": ("Expand", (1, 3), [np.int64([2, 3])], {}),
    "Tile": ("Tile", (2, 3), [np.int64([1, 2])], {}),
    "DepthToSpace": ("DepthToSpace", (1, 4, 2, 3), [], {"blocksize": 2}),
    "DepthToSpace columns first": ("DepthToSpace", (1, 4, 2, 3), [],
                                   {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", (1, 1, 4, 2), [], {"blocksize": 2}),
    "Resize": ("Resize", IMAGE, [None, np.float32([1, 1, 2, 2])],
               {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor"}),
    "Resize linear": ("Resize", IMAGE, [None, np.float32([1, 1, 2, 2])], {"mode": "linear"}),
    "Identity": ("Identity", (3,), [], {}),
    "Dropout": ("Dropout", (3,), [np.float32(0.4)], {}),
    "Cast": ("Cast", (3,), [], {"to": TensorProto.FLOAT}),
    "Where": ("Where", (3,), [np.array([True, False, True]), "x", normal(3)], {}),
    "Einsum": ("Einsum", (2, 3), ["x", normal(3, 4)], {"equation": "ij,jk->ik"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_operator_is_that_of_onnxruntime(name, tmp_path):
    kind, shape, constants, attributes = CASES[name]
    made = model(kind, shape, constants, **attributes)
    same_as_onnxruntime(made, tmp_path / "one.onnx", shape)


OLD = {
    "Gemm": (7, "Gemm", (1, 4), [normal(4, 3), normal(3)], {}),
    "Clip": (7, "Clip", (3,), [], {"min": -0.2, "max": 0.4}),
    "Squeeze": (7, "Squeeze", (1, 3), [], {"axes": [0]}),
    "Unsqueeze": (7, "Unsqueeze", (3,), [], {"axes": [0]}),
    "Slice": (7, "Slice", (4, 3), [], {"axes": [0], "starts": [1], "ends": [3]}),
    "Pad": (7, "Pad", (2, 3), [], {"pads": [0, 1, 0, 1], "value": 0.5}),
    "Dropout": (7, "Dropout", (3,), [], {"ratio": 0.3}),
    "Upsample": (9, "Upsample", IMAGE, [np.float32([1, 1, 2, 2])], {"mode": "nearest"}),
    "ReduceSum": (11, "ReduceSum", IMAGE, [], {"axes": [1]}),
    "BatchNormalization": (7, "BatchNormalization", IMAGE,
                           [normal(2), normal(2), normal(2), abs(normal(2)) + 0.5], {}),
    "ReduceMean": (18, "ReduceMean", IMAGE, [np.int64([2, 3])], {}),
    "ReduceMax": (18, "ReduceMax", IMAGE, [np.int64([1])], {}),
    "Gelu": (20, "Gelu", (3,), [], {}),
    "Gelu tanh": (20, "Gelu", (3,), [], {"approximate": "tanh"}),
    "Mish": (18, "Mish", (3,), [], {}),
    "Relu": (21, "Relu", (3,), [], {}),
    "Conv": (21, "Conv", IMAGE, [normal(4, 2, 3, 3), normal(4)], {}),
    "Reshape": (21, "Reshape", IMAGE, [np.int64([1, -1])], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_operators_as_other_opsets_have_them(name, tmp_path):
    opset, kind, shape, constants, attributes = OLD[name]
    made = model(kind, shape, constants, opset, **attributes)
    same_as_onnxruntime(made, tmp_path / "one.onnx", shape)


def test_split(tmp_path):
    made = model("Split", (1, 7), [np.int64([3, 4])], outputs=2, axis=1)
    same_as_onnxruntime(made, tmp_path / "one.onnx", (1, 7))


def product_of(gate, **attributes):
    """x times a gate of x."""
    nodes = [
        helper.make_node(gate, ["x"], ["g"], **attributes),
        helper.make_node("Mul", ["x", "g"], ["y0"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])] for name in ("x", "y0")]
    graph = helper.make_graph(nodes, "gate", *ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "gate, attributes",
    [("Sigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6}), ("HardSigmoid", {"alpha": 0.4})],
)
def test_silu_and_hard_swish_as_products(gate, attributes, tmp_path):
    same_as_onnxruntime(product_of(gate, **attributes), tmp_path / "one.onnx", (3,))


NOT_EXPORTED = {  # by one of torch's exporters, or to what has no bound
    ("activations", False), ("activations", True), ("resized", False), ("resized", True),
    ("spectral norm", False), ("orthogonal", False), ("orthogonal", True),
    ("in place", False),  # the file computes something else than the module
}  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_exported_modules(name, dynamo, tmp_path):
    if (name, dynamo) in NOT_EXPORTED:
        pytest.skip("torch does not export it so that it is the same")
    module, shape = MODULES[name]
    module = getattr(module, "_orig_mod", module)
    module = (module.module if isinstance(module, nn.DataParallel) else module).double().eval()
    path, opset = tmp_path / "network.onnx", 18 if dynamo else 13
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, *shape, dtype=torch.float64)
        torch.onnx.export(module, (example,), path, opset_version=opset, dynamo=dynamo)
    logging.disable(logging.NOTSET)
    network, traced = lb.from_onnx(path), lb.from_torch(module, shape)
    assert network.input_shape == shape
    x = torch.randn(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(network(x), traced(x), rtol=1e-6, atol=1e-6)
    for norm in (1, math.inf):
        one, other = (lb.bound(n, "K_4", norm).upper for n in (network, traced))
        assert one == pytest.approx(other, rel=1e-6)


def test_hard_swish_has_the_single_precision_sixth_of_its_definition(tmp_path):
    made = model("HardSwish", (3,))
    for one in (made.graph.input[0], made.graph.output[0]):
        one.type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(made, tmp_path / "one.onnx")
    network = lb.from_onnx(tmp_path / "one.onnx")
    value = network(torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64))[0, 0]
    assert float(value) == pytest.approx(2 * (2 * float(np.float32(1 / 6)) + 0.5), rel=1e-15)


@pytest.mark.parametrize("dims", [["batch", 2, 6, 5], [0, 2, 6, 5]])
def test_an_open_batch_is_one(dims, tmp_path):
    made = model("Flatten", IMAGE, dynamic=dims, axis=1)
    network = same_as_onnxruntime(made, tmp_path / "one.onnx", IMAGE)
    assert network.input_shape == (2, 6, 5)


def test_open_sizes_are_set_by_input_shape(tmp_path):
    made = model("Relu", IMAGE, dynamic=["batch", 2, "height", "width"])
    with pytest.raises(lb.LipboundsError, match=r"\(batch, 2, height, width\).*input_shape"):
        same_as_onnxruntime(made, tmp_path / "one.onnx", IMAGE)
    same_as_onnxruntime(made, tmp_path / "one.onnx", IMAGE, input_shape=(2, 6, 5))
    for wrong in ((3, 6, 5), (2, 6), (2, 0, 5)):
        with pytest.raises(
            lb.LipboundsError, match="does not fit the model's input 'x'|positive integers"
        ):
            lb.from_onnx(tmp_path / "one.onnx", input_shape=wrong)


def test_a_softmax_at_the_end_is_left_out_on_request(tmp_path):
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
    path = tmp_path / "network.onnx"
    torch.onnx.export(module, (torch.zeros(1, 4),), path, opset_version=13, dynamo=False)
    with pytest.raises(lb.UnsupportedError, match=r"\(Softmax\).*logits=True"):
        lb.from_onnx(path)
    network = lb.from_onnx(path, logits=True)
    x = torch.randn(2, 4)
    torch.testing.assert_close(network(x), module[0](x).double(), rtol=1e-5, atol=1e-6)


def of_nodes(*nodes):
    """x (1, 4) to y by the nodes; w is a weight (4, 3)."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "nodes",
        [value("x", TensorProto.FLOAT, (1, 4))],
        [value("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(normal(4, 3), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", ["Identity", "Flatten"])
def test_what_keeps_the_entries_may_stand_behind_a_softmax(kind, tmp_path):
    made = of_nodes(
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["s"]),
        helper.make_node(kind, ["s"], ["y"]),
    )
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(lb.UnsupportedError, match="Softmax"):
        lb.from_onnx(tmp_path / "m.onnx")
    network = lb.from_onnx(tmp_path / "m.onnx", logits=True)
    weight = numpy_helper.to_array(made.graph.initializer[0])
    x = normal(5, 4)
    np.testing.assert_allclose(network(torch.tensor(x)).numpy(), x @ weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_what_no_output_depends_on_is_not_read(first, tmp_path):
    dead = helper.make_node("Softmax", ["x"], ["dead"])
    live = helper.make_node("MatMul", ["x", "w"], ["y"])
    made = of_nodes(*([dead, live] if first else [live, dead]))
    network = same_as_onnxruntime(made, tmp_path / "m.onnx", (1, 4))
    assert network.depth == 0


def with_external_data(folder, location="weights.bin", length=None):
    made = model("Gemm", (1, 4), [normal(4, 3)])
    (tensor,) = made.graph.initializer
    data = tensor.raw_data
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    pairs = {"location": location, "length": str(length or len(data))}
    for key, value in pairs.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "one.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_external_data_beside_the_file(tmp_path):
    assert lb.from_onnx(with_external_data(tmp_path)).input_shape == (4,)


def test_external_data_elsewhere_missing_or_short_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    with pytest.raises(lb.LipboundsError, match="outside of the model's folder"):
        lb.from_onnx(with_external_data(folder, "../weights.bin"))
    with pytest.raises(lb.LipboundsError, match="is missing: nothing.bin is not beside it"):
        lb.from_onnx(with_external_data(folder, "nothing.bin"))
    with pytest.raises(lb.LipboundsError, match="weights.bin, beside it, is shorter"):
        lb.from_onnx(with_external_data(folder, length=1000))


def two_inputs():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xzy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "g", ends[:2], ends[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def of_integers():
    made = model("Relu", (3,))
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return made


def custom():
    made = model("Relu", (3,))
    made.graph.node[0].domain = "mine"
    made.opset_import.add(domain="mine", version=1)
    return made


def disconnected():
    made = model("Relu", (3,))
    made.graph.node[0].input[0] = "nowhere"
    return made


def by_its_maximum():
    """x / max x, which is no softsign."""
    made = model("GlobalMaxPool", (1, 2, 1, 1))
    made.graph.node.append(helper.make_node("Div", ["x", "y0"], ["z"]))
    made.graph.output[0].name = "z"
    return made


NAN = np.full((4, 3), np.nan, np.float32)
MODELS = {
    "two inputs": (two_inputs(), "2 inputs and 1 outputs"),
    "integers": (of_integers(), "of type int64, not of floating-point numbers"),
    "domain": (custom(), r"\(Relu\).*domain 'mine'"),
    "pool of too few axes": (
        model("MaxPool", (1, 3, 4, 4), kernel_shape=[2]),
        "pools over 1 dimensions of 2 behind",
    ),
    "by its maximum": (by_its_maximum(), "divides by a value that depends on the input"),
    "disconnected": (disconnected(), "is not valid"),
    "opset 5": (model("Relu", (3,), opset=5), "uses opset 5; opsets 7 to"),
    "not a number": (model("Gemm", (1, 4), [NAN]), r"node 0 \(Gemm\): .*NaN"),
    "product": (model("Mul", (3,), ["x", "x"]), r"\(Mul\): multiplies two values"),
    "quotient": (model("Div", (3,), [np.float32([1, 2, 3]), "x"]), "divides by a value"),
    "by zero": (model("Div", (3,), [np.float32([1, 0, 3])]), "divides by 0"),
    "step": (model("Sign", (3,)), r"\(Sign\): jumps"),
    "root": (model("Sqrt", (3,)), "not Lipschitz"),
    "softmax": (model("Softmax", (3,)), "logits=True"),
    "unknown": (model("CumSum", (3,), [np.int64(0)]), r"\(CumSum\): is not supported"),
    "whole numbers": (model("Cast", (3,), to=TensorProto.INT32), "whole numbers"),
    "constant": (model("Shape", (3,)), "does not depend on the input"),
    "hard shrink": (model("Shrink", (3,), lambd=0.5), r"\(Shrink\): jumps"),
    "mask": (model("Where", (3,), ["x", normal(3), normal(3)]), "is not valid|jumps"),
    "sizes": (model("Add", (3,), [normal(4)]), "adds arrays of the shapes|model itself fails"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_not_covered_are_refused_by_the_node(name, tmp_path):
    made, reason = MODELS[name]
    path = tmp_path / "one.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(lb.LipboundsError, match=reason):
        lb.from_onnx(path)


def pickled():
    file = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), file)
    return file.getvalue()


WHOLE = model("Gemm", (1, 4), [normal(4, 3), normal(3)]).SerializeToString()
FILES = {
    "empty": b"",
    "text": b"this is no model\n",
    "pickle": pickled(),
    "half": WHOLE[: len(WHOLE) // 2],
    "cut at the end": WHOLE[:-1],
    "zeros": bytes(100),
    "tail": WHOLE[40:],
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_model_are_refused_in_a_sentence(name, tmp_path):
    path = tmp_path / "one.onnx"
    path.write_bytes(FILES[name])
    with pytest.raises(lb.LipboundsError, match="one.onnx") as error:
        lb.from_onnx(path)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(lb.LipboundsError, match="does not exist"):
        lb.from_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(lb.LipboundsError, match="is a folder"):
        lb.from_onnx(tmp_path)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_end_in_a_network_or_in_a_sentence(seed, tmp_path):
    rng = np.random.default_rng(seed)
    data = bytearray(WHOLE)
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] = rng.integers(256)
    path = tmp_path / "one.onnx"
    path.write_bytes(bytes(data))
    try:
        lb.from_onnx(path)
    except lb.LipboundsError as error:
        assert str(error)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", SORTS)
def test_sorted_groups(name, dynamo, tmp_path):
    path, opset = tmp_path / "network.onnx", 18 if dynamo else 13
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 6, dtype=torch.float64)
        torch.onnx.export(SORTS[name], (example,), path, opset_version=opset, dynamo=dynamo)
    logging.disable(logging.NOTSET)
    network = lb.from_onnx(path)
    x = torch.randn(20, 6, dtype=torch.float64)
    torch.testing.assert_close(network(x), SORTS[name](x))
    assert lb.relaxation_optimum(network, 2).upper <= 1 + 1e-9


def test_the_greatest_few_are_sorted_out(tmp_path):
    made = model("TopK", (5,), [np.int64([2])], outputs=2)
    made.graph.output[0].name = "y0"
    network = same_as_onnxruntime(made, tmp_path / "one.onnx", (5,))
    assert network.output_size == 2
    made = model("TopK", (5,), [np.int64([2])], outputs=2, sorted=0)
    made.graph.output[0].name = "y0"
    onnx.save(made, tmp_path / "open.onnx")
    with pytest.raises(lb.UnsupportedError, match="order of its outputs open"):
        lb.from_onnx(tmp_path / "open.onnx")

"""What a comparison on a few inputs would not find, and files and modules that do not fit."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError


def saved(path, nodes, arrays=(), shape=(1, 4), kind=TensorProto.FLOAT, opset=18):
    given = helper.make_tensor_value_info("x", kind, shape)
    result = helper.make_tensor_value_info("y", kind, ["a", "b"])
    held = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in dict(arrays).items()
    ]
    graph = helper.make_graph(nodes, "g", [given], [result], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("reduction", ("min", "max", "add", "mul"))
@pytest.mark.parametrize("kind", ("ScatterElements", "ScatterND"))
def test_a_scatter_that_compares_or_computes_is_no_move(kind, reduction, tmp_path):
    """max(x_0, -1000) is x_0 at every input tried, but not an identity."""
    far = {"max": -1000.0, "min": 1000.0, "add": 1.0, "mul": 2.0}[reduction]
    flat = kind == "ScatterElements"
    arrays = {
        "i": np.array([[0]] if flat else [[0, 0]], np.int64),
        "c": np.array([[far]] if flat else [far], np.float32),
    }
    node = helper.make_node(kind, ["x", "i", "c"], ["s"], reduction=reduction)
    nodes = [node, helper.make_node("Sub", ["x", "s"], ["y"])]
    with pytest.raises(UnsupportedError, match=f"{kind}.*computes"):
        lb.from_onnx(saved(tmp_path / "a.onnx", nodes, arrays))


def test_a_scatter_of_constants_is_a_move(tmp_path):
    arrays = {"i": np.array([[0]], np.int64), "c": np.array([[5.0]], np.float32)}
    nodes = [helper.make_node("ScatterElements", ["x", "i", "c"], ["y"], axis=1)]
    network = lb.from_onnx(saved(tmp_path / "a.onnx", nodes, arrays))
    x = torch.tensor([[1.0, 2, 3, 4]], dtype=torch.float64)
    assert network(x).tolist() == [[5, 2, 3, 4]]


def test_a_cast_to_half_precision_is_refused(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(UnsupportedError, match="half precision"):
        lb.from_onnx(saved(tmp_path / "a.onnx", nodes))

    class Half(nn.Module):
        def forward(self, x):
            return x + torch.relu(x - 1e4).half()

    with pytest.raises(UnsupportedError, match="to torch.float16"):
        lb.from_torch(Half(), (3,))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.mark.parametrize("factor", (float("inf"), float("nan")))
def test_constants_that_are_not_finite_are_refused(factor):
    with pytest.raises(LipboundsError, match="not finite"):
        lb.from_torch(Times(factor), (3,))


class Padded(nn.Module):
    """Max-pooling padded by hand with -inf, then something else than what the layers say."""

    def __init__(self, factor):
        super().__init__()
        self.pool, self.last, self.factor = nn.MaxPool1d(2), nn.Linear(3, 2), factor

    def forward(self, x):
        padded = nn.functional.pad(x, (1, 1), value=-float("inf"))
        return self.last(self.pool(padded).flatten(1))


def test_padding_with_minus_infinity_hides_no_difference(monkeypatch):
    module = Padded(1)
    network = lb.from_torch(module, (1, 4))
    x = torch.randn(5, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(network(x), module.double()(x))
    module.float()
    original = Padded.forward

    # torch.export traces the class's forward; the comparison calls this one.
    def patched(x):
        true = original(module, x)
        return true if torch.compiler.is_compiling() else 7 * true + 5

    module.forward = patched
    with pytest.raises(LipboundsError):
        lb.from_torch(module, (1, 4))


MISFIT = {
    "Mul": ([helper.make_node("Mul", ["x", "c"], ["y"])], np.ones((1, 3), np.float32)),
    "Gemm": ([helper.make_node("Gemm", ["x", "w", "c"], ["y"])], np.ones(3, np.float32)),
    "PRelu": ([helper.make_node("PRelu", ["x", "c"], ["y"])], np.ones(3, np.float32)),
}


@pytest.mark.parametrize("name", MISFIT)
def test_arrays_that_do_not_fit_are_named(name, tmp_path):
    nodes, constant = MISFIT[name]
    arrays = {"c": constant, "w": np.ones((4, 2), np.float32)}
    with pytest.raises(LipboundsError, match=name):
        lb.from_onnx(saved(tmp_path / "a.onnx", nodes, arrays))


def test_a_name_that_nothing_gives_and_shapes_that_are_none(tmp_path):
    path = saved(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    for shape in (4, (4.0,), "4"):
        with pytest.raises(LipboundsError, match="sequence of positive integers"):
            lb.from_onnx(path, shape)
    model = onnx.load(path)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(np.ones(1, np.float32), "c"),
            numpy_helper.from_array(np.array([0], np.int64), "i"),
            [4],
        )
    )
    model.graph.node.append(helper.make_node("Add", ["y", "c"], ["z"]))
    model.graph.output[0].name = "z"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LipboundsError, match="'c'.*dense form|not valid"):
        lb.from_onnx(path)


class Clamped(nn.Module):
    def forward(self, x):
        return torch.clamp(x, min=0.5 * x)


class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 3, 2))

    def forward(self, x):
        return torch.bmm(x.unsqueeze(1), self.w.expand(x.shape[0], 3, 2)).flatten(1)


@pytest.mark.parametrize(
    "module", (Clamped(), Expanded(), nn.Sequential(nn.Unflatten(1, (0, -1)))), ids=str
)
def test_modules_that_are_not_known_are_named(module):
    with pytest.raises(LipboundsError):
        lb.from_torch(module, (3,))


def test_gemm_with_a_factor_counts_its_rounding(tmp_path):
    weight = np.full((4, 2), 1.1)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=np.float32(0.1))
    network = lb.from_onnx(
        saved(tmp_path / "a.onnx", [node], {"w": weight}, kind=TensorProto.DOUBLE)
    )
    alpha = float(np.float32(0.1))
    assert lb.bound(network, "K_star", float("inf")).upper >= 4 * alpha * 1.1
    assert lb.bound(network, "K_star", float("inf")).upper <= 4 * alpha * 1.1 * (1 + 1e-12)

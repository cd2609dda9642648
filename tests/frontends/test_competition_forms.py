"""Graphs as the verification competition's files write them (VNN-COMP's benchmarks, whose weights
are not at hand: seeded ones here): each computes what onnxruntime does, and its bounds hold."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_onnx import normal, same_as_onnxruntime


class Graph:
    """Nodes one behind the other; a name stands for what was made under it before."""

    def __init__(self, shape, dims=None):
        self.shape, self.dims = shape, dims or shape
        self.nodes, self.held, self.last = [], [], "x"

    def add(self, kind, *inputs, to=None, **attributes):
        """A node of the last value and `inputs`, or of these alone where one is "x" or made
        before; arrays are constants."""
        names = [self._named(one) for one in inputs]
        if not any(isinstance(one, str) for one in inputs):
            names = [self.last, *names]
        self.last = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [self.last], **attributes))
        return self

    def _named(self, one):
        if isinstance(one, str):
            return one
        self.held.append(numpy_helper.from_array(np.asarray(one), f"c{len(self.held)}"))
        return self.held[-1].name

    def model(self, opset):
        value = helper.make_tensor_value_info
        inputs = [value("x", TensorProto.FLOAT, self.dims)]
        outputs = [value(self.last, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "graph", inputs, outputs, self.held)
        opsets = [helper.make_opsetid("", opset)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        made = onnx.shape_inference.infer_shapes(made)
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        made.graph.output[0].type.tensor_type.shape.SetInParent()
        return made


def dense(graph, *sizes):
    """MatMul and Add, a ReLU between."""
    for k, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        if k:
            graph.add("Relu")
        graph.add("MatMul", normal(a, b) / np.float32(a) ** 0.5).add("Add", normal(b))
    return graph


def gemms(graph, *sizes, activation="Relu"):
    for k, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        if k:
            graph.add(activation)
        graph.add("Gemm", normal(b, a) / np.float32(a) ** 0.5, normal(b), transB=1)
    return graph


def conv(graph, inputs, outputs, side=3, stride=1, pad=1, **to):
    kernel = normal(outputs, inputs, side, side) / np.float32(inputs * side * side) ** 0.5
    return graph.add("Conv", kernel, normal(outputs), kernel_shape=[side, side],
                     strides=[stride, stride], pads=[pad] * 4, **to)  # fmt: skip


def open_batch_flattened(graph, values):
    """x.view(x.size(0), -1), as torch's older exporter writes it."""
    before = graph.last
    graph.add("Shape").add("Gather", np.int64(0), axis=0).add("Unsqueeze", np.int64([0]))
    graph.add("Concat", graph.last, graph._named(np.int64([values])), axis=0)
    return graph.add("Reshape", before, graph.last)


def acas_xu():
    graph = Graph((1, 1, 1, 5)).add("Sub", normal(1, 1, 1, 5))
    return dense(graph.add("Flatten", axis=1), 5, *[50] * 6, 5)


def mnist_fc():
    """Columns, the weight on the left."""
    graph = Graph((1, 784, 1))
    graph.add("Flatten", axis=1)
    return gemms(graph, 784, 32, 32, 10)


def columns():
    graph = Graph((784, 1))
    for k, (a, b) in enumerate([(784, 32), (32, 32), (32, 10)]):
        if k:
            graph.add("Relu")
        graph.add("MatMul", normal(b, a) / np.float32(a) ** 0.5, graph.last)
        graph.add("Add", normal(b, 1))
    return graph


def cifar10_resnet():
    graph = conv(Graph((1, 3, 32, 32)), 3, 4, stride=2).add("Relu", to="r0")
    conv(graph, 4, 8, stride=2).add("Relu")
    conv(graph, 8, 8, to="main")
    graph.last = "r0"
    conv(graph, 4, 8, side=1, stride=2, pad=0, to="skip")
    graph.add("Add", "main", "skip").add("Relu", to="r1")
    conv(graph, 8, 8).add("Relu")
    conv(graph, 8, 8, to="main2")
    graph.add("Add", "main2", "r1").add("Relu").add("Flatten", axis=1)
    return gemms(graph, 8 * 64, 20, 10)


def oval21():
    graph = conv(Graph((1, 3, 32, 32), ("batch", 3, 32, 32)), 3, 4, 4, 2).add("Relu")
    conv(graph, 4, 8, 4, 2).add("Relu")
    return gemms(open_batch_flattened(graph, 8 * 64), 8 * 64, 20, 10)


def sri_resnet():
    """The normalisation in the graph, an average pool before the head."""
    graph = Graph((1, 3, 32, 32)).add("Sub", normal(1, 3, 1, 1))
    graph.add("Div", abs(normal(1, 3, 1, 1)) + np.float32(0.2))
    conv(graph, 3, 4, stride=2).add("Relu", to="r0")
    conv(graph, 4, 4).add("Relu")
    conv(graph, 4, 4)
    graph.add("Add", "r0", graph.last).add("Relu")
    graph.add("AveragePool", kernel_shape=[4, 4], strides=[4, 4])
    return gemms(graph.add("Reshape", np.int64([1, -1])), 4 * 16, 10)


def channels_last():
    """As tf2onnx writes Keras's convolutions."""
    graph = Graph((1, 32, 32, 3), ("unk__1", 32, 32, 3)).add("Transpose", perm=[0, 3, 1, 2])
    conv(graph, 3, 4, 3, 2, 0).add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    graph.add("Transpose", perm=[0, 2, 3, 1]).add("Reshape", np.int64([-1, 4 * 49]))
    return dense(graph, 4 * 49, 20, 10)


def sigmoids():
    graph = Graph((1, 1, 28, 28)).add("Sub", np.float32([0.1307])).add("Div", np.float32([0.3081]))
    return gemms(graph.add("Flatten", axis=1), 784, 30, 30, 10, activation="Sigmoid")


def verivital(pool):
    def built():
        graph = Graph((1, 1, 28, 28)).add("Sub", normal(1, 1, 28, 28))
        conv(graph, 1, 4, pad=0)
        graph.add("BatchNormalization", abs(normal(4)), normal(4), normal(4), abs(normal(4)) + 1)
        graph.add("Relu").add(pool, kernel_shape=[2, 2], strides=[2, 2])
        conv(graph, 4, 8, pad=0).add("Relu").add(pool, kernel_shape=[3, 3], strides=[3, 3])
        # a head that is a convolution over all of the image
        return conv(graph, 8, 10, 3, 1, 0).add("Flatten", axis=1)

    return built


def collins_rul():
    graph = Graph((1, 1, 20, 20))
    kernel = normal(5, 1, 10, 1) / 3
    graph.add("Conv", kernel, normal(5), auto_pad="SAME_LOWER", kernel_shape=[10, 1])
    graph.add("Relu").add("Dropout").add("Flatten", axis=1)
    return dense(graph, 5 * 400, 20, 1)


def biasfield():
    """A parametrised disturbance before the network: dense, reshaped to an image."""
    graph = gemms(Graph((1, 16)), 16, 3 * 16 * 16).add("Reshape", np.int64([-1, 3, 16, 16]))
    conv(graph, 3, 4, stride=2).add("Relu")
    return gemms(graph.add("Flatten", axis=1), 4 * 64, 10)


def tll():
    """A lattice of minima and maxima as layers of ReLUs, on columns of two."""
    graph = dense(Graph((1, 2)), 2, 12)
    graph.add("Reshape", np.int64([-1, 6, 2]))
    graph.add("MatMul", normal(2, 3)).add("Relu").add("MatMul", normal(3, 1))
    return graph.add("ReduceMax", axes=[1], keepdims=0)


def lindex():
    return dense(Graph((1, 1), ("N", 1)), 1, 128, 128, 1)


def generator():
    """A GAN's: dense, transposed convolutions, an image."""
    graph = gemms(Graph((1, 5)), 5, 8 * 16).add("Reshape", np.int64([-1, 8, 4, 4]))
    graph.add("BatchNormalization", abs(normal(8)), normal(8), normal(8), abs(normal(8)) + 1)
    graph.add("Relu")
    graph.add("ConvTranspose", normal(8, 4, 4, 4), normal(4), strides=[2, 2], pads=[1] * 4,
              kernel_shape=[4, 4])  # fmt: skip
    graph.add("Relu").add("Resize", np.float32([]), np.float32([1, 1, 2, 2]), mode="nearest")
    return conv(graph, 4, 1).add("Tanh")


def unet():
    graph = conv(Graph((1, 3, 16, 16)), 3, 4).add("Relu", to="r0")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    conv(graph, 4, 8).add("Relu")
    graph.add("ConvTranspose", normal(8, 4, 2, 2), normal(4), strides=[2, 2], kernel_shape=[2, 2])
    graph.add("Concat", "r0", graph.last, axis=1)
    return conv(graph, 8, 2, 1, 1, 0)


def dubins():
    """Of a controller: sorted columns and ReLU6 as Clip."""
    graph = Graph((1, 8))
    graph.add("Slice", np.int64([0]), np.int64([4]), np.int64([1]), to="left")
    graph.add("Slice", "x", graph._named(np.int64([4])), graph._named(np.int64([8])),
              graph._named(np.int64([1])), to="right")  # fmt: skip
    graph.add("Concat", "right", "left", axis=1)
    dense(graph, 8, 20).add("Clip", np.float32(0), np.float32(6))
    return dense(graph, 20, 2)


FORMS = {
    "ACAS Xu": acas_xu,
    "mnist_fc": mnist_fc,
    "columns": columns,
    "cifar10_resnet": cifar10_resnet,
    "oval21": oval21,
    "sri_resnet": sri_resnet,
    "marabou-cifar10": channels_last,
    "eran sigmoids": sigmoids,
    "verivital maxima": verivital("MaxPool"),
    "verivital averages": verivital("AveragePool"),
    "collins_rul_cnn": collins_rul,
    "cifar_biasfield": biasfield,
    "tllverifybench": tll,
    "nn4sys lindex": lindex,
    "cgan": generator,
    "carvana_unet": unet,
    "controller": dubins,
}


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_competition(form, opset, tmp_path):
    graph = FORMS[form]()
    if opset < 13:
        before_13(graph)
    network = same_as_onnxruntime(graph.model(opset), tmp_path / "m.onnx", graph.shape)
    assert network.input_size == np.prod(graph.shape)


def before_13(graph):
    """Unsqueeze's axes as an attribute."""
    constants = {one.name: one for one in graph.held}
    for node in graph.nodes:
        if node.op_type == "Unsqueeze":
            axes = numpy_helper.to_array(constants[node.input.pop()]).tolist()
            node.attribute.append(helper.make_attribute("axes", axes))

"""Small graphs, drawn from a seed: a convolutional net, and two products behind a normalisation."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIDE, CHANNELS = 16, 12


def model(nodes, tensors: dict, shape: list[int], out: list[int]) -> onnx.ModelProto:
    """A checked graph from `image` to `tokens`."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("tokens", onnx.TensorProto.FLOAT, out)],
        [numpy_helper.from_array(v.astype(np.float32) if v.dtype.kind == "f" else v, k) for k, v in tensors.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def convolutions(seed: int = 1) -> onnx.ModelProto:
    """conv, relu, conv, relu, add, conv, tokens: a residual block as ResNet has it."""
    rng, c = np.random.default_rng(seed), CHANNELS
    draw = lambda *s: rng.normal(0, np.sqrt(2 / np.prod(s[1:])), s)  # noqa: E731
    tensors = {
        "w0": draw(c, 1, 3, 3), "b0": draw(c, 4), "w1": draw(c, c, 3, 3), "b1": draw(c, 4), "w2": draw(c, c, 3, 3),
        "b2": draw(c, 4), "to": np.array([1, c, SIDE * SIDE], np.int64),
    } | {}
    tensors |= {k: v[:, 0] for k, v in tensors.items() if k.startswith("b")}
    three = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["a"], name="first", **three),
        helper.make_node("Relu", ["a"], ["ar"]),
        helper.make_node("Conv", ["ar", "w1", "b1"], ["b"], name="second", **three),
        helper.make_node("Relu", ["b"], ["br"]),
        helper.make_node("Conv", ["br", "w2", "b2"], ["d"], name="third", **three),
        helper.make_node("Add", ["d", "ar"], ["e"]),
        helper.make_node("Relu", ["e"], ["er"]),
        helper.make_node("Reshape", ["er", "to"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
    ]
    return model(nodes, tensors, [1, 1, SIDE, SIDE], [1, SIDE * SIDE, c])


def products(seed: int = 2) -> onnx.ModelProto:
    """Rows, normalised, through two Gemms with a Reshape between, as exported attention has them."""
    rng, c = np.random.default_rng(seed), CHANNELS
    draw = lambda *s: rng.normal(0, s[0] ** -0.5, s)  # noqa: E731
    rows = SIDE * SIDE // c
    tensors = {
        "in": np.array([rows, c], np.int64), "cut": np.array([rows * c], np.int64), "scale": np.ones(c), "shift": draw(c),
        "w0": draw(4 * c, c), "b0": draw(4 * c), "mid": np.array([1, rows, 4, c], np.int64),
        "back": np.array([rows, 4 * c], np.int64), "w1": draw(4 * c, c), "b1": draw(c), "to": np.array([1, rows, c], np.int64),
        "from": np.array([0], np.int64), "flat": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["line"]),
        helper.make_node("Slice", ["line", "from", "cut"], ["kept"]),
        helper.make_node("Reshape", ["kept", "in"], ["x"]),
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], axis=-1, name="normal"),
        helper.make_node("Gemm", ["n", "w0", "b0"], ["g"], transB=1, name="widen"),
        helper.make_node("Reshape", ["g", "mid"], ["m"]),
        helper.make_node("Relu", ["m"], ["mr"]),
        helper.make_node("Reshape", ["mr", "back"], ["h"]),
        helper.make_node("Gemm", ["h", "w1", "b1"], ["k"], name="narrow"),
        helper.make_node("Reshape", ["k", "to"], ["tokens"]),
    ]
    return model(nodes, tensors, [1, 1, SIDE, SIDE], [1, rows, c])


def images(count: int, seed: int = 3) -> np.ndarray:
    """Smooth random pictures `[count, 1, SIDE, SIDE]`, no two of one brightness."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 1, 4, 4)).repeat(4, 2).repeat(4, 3)
    return (coarse + rng.normal(0, 0.3, (count, 1, SIDE, SIDE)) + rng.normal(size=(count, 1, 1, 1))).astype(np.float32)


def with_outlier(net: onnx.ModelProto, producer: str, size: float, channel: int = 5) -> onnx.ModelProto:
    """The same function with one channel `size` times as large between a producer and what reads it."""
    from ..equalise import groups, put
    from ..qdq import untied

    net = untied(net)
    stored = {t.name: t for t in net.graph.initializer}
    node, reading = next(pair for pair in groups(net) if pair[0].name == producer)
    for name in node.input[1:]:
        value = numpy_helper.to_array(stored[name]).copy()
        value[channel] *= size
        put(stored[name], value)
    for layer in reading:
        value = np.moveaxis(numpy_helper.to_array(stored[layer.weight]).copy(), layer.inner, 0)
        value[channel] /= size
        put(stored[layer.weight], np.ascontiguousarray(np.moveaxis(value, 0, layer.inner)))
    return net

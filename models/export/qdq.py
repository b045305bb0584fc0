"""Int8 in an ONNX graph: pairs of QuantizeLinear and DequantizeLinear, and the graph without them.

Signed and symmetric, one scale per output channel of a weight and one per activation tensor;
Conv, MatMul and Gemm with a constant weight only; biases stay fp32. So one file serves TensorRT,
ONNX Runtime and, with the pairs taken out, tract.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Largest quantum: -128 is left unused, so that the range is symmetric.
QUANTA = 127
# A channel of nothing but zeros gets this scale, so that nothing is divided by zero.
SCALE_MIN = 1e-12
# Values of a constant that may hold a shape, for one of at most that many axes.
SMALL = 16


@dataclass
class Layer:
    """A product with a constant weight: what may be quantised."""

    node: str
    op: str
    input: str
    output: str
    weight: str
    # Axis of the weight's output channels, and of its inputs.
    axis: int
    inner: int
    # Multiplications for one image.
    products: int


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, to change."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def untied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in which no two nodes share a constant of more than one number."""
    model = copied(model)
    stored, seen = {t.name: t for t in model.graph.initializer}, set()
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if name in stored and name in seen and int(np.prod(stored[name].dims)) > 1:
                own = f"{name}.{node.name}.{at}"
                model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(stored[name]), own))
                node.input[at] = own
            seen.add(name)
    return model


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every initialiser by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shape of every value, as inferred; batch 1 leaves none open.

    Large constants are stood in for by their shapes: inference reads and copies whatever it is given.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def is_transposed(node: onnx.NodeProto) -> bool:
    """Whether a Gemm's weight is `[outputs, inputs]`."""
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def layers(model: onnx.ModelProto) -> tuple[list[Layer], int]:
    """What may be quantised, in the graph's order, and the multiplications of the whole graph."""
    weights, sizes = {t.name: list(t.dims) for t in model.graph.initializer}, shapes(model)
    found, total = [], 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        shape = weights.get(node.input[1])
        out = int(np.prod(sizes[node.output[0]]))
        if node.op_type == "Conv":
            products, axis, inner = out * int(np.prod(shape[1:])), 0, 1
        else:
            last = node.op_type == "Gemm" and is_transposed(node)
            axis, inner = (0, 1) if last else (1, 0)
            products = out * (shape or sizes[node.input[1]])[-1 if last else -2]
        total += products
        if shape is not None and (node.op_type == "Conv" or len(shape) == 2):
            found.append(Layer(node.name, node.op_type, node.input[0], node.output[0], node.input[1], axis, inner, products))
    return found, total


def relu_of(model: onnx.ModelProto) -> dict[str, str]:
    """Values that only a Relu reads -> what that Relu gives."""
    readers: dict[str, list] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return {n: r[0].output[0] for n, r in readers.items() if len(r) == 1 and r[0].op_type == "Relu"}


def quantised(model: onnx.ModelProto, clip: dict[str, float], leave=frozenset()) -> onnx.ModelProto:
    """The graph with pairs at every layer but those named in `leave`.

    `clip` gives each layer's input, and each convolution's output, the largest value that is kept.
    A convolution's output has a pair too, since ONNX Runtime computes it in int8 only then; where a
    Relu alone reads it, the pair has the scale of the Relu's output: below zero everything may
    saturate, and the next pair rounds nothing again.
    """
    model = copied(model)
    graph, relu = model.graph, relu_of(model)
    todo = {layer.node: layer for layer in layers(model)[0] if layer.node not in leave}
    weights, nodes, paired = {t.name: t for t in graph.initializer}, [], {}

    def pair(name: str, into: str, scale: float) -> None:
        graph.initializer.extend([
            numpy_helper.from_array(np.float32(scale), f"{into}.scale"),
            numpy_helper.from_array(np.int8(0), f"{into}.zero"),
        ])
        parts = [f"{into}.scale", f"{into}.zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *parts], [f"{into}.q"], name=f"{into}.quantise"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{into}.q", *parts], [into], name=f"{into}.dequantise"))

    def scale_of(name: str) -> float:
        return max(clip[name], SCALE_MIN * QUANTA) / QUANTA

    for node in graph.node:
        layer = todo.get(node.name)
        if layer is None:
            nodes.append(node)
            continue
        if layer.input not in paired:
            paired[layer.input] = f"{layer.input}.dq"
            pair(layer.input, paired[layer.input], scale_of(layer.input))
        if layer.weight in weights:
            nodes.append(as_int8(graph, weights.pop(layer.weight), layer.axis))
        node.input[0], node.input[1] = paired[layer.input], f"{layer.weight}.dq"
        nodes.append(node)
        if node.op_type == "Conv":
            read = relu.get(layer.output, layer.output)
            node.output[0] = f"{layer.output}.raw"
            pair(node.output[0], layer.output, scale_of(read))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def as_int8(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    """Puts int8 numbers and scales in the place of a weight; gives the node that reads them back."""
    q, scale = rounded(numpy_helper.to_array(weight), axis)
    graph.initializer.remove(weight)
    parts = {"q": q, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
    graph.initializer.extend(numpy_helper.from_array(v, f"{weight.name}.{k}") for k, v in parts.items())
    names = [f"{weight.name}.{k}" for k in parts]
    return helper.make_node("DequantizeLinear", names, [f"{weight.name}.dq"], name=f"{weight.name}.dequantise", axis=axis)


def rounded(real: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 numbers of a weight, and one scale per output channel: `real = q * scale`."""
    others = tuple(i for i in range(real.ndim) if i != axis)
    scale = (np.abs(real).max(others) / QUANTA).clip(SCALE_MIN).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(real.ndim)]
    return np.round(real / scale.reshape(shape)).clip(-QUANTA, QUANTA).astype(np.int8), scale


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its pairs, as `encode/strip.rs` makes it for tract: int8 weights in fp32."""
    model = copied(model)
    real, source, nodes = constants(model), {}, []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            source[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear" and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        elif node.op_type == "DequantizeLinear":
            q, scale = real[node.input[0]].astype(np.float32), real[node.input[1]]
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if i == axis else 1 for i in range(q.ndim)] if scale.size > 1 else []
            model.graph.initializer.append(numpy_helper.from_array(q * scale.reshape(shape), node.output[0]))
        else:
            nodes.append(node)
    for node in nodes:
        node.input[:] = [source.get(name, name) for name in node.input]
    for output in model.graph.output:
        if output.name in source:
            nodes.append(helper.make_node("Identity", [source[output.name]], [output.name]))
    read = {name for node in nodes for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers with uint8 activations about 128: what ONNX Runtime's x86 kernels fuse.

    For measuring only: the file stays signed, which is what TensorRT takes.
    """
    model = copied(model)
    shifted = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in shifted:
            tensor.CopyFrom(numpy_helper.from_array(np.uint8(128), tensor.name))
    return model


def share(model: onnx.ModelProto, leave=frozenset()) -> float:
    """Share of the multiplications that int8 holds."""
    found, total = layers(model)
    return sum(layer.products for layer in found if layer.node not in leave) / total

"""The encoder as the bundle's ONNX file: int8 weights behind dequantise nodes, and what that costs.

Signed, symmetric, per channel; Conv, MatMul and Gemm only; biases and activations stay fp32
(`docs/decisions/0006`). So one file serves TensorRT, ONNX Runtime and, with the nodes folded, tract.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from images import SIDE
from student import MEAN, STD

OPSET = 18
QUANTISED = ["Conv", "MatMul", "Gemm"]


def values_of(pixels: np.ndarray) -> np.ndarray:
    """The encoder's input `[n, 1, 224, 224]`."""
    return ((pixels[:, None].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def export(encoder: torch.nn.Module, path: Path) -> None:
    """Writes the fp32 file, batch left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder, (torch.zeros(1, 1, SIDE, SIDE),), str(path), dynamo=False, opset_version=OPSET,
            input_names=["image"], output_names=["tokens"],
            dynamic_axes={"image": {0: "batch"}, "tokens": {0: "batch"}},
        )


def quantise(fp32: Path, out: Path) -> None:
    """Writes the file with every weight as int8 and one scale per output channel."""
    model = onnx.load(str(fp32))
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    nodes = []
    for node in graph.node:
        name = node.input[1] if node.op_type in QUANTISED else None
        if name in constants:
            # Output channels come first in a convolution and a transposed Gemm, last in a product.
            transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else 1
            nodes.append(as_int8(graph, constants.pop(name), axis))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def as_int8(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    """Puts int8 numbers and scales in the place of a weight; gives the node that reads them back."""
    real = numpy_helper.to_array(weight)
    others = tuple(i for i in range(real.ndim) if i != axis)
    scale = (np.abs(real).max(others) / 127).clip(1e-12).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(real.ndim)]
    q = np.round(real / scale.reshape(shape)).clip(-127, 127).astype(np.int8)
    graph.initializer.remove(weight)
    parts = {"q": q, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
    graph.initializer.extend(numpy_helper.from_array(v, f"{weight.name}.{k}") for k, v in parts.items())
    return helper.make_node("DequantizeLinear", [f"{weight.name}.{k}" for k in parts], [weight.name], axis=axis)


def stripped(path: Path) -> onnx.ModelProto:
    """The file without its pairs, as `encode/strip.rs` makes it: an independent second writing."""
    model = onnx.load(str(path))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    source, nodes = {}, []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            source[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear" and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        elif node.op_type == "DequantizeLinear":
            weight, scale = constants[node.input[0]].astype(np.float32), constants[node.input[1]]
            shape = [-1] + [1] * (weight.ndim - 1) if scale.size > 1 else []
            real = numpy_helper.from_array(weight * scale.reshape(shape), node.output[0])
            model.graph.initializer.append(real)
        else:
            nodes.append(node)
    for node in nodes:
        node.input[:] = [source.get(name, name) for name in node.input]
    for output in model.graph.output:
        if output.name in source:
            nodes.append(onnx.helper.make_node("Identity", [source[output.name]], [output.name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def run(model, pixels: np.ndarray) -> np.ndarray:
    """Tokens `[n, 49, 256]` by ONNX Runtime, one image at a time as on the device."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else Path(model).read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": values_of(p[None])})[0] for p in pixels])


def embedding(tokens: np.ndarray, head: np.ndarray) -> np.ndarray:
    """`e = W mean(tokens)` at unit length."""
    u = tokens.mean(1) @ head.T
    return u / np.linalg.norm(u, axis=1, keepdims=True).clip(1e-12)


def nearness(found: np.ndarray, reference: np.ndarray) -> dict:
    """Cosines of embeddings, raw and with the reference's mean taken off both."""
    def cosines(a, b):
        return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))

    raw, centre = cosines(found, reference), reference.mean(0)
    centred = cosines(found - centre, reference - centre)
    return {
        "cosine": float(raw.mean()), "cosine_min": float(raw.min()), "centred": float(centred.mean()),
        "centred_p5": float(np.percentile(centred, 5)), "centred_min": float(centred.min()),
    }

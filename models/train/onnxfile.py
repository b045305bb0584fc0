"""The encoder as the bundle's ONNX file: int8 weights behind dequantise nodes, and what that costs.

Signed, symmetric, per output channel; the first small convolutions, biases and activations stay
fp32 (`docs/decisions/0006`). So one file serves TensorRT, ONNX Runtime and, with the nodes folded, tract.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from images import SIDE
from rounding import Rounded
from student import MEAN, STD

OPSET = 18


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


def quantise(fp32: Path, out: Path, layers: dict[str, Rounded]) -> None:
    """Writes the file with the rounded layers' weights as int8 and one scale per output channel."""
    model = onnx.load(str(fp32))
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    nodes = []
    for name, layer in layers.items():
        constants[f"{name}.bias"].CopyFrom(numpy_helper.from_array(layer.bias, f"{name}.bias"))
        nodes.append(as_int8(graph, constants[f"{name}.weight"], layer))
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def as_int8(graph: onnx.GraphProto, weight: onnx.TensorProto, layer: Rounded) -> onnx.NodeProto:
    """Puts int8 numbers and scales in the place of a weight; gives the node that reads them back."""
    name = weight.name
    graph.initializer.remove(weight)
    parts = {"q": layer.q, "scale": layer.scale, "zero": np.zeros(len(layer.scale), np.int8)}
    graph.initializer.extend(numpy_helper.from_array(v, f"{name}.{k}") for k, v in parts.items())
    return helper.make_node("DequantizeLinear", [f"{name}.{k}" for k in parts], [name], axis=0)


def run(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Tokens `[n, 49, 256]` by ONNX Runtime, one image at a time as on the device."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
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

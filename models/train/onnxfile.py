"""The encoder as the bundle's ONNX file: int8 by quantise/dequantise pairs, and what that costs.

Signed, symmetric, per channel; Conv, MatMul and Gemm only; biases stay fp32. So one file serves
TensorRT, ONNX Runtime and, with the pairs stripped, tract.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from images import SIDE
from student import MEAN, STD

OPSET = 18
QUANTISED = ["Conv", "MatMul", "Gemm"]


class Reader(CalibrationDataReader):
    """Feeds calibration images one by one."""

    def __init__(self, pixels: np.ndarray):
        self.batches = iter([{"image": values_of(p[None])} for p in pixels])

    def get_next(self):
        return next(self.batches, None)


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


def quantise(fp32: Path, out: Path, calibration: np.ndarray, method: CalibrationMethod) -> None:
    """Writes the int8 file, self-contained and without the tool's opset imports beyond ONNX's."""
    quantize_static(
        str(fp32), str(out), Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=QUANTISED,
        calibrate_method=method,
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
            # 99.999: the figure of the percentile method's own default; unused by min-max.
            "CalibPercentile": 99.999,
            # The tokens leave the network in fp32: nothing after them is quantised.
            "OpTypesToExcludeOutputQuantization": [],
        },
    )
    model = onnx.load(str(out))
    kinds = {t.data_type for t in model.graph.initializer}
    if onnx.TensorProto.INT32 in kinds or onnx.TensorProto.UINT8 in kinds:
        raise SystemExit(f"{out}: expected int8 weights and fp32 biases, found tensor types {sorted(kinds)}")
    onnx.checker.check_model(model, full_check=True)


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

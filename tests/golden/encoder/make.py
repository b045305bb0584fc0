"""Makes `qdq.onnx`: a tiny encoder whose activations are quantised too, signed and symmetric.

    python tests/golden/encoder/make.py PIXELS OUT

The demo bundle's encoder has int8 weights only, so this file keeps the other form of
`precision = "int8"` tested on every engine: quantise/dequantise pairs as ONNX Runtime's static
quantisation writes them. PIXELS is what `clearfilm pixels` wrote of phantoms. The weights are
random and mean nothing.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from safetensors.numpy import load_file
from torch import nn

# The demo bundle's interface: [batch, 1, 224, 224] to [batch, 49, 256], (pixel / 255 - 0.5) / 0.25.
SIDE, N_TOKENS, D_TOKEN = 224, 49, 256


class Tiny(nn.Module):
    """Three strided convolutions and a projection."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 4, 2), nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, D_TOKEN, 1),
        )

    def forward(self, image):
        return self.body(image).reshape(-1, D_TOKEN, N_TOKENS).transpose(1, 2)


class Reader(CalibrationDataReader):
    """Feeds calibration images one by one."""

    def __init__(self, pixels: np.ndarray):
        self.batches = iter([{"image": ((p[None, None].astype(np.float32) / 255 - 0.5) / 0.25)} for p in pixels])

    def get_next(self):
        return next(self.batches, None)


if __name__ == "__main__":
    torch.manual_seed(7)
    pixels = load_file(sys.argv[1])["pixels"]
    with tempfile.TemporaryDirectory() as folder:
        fp32 = str(Path(folder) / "fp32.onnx")
        torch.onnx.export(
            Tiny().eval(), (torch.zeros(1, 1, SIDE, SIDE),), fp32, dynamo=False, opset_version=18,
            input_names=["image"], output_names=["tokens"], dynamic_axes={"image": {0: "batch"}, "tokens": {0: "batch"}},
        )
        quantize_static(
            fp32, sys.argv[2], Reader(pixels), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )

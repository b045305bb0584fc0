"""The two ImageNet networks that teach the student, as 8-bit TFLite files.

Neither is needed at inference, and nothing of them is written outside `.cache/`: not their
weights, not their features, not the bases computed here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Name of each file, and the index of its last spatial map `[1, 7, 7, channels]` before pooling.
TEACHERS = {
    "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite": 81,
    "tf2_mobilenet_v2_1.0_224_ptq.tflite": 171,
}
# Components kept of each teacher's mean and of its tokens (the design's measured recipe).
MEAN_COMPONENTS, TOKEN_COMPONENTS = 256, 96
# Exponents of the eigenvalues: 0 would be plain PCA, -0.5 full whitening (the same recipe).
MEAN_WHITENING, TOKEN_WHITENING = -0.35, -0.25


class Teacher:
    """One TFLite network whose output is redirected to its last spatial map."""

    def __init__(self, path: Path, tensor: int):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=redirected(path.read_bytes(), tensor), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]

    def tokens(self, pixels: np.ndarray) -> np.ndarray:
        """`[49, channels]` of one picture U8 `[224, 224]`, in real units."""
        self.interpreter.set_tensor(self.input, np.repeat(pixels[None, :, :, None], 3, axis=3))
        self.interpreter.invoke()
        scale, zero = self.output["quantization"]
        quantised = self.interpreter.get_tensor(self.output["index"]).astype(np.float32)
        return ((quantised - zero) * scale).reshape(49, -1)


def redirected(model: bytes, tensor: int) -> bytes:
    """The flatbuffer with `tensor` in place of its only output; so no other step is slowed."""
    from ai_edge_litert import schema_py_generated as schema

    model = bytearray(model)
    outputs = schema.Model.GetRootAs(model, 0).Subgraphs(0).OutputsAsNumpy()
    assert outputs.size == 1, f"expected one output, found {outputs.size}"
    start = outputs.__array_interface__["data"][0] - np.frombuffer(model, np.uint8).__array_interface__["data"][0]
    model[start : start + 4] = int(tensor).to_bytes(4, "little")
    return bytes(model)


@dataclass
class Basis:
    """Principal components of one teacher: `target = (x - mean) @ components`, partly whitened."""

    mean: np.ndarray
    components: np.ndarray

    @staticmethod
    def fit(x: np.ndarray, count: int, whitening: float) -> "Basis":
        """Of the rows of `x`; the leading component gets unit variance times its share."""
        mean = x.mean(0)
        values, vectors = np.linalg.eigh(np.cov((x - mean).T.astype(np.float64)))
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        return Basis(mean, (vectors * values.clip(1e-9) ** whitening).astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.components


class Teachers:
    """Both teachers and their bases, fitted on the plain training images."""

    def __init__(self, folder: Path, plain: np.ndarray):
        missing = [name for name in TEACHERS if not (folder / name).exists()]
        if missing:
            raise SystemExit(f"teachers: expected {', '.join(missing)} in {folder}, found none")
        self.networks = [Teacher(folder / name, tensor) for name, tensor in TEACHERS.items()]
        self.mean_bases, self.token_bases = [], []
        for network in self.networks:
            tokens = np.stack([network.tokens(p) for p in plain])
            sample = tokens.reshape(-1, tokens.shape[-1])[:: max(1, len(plain) * 49 // 40_000)]
            self.mean_bases.append(Basis.fit(tokens.mean(1), MEAN_COMPONENTS, MEAN_WHITENING))
            self.token_bases.append(Basis.fit(sample, TOKEN_COMPONENTS, TOKEN_WHITENING))

    def targets(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean target `[512]` of unit length and token targets `[49, 192]` of one picture."""
        tokens = [network.tokens(pixels) for network in self.networks]
        means = [unit(basis(t.mean(0))) for basis, t in zip(self.mean_bases, tokens)]
        return unit(np.concatenate(means)), np.concatenate(
            [basis(t) for basis, t in zip(self.token_bases, tokens)], axis=1
        )


def unit(x: np.ndarray) -> np.ndarray:
    """`x` at unit length."""
    return x / max(np.linalg.norm(x), 1e-9)


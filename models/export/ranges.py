"""How large each activation gets over real radiographs: what a pair's scale is made of."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime

from .qdq import copied, layers, relu_of

# Bins of the histogram that a percentile is read from: a quantum of int8 is 16 of them.
BINS = 2048


@dataclass
class Spread:
    """Magnitudes of one value over all images."""

    largest: float = 0.0
    # Largest magnitude per channel; channels are axis 1 of a map and the last axis of rows.
    channels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def clip(self, percentile: float) -> float:
        """The largest magnitude that is kept; 100 keeps everything."""
        if percentile >= 100 or not self.counts.sum():
            return self.largest
        below = np.cumsum(self.counts) / self.counts.sum()
        return self.largest * float(np.searchsorted(below, percentile / 100) + 1) / BINS


def session(model: onnx.ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, as the device has it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tokens(model: onnx.ModelProto, images: np.ndarray, threads: int = 1) -> np.ndarray:
    """Tokens `[n, n_tokens, d_token]`, one image at a time as on the device."""
    ready = session(model, threads)
    name = model.graph.input[0].name
    return np.concatenate([ready.run(None, {name: image[None]})[0] for image in images])


def watched(model: onnx.ModelProto) -> list[str]:
    """Inputs of every layer, and outputs of convolutions or of the Relu that alone reads them."""
    relu, found = relu_of(model), []
    for layer in layers(model)[0]:
        found.append(layer.input)
        if layer.op == "Conv":
            found.append(relu.get(layer.output, layer.output))
    return sorted(set(found))


def spreads(model: onnx.ModelProto, images: np.ndarray, histogram: bool = False) -> dict[str, Spread]:
    """Magnitudes of every watched value over images `[n, channels, height, width]`."""
    names, wide = watched(model), copied(model)
    given = {wide.graph.input[0].name}
    asked = [n for n in names if n not in given]
    present = {o.name for o in wide.graph.output}
    wide.graph.output.extend(onnx.ValueInfoProto(name=n) for n in asked if n not in present)
    ready, found, mapped = session(wide), {n: Spread() for n in names}, maps(model)

    def each():
        for image in images:
            got = dict(zip(asked, ready.run(asked, {wide.graph.input[0].name: image[None]})))
            yield from (got | {n: image[None] for n in names if n in given}).items()

    for name, value in each():
        size, spread = np.abs(value), found[name]
        spread.largest = max(spread.largest, float(size.max()))
        apart = size.max((0, 2, 3)) if name in mapped else size.reshape(-1, size.shape[-1]).max(0)
        spread.channels = np.maximum(spread.channels, apart) if spread.channels.size else apart
    if histogram:
        for name, value in each():
            spread = found[name]
            spread.counts += np.histogram(np.abs(value), BINS, (0, max(spread.largest, 1e-30)))[0]
    return found


def maps(model: onnx.ModelProto) -> set[str]:
    """Values that convolutions read or give: their channels are axis 1."""
    relu, found = relu_of(model), set()
    for layer in layers(model)[0]:
        if layer.op == "Conv":
            found |= {layer.input, layer.output, relu.get(layer.output, layer.output)}
    return found

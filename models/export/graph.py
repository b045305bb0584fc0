"""The encoder as one ONNX file: opset 18, `image [1, channels, side, side]` to `tokens`.

Batch 1, because the device reads one image at a time, and a symbol in the batch's place keeps
tract from working out shapes.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxslim
import torch

from .biases import apart

OPSET = 18
# As onnx.checker has it; a larger file would need external data, which a bundle has not.
BYTES_MAX = 2**31 - 1


def export(tokens: torch.nn.Module, channels: int, side: int, names=("image", "tokens"), image=None) -> onnx.ModelProto:
    """The fp32 graph, slimmed: normalisations folded into convolutions, no shape arithmetic."""
    image = torch.zeros(1, channels, side, side) if image is None else image
    quiet = logging.getLogger("torch.onnx")
    level, _ = quiet.level, quiet.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "encoder.onnx"
        program = torch.onnx.export(
            tokens, (image,), dynamo=True, opset_version=OPSET, input_names=[names[0]], output_names=[names[1]],
            verbose=False,
        )
        program.save(str(path), external_data=False)
        model = onnxslim.slim(onnx.load(str(path)))
    quiet.setLevel(level)
    return apart(checked(model))


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that a bundle may carry, or an error that says what it has that it may not."""
    opset = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if opset.get("ai.onnx") != OPSET or any(n.domain not in ("", "ai.onnx") for n in model.graph.node):
        raise ValueError(f"expected the operators of opset {OPSET} only, found {opset}")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    # Where it came from in PyTorch's source names files of the machine that exported it.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    del model.functions[:]
    del model.graph.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, path: Path) -> int:
    """Writes one file without external data; returns its bytes."""
    content = model.SerializeToString(deterministic=True)
    if len(content) > BYTES_MAX:
        raise ValueError(f"{path}: expected at most {BYTES_MAX} bytes, found {len(content)}")
    path.write_bytes(content)
    return len(content)

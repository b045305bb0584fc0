"""Makes the int8 and fp16 files, holds each against fp32 on held-out radiographs, and says so."""

import time

import numpy as np
import onnx
from safetensors.numpy import load_file

from . import nearness, qdq, radiographs, ranges, search
from .biases import apart


def images(given, files: list[str], spec: dict) -> np.ndarray:
    """Encoder inputs of radiographs, by the device's own preprocess."""
    pixels = radiographs.fitted(given.clearfilm, files, spec["fit"], spec["height"], given.cache)
    return radiographs.values(pixels, spec["mean"], spec["std"])


def at_batch_one(model: onnx.ModelProto, spec: dict) -> onnx.ModelProto:
    """A graph with an open batch brought to batch 1, its products written as `graph` writes them."""
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, spec["channels"], spec["height"], spec["width"])):
        dimension.ClearField("dim_param")
        dimension.dim_value = size
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    return apart(model)


def both(given, model: onnx.ModelProto, head: dict, spec: dict) -> dict:
    """What was asked for of int8 and fp16: writes the files, returns the figures."""
    if not given.measure or given.int8 and not (given.calibrate and given.tune):
        raise ValueError("expected radiographs: --measure, and for --int8 also --calibrate and --tune")
    sae = load_file(given.sae) if given.sae else None
    x = images(given, given.measure, spec)
    held = search.Yardstick(x, nearness.embedding(ranges.tokens(model, x), **head), head["weight"], head.get("bias"), sae)
    found = {}
    if given.int8:
        found["int8"] = int8(given, model, held, spec)
    if given.fp16:
        found["fp16"] = fp16(given, model, held)
    return found


def int8(given, model: onnx.ModelProto, held: search.Yardstick, spec: dict) -> dict:
    """Searches on tuning images, measures the path on held-out ones, writes the last."""
    started = time.monotonic()
    tune = images(given, given.tune, spec)
    reference = nearness.embedding(ranges.tokens(model, tune), held.weight, held.bias)
    stick = search.Yardstick(tune, reference, held.weight, held.bias, held.sae)
    calibration = images(given, given.calibrate, spec)
    tried, costs, path = search.searched(model, calibration, stick, lambda s: print(s, flush=True))
    rows = []
    for choice in path:
        files = {"fp32": model, "int8": choice.model, "int8, uint8 activations": qdq.unsigned(choice.model)}
        times = search.latency(files, held.images[0])
        row = choice.row() | {"bytes": len(choice.model.SerializeToString()), "milliseconds": times}
        rows.append({"tuning": row, "held_out": shown(held.measured(choice.model))})
    last = path[-1]
    onnx.checker.check_model(last.model, full_check=True)
    (given.out / "encoder-int8.onnx").write_bytes(last.model.SerializeToString(deterministic=True))
    e, bare = held.embedding(last.model), held_by(held, qdq.stripped(last.model))
    return {
        "calibration_images": len(calibration), "tuning_images": len(tune), "schemes": [choice.row() for choice in tried], "layers": costs,
        "path": rows, "equalised": last.equalised, "percentile": last.percentile, "left_in_fp32": last.left,
        "int8_share": last.share, "fp32_bytes": len(model.SerializeToString()),
        "gates": {
            "centred_mean": search.CENTRED_MIN, "jaccard": search.JACCARD_MIN, "int8_share": search.SHARE_MIN,
            "raw_min": search.BETWEEN_RAW, "centred_min": search.BETWEEN_CENTRED,
        },
        "holds": search.passes(rows[-1]["held_out"]) and last.share >= search.SHARE_MIN,
        "held_out": held.measured(last.model), "stripped_against_fp32": measured(held, bare),
        "int8_against_stripped": shown(nearness.compared(e, bare)), "search_seconds": round(time.monotonic() - started),
    }


def held_by(held: search.Yardstick, model: onnx.ModelProto) -> np.ndarray:
    """Embeddings of a graph that has no pairs."""
    return nearness.embedding(ranges.tokens(model, held.images), held.weight, held.bias)


def measured(held: search.Yardstick, e: np.ndarray) -> dict:
    """Embeddings against fp32, without the figures of single images."""
    found = shown(nearness.compared(e, held.reference))
    if held.sae is not None:
        found["jaccard"] = nearness.jaccard(nearness.active(e, held.sae), nearness.active(held.reference, held.sae))
    return found


def shown(found: dict) -> dict:
    """Figures without those of single images."""
    return {k: v for k, v in found.items() if k != "per_image"}


def fp16(given, model: onnx.ModelProto, held: search.Yardstick) -> dict:
    """Weights and sums in fp16, input and output fp32; tract cannot run it."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(qdq.copied(model), keep_io_types=True)
    content = half.SerializeToString(deterministic=True)
    (given.out / "encoder-fp16.onnx").write_bytes(content)
    return {"bytes": len(content), "held_out": measured(held, held_by(held, half))}


def words(record: dict) -> str:
    """`export.txt`: the record in a few lines."""
    lines = [f"{record.get('family', 'quantised')}: {record['input']['height']} px, fit {record['input']['fit']}"]
    if "parity" in record:
        p = record["parity"]
        lines.append(f"against PyTorch, {p['images']} radiographs: cosine {p['raw_mean']:.8f} (worst {p['raw_min']:.8f}), centred {p['centred_mean']:.8f} (worst {p['centred_min']:.8f})")
    for name in ("unused", "without_effect", "dropped_buffers"):
        if name in record:
            lines.append(f"{name.replace('_', ' ')}: {len(record[name])} tensors")
    if "int8" in record:
        lines += int8_words(record["int8"])
    if "fp16" in record:
        lines.append(f"fp16: {record['fp16']['bytes'] / 1e6:.2f} MB, {figures(record['fp16']['held_out'])}")
    return "\n".join(lines) + "\n"


def int8_words(found: dict) -> list[str]:
    """The tables of the int8 file."""
    g = found["gates"]
    lines = [
        f"int8: {'holds' if found['holds'] else 'DOES NOT HOLD'} centred >= {g['centred_mean']}, Jaccard >= {g['jaccard']}, "
        f"share >= {g['int8_share']:.0%}, every image's raw >= {g['raw_min']} and centred >= {g['centred_min']}"
    ]
    lines.append("every layer in int8, on tuning images:")
    lines += [f"  {'equalised' if r['equalised'] else 'plain':9} percentile {r['percentile']:6g}: {figures(r)}" for r in found["schemes"]]
    lines.append("layers put back into fp32, on held-out images:")
    for row in found["path"]:
        t, ms = row["tuning"], row["tuning"]["milliseconds"]
        names = ", ".join(t["left"]) or "none"
        lines.append(
            f"  {t['int8_share']:.1%} in int8, {t['bytes'] / 1e6:.2f} MB, {ms['int8, uint8 activations']:.1f} ms "
            f"(signed {ms['int8']:.1f}, fp32 {ms['fp32']:.1f}): {figures(row['held_out'])}; in fp32: {names}"
        )
    lines.append("what single layers cost, share of multiplications and gain of leaving it in fp32:")
    lines += [f"  {c['layer']}: {c['products']:.1%}, {c['gain']:+.4f}" for c in found["layers"][:8]]
    lines.append(f"stripped against fp32: {figures(found['stripped_against_fp32'])}")
    b = found["int8_against_stripped"]
    lines.append(f"int8 against stripped: {figures(b)} (bounds: raw {search.BETWEEN_RAW}, centred {search.BETWEEN_CENTRED})")
    return lines


def figures(found: dict) -> str:
    """One comparison in words."""
    jaccard = f", Jaccard {found['jaccard']:.3f}" if "jaccard" in found else ""
    return (
        f"centred {found['centred_mean']:.4f} (worst {found['centred_min']:.4f}), "
        f"raw {found['raw_mean']:.5f} (worst {found['raw_min']:.5f}){jaccard}"
    )

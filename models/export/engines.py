"""The exported file in the device's own engines: ONNX Runtime against tract, by the device's code.

    python -m export.engines exported --file encoder-int8.onnx --sae small/sae.safetensors \
        --measure @measure.txt --clearfilm target/release/clearfilm --workshop target/release/clearfilm-models

Makes a bundle whose golden outputs are ONNX Runtime's of the same file, or of another one (`--golden`),
and lets `clearfilm-models verify` run it: what it prints for tract is how far the engines are apart.
Then two golden inputs change places, and every engine must refuse it. A file in fp16 is for ONNX
Runtime only. The bundle has no findings, and holds the radiographs it is given: it is removed again,
unless `--keep` names a folder for it.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import load_file

from . import nearness, qdq, radiographs, ranges
from .__main__ import input_of

# Golden images: a bundle wants at least 16; more make the worst of them worse, and the file larger.
GOLDEN = 32
# Tolerances of engines.md: fp32 between engines, and int8 against its stripped form.
FP32 = {"cosine_min": 0.99999, "centred_cosine_min": 0.9999, "code_cosine_min": 0.999}
INT8 = {"cosine_min": 0.995, "centred_cosine_min": 0.95, "code_cosine_min": 0.9}
# fp16 has 11 bits of mantissa: between the two.
FP16 = {"cosine_min": 0.9999, "centred_cosine_min": 0.999, "code_cosine_min": 0.99}
OOD_COMPONENTS = 8


def manifest(spec: dict, shape: list[int], head: dict, d_sae: int, precision: str, bounds: dict) -> str:
    """`manifest.toml` of a bundle that is only run once."""
    side = int(np.sqrt(shape[1]))
    sections = {
        "input": spec, "encoder": {"n_tokens": shape[1], "grid": [side, shape[1] // side], "d_token": shape[2], "precision": precision},
        "head": {"d_model": len(head["weight"]), "normalised": True},
        "sae": {"level": "embedding", "d_sae": d_sae, "activation": "jump_relu", "weights": "f32"},
        "normaliser": {"kind": "centre-and-scale", "scale": 1.0},
        "ood": {"components": OOD_COMPONENTS, "threshold": 1000.0, "borderline": 999.0}, "golden": {"count": GOLDEN} | bounds,
    }
    words = [
        'format = 1', 'name = "between-engines"', 'version = "1"', 'licence = "none"', 'clinical = false',
        'intended_use = "comparing engines; it says nothing of radiographs"', 'created = "2026-01-01"', "[files]",
    ]
    for name, values in sections.items():
        words += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    return "\n".join(words) + "\n"


def ood(pooled: np.ndarray, e: np.ndarray) -> dict[str, np.ndarray]:
    """Any model of the images: a bundle must have one, and here nothing is asked of it."""
    _, spread, basis = np.linalg.svd(pooled - pooled.mean(0), full_matrices=False)
    std = (spread[:OOD_COMPONENTS] / np.sqrt(len(pooled))).clip(1e-6)
    found = {"mean": pooled.mean(0), "components": basis[:OOD_COMPONENTS], "std": std, "residual_std": np.ones(1)}
    found |= {"centre": e.mean(0), "edge": np.ones(2)}
    return {k: v.astype(np.float32) for k, v in found.items()}


def bundle(given, folder: Path) -> str:
    """Writes every file of the bundle but the hashes; gives its number format."""
    from bundle import tensors, words

    spec, head, sae = input_of(given.folder), load_file(given.folder / "head.safetensors"), load_file(given.sae)
    model = onnx.load(str(given.folder / given.file))
    pixels = radiographs.fitted(given.clearfilm, given.measure, spec["fit"], spec["height"], given.cache)[:GOLDEN]
    precision, bounds = form(model)
    golden = onnx.load(str(given.folder / (given.golden or given.file)))
    runs = qdq.unsigned(golden) if form(golden)[0] == "int8" else golden
    tokens = ranges.tokens(runs, radiographs.values(pixels, spec["mean"], spec["std"]))
    e = nearness.embedding(tokens, **head)
    acts = e @ sae["w_enc"].T + sae["b_enc"]
    code = np.where(acts > sae["threshold"], acts, 0).astype(np.float32)
    (folder / "encoder.onnx").write_bytes((given.folder / given.file).read_bytes())
    tensors(folder / "head.safetensors", head)
    tensors(folder / "sae.safetensors", sae)
    tensors(folder / "ood.safetensors", ood(tokens.mean(1), e))
    tensors(folder / "golden/golden.safetensors", {"inputs": pixels, "embedding": e, "code": code})
    words(folder / "findings.json", {"format": 1, "findings": [], "not_assessed": ["everything"]})
    words(folder / "features.json", {"format": 1, "named_by": "nobody", "features": []})
    technique = {view: "Chest radiograph." for view in ("PA", "AP", "LL", "RL", "unknown")}
    words(folder / "report.json", {"format": 1, "language": "en", "technique": technique, "findings": {}, "limitations": ["It compares engines."]})
    (folder / "card.md").write_text("# Between engines\n\nMade to compare engines, and removed.\n")
    shape = qdq.shapes(qdq.stripped(model))["tokens"]
    (folder / "manifest.toml").write_text(
        manifest(spec, shape, head, len(sae["b_enc"]), precision, bounds)
    )
    return precision


def form(model: onnx.ModelProto) -> tuple[str, dict]:
    """The number format of a file, and how near its outputs must come."""
    if any(n.op_type == "QuantizeLinear" for n in model.graph.node):
        return "int8", INT8
    if any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
        return "fp16", FP16
    return "fp32", FP32


def swap(folder: Path) -> None:
    """The first two golden inputs change places."""
    from bundle import tensors

    golden = load_file(folder / "golden/golden.safetensors")
    golden["inputs"] = golden["inputs"][[1, 0, *range(2, len(golden["inputs"]))]]
    tensors(folder / "golden/golden.safetensors", golden)


def verified(given, folder: Path, engines: list[str]) -> bool:
    """Seals the bundle and runs its golden set on each engine; all of them pass?"""
    library = next(Path(ranges.onnxruntime.__file__).parent.rglob("libonnxruntime.so.*"))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as configuration:
        configuration.write(f"[engine]\norder = {json.dumps(engines)}\nlibrary = {json.dumps(str(library))}\n")
        configuration.flush()
        subprocess.run([given.workshop, "seal", str(folder)], check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run([given.workshop, "verify", "--config", configuration.name, str(folder)], capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    refused = done.stdout.count(": failed: ")
    assert refused in (0, len(engines)), f"expected all engines alike, found {refused} of {len(engines)} that refuse"
    return refused == 0


def main() -> None:
    """Builds, seals and verifies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an export")
    parser.add_argument("--file", default="encoder.onnx", help="which of its graphs")
    parser.add_argument("--golden", metavar="FILE", help="whose outputs are golden; the same file's without it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the bundle here: it holds radiographs")
    parser.add_argument("--sae", type=Path, required=True, help="a dictionary over its embeddings")
    parser.add_argument("--measure", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--clearfilm", required=True)
    parser.add_argument("--workshop", required=True, help="the clearfilm-models binary")
    parser.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name) / "bundle"
        folder.mkdir(parents=True)
        engines = ["cpu"] if bundle(given, folder) == "fp16" else ["cpu", "tract"]
        assert verified(given, folder, engines), "expected every engine to pass, found that they do not"
        swapped = Path(name) / "swapped"
        shutil.copytree(folder, swapped)
        swap(swapped)
        print("with two golden inputs that changed places:")
        assert not verified(given, swapped, engines), "expected every engine to refuse it, found that they pass"


if __name__ == "__main__":
    main()

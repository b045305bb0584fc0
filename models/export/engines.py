"""The exported file in the device's own engines: ONNX Runtime against tract, by the device's code.

    python -m export.engines exported --file encoder-int8.onnx --sae small/sae.safetensors \
        --measure @measure.txt --clearfilm target/release/clearfilm --workshop target/release/clearfilm-models

Makes a bundle in a temporary folder whose golden outputs are ONNX Runtime's of the same file, and
lets `clearfilm-models verify` run it: what it prints for tract is how far the engines are apart.
The bundle has no findings, and holds the radiographs it is given: it is removed again.
"""

import argparse
import json
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


def bundle(given, folder: Path) -> None:
    """Writes every file of the bundle but the hashes."""
    from bundle import tensors, words

    spec, head, sae = input_of(given.folder), load_file(given.folder / "head.safetensors"), load_file(given.sae)
    model = onnx.load(str(given.folder / given.file))
    pixels = radiographs.fitted(given.clearfilm, given.measure, spec["fit"], spec["height"], given.cache)[:GOLDEN]
    paired = any(n.op_type == "QuantizeLinear" for n in model.graph.node)
    runs = qdq.unsigned(model) if paired else model
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
        manifest(spec, shape, head, len(sae["b_enc"]), "int8" if paired else "fp32", INT8 if paired else FP32)
    )


def main() -> None:
    """Builds, seals and verifies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an export")
    parser.add_argument("--file", default="encoder.onnx", help="which of its graphs")
    parser.add_argument("--sae", type=Path, required=True, help="a dictionary over its embeddings")
    parser.add_argument("--measure", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--clearfilm", required=True)
    parser.add_argument("--workshop", required=True, help="the clearfilm-models binary")
    parser.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
    given = parser.parse_args()
    library = next(Path(ranges.onnxruntime.__file__).parent.rglob("libonnxruntime.so.*"))
    with tempfile.TemporaryDirectory() as name:
        folder, configuration = Path(name) / "bundle", Path(name) / "clearfilm.toml"
        folder.mkdir()
        bundle(given, folder)
        configuration.write_text(f'[engine]\norder = ["cpu", "tract"]\nlibrary = "{library}"\n')
        subprocess.run([given.workshop, "seal", str(folder)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([given.workshop, "verify", "--config", str(configuration), str(folder)], check=False)


if __name__ == "__main__":
    main()

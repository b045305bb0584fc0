"""Writes the bundle's files from what was trained and measured; `clearfilm-models seal` hashes them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

# Golden phantoms: one per seed, three of each variant.
GOLDEN = 18


def tensors(path: Path, values: dict[str, np.ndarray]) -> None:
    """A safetensors file; arrays are made contiguous first, or other bytes would be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, path)


def words(path: Path, value: dict) -> None:
    """A JSON file that a human can read and compare."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def ood_model(embedding: np.ndarray, components: int) -> dict[str, np.ndarray]:
    """Mean, leading components and spreads of training embeddings."""
    mean = embedding.mean(0)
    values, vectors = np.linalg.eigh(np.cov((embedding - mean).T.astype(np.float64)))
    basis = vectors[:, ::-1][:, :components].T
    rest = (embedding - mean) - (embedding - mean) @ basis.T @ basis
    return {
        "mean": mean.astype(np.float32), "components": basis.astype(np.float32),
        "std": np.sqrt(values[::-1][:components]).astype(np.float32),
        "residual_std": np.array([np.sqrt(np.square(rest).sum(1).mean())], np.float32),
    }


def ood_score(model: dict, embedding: np.ndarray) -> np.ndarray:
    """As `runtime/src/ood.rs` computes it."""
    centred = embedding - model["mean"]
    along = centred @ model["components"].T
    rest = np.sqrt((np.square(centred).sum(1) - np.square(along).sum(1)).clip(0)) / model["residual_std"][0]
    return np.sqrt((np.square(along / model["std"]).sum(1) + rest**2) / (len(model["std"]) + 1))


def golden_rows(group) -> list[int]:
    """The first PA phantom of each of `GOLDEN` seeds, the variants in turn."""
    rows = [i for i, r in enumerate(group.rows) if r["projection"] == "PA"]
    return sorted(rows, key=lambda i: int(group.rows[i]["seed"]))[:GOLDEN]


def tolerances(worst: dict[str, float]) -> dict[str, float]:
    """Twice the worst measured distance from 1, rounded outwards: passes with margin, no more."""
    return {k: float(np.floor((1 - 2 * (1 - v)) * 1000) / 1000) for k, v in worst.items()}


def code_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The worst cosine between rows."""
    return float(((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).clip(1e-12)).min())


def manifest(path: Path, figures: dict) -> None:
    """`manifest.toml` with an empty table of files."""
    ood, golden = figures["ood"], figures["golden"]
    path.write_text(f"""format = 1
name = "demo"
version = "1"
licence = "Apache-2.0"
intended_use = "demonstration and tests of the software; it is not MedCLIP, and its findings were validated on drawn phantoms only"
clinical = false
created = "{figures['created']}"

[files]

[input]
channels = 1
height = 224
width = 224
fit = "pad"
mean = [0.5]
std = [0.25]

[encoder]
n_tokens = 49
grid = [7, 7]
d_token = 256
precision = "int8-weights"

[head]
d_model = 512
normalised = true

[sae]
level = "tokens"
d_sae = 256
activation = "jump_relu"
weights = "int8"

[normaliser]
kind = "centre-and-scale"
scale = {figures['sae']['scale']:.6f}

[ood]
components = {ood['components']}
threshold = {ood['threshold']}
borderline = {ood['borderline']}

[golden]
count = {GOLDEN}
cosine_min = {golden['cosine']}
centred_cosine_min = {golden['centred']}
code_cosine_min = {golden['code']}
""")

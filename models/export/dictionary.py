"""A small TopK dictionary over an encoder's embeddings, to see which latents quantising moves.

    python -m export.dictionary exported --learn @learn.txt --measure @measure.txt \
        --clearfilm target/release/clearfilm --trainer target/release/clearfilm-models --out small

`clearfilm-models train` makes it (docs/training.md); it only measures, no bundle ships it.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.numpy import load_file, save_file

from . import nearness, qdq, radiographs, ranges
from .__main__ import input_of
from .train_view import augmented

# Small data: 512 latents of which 16 fire. A few thousand views of some hundred images carry no more.
RECIPE = """latents = 512
seed = 0
batch = 256
epochs = 120
loss = "variance"
start = "samples"

[select]
kind = "top-k"
k = 16

[schedule]
rate = 0.001
warm_up = 100
decay_from = 0.8
k_from = 4.0
k_until = 0.3
"""
# Changed views of each image beside the plain one.
VIEWS = 2
SEED = 11


def embeddings(given, files: list[str], views: int) -> np.ndarray:
    """fp32 embeddings of files and of views of them."""
    spec = input_of(given.folder)
    model = qdq.stripped(onnx.load(str(given.folder / "encoder.onnx")))
    pixels, rng = radiographs.fitted(given.clearfilm, files, spec["fit"], spec["height"], given.cache), np.random.default_rng(SEED)
    drawn = [(augmented(torch.from_numpy(pixels), rng).numpy() * 255).round().astype(np.uint8) for _ in range(views)]
    head, found = load_file(given.folder / "head.safetensors"), []
    for part in [pixels, *drawn]:
        tokens = ranges.tokens(model, radiographs.values(part, spec["mean"], spec["std"]))
        found.append(nearness.embedding(tokens, **head))
    return np.concatenate(found)


def main() -> None:
    """Embeds, trains, and says how good the dictionary is on other patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an export, or a bundle")
    parser.add_argument("--learn", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--measure", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--clearfilm", required=True)
    parser.add_argument("--trainer", required=True, help="the clearfilm-models binary")
    parser.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, files, views in (("learn", given.learn, VIEWS), ("held-out", given.measure, 0)):
        save_file({"embedding": embeddings(given, files, views)}, given.out / f"{name}.safetensors")
    (given.out / "recipe.toml").write_text(RECIPE)
    files = ["--samples", str(given.out / "learn.safetensors"), "--held-out", str(given.out / "held-out.safetensors")]
    command = [given.trainer, "train", "--recipe", str(given.out / "recipe.toml"), *files, "--out", str(given.out), "--threads", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(json.dumps(json.loads((given.out / "run.json").read_text())["held_out"]))


if __name__ == "__main__":
    main()

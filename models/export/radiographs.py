"""Real radiographs for calibration, parity and training, through the device's own preprocess.

`models/train/images.py` reads the tables; nothing of the images is written outside a cache that
git ignores.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

sys.path.append(str(Path(__file__).resolve().parent.parent / "train"))

from images import Group, hannover, nih  # noqa: E402

# Images per list: calibration as the demo encoder's recipe, tuning as many as a search can afford.
CALIBRATE, TUNE = 96, 32
SEED = 7


def split(clearfilm: str, data: Path, cache: Path) -> tuple[Group, Group]:
    """Training images (NIH and Hannover), and NIH's `dev`; no patient is in both."""
    public, clinic = nih(clearfilm, data, cache), hannover(clearfilm, data, cache)
    train = [g.where(lambda row: row["split"] == "train") for g in (public, clinic)]
    return Group.joined(*train), public.where(lambda row: row["split"] == "dev")


def is_ap(group: Group) -> np.ndarray:
    """1 where the film was taken from the front (AP), 0 for PA: `[n]`."""
    return (group.column("view") == "AP").astype(np.float32)


def fitted(clearfilm: str, files: list[str], fit: str, side: int, cache: Path) -> np.ndarray:
    """Pixels U8 `[n, side, side]` of files (or `@LIST`) by `clearfilm pixels`, read once."""
    names = [line for f in files for line in (Path(f[1:]).read_text().split("\n") if f.startswith("@") else [f]) if line]
    key = hashlib.sha256("\n".join([fit, str(side), *names]).encode()).hexdigest()[:16]
    out, listing = cache / f"pixels-{key}.safetensors", cache / f"pixels-{key}.txt"
    if not out.exists():
        cache.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(names) + "\n")
        command = [clearfilm, "pixels", f"@{listing}", "--fit", fit, "--size", str(side), "-o", str(out)]
        subprocess.run(command, check=False)
    read = json.loads(Path(f"{out}.json").read_text())
    if len(read) < len(names):
        print(f"{len(names) - len(read)} of {len(names)} files were refused by the device's preprocess", file=sys.stderr)
    return load_file(out)["pixels"]


def values(pixels: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    """The encoder's input `[n, channels, height, width]` of fitted pixels U8 `[n, height, width]`."""
    x = pixels[:, None].astype(np.float32) / np.float32(255)
    m, s = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (mean, std))
    return ((x - m) / s).astype(np.float32)


def main() -> None:
    """Writes lists of files: calibrate, tune (other patients of train), learn (train) and measure (dev)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clearfilm", required=True)
    parser.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    learn, dev = split(given.clearfilm, given.data, given.cache)
    patients = np.random.default_rng(SEED).permutation(sorted(set(learn.column("patient"))))
    first = [[r["file"] for r in learn.rows if r["patient"] == p][0] for p in patients]
    lists = {
        "calibrate": first[:CALIBRATE], "tune": first[CALIBRATE : CALIBRATE + TUNE],
        "learn": [r["file"] for r in learn.rows], "measure": [r["file"] for r in dev.rows],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name, files in lists.items():
        (given.out / f"{name}.txt").write_text("\n".join(str(Path(f).resolve()) for f in files) + "\n")
        print(f"{given.out / name}.txt: {len(files)}")


if __name__ == "__main__":
    main()

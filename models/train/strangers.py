"""Pictures that a reader of adult chests must find strange, as one folder that `embed` reads.

    python models/train/strangers.py --data ../shared/data --clearfilm target/debug/clearfilm --out .cache/demo/strangers

Nothing is ever fitted to them. Each set comes twice: as it is, and with its grey values brought to
the distribution of adult training radiographs, so that what is found strange is not the exposure.
The folder holds 224 x 224 pictures (what the encoder sees) and `images.csv`; it stays in `.cache/`.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

import images
import lesions

# Crops of one photograph: a whole one and four quarters.
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
NOISE = 40
SEED = 5


def main() -> None:
    """Reads arguments and writes the folder."""
    parser = images.arguments(__doc__, "strangers")
    given = parser.parse_args()
    nih = images.nih(given.clearfilm, given.data, given.cache)
    usual = nih.where(lambda row: row["adult"] and row["split"] == "train").pixels
    chests = nih.where(lambda row: row["adult"] and row["split"] == "dev")
    sets = {
        "children": children(given), "dicom-other": files(given, sorted((given.data / "dicom-other").glob("*.dcm")), exposure),
        "pydicom": files(given, pydicom_files(), lambda path: path.stem), "photographs": photographs(), "noise": noise(),
        "upside-down": [(row["patient"], p[::-1].copy()) for row, p in zip(chests.rows, chests.pixels)],
        "inverted": [(row["patient"], 255 - p) for row, p in zip(chests.rows, chests.pixels)],
    }
    write(given.out, sets, quantiles(usual))


def children(given) -> list[tuple[str, np.ndarray]]:
    """Children of 1 to 5 years; some have many images."""
    with open(given.data / "kermany-pediatric/labels.csv") as f:
        patient = {r["image"]: r["patient_key"] for r in csv.DictReader(f)}
    return files(given, sorted((given.data / "kermany-pediatric/images").glob("*.jp*g")), lambda path: patient[path.name])


def files(given, paths: list[Path], key) -> list[tuple[str, np.ndarray]]:
    """Pictures of files as the encoder sees them; those that are refused when decoded are left out."""
    group = images.fitted(given.clearfilm, paths, given.cache)
    return [(key(Path(row["file"])), p) for row, p in zip(group.rows, group.pixels)]


def exposure(path: Path) -> str:
    """The exposure that a file of `dicom-other` is an encoding of."""
    return path.stem.split("_")[0]


def pydicom_files() -> list[Path]:
    """What comes inside the package: computed tomography, magnetic resonance, dose, colours; no chest film."""
    import pydicom.data

    return sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))


def photographs() -> list[tuple[str, np.ndarray]]:
    """The photographs inside scikit-image, whole and in quarters, grey."""
    import skimage.data

    out = []
    for path in sorted(Path(skimage.data.__file__).parent.glob("*.[jp][pn]g")):
        grey = Image.open(path).convert("L")
        wide, high = grey.size
        parts = [grey] + [grey.crop((c * wide // 2, r * high // 2, (c + 1) * wide // 2, (r + 1) * high // 2)) for r, c in QUARTERS]
        out += [(path.stem, np.asarray(part.resize((images.SIDE, images.SIDE), Image.Resampling.BICUBIC))) for part in parts]
    return out


def noise() -> list[tuple[str, np.ndarray]]:
    """White noise and clouds of several sizes."""
    rng, out = np.random.default_rng(SEED), []
    for i in range(NOISE):
        cells = int(rng.integers(2, 60))
        x = rng.random((images.SIDE, images.SIDE)) if i % 2 else lesions.clouds(rng, cells)
        out.append((f"noise-{i}", (x * 255).round().astype(np.uint8)))
    return out


def quantiles(usual: np.ndarray) -> np.ndarray:
    """Mean sorted grey values of usual pictures."""
    return np.mean([np.sort(p.ravel()) for p in usual], axis=0)


def matched(pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The picture with the target's grey values, in its own order; ties in the order of the pixels."""
    out = np.empty(pixels.size, np.float64)
    out[np.argsort(pixels.ravel(), kind="stable")] = target
    return out.reshape(pixels.shape).round().astype(np.uint8)


def write(out: Path, sets: dict, target: np.ndarray) -> None:
    """Pictures, and the table last."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for name, members in sets.items():
        for kind, change in ((name, lambda p: p), (f"{name}-matched", lambda p: matched(p, target))):
            for i, (patient, pixels) in enumerate(members):
                file = f"{kind}-{i:04}.png"
                Image.fromarray(change(pixels)).save(out / "images" / file)
                rows.append({"image": file, "patient": f"{name}-{patient}", "split": kind})
        print(f"strangers: {name}: {len(members)} pictures", flush=True)
    with open(out / "images.csv", "w", newline="") as f:
        table = csv.DictWriter(f, ["image", "patient", "split"])
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()

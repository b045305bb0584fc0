"""Tables by which `clearfilm-models embed` finds the demo's images, and what the teachers say of them.

    python models/train/tables.py --data ../shared/data --clearfilm target/debug/clearfilm --out .cache/demo/tables

NIH's own table is read as it is. Hannover has no split and gets one by patient; phantoms of all
parts stand in one table. Pictures are linked, not copied, and everything stays in `.cache/`.
"""

import csv
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import images
from teachers import TEACHERS, Teacher


def main() -> None:
    """Reads arguments and writes the tables."""
    parser = images.arguments(__doc__, "tables")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    hannover(given)
    phantoms(given)
    training(given)
    teachers(given)


def linked(link: Path, folder: Path) -> None:
    """Makes a folder of pictures seem to lie here."""
    if not link.is_symlink():
        link.symlink_to(folder.resolve())


def written(path: Path, rows: list[dict]) -> None:
    """A table with the keys of its first row as columns."""
    with open(path, "w", newline="") as f:
        table = csv.DictWriter(f, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"tables: {path.name}: {len(rows)} pictures", flush=True)


def hannover(given) -> None:
    """One row a picture: patient, split, view."""
    linked(given.out / "hannover", given.data / "hannover-covid19/images")
    group = images.hannover(given.clearfilm, given.data, given.cache)
    keys = {"patient": "patient", "split": "split", "position": "view", "sex": "sex", "age": "age"}
    written(given.out / "hannover.csv", [{"image": f"hannover/{Path(r['file']).name}"} | {k: r[v] for k, v in keys.items()} for r in group.rows])


def phantoms(given) -> None:
    """Every part, and what was drawn."""
    rows = []
    for part in images.PHANTOM_SEEDS:
        linked(given.out / f"phantom-{part}", given.cache / f"phantom-{part}")
        for row in images.phantoms(given.clearfilm, given.cache, part).rows:
            name = f"phantom-{part}/{Path(row['file']).name}"
            rows.append({"image": name, "patient": row["patient"], "split": part, "position": row["view"], "variant": row["variant"]})
    written(given.out / "phantoms.csv", rows)


# One training phantom in so many is in the dictionary's table: enough for features of what is drawn,
# and fewer than there are radiographs.
PHANTOM_EVERY = 3


def training(given) -> None:
    """What a dictionary is trained on, and held against: both hospitals, and some phantoms."""
    linked(given.out / "nih", given.data / "nih-cxr14/images")
    group = images.nih(given.clearfilm, given.data, given.cache)
    rows = [{"image": f"nih/{Path(r['file']).name}", "patient": r["patient"], "split": r["split"]} for r in group.rows]
    group = images.hannover(given.clearfilm, given.data, given.cache)
    rows += [{"image": f"hannover/{Path(r['file']).name}", "patient": r["patient"], "split": r["split"]} for r in group.rows]
    group = images.phantoms(given.clearfilm, given.cache, "train")
    kept = [r for r in group.rows if int(r["seed"]) % PHANTOM_EVERY == 0]
    rows += [{"image": f"phantom-train/{Path(r['file']).name}", "patient": r["patient"], "split": "train"} for r in kept]
    written(given.out / "training.csv", rows)


def teachers(given) -> None:
    """Mean features of both teachers on every NIH image, for the card's comparison; never committed."""
    out = given.out / "teachers.safetensors"
    if out.exists():
        return
    group = images.nih(given.clearfilm, given.data, given.cache)
    networks = {name.split("_")[0] + "-" + name.split("_")[1]: Teacher(given.data / "models" / name, tensor) for name, tensor in TEACHERS.items()}
    features = {name: np.stack([net.tokens(p).mean(0) for p in group.pixels]).astype(np.float32) for name, net in networks.items()}
    save_file(features, out, metadata={"images": "\n".join(Path(r["file"]).name for r in group.rows)})
    print(f"tables: {out.name}: {', '.join(features)}", flush=True)


if __name__ == "__main__":
    main()

"""The images that the demo bundle is made from, split by patient, as the device sees them.

Every pixel comes from `clearfilm pixels`, so that training and device share one preprocess.
Nothing of the real images leaves `.cache/`, which git ignores.
"""

import argparse
import csv
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SIDE = 224
# An adult of 18 years; the out-of-distribution model is fitted on adults only.
ADULT_FROM = 18


@dataclass
class Group:
    """Images of one origin and split: pixels U8 `[n, 224, 224]` and one record per image."""

    pixels: np.ndarray
    rows: list[dict]

    def where(self, keep) -> "Group":
        """The images whose record satisfies `keep`."""
        index = [i for i, row in enumerate(self.rows) if keep(row)]
        return Group(self.pixels[index], [self.rows[i] for i in index])

    def column(self, name: str) -> np.ndarray:
        """One value of every record."""
        return np.array([row[name] for row in self.rows])

    @staticmethod
    def joined(*groups: "Group") -> "Group":
        """The images of all groups, in order."""
        return Group(np.concatenate([g.pixels for g in groups]), [row for g in groups for row in g.rows])


def arguments(about: str, out: str) -> argparse.ArgumentParser:
    """What every step is told: the data, the binary, and where its files go."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the training data's folder")
    parser.add_argument("--clearfilm", required=True, help="the clearfilm binary, for pixels and phantoms")
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo"))
    parser.add_argument("--out", type=Path, default=Path(".cache/demo") / out)
    return parser


def fitted(clearfilm: str, files: list[Path], cache: Path) -> Group:
    """Runs files through the device's preprocess, once; files that it refuses are left out."""
    names = [str(f) for f in files]
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    out, listing = cache / f"pixels-{key}.safetensors", cache / f"pixels-{key}.txt"
    if not out.exists():
        cache.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(names) + "\n")
        command = [clearfilm, "pixels", f"@{listing}", "--fit", "pad", "--size", str(SIDE), "-o", str(out)]
        subprocess.run(command, check=False)
    read = json.loads(Path(f"{out}.json").read_text())
    return Group(load_file(out)["pixels"], [{"file": name} for name in read])


def with_table(group: Group, table: dict[str, dict]) -> Group:
    """Each image's record joined with its row of `table`, by file name without extension."""
    for row in group.rows:
        row.update(table[Path(row["file"]).stem])
    return group


def nih(clearfilm: str, data: Path, cache: Path) -> Group:
    """NIH ChestX-ray14: frontal radiographs with text-mined labels."""
    with open(data / "nih-cxr14/labels.csv") as f:
        table = {Path(r["image"]).stem: r for r in csv.DictReader(f)}
    for row in table.values():
        row["origin"], row["patient"] = "nih", f"nih-{row['patient_id']}"
        row["adult"] = row["age"].isdigit() and int(row["age"]) >= ADULT_FROM
    files = sorted((data / "nih-cxr14/images").glob("*.png"))
    return with_table(fitted(clearfilm, files, cache), table)


def hannover(clearfilm: str, data: Path, cache: Path) -> Group:
    """Hannover COVID-19: in-patients, most with devices. It has no split: a quarter is dev."""
    with open(data / "hannover-covid19/data.csv") as f:
        table = {r["image_id"]: r for r in csv.DictReader(f)}
    for row in table.values():
        row["origin"], row["patient"] = "hannover", f"hannover-{row['patient_id']}"
        row["view"], row["adult"] = row["projection"].upper(), True
        # A fixed draw by patient: one in four hashes.
        draw = hashlib.sha256(row["patient_id"].encode()).digest()[0]
        row["split"] = "dev" if draw % 4 == 0 else "train"
    files = sorted((data / "hannover-covid19/images").glob("*.jpg"))
    return with_table(fitted(clearfilm, files, cache), table)


# Phantom seeds of each part: (first, count). Apart from each other and from the demo's own,
# which are small numbers; every seed is drawn in PA and AP.
PHANTOM_SEEDS = {"train": (10_000, 600), "calibration": (20_000, 200), "test": (30_000, 300)}
# Their size before fitting: the aspect of a 35 x 43 cm detector, as short as the real images.
PHANTOM_SIZE = (625, 512)


def phantoms(clearfilm: str, cache: Path, part: str) -> Group:
    """Phantoms of one part, every variant in turn."""
    folder, labels = cache / f"phantom-{part}", cache / f"phantom-{part}.csv"
    first, count = PHANTOM_SEEDS[part]
    if not labels.exists():
        size = ["--rows", str(PHANTOM_SIZE[0]), "--columns", str(PHANTOM_SIZE[1])]
        seeds = ["--seed", str(first), "--count", str(count), "--projection", "both"]
        command = [clearfilm, "phantom", "--png", "--out", str(folder), "--labels", str(labels), *seeds, *size]
        subprocess.run(command, check=True)
    with open(labels) as f:
        table = {Path(r["file"]).stem: r for r in csv.DictReader(f)}
    for row in table.values():
        row.pop("file")
        row.update(origin="phantom", patient=f"phantom-{row['seed']}", view=row["projection"], split=part)
    return with_table(fitted(clearfilm, sorted(folder.glob("*.png")), cache), table)

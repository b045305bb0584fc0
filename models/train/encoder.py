"""Trains the demo bundle's encoder, without any patient's label, and exports it.

    python models/train/encoder.py --data ../shared/data --clearfilm target/debug/clearfilm --out .cache/demo/encoder

Candidates are trained one after another, each from its last checkpoint; the best by label-free
yardsticks on development images is exported as `encoder.onnx` (int8 weights), `encoder-fp32.onnx`
and `head.safetensors`, with `encoder.json` beside them: what it is, and what was measured.
"""

import json
from pathlib import Path

import numpy as np
import torch

import bundle
import images
import onnxfile
import student
import views
import yardsticks
from teachers import Teachers

# What the design's measured recipe names as untried: longer with the lesion loss, seeds, and
# consistency between views. The first decides nothing: the yardsticks do.
STEPS = 2600
ARMS = (
    student.Arm("seed-1", 1, STEPS, 0.0),
    student.Arm("seed-2", 2, STEPS, 0.0),
    student.Arm("consistent", 1, STEPS, 0.2),
)
# A candidate whose embedding has fewer directions than this is not taken (17 to 27 was seen to be good).
PARTICIPATION_MIN = 12.0
PROBE_SEED = 11


def main() -> None:
    """Reads arguments and runs the steps in order."""
    parser = images.arguments(__doc__, "encoder")
    parser.add_argument("--threads", type=int, default=1, help="of a training step; more than the cores that are free makes it slower")
    parser.add_argument("--processes", type=int, default=2, help="that draw views")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    groups = read_groups(given)
    train = images.Group.joined(groups["nih-train"], groups["hannover-train"])
    dev = images.Group.joined(groups["nih-dev"], groups["hannover-dev"]).pixels
    teachers = Teachers(given.data / "models", train.pixels)
    weights = candidates(given, train, groups["phantom-train"], teachers)
    measured = {arm.name: measure(weights[arm.name], dev, teachers) for arm in ARMS}
    chosen = choose(measured)
    trained = student.load(weights[chosen])
    figures = {
        "images": {name: len(group.rows) for name, group in groups.items()},
        "parameters": sum(p.numel() for p in student.folded(student.load(weights[chosen])).parameters()),
        "views": {"radiograph": views.VIEWS_REAL, "phantom": views.VIEWS_PHANTOM},
        "batch": {"pairs": student.PAIRS, "phantoms": student.PHANTOMS},
        "candidates": [vars(arm) | measured[arm.name] for arm in ARMS], "chosen": chosen,
    }
    figures["int8"] = export(given.out, trained, dev)
    specs(given.out)
    (given.out / "encoder.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def read_groups(given) -> dict[str, images.Group]:
    """Training and development images of both hospitals, and training phantoms."""
    reads = {k: f(given.clearfilm, given.data, given.cache) for k, f in (("nih", images.nih), ("hannover", images.hannover))}
    groups = {
        f"{origin}-{split}": group.where(lambda row, split=split: row["split"] == split)
        for origin, group in reads.items() for split in ("train", "dev")
    }
    return groups | {"phantom-train": images.phantoms(given.clearfilm, given.cache, "train")}


def candidates(given, train: images.Group, drawn: images.Group, teachers: Teachers) -> dict[str, dict]:
    """Weights of every candidate."""
    parts = [
        views.make(train, views.VIEWS_REAL, teachers, given.cache / "views-real", 1, given.processes),
        views.make(drawn, views.VIEWS_PHANTOM, teachers, given.cache / "views-phantom", 2, given.processes),
    ]
    variants = np.array([student.VARIANTS.index(v) for v in drawn.column("variant")])[parts[1].image]
    return {arm.name: student.train(parts, variants, arm, given.cache) for arm in ARMS}


def measure(weights: dict, dev: np.ndarray, teachers: Teachers) -> dict[str, float]:
    """The yardsticks of one candidate on development images."""
    trained = student.load(weights)
    net, head = student.folded(trained), trained.head.weight.detach().numpy()
    embedding = onnxfile.embedding(student.tokens_of(net, dev), head)
    shown, kind = yardsticks.drawn(dev, PROBE_SEED)
    return {
        "overlap": round(yardsticks.overlap(embedding, np.stack([teachers.targets(p)[0] for p in dev])), 4),
        "participation": round(yardsticks.participation(embedding), 2),
        "probe": round(yardsticks.probe(onnxfile.embedding(student.tokens_of(net, shown), head), kind), 4),
    }


def choose(measured: dict[str, dict]) -> str:
    """The candidate with the highest mean of neighbour overlap and lesion probe."""
    wide = [name for name, m in measured.items() if m["participation"] >= PARTICIPATION_MIN]
    if not wide:
        raise SystemExit(f"encoder: expected a participation ratio of {PARTICIPATION_MIN}, found {measured}")
    return max(wide, key=lambda name: measured[name]["overlap"] + measured[name]["probe"])


def export(out: Path, trained: student.Student, dev: np.ndarray) -> dict:
    """Both files and the head; returns how near the int8 file is to the network on development images."""
    net, head = student.folded(trained), trained.head.weight.detach().numpy()
    expected = onnxfile.embedding(student.tokens_of(net, dev), head)
    onnxfile.export(net, out / "encoder-fp32.onnx")
    onnxfile.quantise(out / "encoder-fp32.onnx", out / "encoder.onnx")
    bundle.tensors(out / "head.safetensors", {"weight": head})
    sizes = {name: (out / name).stat().st_size for name in ("encoder.onnx", "encoder-fp32.onnx")}
    found = onnxfile.embedding(onnxfile.run(out / "encoder.onnx", dev), head)
    return sizes | {k: round(v, 6) for k, v in onnxfile.nearness(found, expected).items()}


def specs(out: Path) -> None:
    """`encoder.toml`, also beside the fp32 file in a folder of its own, so that both can be embedded with."""
    text = """[input]
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
precision = "{precision}"

[head]
d_model = 512
normalised = true
"""
    (out / "encoder.toml").write_text(text.format(precision="int8-weights"))
    fp32 = out.with_name("encoder-fp32")
    fp32.mkdir(exist_ok=True)
    (fp32 / "encoder.toml").write_text(text.format(precision="fp32"))
    (fp32 / "encoder.onnx").write_bytes((out / "encoder-fp32.onnx").read_bytes())
    (fp32 / "head.safetensors").write_bytes((out / "head.safetensors").read_bytes())


if __name__ == "__main__":
    main()

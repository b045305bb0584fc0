"""Trains the demo bundle's encoder, without any patient's label, and exports it.

    python models/train/encoder.py --data ../shared/data --clearfilm target/debug/clearfilm --out models/sources/demo/encoder

Candidates are trained beside each other, each from its last checkpoint; the best by label-free
yardsticks on development images is exported as `encoder.onnx` (int8 weights), `head.safetensors` and
`encoder.toml`, with `encoder.json` beside them: what it is, and what was measured. The folder
`<out>-fp32` holds the same before it was quantised.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

import bundle
import images
import onnxfile
import rounding
import student
import views
import yardsticks
from teachers import Teachers

# What the design's measured recipe names as untried: longer, and seeds; and with or without lesions.
STEPS = 4000
ARMS = (student.Arm("lesions", 1, STEPS, 0.01), student.Arm("plain", 2, STEPS, 0.0))
# A candidate whose embedding has fewer directions than this is not taken (17 to 27 was seen to be good).
PARTICIPATION_MIN = 12.0
PROBE_SEED = 11
# One training radiograph in three, and one training phantom in twelve, show how to round weights.
REAL_EVERY, DRAWN_EVERY = 3, 12

# What the runtime is told of both files; each lies in a folder of its own, so that both can be embedded with.
SPEC = """[input]
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


def main() -> None:
    """Reads arguments and runs the steps in order."""
    parser = images.arguments(__doc__, "encoder")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each, that draw views and train candidates")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    groups = read_groups(given)
    train = images.Group.joined(groups["nih-train"], groups["hannover-train"])
    dev = images.Group.joined(groups["nih-dev"], groups["hannover-dev"]).pixels
    teachers = Teachers(given.data / "models", train.pixels)
    weights = candidates(given, train, teachers)
    measured = {arm.name: measure(weights[arm.name], dev, teachers) for arm in ARMS}
    chosen = choose(measured)
    best = student.load(weights[chosen])
    figures = {
        "images": {name: len(group.rows) for name, group in groups.items()},
        "parameters": sum(p.numel() for p in student.folded(student.load(weights[chosen])).parameters()),
        "views": views.VIEWS, "batch": student.BATCH,
        "candidates": [vars(arm) | measured[arm.name] for arm in ARMS], "chosen": chosen,
    }
    figures["int8"] = export(given.out, best, calibration(train, groups["phantom-train"]), dev)
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


def candidates(given, train: images.Group, teachers: Teachers) -> dict[str, dict]:
    """Weights of every candidate, each trained by a process of its own."""
    made = views.make(train, views.VIEWS, teachers, given.cache / "views", 1, given.processes)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(given.processes, fork, initializer=begin, initargs=(made, given.cache)) as pool:
        return dict(zip((arm.name for arm in ARMS), pool.map(candidate, ARMS)))


def begin(*state) -> None:
    """What a process needs for every candidate."""
    torch.set_num_threads(1)
    globals()["STATE"] = state


def candidate(arm: student.Arm) -> dict:
    """One candidate's weights."""
    made, cache = globals()["STATE"]
    return student.train(made, arm, cache)


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


def calibration(train: images.Group, drawn: images.Group) -> np.ndarray:
    """The images that weights are rounded on: enough to say how a layer's inputs go together."""
    return np.concatenate([train.pixels[::REAL_EVERY], drawn.pixels[::DRAWN_EVERY]])


def export(out: Path, trained: student.Student, shown: np.ndarray, dev: np.ndarray) -> dict:
    """Both files and the head; returns how near the int8 file is to the network on development images."""
    net, head = student.folded(trained), trained.head.weight.detach().numpy()
    expected = onnxfile.embedding(student.tokens_of(net, dev), head)
    whole, int8 = fp32_of(out) / "encoder.onnx", out / "encoder.onnx"
    onnxfile.export(net, whole)
    onnxfile.quantise(whole, int8, rounding.rounded(net, student.images_of(shown)))
    for folder, precision in ((out, "int8-weights"), (fp32_of(out), "fp32")):
        bundle.tensors(folder / "head.safetensors", {"weight": head})
        (folder / "encoder.toml").write_text(SPEC.format(precision=precision))
    found = onnxfile.embedding(onnxfile.run(int8, dev), head)
    sizes = {"encoder.onnx": int8.stat().st_size, "encoder-fp32.onnx": whole.stat().st_size}
    return sizes | {k: round(v, 6) for k, v in onnxfile.nearness(found, expected).items()}


def fp32_of(out: Path) -> Path:
    """The folder of the file before it was quantised."""
    folder = out.with_name(f"{out.name}-fp32")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()

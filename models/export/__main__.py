"""From a PyTorch checkpoint to `encoder.onnx`, `head.safetensors` and `export.json`.

    models/export/export.sh encoder medclip-resnet50 pytorch_model.bin --out exported \
        --clearfilm target/release/clearfilm --measure @measure.txt \
        --int8 --calibrate @calibrate.txt --tune @tune.txt --fp16
"""

import argparse
import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from . import nearness, prompts, qdq, quantise, ranges
from .checksum import sha256
from .layout import LayoutError

VERSIONS = ("torch", "torchvision", "transformers", "onnx", "onnxscript", "onnxslim", "onnxruntime", "numpy")
# fp32 ONNX against PyTorch.
COSINE_MIN = 0.99999


def main() -> int:
    """Reads arguments and runs a verb; an error is one message on stderr."""
    given = arguments().parse_args()
    try:
        return given.run(given)
    except (LayoutError, ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


def arguments() -> argparse.ArgumentParser:
    """Every verb and its flags."""
    parser = argparse.ArgumentParser(prog="export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    encoder = verbs.add_parser("encoder", help="a checkpoint's image tower")
    encoder.add_argument("family", help="medclip-resnet50, medclip-vit, rad-dino, demo, resnet18/34/50/101, densenet121")
    encoder.add_argument("checkpoint", type=Path)
    encoder.add_argument("--inside", help="the entry of the checkpoint that holds the weights")
    encoder.add_argument("--head", choices=("projection", "identity"), default="projection", help="torchvision: whether the last layer is a projection")
    encoder.add_argument("--patches", action="store_true", help="rad-dino: patch tokens instead of the class token")
    encoder.add_argument("--fit", choices=("pad", "squash"), help="squash is MedSAE's way; the default pad is MedCLIP's")
    encoder.add_argument("--mean", type=float, nargs="+", help="instead of the family's own")
    encoder.add_argument("--std", type=float, nargs="+")
    encoder.set_defaults(run=run_encoder)
    again = verbs.add_parser("quantise", help="a folder that `encoder` wrote, or a bundle")
    again.add_argument("folder", type=Path)
    again.set_defaults(run=run_quantise)
    for verb in (encoder, again):
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--clearfilm", default="clearfilm", help="the binary whose preprocess is used")
        verb.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
        verb.add_argument("--measure", nargs="+", default=[], metavar="FILE", help="radiographs, or @LIST: held out for every figure")
        verb.add_argument("--calibrate", nargs="+", default=[], metavar="FILE", help="radiographs for the ranges")
        verb.add_argument("--tune", nargs="+", default=[], metavar="FILE", help="radiographs that layers are chosen on")
        verb.add_argument("--int8", action="store_true")
        verb.add_argument("--fp16", action="store_true", help="for ONNX Runtime only")
        verb.add_argument("--sae", type=Path, help="a dictionary (sae.safetensors) whose active latents are compared")
    text = verbs.add_parser("text", help="embeddings of MedCLIP's zero-shot prompts, or of lines of a file")
    text.add_argument("checkpoint", type=Path)
    text.add_argument("--vocab", type=Path, required=True, help="Bio_ClinicalBERT's vocab.txt")
    text.add_argument("--phrases", type=Path, help="MedCLIP's constants.py")
    text.add_argument("--lines", type=Path, help="a text file, one text a line")
    text.add_argument("--pad-to", type=int, help="tokens, as a batch of the reference would pad")
    text.add_argument("--out", type=Path, required=True, help="safetensors: one tensor [texts, 512] for each class")
    text.set_defaults(run=run_text)
    return parser


def run_encoder(given) -> int:
    """Loads, exports, proves, and quantises where asked."""
    from . import checkpoint, families, graph, probe

    if given.family not in families.FAMILIES:
        raise ValueError(f"{given.family}: expected one of {', '.join(families.FAMILIES)}")
    state = checkpoint.read(given.checkpoint, given.inside or families.INSIDE.get(given.family))
    plan = families.FAMILIES[given.family](given, state)
    plan.input.fit = given.fit or plan.input.fit
    plan.input.mean, plan.input.std = given.mean or plan.input.mean, given.std or plan.input.std
    loaded = families.load(plan, state, str(given.checkpoint))
    spec = loaded.input.spec()
    model = graph.export(loaded.tokens, spec["channels"], spec["height"])
    head = {"weight": loaded.weight.numpy()} | ({} if loaded.bias is None else {"bias": loaded.bias.numpy()})
    given.out.mkdir(parents=True, exist_ok=True)
    graph.write(model, given.out / "encoder.onnx")
    save_file({k: np.ascontiguousarray(v) for k, v in head.items()}, given.out / "head.safetensors")
    shape = qdq.shapes(model)["tokens"]
    record = {
        "format": 1, "family": given.family, "input": spec,
        "checkpoint": {"file": given.checkpoint.name, "sha256": sha256(given.checkpoint)},
        "encoder": {"n_tokens": shape[1], "d_token": shape[2], "multiplications": qdq.layers(model)[1]},
        "head": {"d_model": len(head["weight"]), "bias": "bias" in head, "normalised": loaded.normalised},
        "dropped_buffers": loaded.dropped, "unused": loaded.unused, "without_effect": probe.without_effect(loaded),
    }
    if given.measure:
        record["parity"] = parity(given, loaded, model, head, spec)
        if record["parity"]["raw_min"] < COSINE_MIN:
            write(given.out, record)
            raise ValueError(f"encoder.onnx: expected a cosine of at least {COSINE_MIN} to PyTorch, found {record['parity']['raw_min']}")
    if given.int8 or given.fp16:
        record |= quantise.both(given, model, head, spec)
    write(given.out, record)
    return 0


def parity(given, loaded, model, head: dict, spec: dict) -> dict:
    """The file in ONNX Runtime against the library's own forward, image by image."""
    import torch

    x = quantise.images(given, given.measure, spec)
    with torch.no_grad():
        u = np.concatenate([loaded.reference(torch.from_numpy(one[None])).numpy() for one in x])
    found = nearness.compared(nearness.embedding(ranges.tokens(model, x), **head), nearness.unit(u))
    print(f"encoder.onnx against PyTorch, {len(x)} radiographs: cosine {found['raw_min']:.8f} at worst, centred {found['centred_min']:.8f}")
    return found


def run_quantise(given) -> int:
    """Quantises a folder with `encoder.onnx`, `head.safetensors` and `export.json` or `manifest.toml`."""
    import onnx

    model = qdq.stripped(onnx.load(str(given.folder / "encoder.onnx")))
    model = quantise.at_batch_one(model, spec := input_of(given.folder))
    head = load_file(given.folder / "head.safetensors")
    given.out.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in head.items()}, given.out / "head.safetensors")
    # What `encoder` found stays, where the folder is its own.
    before = given.out / "export.json"
    record = json.loads(before.read_text()) if given.out.samefile(given.folder) and before.exists() else {"format": 1, "input": spec}
    write(given.out, record | quantise.both(given, model, head, spec))
    return 0


def input_of(folder: Path) -> dict:
    """The input's description of an export or a bundle."""
    import tomllib

    if (folder / "export.json").exists():
        return json.loads((folder / "export.json").read_text())["input"]
    return tomllib.loads((folder / "manifest.toml").read_text())["input"]


def run_text(given) -> int:
    """Embeds prompts; what a class is called is the tensor's name."""
    from . import checkpoint, text

    if (given.phrases is None) == (given.lines is None):
        raise ValueError("expected one of --phrases and --lines")
    texts = {"lines": given.lines.read_text().splitlines()} if given.lines else prompts.combined(prompts.phrases(given.phrases))
    tower = text.load(checkpoint.read(given.checkpoint), str(given.checkpoint), given.vocab)
    save_file({name: tower(each, given.pad_to) for name, each in texts.items()}, given.out)
    given.out.with_suffix(".json").write_text(json.dumps(texts, indent=1))
    return 0


def write(folder: Path, record: dict) -> None:
    """`export.json`: hashes of what lies in the folder, versions, and everything measured."""
    record["files"] = {f.name: sha256(f) for f in sorted(folder.iterdir()) if f.suffix in (".onnx", ".safetensors")}
    record["versions"] = {"python": sys.version.split()[0]} | {name: metadata.version(name) for name in VERSIONS}
    (folder / "export.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "export.txt").write_text(quantise.words(record))
    print(f"{folder}: {', '.join([*record['files'], 'export.json', 'export.txt'])}")


if __name__ == "__main__":
    sys.exit(main())

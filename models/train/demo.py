"""Makes `models/bundles/demo` from the project's training data and phantoms.

    python models/train/demo.py --data ../shared/data --clearfilm target/debug/clearfilm

Steps whose results lie in `.cache/demo` are not repeated. `demo.sh` installs what this needs,
runs it, and seals and verifies the bundle.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
import torch

import bundle
import card
import findings
import images
import onnxfile
import sae as sparse
import student
import views
import words
from teachers import Teachers

SEED = 3
OOD_COMPONENTS = 32


def main() -> None:
    """Reads arguments and runs the steps in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the training data's folder")
    parser.add_argument("--clearfilm", required=True, help="the clearfilm binary, for pixels and phantoms")
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo"))
    parser.add_argument("--out", type=Path, default=Path("models/bundles/demo"))
    parser.add_argument("--seconds", type=float, default=420, help="how long the student is trained")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    groups = read_groups(given)
    trained = trained_student(given, groups)
    figures = {"created": datetime.date.today().isoformat(), "images": {k: len(g.rows) for k, g in groups.items()}}
    figures["student"] = {k: v for k, v in torch.load(given.cache / "student.pt").items() if k != "weights"}
    net = student.folded(trained)
    head = trained.head.weight.detach().numpy()
    reference = {k: student.tokens_of(net, g.pixels) for k, g in groups.items() if len(g.rows)}
    write_encoder(given, net, head, groups, reference, figures)
    # Everything after the encoder is fitted on, and measured by, the file that ships.
    tokens = {k: onnxfile.run(given.out / "encoder.onnx", groups[k].pixels) for k in reference}
    sae = write_sae(given, tokens, figures)
    write_ood(given, head, groups, tokens, figures)
    rules = write_findings(given, groups, tokens, sae, figures)
    figures["engines"] = between_engines(given, rules, groups["phantom-test"].pixels, sae)
    write_golden(given, groups, reference["phantom-test"], head, sae, figures)
    bundle.manifest(given.out / "manifest.toml", figures)
    (given.out / "card.md").write_text(card.text(figures))
    (given.cache / "figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


def read_groups(given) -> dict[str, images.Group]:
    """Every image by role; no patient and no phantom seed has two."""
    reads = {k: f(given.clearfilm, given.data, given.cache) for k, f in (("nih", images.nih), ("hannover", images.hannover))}
    groups = {
        f"{origin}-{split}": group.where(lambda row, split=split: row["split"] == split)
        for origin, group in reads.items() for split in ("train", "dev")
    }
    for part in images.PHANTOM_SEEDS:
        groups[f"phantom-{part}"] = images.phantoms(given.clearfilm, given.cache, part)
    return groups | images.outsiders(given.clearfilm, given.data, given.cache)


def trained_student(given, groups) -> student.Student:
    """The student, trained once."""
    out = given.cache / "student.pt"
    if not out.exists():
        real = images.Group.joined(groups["nih-train"], groups["hannover-train"])
        drawn = groups["phantom-train"]
        teachers = Teachers(given.data / "models", real.pixels)
        parts = [
            views.make(real, views.VIEWS_REAL, teachers, given.cache / "views-real", 1),
            views.make(drawn, views.VIEWS_PHANTOM, teachers, given.cache / "views-phantom", 2),
        ]
        variant = np.array([student.VARIANTS.index(v) for v in drawn.column("variant")])
        labels = [np.full(len(parts[0].image), -1), variant[parts[1].image]]
        student.train(parts, labels, given.seconds, out, SEED)
    return student.load(out)


def write_encoder(given, net, head, groups, reference, figures) -> None:
    """`encoder.onnx` and `head.safetensors`, and how near the file is to the fp32 reference."""
    fp32, file = given.cache / "encoder-fp32.onnx", given.out / "encoder.onnx"
    onnxfile.export(net, fp32)
    onnxfile.quantise(fp32, file)
    near = {}
    for name, keys in {"real": ("nih-dev", "hannover-dev"), "phantoms": ("phantom-calibration",)}.items():
        pixels = np.concatenate([groups[k].pixels for k in keys])
        expected = onnxfile.embedding(np.concatenate([reference[k] for k in keys]), head)
        for engine, model in (("as it is", file), ("stripped", onnxfile.stripped(file))):
            near[f"{engine}, {name}"] = onnxfile.nearness(onnxfile.embedding(onnxfile.run(model, pixels), head), expected)
    bundle.tensors(given.out / "head.safetensors", {"weight": head})
    figures["int8"] = {"bytes": file.stat().st_size, "fp32_bytes": fp32.stat().st_size} | near


def write_sae(given, tokens, figures):
    """`sae.safetensors`, trained on plain tokens of training images; returns its image code."""
    train = np.concatenate([tokens[k].reshape(-1, student.D_TOKEN) for k in ("nih-train", "hannover-train", "phantom-train")])
    sae = sparse.train(train, SEED)
    bundle.tensors(given.out / "sae.safetensors", sae.tensors())
    mean, held = train.mean(0), {}
    for name, keys in {"real": ("nih-dev", "hannover-dev"), "phantoms": ("phantom-test",)}.items():
        x = np.concatenate([tokens[k] for k in keys])
        acts = sae.activations(x.reshape(-1, student.D_TOKEN))
        held[name] = {
            "fvu": sparse.fvu(sae, x, mean), "fvu_pca": sparse.fvu_pca(train, x, sparse.K),
            "l0": float((acts > 0).sum(1).mean()), "silent": int((acts.max(0) <= 0).sum()),
        }
    dead = int((sae.activations(train).max(0) <= 0).sum())
    figures["sae"] = {"scale": sae.scale, "dead": dead, "threshold": float(sae.threshold[0]), "tokens": len(train)} | held
    return sae


def write_ood(given, head, groups, tokens, figures) -> None:
    """`ood.safetensors`: adults and phantoms; thresholds from images that it was not fitted on."""
    e = {k: onnxfile.embedding(t, head) for k, t in tokens.items()}
    adult = groups["nih-train"].column("adult")
    model = bundle.ood_model(np.concatenate([e["nih-train"][adult], e["hannover-train"], e["phantom-train"]]), OOD_COMPONENTS)
    bundle.tensors(given.out / "ood.safetensors", model)
    scores = {k: bundle.ood_score(model, x) for k, x in e.items()}
    scores["nih-dev"] = scores["nih-dev"][groups["nih-dev"].column("adult")]
    held = [np.concatenate([scores["nih-dev"], scores["hannover-dev"]]), scores["phantom-calibration"]]
    threshold, borderline = (round(float(max(np.percentile(s, q) for s in held)), 3) for q in (99, 95))
    figures["ood"] = {
        "components": OOD_COMPONENTS, "threshold": threshold, "borderline": borderline,
        "out": {k: float((s > threshold).mean()) for k, s in scores.items()},
        "median": {k: float(np.median(s)) for k, s in scores.items()},
    }


def write_findings(given, groups, tokens, sae, figures) -> list[dict]:
    """`findings.json`, `features.json`, `report.json`; returns the rules."""
    parts = {p: (groups[f"phantom-{p}"], sae.code(tokens[f"phantom-{p}"])) for p in images.PHANTOM_SEEDS}
    rules, figures["findings"] = [], {}
    for name in findings.FINDINGS:
        rule, figures["findings"][name] = findings.rule(name, parts, SEED)
        rules.append(rule)
    found, p, variants = findings.associations(*parts["train"], SEED)
    used = {w["latent"] for r in rules for w in r["weights"]}
    dev = np.concatenate([sae.code(tokens[k]) for k in ("nih-dev", "hannover-dev", "phantom-calibration")])
    firing = (dev > 0).mean(0)
    group, code = parts["calibration"]
    features = []
    for latent in range(sparse.D_SAE):
        best = int(np.argmax(found[latent]))
        held = found[latent, best] >= findings.NAME_AUROC and p[latent, best] <= findings.NAME_LEVEL
        if not held and latent not in used:
            continue
        variant = variants[best] if held else None
        here = groups["phantom-train"].column("variant") == variant if held else slice(None)
        maps = np.stack([sae.activations(t)[:, latent] for t in tokens["phantom-train"][here][:200]])
        area = findings.auroc(code[:, latent], group.column("variant") == variant) if held else None
        features.append(words.feature(latent, findings.zone(maps), variant, area, float(firing[latent])))
    bundle.words(given.out / "findings.json", {"format": 1, "findings": rules, "not_assessed": words.NOT_ASSESSED})
    bundle.words(given.out / "features.json", {"format": 1, "named_by": words.NAMED_BY, "features": features})
    bundle.words(given.out / "report.json", words.report())
    real = np.concatenate([sae.code(tokens[k]) for k in ("nih-dev", "hannover-dev")])
    for r, p_real in zip(rules, probabilities(rules, real)):
        figures["findings"][r["id"]]["present_real"] = float((p_real >= r["threshold"]).mean())
    figures["named"] = {"features": len(features), "associated": sum("label_auroc" in f for f in features)}
    figures["shuffled"] = shuffled(rules, {"real": real, "phantoms": parts["test"][1]})
    return rules


def between_engines(given, rules: list[dict], pixels: np.ndarray, sae) -> dict[str, float]:
    """How far the file and its stripped form are apart in probabilities and in what is said."""
    file = given.out / "encoder.onnx"
    p, q = (probabilities(rules, sae.code(onnxfile.run(m, pixels))) for m in (file, onnxfile.stripped(file)))
    cuts = np.array([[r["threshold"], r["uncertain_from"]] for r in rules])[:, :, None]
    said = ((p[:, None] >= cuts) != (q[:, None] >= cuts)).any(1)
    apart = np.abs(p - q)
    return {
        "mean": float(apart.mean()), "p99": float(np.percentile(apart, 99)), "max": float(apart.max()),
        "differ": {r["id"]: float(row.mean()) for r, row in zip(rules, said)},
    }


def probabilities(rules: list[dict], code: np.ndarray) -> np.ndarray:
    """`[findings, n]` of image codes `[n, d_sae]`."""
    z = [findings.score({w["latent"]: w["weight"] for w in r["weights"]}, r["bias"], code) for r in rules]
    return np.stack([1 / (1 + np.exp(-(r["calibration"]["a"] * s + r["calibration"]["b"]))) for r, s in zip(rules, z)])


def shuffled(rules: list[dict], codes: dict[str, np.ndarray], rounds: int = 20) -> dict[str, float]:
    """Share of images where some probability moves by more than 0.02 when the SAE's rows are shuffled.

    The worst of some shuffles: findings must follow from the features.
    """
    rng, out = np.random.default_rng(SEED), {}
    for name, code in codes.items():
        before = probabilities(rules, code)
        after = [probabilities(rules, code[:, rng.permutation(code.shape[1])]) for _ in range(rounds)]
        moved = [(np.abs(a - before).max(0) > 0.02).mean() for a in after]
        out[name] = float(min(moved))
    return out


def write_golden(given, groups, tokens, head, sae, figures) -> None:
    """`golden/golden.safetensors` from the fp32 reference, and tolerances that both engines keep."""
    group = groups["phantom-test"]
    rows = bundle.golden_rows(group)
    reference = tokens[rows]
    values = {"inputs": group.pixels[rows], "embedding": onnxfile.embedding(reference, head), "code": sae.code(reference)}
    bundle.tensors(given.out / "golden/golden.safetensors", values)
    worst = {"cosine": 1.0, "centred": 1.0, "code": 1.0}
    file = given.out / "encoder.onnx"
    for model in (file, onnxfile.stripped(file)):
        found = onnxfile.run(model, values["inputs"])
        near = onnxfile.nearness(onnxfile.embedding(found, head), values["embedding"])
        code = bundle.code_cosine(sae.code(found), values["code"])
        worst = {k: min(worst[k], v) for k, v in (("cosine", near["cosine_min"]), ("centred", near["centred_min"]), ("code", code))}
    figures["golden_worst"], figures["golden"] = worst, bundle.tolerances(worst)


if __name__ == "__main__":
    main()

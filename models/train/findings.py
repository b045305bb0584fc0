"""Findings over latents, and names for latents, each measured on phantoms only.

Fitted on training phantoms, calibrated on other seeds, measured on a third set of seeds.
No label of any patient enters here.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

# Latents of one finding at most: few enough to be looked at one by one.
LATENTS_MAX = 12
# Ridge on standardised weights, and Platt's own smoothing of targets; picked once, not tuned.
RIDGE = 1e-3
# Ridge on Platt's slope per standard deviation of the score. Phantoms are separated almost
# perfectly, so likelihood alone drives every probability to 0 or 1; this keeps them readable.
# Picked among 0, 0.003, 0.01 and 0.03: the least with which, in each of 20 shuffles of the SAE's rows,
# some probability moves by more than 0.02 on over 95 % of development radiographs (labels unseen).
SLOPE_RIDGE = 0.01
# Family-wise level of a name, and the permutations that can resolve it.
NAME_LEVEL, PERMUTATIONS = 0.01, 1000
# A weaker association is not worth a name: picked by judgement.
NAME_AUROC = 0.6

# id -> (phantom variant, coding system, code, display). Codes are those of the project's list;
# a drawn device is a pacemaker or tubes, for which that list has no common public code.
FINDINGS = {
    "pleural_effusion": ("effusion", "SCT", "60046008", "Pleural effusion"),
    "cardiomegaly": ("cardiomegaly", "SCT", "8186001", "Cardiomegaly"),
    "pneumothorax": ("pneumothorax", "SCT", "36118008", "Pneumothorax"),
    "pulmonary_nodule": ("nodule", "SCT", "27925004", "Pulmonary nodule"),
    "device": ("device", "99CLEARFILM", "device", "Implanted or indwelling device"),
}


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the receiver operating characteristic, ties counted half."""
    positives = int(label.sum())
    ranks = rankdata(score)[label].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (len(label) - positives)))


def interval(score, label, patients, seed: int, rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of the AUROC, patients (phantom seeds) drawn whole."""
    rng = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(patients == p) for p in np.unique(patients)]
    values = []
    for _ in range(rounds):
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))])
        values.append(auroc(score[rows], label[rows]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def non_negative(code: np.ndarray, label: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression on some latents with weights >= 0, in units of the activations."""
    spread = code[:, columns].std(0).clip(1e-6)
    x, balance = code[:, columns] / spread, np.where(label, 1 / label.mean(), 1 / (1 - label.mean())) / 2

    def loss(p):
        z = x @ p[:-1] + p[-1]
        value = (balance * np.logaddexp(0, np.where(label, -z, z))).mean() + RIDGE * np.square(p[:-1]).sum()
        slope = balance * (1 / (1 + np.exp(-z)) - label) / len(z)
        return value, np.append(x.T @ slope + 2 * RIDGE * p[:-1], slope.sum())

    bounds = [(0, None)] * len(columns) + [(None, None)]
    p = minimize(loss, np.zeros(len(columns) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return p[:-1] / spread, float(p[-1])


def fit(code: np.ndarray, label: np.ndarray) -> tuple[dict[int, float], float]:
    """The largest latents of a fit over all, fitted again alone."""
    weight, _ = non_negative(code, label, np.arange(code.shape[1]))
    columns = np.argsort(-weight * code.std(0))[:LATENTS_MAX]
    columns = np.sort(columns[weight[columns] > 0])
    weight, bias = non_negative(code, label, columns)
    return {int(c): float(w) for c, w in zip(columns, weight) if w > 0}, bias


def score(weights: dict[int, float], bias: float, code: np.ndarray) -> np.ndarray:
    """`bias + sum(weight * activation)`."""
    return bias + sum(w * code[:, latent] for latent, w in weights.items())


def platt(z: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Slope and offset by ridged maximum likelihood on Platt's smoothed targets."""
    n1, n0 = label.sum(), (~label).sum()
    target = np.where(label, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def loss(p):
        x = p[0] * z + p[1]
        return (np.logaddexp(0, x) - target * x).mean() + SLOPE_RIDGE * (p[0] * z.std()) ** 2

    a, b = minimize(loss, np.array([1 / z.std(), 0.0])).x
    return float(a), float(b)


def thresholds(p: np.ndarray, label: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """Present from the best F1 of the calibration phantoms, uncertain from half of that.

    Kept within 0.3 to 0.7, so that a few lucky phantoms cannot set an absurd threshold; but raised
    until at most one negative phantom in twenty, and one normal one in twenty, is called present.
    """
    cuts = np.linspace(0.3, 0.7, 41)
    f1 = [2 * (label & (p >= c)).sum() / max(1, label.sum() + (p >= c).sum()) for c in cuts]
    # The middle of equally good cuts leaves the most room on both sides.
    best = round(float(np.median(cuts[np.isclose(f1, max(f1))])), 2)
    specific = max(float(np.percentile(p[rows], 95)) for rows in (~label, normal))
    best = max(best, round(min(specific + 0.005, 0.95), 2))
    return best, round(best / 2, 3)


def rule(name: str, parts: dict, seed: int) -> tuple[dict, dict]:
    """One finding's rule as `findings.json` holds it, and figures for the card."""
    variant, system, code, display = FINDINGS[name]
    label = {part: group.column("variant") == variant for part, (group, _) in parts.items()}
    weights, bias = fit(parts["train"][1], label["train"])
    a, b = platt(score(weights, bias, parts["calibration"][1]), label["calibration"])
    p = {k: 1 / (1 + np.exp(-(a * score(weights, bias, c) + b))) for k, (_, c) in parts.items()}
    present, uncertain = thresholds(
        p["calibration"], label["calibration"], parts["calibration"][0].column("variant") == "normal"
    )
    group, truth = parts["test"][0], label["test"]
    low, high = interval(p["test"], truth, group.column("patient"), seed)
    said = p["test"] >= present
    figures = {
        "auroc": auroc(p["test"], truth), "low": low, "high": high, "latents": len(weights),
        "sensitivity": float(said[truth].mean()), "specificity": float((~said)[~truth].mean()), "normal": float(said[group.column("variant") == "normal"].mean()),
    }
    return {
        "id": name,
        "code": {"system": system, "code": code, "display": display},
        "weights": [{"latent": k, "weight": round(w, 6)} for k, w in weights.items()],
        "bias": round(bias, 6),
        "calibration": {"id": f"platt-phantoms-{name}", "a": round(a, 6), "b": round(b, 6)},
        "threshold": present, "uncertain_from": uncertain, "validation": "phantoms",
        "validated_on": {
            "what": "drawn phantoms of seeds that took no part in training or calibration, PA and AP",
            "n": len(truth), "positives": int(truth.sum()),
            "auroc": round(figures["auroc"], 4), "auroc_low": round(low, 4), "auroc_high": round(high, 4),
        },
    }, figures


def associations(group, code: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """AUROC `[latents, variants]` on phantoms and its family-wise p by shuffled phantom seeds."""
    variants = [v for v, *_ in FINDINGS.values()]
    column, patient = group.column("variant"), group.column("patient")
    ranks = np.stack([rankdata(c) for c in code.T])
    seeds, index = np.unique(patient, return_inverse=True)
    of_seed = column[[np.flatnonzero(index == i)[0] for i in range(len(seeds))]]

    def areas(labels):
        y = np.stack([labels == v for v in variants], 1).astype(float)
        n1 = y.sum(0)
        return (ranks @ y - n1 * (n1 + 1) / 2) / (n1 * (len(labels) - n1))

    found, rng = areas(column), np.random.default_rng(seed)
    largest = np.array([areas(rng.permutation(of_seed)[index]).max() for _ in range(PERMUTATIONS)])
    p = (1 + (largest[None, None] >= found[:, :, None]).sum(2)) / (1 + PERMUTATIONS)
    return found, p, variants


def zone(maps: np.ndarray) -> str:
    """Where a latent is active on average, in the patient's own sides: from maps `[n, 49]`."""
    grid = maps.mean(0).reshape(7, 7) / max(maps.mean(0).sum(), 1e-12)
    row, column = grid.sum(1) @ np.arange(7), grid.sum(0)
    height = "upper" if row < 2.33 else "middle" if row < 3.67 else "lower"
    # The image's left is the patient's right. A side is named where it holds most of the map.
    right, left = column[:3].sum(), column[4:].sum()
    side = "right" if right > 0.6 else "left" if left > 0.6 else "central" if column[2:5].sum() > 0.6 else "both sides,"
    return f"{side} {height} zone"

"""What scikit-learn, SciPy and the published all-pairs loops give: the fixture of the metrics' test.

`pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 safetensors==0.8.0`, then
`python models/oracle/metrics.py tests/golden/metrics.safetensors`.
"""

import sys

import numpy as np
from safetensors.numpy import save_file
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

IMAGES, FEATURES, LABELS, DIMENSIONS = 300, 24, 18, 12


def codes(random):
    """Features of every kind: sparse, tied, of both signs, dense, on one image, dead."""
    values = np.maximum(random.normal(size=(IMAGES, FEATURES)) - 1.0, 0.0)
    values[:, 3] = np.round(values[:, 3] * 2) / 2
    values[:, 4] = (values[:, 4] > 0) * 0.25
    values[:, 5:8] = random.normal(size=(IMAGES, 3))
    values[:, 8] = np.round(random.normal(size=IMAGES))
    values[:, 9] = 0.0
    values[:, 10] = 0.0
    values[17, 10] = 2.5
    return values.astype(np.float32)


def labels(random, values):
    """1, 0, and -1 for what nobody knows; some follow a feature; more than one group of 16."""
    out = np.zeros((IMAGES, LABELS), np.int8)
    for label in range(LABELS):
        score = random.normal(size=IMAGES) + (values[:, label] if label % 3 == 0 else 0.0)
        out[:, label] = score > np.quantile(score, 0.5 + 0.48 * label / LABELS)
    out[random.random((IMAGES, LABELS)) < 0.1] = -1
    return out


def agreement(values, marks):
    """AUROC, average precision and rank correlation over what is known."""
    known = marks >= 0
    y, x = marks[known], values[known]
    rank = spearmanr(x, y).statistic if np.ptp(x) > 0 else 0.0
    pearson = np.corrcoef(x.astype(np.float64), y)[0, 1] if np.ptp(x) > 0 else 0.0
    return roc_auc_score(y, x), average_precision_score(y, x), rank, pearson


def monosemanticity(values, embeddings):
    """Pach et al.'s score, pair by pair."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    span = values.max(0) - values.min(0)
    scaled = (values - values.min(0)) / np.where(span > 0, span, 1.0)
    scores, weights = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for i in range(len(values)):
        for j in range(i):
            pair = scaled[i] * scaled[j]
            scores += pair * (unit[i] @ unit[j])
            weights += pair
    with np.errstate(invalid="ignore"):
        return scores / weights


def main(path):
    random = np.random.default_rng(41)
    values = codes(random)
    marks = labels(random, values)
    embeddings = (random.normal(size=(IMAGES, DIMENSIONS)) + 1.0).astype(np.float32)
    found = np.array([[agreement(values[:, f], marks[:, y]) for y in range(LABELS)] for f in range(FEATURES)])
    known = marks[:, 0] >= 0
    x = embeddings[known].astype(np.float64)
    standard = (x - x.mean(0)) / x.std(0)
    fitted = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000).fit(standard, marks[known, 0])
    save_file(
        {
            "values": values,
            "marks": marks,
            "embeddings": embeddings,
            "auroc": np.ascontiguousarray(found[:, :, 0]),
            "average_precision": np.ascontiguousarray(found[:, :, 1]),
            "spearman": np.ascontiguousarray(found[:, :, 2]),
            "pearson": np.ascontiguousarray(found[:, :, 3]),
            "monosemanticity": monosemanticity(values.astype(np.float64), embeddings.astype(np.float64)),
            "log_odds": fitted.decision_function(standard),
        },
        path,
    )


if __name__ == "__main__":
    main(sys.argv[1])

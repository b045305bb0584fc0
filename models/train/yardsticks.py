"""How good an encoder is, without any patient's label: what a candidate is chosen by.

Measured on development images, which no candidate was trained on. AUROCs of findings on so few
patients do not resolve differences of less than 0.05, and choosing by them would use labels up.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import lesions

# Neighbours compared, of the design's recipe (0.31 after a smoke run, 0.54 to 0.58 is good).
NEIGHBOURS = 10
# Parts that images are dealt into for the drawn-lesion probe.
FOLDS = 5


def unit(x: np.ndarray) -> np.ndarray:
    """Rows at unit length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


def neighbours(x: np.ndarray) -> np.ndarray:
    """Is `j` among the nearest of `i`? `[n, n]`."""
    like = unit(x) @ unit(x).T
    np.fill_diagonal(like, -np.inf)
    near = np.zeros(like.shape, bool)
    np.put_along_axis(near, np.argsort(-like, axis=1)[:, :NEIGHBOURS], True, axis=1)
    return near


def overlap(embedding: np.ndarray, teacher: np.ndarray) -> float:
    """Share of the nearest neighbours that embedding and teacher agree on, 0 to 1."""
    return float((neighbours(embedding) & neighbours(teacher)).sum(1).mean() / NEIGHBOURS)


def participation(embedding: np.ndarray) -> float:
    """Participation ratio: how many directions carry the variance (17 to 27 is good)."""
    values = np.linalg.eigvalsh(np.cov(embedding.T.astype(np.float64)))
    return float(values.sum() ** 2 / np.square(values).sum())


def drawn(pixels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every picture once as it is and once with each lesion of the generator that training never saw."""
    kinds = lesions.PROBED
    rng = np.random.default_rng(seed)
    shown = [p if k == "none" else lesions.probed(p, k, rng) for k in kinds for p in pixels]
    return np.stack(shown), np.repeat(np.arange(len(kinds)), len(pixels))


def probe(feature: np.ndarray, kind: np.ndarray) -> float:
    """Mean AUROC of telling each unseen lesion from none by a linear readout, cross-fitted by image."""
    images = (kind == 0).sum()
    image = np.tile(np.arange(images), len(feature) // images)
    areas = []
    for k in range(1, len(lesions.PROBED)):
        rows = np.isin(kind, (0, k))
        x, y, part = feature[rows], kind[rows] == k, image[rows] % FOLDS
        score = np.zeros(len(y))
        for fold in range(FOLDS):
            scaler = StandardScaler().fit(x[part != fold])
            fit = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(x[part != fold]), y[part != fold])
            score[part == fold] = fit.decision_function(scaler.transform(x[part == fold]))
        areas.append(roc_auc_score(y, score))
    return float(np.mean(areas))

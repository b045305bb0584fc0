"""How near two sets of embeddings, and two sets of active latents, are."""

import numpy as np


def embedding(tokens: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """`e = u / ||u||`, `u = W mean(tokens) (+ b)`, of tokens `[n, n_tokens, d_token]`; in fp32."""
    u = tokens.mean(1) @ weight.T
    u = u if bias is None else u + bias
    return u / np.linalg.norm(u, axis=1, keepdims=True).clip(1e-12)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows; in fp64, since 1 - 1e-7 is to be told from 1."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).clip(1e-12)


def compared(found: np.ndarray, reference: np.ndarray) -> dict:
    """Raw and centred cosine over a group of embeddings `[n, d_model]`, and per image.

    Centred takes the reference's mean off both: encoders of one kind of picture give embeddings
    that lie close together, and a raw cosine sees little of what is apart.
    """
    raw, centre = cosines(found, reference), reference.mean(0)
    centred = cosines(found - centre, reference - centre)
    apart = cosines(found - centre, np.roll(reference - centre, 1, 0))
    return {
        "images": len(found), "raw_mean": float(raw.mean()), "raw_min": float(raw.min()),
        "centred_mean": float(centred.mean()), "centred_p5": float(np.percentile(centred, 5)),
        "centred_min": float(centred.min()), "centred_of_another_image": float(apart.mean()),
        "own_is_nearest": float((np.argmax(unit(found) @ unit(reference).T, 1) == np.arange(len(found))).mean()),
        "per_image": [{"raw": float(r), "centred": float(c)} for r, c in zip(raw, centred)],
    }


def unit(x: np.ndarray) -> np.ndarray:
    """Rows at unit length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


def active(e: np.ndarray, sae: dict[str, np.ndarray]) -> np.ndarray:
    """Which latents fire: `w_enc . e + b_enc > threshold`, `[n, d_sae]`."""
    return e @ sae["w_enc"].T + sae["b_enc"] > sae["threshold"]


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over images of the shared share of active latents; two empty sets are alike."""
    both, either = (a & b).sum(1), (a | b).sum(1)
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())

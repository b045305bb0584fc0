"""Label-free views of the training images, each with what the teachers say of it.

A view is an image that was turned, zoomed, shifted, exposed differently, blurred or made
noisy. Views multiply a few hundred images into enough for a network of under a million weights.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from images import SIDE, Group
from teachers import Teachers

# Views of one image: the first is the plain image. Phantoms vary by seed already, so each
# gets fewer; these counts keep the cache at about 25,000 pictures, eight minutes of one core.
VIEWS_REAL, VIEWS_PHANTOM = 24, 6


@dataclass
class Views:
    """A cache on disk: pixels U8 `[n, 224, 224]`, targets F16, and which image each view shows."""

    pixels: np.ndarray
    mean: np.ndarray
    tokens: np.ndarray
    image: np.ndarray


def augmented(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """One view of a picture U8; `strength` 1 for strong, 0.5 for mild."""
    turn = np.deg2rad(rng.normal(0, 5 * strength))
    zoom = np.exp(rng.normal(0, 0.08 * strength))
    shift = rng.normal(0, 0.04 * strength, 2)
    flip = -1.0 if strength == 1 and rng.random() < 0.15 else 1.0
    rows = [[flip * np.cos(turn) / zoom, -np.sin(turn) / zoom, shift[0]], [np.sin(turn) / zoom, np.cos(turn) / zoom, shift[1]]]
    grid = affine_grid(torch.tensor([rows], dtype=torch.float32), [1, 1, SIDE, SIDE], align_corners=False)
    x = grid_sample(torch.from_numpy(pixels).float()[None, None] / 255, grid, align_corners=False)[0, 0].numpy()
    x = x.clip(0, 1) ** np.exp(rng.normal(0, 0.25 * strength))
    x = 0.5 + (x - 0.5) * np.exp(rng.normal(0, 0.15 * strength)) + rng.normal(0, 0.05 * strength)
    if rng.random() < 0.3 * strength:
        x = (x + np.roll(x, 1, 0) + np.roll(x, 1, 1) + np.roll(x, (1, 1), (0, 1))) / 4
    if rng.random() < 0.5 * strength:
        x = x + rng.normal(0, 0.02 * strength, x.shape)
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def schedule(group: Group, views: int) -> np.ndarray:
    """Image index of every view, the plain ones first."""
    plain = np.arange(len(group.rows))
    return np.concatenate([plain, np.repeat(plain, views - 1)])


def make(group: Group, views: int, teachers: Teachers, cache: Path, seed: int) -> Views:
    """Draws every view and asks the teachers, once; later runs read the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    image = schedule(group, views)
    files = {name: cache / f"{name}.npy" for name in ("pixels", "mean", "tokens", "done")}
    if not files["done"].exists():
        fill(group, teachers, image, files, np.random.default_rng(seed))
        np.save(files["done"], image)
    if not np.array_equal(np.load(files["done"]), image):
        raise SystemExit(f"views: {cache} holds views of other images; remove it")
    return Views(*(np.load(files[name], mmap_mode="r") for name in ("pixels", "mean", "tokens")), image)


def fill(group: Group, teachers: Teachers, image: np.ndarray, files: dict, rng: np.random.Generator) -> None:
    """Writes the cache row by row."""
    shapes = {"pixels": ((SIDE, SIDE), np.uint8), "mean": ((512,), np.float16), "tokens": ((49, 192), np.float16)}
    out = {
        name: np.lib.format.open_memmap(files[name], "w+", kind, (len(image), *shape))
        for name, (shape, kind) in shapes.items()
    }
    for row, index in enumerate(image):
        pixels = group.pixels[index]
        if row >= len(group.rows):
            mild = group.rows[index]["origin"] == "phantom" or row % 5 == 0
            pixels = augmented(pixels, rng, 0.5 if mild else 1.0)
        out["pixels"][row] = pixels
        out["mean"][row], out["tokens"][row] = teachers.targets(pixels)
        if row % 2000 == 0:
            print(f"views: {row} of {len(image)}", flush=True)
    for array in out.values():
        array.flush()

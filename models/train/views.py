"""Label-free views of the training images, each with what the teachers say of it.

A view is an image that was turned, zoomed, shifted, exposed differently, blurred or made
noisy, and may carry a drawn lesion. Views multiply a few hundred images into enough for a network
of under a million weights. A view follows from (seed, row) alone, so the cache is made by any
number of processes, and one that was cut off goes on where it was.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

import lesions
from images import SIDE, Group
from teachers import Teachers

# Views of one image, the first the plain image: in 4,000 steps each is seen five times.
VIEWS = 64
# One drawn view in eight is mild (7 of 47 in the design's measured recipe).
MILD = 8
# Rows that one task makes: a few seconds, what a kill costs.
ROWS = 512


@dataclass
class Views:
    """A cache on disk: pixels U8 `[n, 224, 224]`, targets F16, which image each view shows, and its lesion."""

    pixels: np.ndarray
    mean: np.ndarray
    tokens: np.ndarray
    lesion: np.ndarray
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


def make(group: Group, views: int, teachers: Teachers, cache: Path, seed: int, processes: int) -> Views:
    """Draws every view and asks the teachers, once; later runs read the cache."""
    image = schedule(group, views)
    shapes = {"pixels": ((SIDE, SIDE), np.uint8), "mean": ((512,), np.float16), "tokens": ((49, 192), np.float16), "lesion": ((), np.int8)}
    files = {name: cache / f"{name}.npy" for name in shapes}
    if not (cache / "image.npy").exists():
        cache.mkdir(parents=True, exist_ok=True)
        for name, (shape, kind) in shapes.items():
            np.lib.format.open_memmap(files[name], "w+", kind, (len(image), *shape)).flush()
        np.save(cache / "image.npy", image)
    if not np.array_equal(np.load(cache / "image.npy"), image):
        raise SystemExit(f"views: {cache} holds views of other images; remove it")
    starts = [s for s in range(0, len(image), ROWS) if not (cache / f"done-{s}").exists()]
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, fork, initializer=begin, initargs=(group, teachers, image, cache, files, seed)) as pool:
        for n, _ in enumerate(pool.map(fill, starts)):
            print(f"views: {cache.name} {n + 1} of {len(starts)} parts", flush=True)
    return Views(*(np.load(files[name], mmap_mode="r") for name in shapes), image)


def begin(*state) -> None:
    """What a process needs for every part."""
    torch.set_num_threads(1)
    globals()["STATE"] = state


def fill(start: int) -> None:
    """Makes one part and says so on the disk."""
    group, teachers, image, cache, files, seed = globals()["STATE"]
    out = {name: np.load(file, mmap_mode="r+") for name, file in files.items()}
    for row in range(start, min(start + ROWS, len(image))):
        rng = np.random.default_rng((seed, row))
        pixels, lesion = group.pixels[image[row]], 0
        if row >= len(group.rows):
            if rng.random() < lesions.SHARE:
                lesion = int(rng.integers(1, len(lesions.TAUGHT)))
                pixels = lesions.taught(pixels, lesions.TAUGHT[lesion], rng)
            pixels = augmented(pixels, rng, 0.5 if row % MILD == 0 else 1.0)
        out["pixels"][row], out["lesion"][row] = pixels, lesion
        out["mean"][row], out["tokens"][row] = teachers.targets(pixels)
    for array in out.values():
        array.flush()
    (cache / f"done-{start}").touch()

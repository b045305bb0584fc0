"""Lesions drawn on fitted radiographs, so that small things get a place in the encoder.

They are drawings, not disease: shapes at which a reader looks, put where they are looked for. Two
generators that share nothing: one teaches the encoder, the other only ever measures it.
"""

import numpy as np

from images import SIDE

# What training draws; index 0 is nothing.
TAUGHT = ("none", "nodule", "patch", "effusion", "haze", "tube")
# What only the measurement draws.
PROBED = ("none", "ring", "spots", "wedge", "cap", "streaks")
# Share of views that carry a lesion (19 of 48 in the design's measured recipe).
SHARE = 0.4

ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE


def taught(pixels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A picture U8 `[224, 224]` with one lesion of `TAUGHT`."""
    return shown(pixels, TAUGHT_SHAPES[kind](rng) * rng.uniform(0.06, 0.24), rng)


def probed(pixels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A picture U8 with one lesion of `PROBED`."""
    return shown(pixels, PROBED_SHAPES[kind](rng) * rng.uniform(0.10, 0.22), rng)


def shown(pixels: np.ndarray, opacity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds an opacity 0..1: dark lung brightens most, what is white stays white."""
    x = pixels.astype(np.float32) / 255
    grain = 1 + rng.normal(0, 0.1, x.shape).astype(np.float32)
    # The black border of a padded picture is no body.
    body = pixels > 4
    return (np.where(body, x + opacity * grain * (1 - x), x).clip(0, 1) * 255).round().astype(np.uint8)


def lung(rng: np.random.Generator, top: float = 0.2, bottom: float = 0.75) -> tuple[float, float, float]:
    """A place in either lung, and its side: -1 at the left of the picture, 1 at the right."""
    side = rng.choice((-1.0, 1.0))
    return rng.uniform(top, bottom), 0.5 + side * rng.uniform(0.12, 0.33), side


def distance(row: float, column: float, high: float, wide: float, turn: float = 0.0) -> np.ndarray:
    """From a centre, in units of an ellipse's half-axes."""
    y, x = ROWS - row, COLUMNS - column
    along, across = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    return np.hypot(along / high, across / wide)


def soft(d: np.ndarray, edge: float) -> np.ndarray:
    """1 inside of `d = 1`, 0 outside, over a border of that width."""
    return 1 / (1 + np.exp(((d - 1) / edge).clip(-30, 30)))


def clouds(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise 0..1 of so many cells a side."""
    grid = rng.random((cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0, cells, SIDE, endpoint=False)
    low, part = at.astype(int), (at % 1).astype(np.float32)
    part = part * part * (3 - 2 * part)
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def nodule(rng):
    row, column, _ = lung(rng)
    size = rng.uniform(0.015, 0.055)
    return soft(distance(row, column, size, size * rng.uniform(0.7, 1.3)), rng.uniform(0.08, 0.3))


def patch(rng):
    row, column, _ = lung(rng)
    area = soft(distance(row, column, rng.uniform(0.06, 0.17), rng.uniform(0.05, 0.13), rng.uniform(0, 3)), 0.25)
    return area * (0.35 + 0.65 * clouds(rng, int(rng.integers(6, 14))))


def effusion(rng):
    _, column, side = lung(rng)
    height = rng.uniform(0.58, 0.82)
    # The meniscus climbs towards the chest wall.
    surface = height - rng.uniform(0.05, 0.16) * ((COLUMNS - 0.5) * side / 0.35).clip(0, 1.2) ** 2
    inside = ((COLUMNS - 0.5) * side > 0.06) & ((COLUMNS - 0.5) * side < 0.42)
    return np.where(inside, soft(1 - (ROWS - surface), 0.015) * (ROWS < 0.97), 0)


def haze(rng):
    row, spread = rng.uniform(0.38, 0.55), rng.uniform(0.1, 0.2)
    wings = sum(np.exp(-(distance(row, 0.5 + s * rng.uniform(0.12, 0.2), spread * 1.3, spread) ** 2)) for s in (-1, 1))
    return wings * (0.6 + 0.4 * clouds(rng, 10))


def tube(rng):
    column = 0.5 + rng.uniform(-0.12, 0.12)
    end, bend, lean = rng.uniform(0.3, 0.8), rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)
    path = column + lean * ROWS + bend * np.sin(np.pi * ROWS / end)
    line = np.exp(-(((COLUMNS - path) * SIDE / rng.uniform(0.8, 1.6)) ** 2))
    return 1.6 * line * (ROWS < end)


def ring(rng):
    row, column, _ = lung(rng)
    size = rng.uniform(0.03, 0.07)
    d = distance(row, column, size, size * rng.uniform(0.8, 1.2))
    return np.exp(-(((d - 1) / 0.2) ** 2))


def spots(rng):
    places = [lung(rng, 0.2, 0.7)[:2] for _ in range(int(rng.integers(12, 30)))]
    return np.max([np.exp(-(distance(r, c, 0.009, 0.009) ** 2)) for r, c in places], axis=0)


def wedge(rng):
    row, column, side = lung(rng, 0.25, 0.6)
    away = (COLUMNS - column) * side
    return ((away > 0) & (np.abs(ROWS - row) < 0.45 * away) & (away < rng.uniform(0.12, 0.25))).astype(np.float32) * 0.8


def cap(rng):
    side = rng.choice((-1.0, 1.0))
    column = 0.5 + side * rng.uniform(0.16, 0.24)
    return soft(distance(rng.uniform(0.08, 0.14), column, rng.uniform(0.05, 0.1), 0.13), 0.15) * 0.8


def streaks(rng):
    out = np.zeros_like(ROWS)
    for _ in range(int(rng.integers(2, 5))):
        row, column, _ = lung(rng, 0.5, 0.78)
        out = np.maximum(out, np.exp(-(distance(row, column, 0.008, rng.uniform(0.06, 0.14), rng.normal(0, 0.25)) ** 2)))
    return out


TAUGHT_SHAPES = {"nodule": nodule, "patch": patch, "effusion": effusion, "haze": haze, "tube": tube}
PROBED_SHAPES = {"ring": ring, "spots": spots, "wedge": wedge, "cap": cap, "streaks": streaks}

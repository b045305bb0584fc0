"""Writes files of a bundle: tensors and words."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def tensors(path: Path, values: dict[str, np.ndarray]) -> None:
    """A safetensors file; arrays are made contiguous first, or other bytes would be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, path)


def words(path: Path, value: dict) -> None:
    """A JSON file that a human can read and compare."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

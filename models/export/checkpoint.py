"""Reads a checkpoint: safetensors, or a PyTorch file of which only tensors are unpickled."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file

from .layout import LayoutError


def read(path: Path, inside: str | None = None) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU; `inside` names the entry that holds them, if one does.

    Raises `LayoutError` where the file holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise LayoutError(f"{path}: expected a pickle of tensors only, found {error}") from error
    if inside is not None:
        if not isinstance(state, dict) or inside not in state:
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise LayoutError(f"{path}: expected an entry {inside!r}, found {found}")
        state = state[inside]
    if not isinstance(state, dict):
        raise LayoutError(f"{path}: expected names and tensors, found {type(state).__name__}")
    others = sorted(str(k) for k, v in state.items() if not isinstance(v, torch.Tensor))
    if others:
        raise LayoutError(f"{path}: expected tensors only, found others under {others}; --inside names an entry")
    return dict(state)

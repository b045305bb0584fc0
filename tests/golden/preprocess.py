"""Golden values of preprocessing: what Pillow and torchvision make of drawn pictures.

    python3 tests/golden/preprocess.py tests/golden/preprocess/fitted.safetensors

Written with numpy 2.4.6, pillow 13.0.0, safetensors 0.8.0, torch 2.15.0, torchvision 0.29.2.
The pictures are drawn by `drawn`, in integers, and by the same formula in the Rust test
(runtime/src/preprocess/golden.rs); no radiograph is involved.

`pad` is MedCLIPProcessor's way: in the middle of a black square of side max(target, width,
height), then Pillow's BICUBIC. `squash` is ToTensor, Resize(antialias=True), back to 8 bits,
rounded.
"""

import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

# (rows, columns) of the picture, (height, width) of the target: wider, taller, smaller and larger
# than the target, as large as it, and targets that are not square.
CASES = [
    ((301, 500), (224, 224)),
    ((613, 257), (64, 96)),
    ((99, 150), (224, 224)),
    ((1100, 1401), (96, 64)),
    ((224, 224), (224, 224)),
    ((31, 224), (48, 224)),
]


def drawn(rows: int, columns: int) -> np.ndarray:
    """Rings, a gradient and noise, `[rows, columns]`, 0..=255."""
    r, c = np.mgrid[0:rows, 0:columns].astype(np.int64)
    rings = ((7 * (r - rows // 2) ** 2 + 5 * (c - columns // 2) ** 2) >> 6) & 127
    noise = (((r * 73856093) ^ (c * 19349663)) >> 13) & 31
    return (rings + noise + c * 97 // columns).astype(np.uint8)


def pad(picture: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    rows, columns = picture.shape
    side = max(*target, rows, columns)
    square = Image.new("L", (side, side), 0)
    square.paste(Image.fromarray(picture), (int((side - columns) / 2), int((side - rows) / 2)))
    return np.asarray(square.resize(target[::-1], Image.BICUBIC))


def squash(picture: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    tensor = torch.from_numpy(picture)[None].float() / 255
    fitted = resize(tensor, list(target), InterpolationMode.BILINEAR, antialias=True)
    return (fitted[0] * 255 + 0.5).floor().clamp(0, 255).byte().numpy()


def main() -> None:
    tensors = {}
    for source, target in CASES:
        name = f"{source[0]}x{source[1]}"
        tensors[f"pad.{name}"] = pad(drawn(*source), target)
        tensors[f"squash.{name}"] = squash(drawn(*source), target)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, sys.argv[1])


if __name__ == "__main__":
    main()

"""The encoder: a small convolutional network taught by the teachers, without any patient's label.

Dense 3x3 residual blocks on 7x7 tokens of 256 values; the head projects their mean to 512.
Beside the teachers it learns which lesion was drawn on a radiograph and which variant a phantom
is, from its largest tokens, so that small things get a place in the tokens; those parts are thrown
away after training.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lesions import TAUGHT

# (pixel / 255 - MEAN) / STD, the manifest's input.mean and input.std: mid-grey, and about the
# spread of fitted radiographs.
MEAN, STD = 0.5, 0.25
WIDTHS = (16, 32, 64, 112, 160)
N_TOKENS, D_TOKEN, D_MODEL = 49, 256, 512
# AdamW and its rate from the design's measured recipe; its batch of 64 as pairs of views of one
# radiograph, and a quarter of phantoms.
RATE, PAIRS, PHANTOMS = 2e-3, 24, 16
# Weights of what is drawn: 0.1 helped with longer training where 0.3 in a short run did not (the
# same recipe); the phantoms' was picked once, not tuned.
LESION_LOSS, PHANTOM_LOSS = 0.1, 0.1
# Steps between checkpoints: two minutes of one core.
KEPT_EVERY = 200
VARIANTS = ("normal", "effusion", "cardiomegaly", "pneumothorax", "nodule", "device")


def conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """3x3 convolution and its normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """`relu(x + conv(relu(conv(x))))`."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = conv(width, width, 1), conv(width, width, 1)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Encoder(nn.Module):
    """`[batch, 1, 224, 224]` to tokens `[batch, 49, 256]`."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for step, width in enumerate(WIDTHS):
            layers += [conv(before, width, 2), nn.ReLU()]
            # One residual block at each of the two coarsest scales: 0.98 million weights in all.
            layers += [Block(width)] if step >= 3 else []
            before = width
        self.body = nn.Sequential(*layers, nn.Conv2d(before, D_TOKEN, 1))

    def forward(self, image):
        return self.body(image).reshape(-1, D_TOKEN, N_TOKENS).transpose(1, 2)


class Student(nn.Module):
    """The encoder and the parts that only training needs."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(D_TOKEN, D_MODEL, bias=False)
        self.to_tokens = nn.Linear(D_TOKEN, 192)
        self.to_lesion = nn.Linear(D_TOKEN, len(TAUGHT))
        self.to_variant = nn.Linear(D_TOKEN, len(VARIANTS))

    def forward(self, image):
        tokens = self.encoder(image).float()
        largest = tokens.amax(1)
        return self.head(tokens.mean(1)), self.to_tokens(tokens), self.to_lesion(largest), self.to_variant(largest)


def images_of(pixels) -> torch.Tensor:
    """Pixels U8 `[n, 224, 224]`, array or tensor, as the encoder's input."""
    return (torch.as_tensor(pixels).float()[:, None] / 255 - MEAN) / STD


def rate(step: int, steps: int) -> float:
    """Fifty steps of warming up, then a cosine to nothing."""
    return RATE * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * step / steps))


@dataclass(frozen=True)
class Arm:
    """One candidate: everything in which candidates differ."""

    name: str
    seed: int
    steps: int
    # Weight of the consistency between two views of one radiograph; 0 leaves it out.
    consistency: float


def train(parts: list, variants: np.ndarray, arm: Arm, out: Path) -> dict:
    """Trains one candidate to its end, going on from its last checkpoint; returns its weights.

    `parts` are the view caches of radiographs and of phantoms; `variants` the index per phantom view.
    """
    if (out / f"{arm.name}.pt").exists():
        return torch.load(out / f"{arm.name}.pt")["weights"]
    torch.manual_seed(arm.seed)
    student = Student().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.02)
    checkpoint, first = out / f"{arm.name}-checkpoint.pt", 0
    if checkpoint.exists():
        kept = torch.load(checkpoint)
        student.load_state_dict(kept["student"])
        optimiser.load_state_dict(kept["optimiser"])
        first = kept["step"]
    spread, started = token_spread(parts), time.time()
    for step in range(first, arm.steps):
        # The batch follows from seed and step alone, so a resumed run sees what it would have seen.
        rng = np.random.default_rng((arm.seed, step))
        for group in optimiser.param_groups:
            group["lr"] = float(rate(step, arm.steps))
        loss, shown = loss_of(student, batch_of(parts, variants, rng), arm, spread)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(f"student {arm.name}: step {step} of {arm.steps}, {time.time() - started:.0f} s, {shown}", flush=True)
        if step % KEPT_EVERY == KEPT_EVERY - 1:
            kept = {"student": student.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            replaced(kept, checkpoint)
    replaced({"weights": student.state_dict(), "steps": arm.steps}, out / f"{arm.name}.pt")
    return student.state_dict()


def replaced(value: dict, path: Path) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    partial.replace(path)


def batch_of(parts: list, variants: np.ndarray, rng: np.random.Generator) -> dict:
    """Radiographs, the second half another view of each of the first, and phantoms behind them."""
    real, drawn = parts
    views = np.flatnonzero(real.image == real.image[0]).size
    plain = len(np.unique(real.image))
    images = rng.choice(plain, PAIRS, replace=False)
    rows = np.concatenate([view_rows(images, rng.integers(0, views, PAIRS), plain, views) for _ in range(2)])
    others = rng.choice(len(drawn.image), PHANTOMS, replace=False)
    batch = {
        name: torch.from_numpy(np.concatenate([getattr(real, name)[rows], getattr(drawn, name)[others]]))
        for name in ("pixels", "mean", "tokens")
    }
    lesion = np.concatenate([real.lesion[rows].astype(np.int64), np.full(PHANTOMS, -1)])
    variant = np.concatenate([np.full(len(rows), -1), variants[others]])
    return batch | {"lesion": torch.from_numpy(lesion), "variant": torch.from_numpy(variant)}


def view_rows(images: np.ndarray, view: np.ndarray, plain: int, views: int) -> np.ndarray:
    """Rows of the cache, where the plain images come first and then each image's views together."""
    return np.where(view == 0, images, plain + images * (views - 1) + view - 1)


def token_spread(parts: list) -> float:
    """Variance of the token targets, so that their loss starts near 1."""
    return float(np.mean([np.var(np.asarray(p.tokens[::50], np.float32)) for p in parts]))


def loss_of(student: Student, batch: dict, arm: Arm, spread: float):
    """Distillation of means and tokens, what was drawn, and two views' likeness."""
    with torch.autocast("cpu", torch.bfloat16):
        u, t, lesion, variant = student(images_of(batch["pixels"]).to(memory_format=torch.channels_last))
    u = nn.functional.normalize(u.float(), dim=1)
    far = 1 - torch.cosine_similarity(u, batch["mean"].float()).mean()
    apart = (t.float() - batch["tokens"].float()).square().mean() / spread
    lesions_missed = nn.functional.cross_entropy(lesion.float(), batch["lesion"], ignore_index=-1)
    drawn = nn.functional.cross_entropy(variant.float(), batch["variant"], ignore_index=-1)
    loss = far + apart + LESION_LOSS * lesions_missed + PHANTOM_LOSS * drawn
    if arm.consistency:
        # Only where both views show the patient alone.
        alike = (batch["lesion"][:PAIRS] == 0) & (batch["lesion"][PAIRS : 2 * PAIRS] == 0)
        loss = loss + arm.consistency * (1 - (u[:PAIRS] * u[PAIRS : 2 * PAIRS]).sum(1))[alike].mean()
    shown = f"mean {far.item():.3f}, tokens {apart.item():.3f}, lesions {lesions_missed.item():.3f}, variants {drawn.item():.3f}"
    return loss, shown


def load(weights: dict) -> Student:
    """A trained student."""
    student = Student()
    student.load_state_dict(weights)
    return student.eval()


def folded(student: Student) -> nn.Module:
    """The encoder with every normalisation folded into the convolution before it, fp32."""
    encoder = student.encoder.eval().float()
    for module in list(encoder.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.BatchNorm2d):
            module[0] = nn.utils.fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return encoder.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def tokens_of(encoder: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Tokens `[n, 49, 256]` of pixels U8, by the fp32 reference."""
    return np.concatenate([encoder(images_of(pixels[i : i + 64])).numpy() for i in range(0, len(pixels), 64)])

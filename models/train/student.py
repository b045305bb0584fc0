"""The encoder: a small convolutional network taught by the teachers, without any patient's label.

Dense 3x3 residual blocks on 7x7 tokens of 256 values; the head projects their mean to 512.
A candidate may also learn, from its largest tokens, which lesion was drawn on a radiograph; that
part is thrown away after training. It sees radiographs alone: phantoms in the batch moved the
normalisation's statistics, and its neighbours went further from the teachers' (0.34 to 0.32 of
them shared after 600 steps).
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
# AdamW, its rate and its batch from the design's measured recipe.
RATE, BATCH = 2e-3, 64
# Steps between checkpoints: a minute of one core.
KEPT_EVERY = 200


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

    def forward(self, image):
        tokens = self.encoder(image).float()
        return self.head(tokens.mean(1)), self.to_tokens(tokens), self.to_lesion(tokens.amax(1))


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
    # Weight of telling which lesion was drawn; 0 leaves it out. At 0.1 fewer neighbours were shared
    # with the teachers than at 0.01 (0.34 and 0.37 after 600 steps), and unseen lesions told no better.
    lesions: float


def train(views, arm: Arm, out: Path) -> dict:
    """Trains one candidate on a cache of views to its end, going on from its last checkpoint; returns its weights."""
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
    spread, started = token_spread(views), time.time()
    for step in range(first, arm.steps):
        # The batch follows from seed and step alone, so a resumed run sees what it would have seen.
        rng = np.random.default_rng((arm.seed, step))
        for group in optimiser.param_groups:
            group["lr"] = float(rate(step, arm.steps))
        loss, shown = loss_of(student, batch_of(views, rng), arm, spread)
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


def batch_of(views, rng: np.random.Generator) -> dict:
    """One view each of radiographs that differ."""
    plain = len(np.unique(views.image))
    each = len(views.image) // plain
    rows = view_rows(rng.choice(plain, BATCH, replace=False), rng.integers(0, each, BATCH), plain, each)
    parts = {name: torch.from_numpy(getattr(views, name)[rows]) for name in ("pixels", "mean", "tokens")}
    return parts | {"lesion": torch.from_numpy(views.lesion[rows].astype(np.int64))}


def view_rows(images: np.ndarray, view: np.ndarray, plain: int, views: int) -> np.ndarray:
    """Rows of the cache, where the plain images come first and then each image's views together."""
    return np.where(view == 0, images, plain + images * (views - 1) + view - 1)


def token_spread(views) -> float:
    """Variance of the token targets, so that their loss starts near 1."""
    return float(np.var(np.asarray(views.tokens[::50], np.float32)))


def loss_of(student: Student, batch: dict, arm: Arm, spread: float):
    """Distillation of means and tokens, and which lesion was drawn."""
    with torch.autocast("cpu", torch.bfloat16):
        u, t, lesion = student(images_of(batch["pixels"]).to(memory_format=torch.channels_last))
    far = 1 - torch.cosine_similarity(u.float(), batch["mean"].float()).mean()
    apart = (t.float() - batch["tokens"].float()).square().mean() / spread
    missed = nn.functional.cross_entropy(lesion.float(), batch["lesion"])
    loss = far + apart + arm.lesions * missed
    return loss, f"mean {far.item():.3f}, tokens {apart.item():.3f}, lesions {missed.item():.3f}"


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

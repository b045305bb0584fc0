"""The encoder: a small convolutional network taught by the teachers, without any patient's label.

Dense 3x3 residual blocks on 7x7 tokens of 256 values; the head projects their mean to 512.
Beside the teachers it learns which variant of a phantom was drawn, from its largest tokens, so
that small things get a place in the tokens; that part is thrown away after training.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

# (pixel / 255 - MEAN) / STD, the manifest's input.mean and input.std: mid-grey, and about the
# spread of fitted radiographs.
MEAN, STD = 0.5, 0.25
WIDTHS = (16, 32, 64, 112, 160)
N_TOKENS, D_TOKEN, D_MODEL = 49, 256, 512
# AdamW, batch and rate of the design's measured recipe.
BATCH, RATE = 64, 2e-3
# Weight of the phantom loss: picked once, not tuned.
PHANTOM_LOSS = 0.2
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
        self.to_variant = nn.Linear(D_TOKEN, len(VARIANTS))

    def forward(self, image):
        tokens = self.encoder(image).float()
        return self.head(tokens.mean(1)), self.to_tokens(tokens), self.to_variant(tokens.amax(1))


def images_of(pixels: np.ndarray) -> torch.Tensor:
    """Pixels U8 `[n, 224, 224]` as the encoder's input."""
    return (torch.from_numpy(np.array(pixels)).float()[:, None] / 255 - MEAN) / STD


def train(parts: list, variants: list[np.ndarray], seconds: float, out: Path, seed: int) -> Student:
    """Trains for a given time; `parts` are view caches, `variants` the index per view or -1."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = Student().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.02)
    sizes = [len(p.image) for p in parts]
    started, step, spread = time.time(), 0, token_spread(parts)
    while (done := (time.time() - started) / seconds) < 1:
        warm = min(1.0, (step + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = RATE * warm * (0.5 + 0.5 * np.cos(np.pi * done))
        # Half of the batch from each part: phantoms and radiographs.
        rows = [np.sort(rng.choice(n, BATCH // len(parts), replace=False)) for n in sizes]
        batch = [np.concatenate([getattr(p, name)[r] for p, r in zip(parts, rows)]) for name in ("pixels", "mean", "tokens")]
        variant = torch.from_numpy(np.concatenate([v[r] for v, r in zip(variants, rows)]))
        loss, shown = loss_of(student, batch, variant, spread)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(f"student: step {step}, {time.time() - started:.0f} s, {shown}", flush=True)
        step += 1
    print(f"student: {step} steps, {step * BATCH} views", flush=True)
    torch.save({"weights": student.state_dict(), "steps": step, "seconds": seconds}, out)
    return student


def token_spread(parts: list) -> float:
    """Variance of the token targets, so that their loss starts near 1."""
    return float(np.mean([np.var(np.asarray(p.tokens[::50], np.float32)) for p in parts]))


def loss_of(student: Student, batch: list, variant: torch.Tensor, spread: float):
    """Distillation of means and tokens, and the phantoms' variants."""
    pixels, mean, tokens = batch
    with torch.autocast("cpu", torch.bfloat16):
        u, t, logits = student(images_of(pixels).to(memory_format=torch.channels_last))
    far = 1 - torch.cosine_similarity(u.float(), torch.from_numpy(mean).float()).mean()
    apart = (t.float() - torch.from_numpy(tokens).float()).square().mean() / spread
    drawn = nn.functional.cross_entropy(logits.float(), variant, ignore_index=-1)
    shown = f"mean {far.item():.3f}, tokens {apart.item():.3f}, variants {drawn.item():.3f}"
    return far + apart + PHANTOM_LOSS * drawn, shown


def load(out: Path) -> Student:
    """The trained student."""
    student = Student()
    student.load_state_dict(torch.load(out)["weights"])
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

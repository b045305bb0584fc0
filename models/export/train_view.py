"""Trains a network of MedCLIP's architecture to tell AP from PA, and writes MedCLIP's key layout.

    PYTHONPATH=models .cache/export/bin/python -m export.train_view medclip-resnet50 \
        --data ../shared/data --clearfilm target/debug/clearfilm --out checkpoints/medclip-resnet50.bin

MedCLIP's published weights are not redistributed here: this gives trained weights to export,
quantise and measure. It is not MedCLIP. From random weights it learns the view from labels, and
beside it the demo encoder's embedding and tokens, so that an embedding says more than one thing.
The text tower is written with random weights: only its keys matter.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from torch import nn

from . import towers
from .families import TEXT, VISION
from .layout import SWIN, to_published
from .radiographs import is_ap, split, values

BATCH = 16
# Peak rates: picked once, the usual ones for AdamW at this batch size.
RATES = {"medclip-resnet50": 1e-3, "medclip-vit": 5e-4}
DECAY, WARM_UP = 0.05, 40
# MedCLIP's normalisation (its code), and the demo encoder's (its manifest).
MEAN, STD = 0.5862785803043838, 0.27950088968644304
DEMO_MEAN, DEMO_STD, DEMO_TOKEN = 0.5, 0.25, 256
# Exponent of the teacher's partial whitening, and the smallest variance that it lifts (share of the
# largest): picked once; stronger whitening is hardly learnt in some hundred steps.
WHITEN, WHITEN_FROM = -0.25, 1e-2
# Steepness of the view's logit over a unit-length embedding, which is within [-1, 1].
STEEPNESS = 10.0
SEED = 5


class Tower(nn.Module):
    """An image tower: tokens, head, unit length; and two layers of training's own, not kept."""

    def __init__(self, name: str):
        super().__init__()
        if name == "medclip-resnet50":
            self.net = towers.resnet("resnet50", towers.D_MODEL)
            self.tokens, self.head = towers.ConvTokens(self.net), self.net.fc
        else:
            # Without stochastic depth, which some hundred steps cannot afford.
            self.net = towers.swin(drop_path_rate=0.0)
            self.tokens = towers.SwinTokens(self.net)
            self.head = nn.Linear(self.net.config.hidden_size, towers.D_MODEL, bias=False)
        self.view = nn.Linear(towers.D_MODEL, 1)
        self.like = nn.Linear(self.head.in_features, DEMO_TOKEN)

    def forward(self, image):
        tokens = self.tokens(image).float()
        e = nn.functional.normalize(self.head(tokens.mean(1)), dim=1)
        return e, STEEPNESS * self.view(e)[:, 0], self.like(tokens)


class Teacher:
    """The demo bundle's encoder, its embedding partly whitened over the training images."""

    def __init__(self, bundle: Path, pixels: np.ndarray):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(str(bundle / "encoder.onnx"), options)
        self.head = load_file(bundle / "head.safetensors")["weight"]
        # Views, not the plain images: a view's embedding lies a little off in one direction.
        views = augmented(torch.from_numpy(pixels), np.random.default_rng(SEED))
        e, tokens = self.read(views.numpy())
        self.mean, self.centre, self.spread = e.mean(0), tokens.mean((0, 1)), float(tokens.var((0, 1)).mean())
        spread, vectors = np.linalg.eigh(np.cov((e - self.mean).T.astype(np.float64)))
        spread = spread.clip(spread.max() * WHITEN_FROM)
        self.whiten = ((vectors * spread**WHITEN) @ vectors.T).astype(np.float32)

    def read(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit embeddings `[n, 512]` and tokens `[n, 49, 256]` of pictures in [0, 1]."""
        x = ((x[:, None] - DEMO_MEAN) / DEMO_STD).astype(np.float32)
        tokens = np.concatenate([self.session.run(None, {"image": one[None]})[0] for one in x])
        u = tokens.mean(1) @ self.head.T
        return u / np.linalg.norm(u, axis=1, keepdims=True), tokens

    def target(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the embedding should point to, and the tokens, at a variance of 1."""
        e, tokens = self.read(x.numpy())
        tokens = (tokens - self.centre) / np.sqrt(self.spread)
        return torch.from_numpy((e - self.mean) @ self.whiten), torch.from_numpy(tokens)


def augmented(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each picture turned, zoomed, shifted and exposed a little differently, in [0, 1]."""
    n = len(pixels)
    turn, zoom = np.deg2rad(rng.normal(0, 4, n)), np.exp(rng.normal(0, 0.07, n))
    shift = rng.normal(0, 0.04, (2, n))
    rows = [[np.cos(turn) / zoom, -np.sin(turn) / zoom, shift[0]], [np.sin(turn) / zoom, np.cos(turn) / zoom, shift[1]]]
    theta = torch.from_numpy(np.array(rows)).permute(2, 0, 1).float()
    grid = nn.functional.affine_grid(theta, [n, 1, *pixels.shape[1:]], align_corners=False)
    x = nn.functional.grid_sample(pixels.float()[:, None] / 255, grid, align_corners=False)[:, 0]
    gamma, gain, offset = (torch.from_numpy(rng.normal(0, s, (n, 1, 1))).float() for s in (0.2, 0.12, 0.04))
    x = 0.5 + (x.clamp(0, 1) ** gamma.exp() - 0.5) * gain.exp() + offset
    return (x + torch.from_numpy(rng.normal(0, 0.01, x.shape)).float()).clamp(0, 1)


@torch.no_grad()
def area(tower: Tower, pixels: np.ndarray, labels: np.ndarray) -> float:
    """AUROC of AP against PA, fp32, one image at a time as on the device."""
    tower.eval()
    x = torch.from_numpy(values(pixels, [MEAN] * 3, [STD] * 3))
    logits = np.concatenate([tower(one[None])[1].numpy() for one in x])
    tower.train()
    return float(roc_auc_score(labels, logits))


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch with as many AP as PA, so that the view's prevalence teaches nothing."""
    half = BATCH // 2
    return np.concatenate([rng.choice(np.flatnonzero(labels == v), half, replace=False) for v in (0, 1)])


def train(name: str, given, learn, dev) -> Tower:
    """Trains; stops early once `dev` is told apart well enough in the second half."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    tower, teacher = Tower(name).train(), Teacher(given.bundle, learn.pixels)
    conv = name == "medclip-resnet50"
    tower = tower.to(memory_format=torch.channels_last) if conv else tower
    optimiser = torch.optim.AdamW(tower.parameters(), lr=RATES[name], weight_decay=DECAY)
    pixels, labels, started = torch.from_numpy(learn.pixels), is_ap(learn), time.time()
    for step in range(given.steps):
        warm, done = min(1.0, (step + 1) / WARM_UP), step / given.steps
        for group in optimiser.param_groups:
            group["lr"] = RATES[name] * warm * (0.5 + 0.5 * np.cos(np.pi * done))
        index = draw(labels, rng)
        x = augmented(pixels[index], rng)
        image = ((x[:, None] - MEAN) / STD).repeat(1, 3, 1, 1)
        image = image.to(memory_format=torch.channels_last) if conv else image
        loss, shown = loss_of(tower, image, teacher.target(x), torch.from_numpy(labels[index]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 20 == 0:
            print(f"{name}: step {step + 1}, {time.time() - started:.0f} s, {shown}", flush=True)
        if (step + 1) % given.look == 0 or step + 1 == given.steps:
            found = area(tower, dev.pixels, is_ap(dev))
            print(f"{name}: step {step + 1}, {time.time() - started:.0f} s, dev AUROC of the view {found:.4f}", flush=True)
            save(name, tower, given.out)
            if found >= given.enough and done > 0.5:
                break
    return tower.eval()


def loss_of(tower: Tower, image: torch.Tensor, target: tuple, labels: torch.Tensor):
    """The teacher's embedding and tokens, and the view."""
    with torch.autocast("cpu", torch.bfloat16):
        e, logit, tokens = tower(image)
    far = 1 - torch.cosine_similarity(e.float(), target[0]).mean()
    apart = (tokens.float() - target[1]).square().mean()
    wrong = nn.functional.binary_cross_entropy_with_logits(logit.float(), labels)
    return far + apart + wrong, f"embedding {far:.3f}, tokens {apart:.3f}, view {wrong:.3f}"


def save(name: str, tower: Tower, out: Path) -> None:
    """`pytorch_model.bin` as MedCLIP publishes it, with a random text tower."""
    torch.manual_seed(SEED)
    table = SWIN if name == "medclip-vit" else ()
    # Published as one row for each place in a window of 49.
    buffers = {k: v.reshape(49, 49) for k, v in tower.net.named_buffers() if k.endswith("relative_position_index")}
    state = {"logit_scale": torch.tensor(np.log(1 / 0.07), dtype=torch.float32)}
    for key, value in (tower.net.state_dict() | buffers).items():
        state[f"{VISION}model.{to_published(key, table)}"] = value.contiguous().clone()
    if table:
        state[f"{VISION}projection_head.weight"] = tower.head.weight.detach().clone()
    text = towers.bert()
    for key, value in text.state_dict().items():
        state[f"{TEXT}model.{key}"] = value
    positions = torch.arange(text.config.max_position_embeddings)[None]
    state[f"{TEXT}model.embeddings.position_ids"] = positions
    head = nn.Linear(text.config.hidden_size, towers.D_MODEL, bias=False)
    state[f"{TEXT}projection_head.weight"] = head.weight.detach()
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, out)


def main() -> None:
    """Reads arguments, trains, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RATES))
    parser.add_argument("--data", type=Path, required=True, help="the training data's folder")
    parser.add_argument("--clearfilm", required=True, help="the clearfilm binary, for its preprocess")
    parser.add_argument("--cache", type=Path, default=Path(".cache/export-images"))
    parser.add_argument("--bundle", type=Path, default=Path("models/bundles/demo"), help="whose encoder teaches")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write; never committed")
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--look", type=int, default=50, help="steps between looks at dev")
    parser.add_argument("--enough", type=float, default=0.92, help="dev AUROC that ends the second half early")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    learn, dev = split(given.clearfilm, given.data, given.cache)
    print(f"{len(learn.rows)} images to learn from, {len(dev.rows)} of other patients to look at", flush=True)
    train(given.name, given, learn, dev)


if __name__ == "__main__":
    main()

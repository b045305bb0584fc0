"""The trainer's step in PyTorch: dense, by autograd, as plain as it can be written.

Writes, for every kind of dictionary, what 100 steps on the same batches give: the fixture that
`models/tests/oracle.rs` compares the trainer with. It shares nothing with the trainer but the
recipe.

    python models/oracle/steps.py tests/golden/trainer
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

D, LATENTS, BATCH, STEPS, EPOCH = 24, 96, 64, 100, 25
WINDOW = 4 * BATCH

KINDS = {
    "standard": {"kind": "standard", "l1": 0.02, "l1_warm_up": 10},
    "gated": {"kind": "gated", "sparsity": 0.05, "sparsity_warm_up": 10, "form": "unit-norm"},
    "gated-decoder-norm": {"kind": "gated", "sparsity": 0.05, "sparsity_warm_up": 10, "form": "decoder-norm"},
    "top-k": {"kind": "top-k", "k": 4},
    "batch-top-k": {"kind": "batch-top-k", "k": 4},
    "matryoshka": {"kind": "matryoshka-batch-top-k", "k": 4, "prefixes": [12, 40, LATENTS]},
}


def recipe(select: dict) -> dict:
    """The recipe of a fixture: everything forced to happen within 100 steps."""
    squares = select["kind"] in ("standard", "gated")
    return {
        "latents": LATENTS, "select": select, "seed": 0, "batch": BATCH, "epochs": STEPS // EPOCH,
        "loss": "squares" if squares else "variance",
        "schedule": {"rate": 3e-3, "warm_up": 10, "decay_from": 0.8, "k_from": 4.0, "k_until": 0.1},
        # Low enough to clip in some steps and not in others.
        "optimiser": {"clip": 8.0 if squares else 0.35, "average": 0.99},
        "dead": {"window": WINDOW, "auxiliary": 1 / 32, "k_auxiliary": 8, "reseed_every": 1, "reseed_until": 0.7},
    }


def planted(generator: torch.Generator) -> torch.Tensor:
    """Samples of a few directions each, `[steps, batch, d]`, off the origin."""
    directions = torch.nn.functional.normalize(torch.randn(48, D, generator=generator), dim=1)
    weights = torch.rand(STEPS * BATCH, 48, generator=generator) + 0.5
    picked = torch.rand(STEPS * BATCH, 48, generator=generator) < 0.08
    noise = 0.05 * torch.randn(STEPS * BATCH, D, generator=generator)
    x = (weights * picked) @ directions + noise + 0.2
    x = x - x.mean(0)
    return (x * (D / x.square().sum(1).mean()).sqrt()).reshape(STEPS, BATCH, D)


def start(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Tied unit rows; a third of the latents begin too low to fire, so that some are dead."""
    w_dec = torch.nn.functional.normalize(torch.randn(LATENTS, D, generator=generator), dim=1)
    b_enc = torch.zeros(LATENTS)
    b_enc[::3] = -9.0
    return {
        "w_enc": w_dec.clone(), "w_dec": w_dec, "b_enc": b_enc, "b_dec": 0.1 * torch.randn(D, generator=generator),
        "r_mag": 0.1 * torch.randn(LATENTS, generator=generator), "b_mag": torch.zeros(LATENTS),
    }


def rate_at(schedule: dict, step: int) -> float:
    """Warm-up, level, linear decay."""
    if step < schedule["warm_up"]:
        return schedule["rate"] * step / schedule["warm_up"]
    through = step / STEPS
    if through < schedule["decay_from"]:
        return schedule["rate"]
    return schedule["rate"] * (1 - through) / (1 - schedule["decay_from"])


def k_at(schedule: dict, k: int, step: int) -> int:
    """From `k_from` times as many down to k."""
    left = max(0.0, 1 - step / STEPS / schedule["k_until"])
    return min(LATENTS, int(k * (1 + (schedule["k_from"] - 1) * left) + 0.5))


def top(pre: torch.Tensor, k: int, whole_batch: bool) -> torch.Tensor:
    """Positive pre-activations that are among the k largest, of a sample or of the batch."""
    positive = pre.relu()
    flat = positive.reshape(1, -1) if whole_batch else positive
    values, index = flat.topk(k * len(pre) if whole_batch else k, dim=1)
    return torch.zeros_like(flat).scatter(1, index, values).reshape(pre.shape)


class Oracle:
    """One run."""

    def __init__(self, recipe: dict, weights: dict[str, torch.Tensor]):
        self.recipe, self.select = recipe, recipe["select"]
        self.p = {name: w.clone().requires_grad_() for name, w in weights.items()}
        self.m = {name: torch.zeros_like(w) for name, w in weights.items()}
        self.v = {name: torch.zeros_like(w) for name, w in weights.items()}
        self.mean = {name: w.clone() for name, w in weights.items()}
        self.silent = torch.zeros(LATENTS, dtype=torch.long)
        self.unit_norm = self.select.get("form") != "decoder-norm"

    def losses(self, x: torch.Tensor, step: int):
        """Reconstruction, sparsity, auxiliary; and what re-seeding looks at."""
        p, select = self.p, self.select
        weight = 1.0 if self.recipe["loss"] == "squares" else 1.0 / D
        centred = x - p["b_dec"]
        z = centred @ p["w_enc"].T
        pre = z + p["b_enc"]
        warm = min(1.0, step / select.get("l1_warm_up", select.get("sparsity_warm_up", 1)))
        sparsity = auxiliary = torch.zeros(())
        prefixes = select.get("prefixes", [LATENTS])
        if select["kind"] == "standard":
            a = pre.relu()
            sparsity = select["l1"] * warm * a.sum(1).mean()
        elif select["kind"] == "gated":
            a = (pre > 0).float() * (p["r_mag"].exp() * z + p["b_mag"]).relu()
            gates = pre.relu()
            frozen = select["form"] == "unit-norm"
            w_dec = p["w_dec"].detach() if frozen else p["w_dec"]
            b_dec = p["b_dec"].detach() if frozen else p["b_dec"]
            lengths = torch.ones(LATENTS) if frozen else p["w_dec"].norm(dim=1)
            sparsity = select["sparsity"] * warm * (gates * lengths).sum(1).mean()
            auxiliary = weight * (x - (gates @ w_dec + b_dec)).square().sum(1).mean()
        else:
            a = top(pre, k_at(self.recipe["schedule"], select["k"], step), select["kind"] != "top-k")
        errors = [x - (a[:, :end] @ p["w_dec"][:end] + p["b_dec"]) for end in prefixes]
        reconstruction = weight * sum(e.square().sum(1).mean() for e in errors) / len(errors)
        self.silent += len(x)
        self.silent[(a > 0).any(0)] = 0
        dead = self.silent >= self.recipe["dead"]["window"]
        if "k" in select and dead.any():
            auxiliary = self.auxiliary(pre[:, dead], p["w_dec"][dead], errors[-1].detach())
        return reconstruction, sparsity, auxiliary, (a > 0).float().sum(1).mean(), dead, centred.detach(), errors[-1].detach()

    def auxiliary(self, pre: torch.Tensor, w_dec: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Dead latents reconstruct the residual, with pre-activations as they are."""
        dead, k = self.recipe["dead"], min(self.recipe["dead"]["k_auxiliary"], pre.shape[1])
        values, index = pre.topk(k, dim=1)
        guess = torch.zeros_like(pre).scatter(1, index, values) @ w_dec
        variance = (residual - residual.mean(0)).square().sum()
        share = min(1.0, pre.shape[1] / dead["k_auxiliary"])
        return dead["auxiliary"] * share * (guess - residual).square().sum() / variance

    def step(self, x: torch.Tensor, step: int) -> list[float]:
        """One step; gives reconstruction, sparsity, auxiliary, L0, dead, gradient norm."""
        reconstruction, sparsity, auxiliary, l0, dead, centred, residual = self.losses(x, step)
        for w in self.p.values():
            w.grad = None
        (reconstruction + sparsity + auxiliary).backward()
        with torch.no_grad():
            g = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in self.p.items()}
            if self.unit_norm:
                along = (g["w_dec"] * self.p["w_dec"]).sum(1, keepdim=True)
                g["w_dec"] = g["w_dec"] - along * self.p["w_dec"]
            norm = torch.sqrt(sum(grad.square().sum() for grad in g.values()))
            clip = min(1.0, self.recipe["optimiser"]["clip"] / (norm.item() + 1e-6))
            self.adam({name: grad * clip for name, grad in g.items()}, step)
            if (step + 1) % (self.recipe["dead"]["reseed_every"] * EPOCH) == 0 and dead.any():
                if step / STEPS < self.recipe["dead"]["reseed_until"]:
                    self.reseed(dead, centred, residual)
            stay = min(self.recipe["optimiser"]["average"], (2 + step) / (11 + step))
            for name, w in self.p.items():
                self.mean[name] += (1 - stay) * (w - self.mean[name])
        return [float(v.detach()) for v in (reconstruction, sparsity, auxiliary, l0, dead.sum(), norm)]

    def adam(self, gradient: dict[str, torch.Tensor], step: int) -> None:
        """Adam with betas 0.9 and 0.999, and decoder rows back to length 1."""
        rate, t = rate_at(self.recipe["schedule"], step), step + 1
        for name, g in gradient.items():
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            root = (self.v[name] / (1 - 0.999**t)).sqrt() + 6.25e-10
            self.p[name] -= rate / (1 - 0.9**t) * self.m[name] / root
        if self.unit_norm:
            self.p["w_dec"] /= self.p["w_dec"].norm(dim=1, keepdim=True)

    def reseed(self, dead: torch.Tensor, centred: torch.Tensor, residual: torch.Tensor) -> None:
        """The first dead latent onto the sample with the largest residual, and so on."""
        worst = residual.square().sum(1).argsort(descending=True, stable=True)
        length = self.p["w_enc"][~dead].norm(dim=1).mean()
        for latent, sample in zip(dead.nonzero().flatten().tolist(), worst.tolist()):
            unit = centred[sample] / centred[sample].norm()
            self.p["w_enc"][latent], self.p["w_dec"][latent] = 0.2 * length * unit, unit
            for name in ("b_enc", "r_mag", "b_mag"):
                self.p[name][latent] = 0.0
            for name in ("w_enc", "w_dec", "b_enc", "r_mag", "b_mag"):
                self.m[name][latent] = self.v[name][latent] = 0.0
        self.silent[dead] = 0


def main(folder: Path) -> None:
    """Writes all fixtures."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(5)
    batches, weights = planted(generator), start(generator)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {f"start.{name}": w for name, w in weights.items()}
    save_file({"batches": batches, **shared}, folder / "batches.safetensors")
    for name, select in KINDS.items():
        run = Oracle(recipe(select), weights)
        losses = torch.tensor([run.step(batches[step], step) for step in range(STEPS)], dtype=torch.float64)
        ended = {f"end.{key}": w.detach() for key, w in run.p.items()}
        mean = {f"mean.{key}": w for key, w in run.mean.items()}
        save_file({"losses": losses, **ended, **mean}, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(run.recipe, indent=1) + "\n")
        clipped = int((losses[:, 5] > run.recipe["optimiser"]["clip"]).sum())
        print(f"{name}: {losses[0, 0]:.4f} to {losses[-1, 0]:.4f}, clipped in {clipped} steps, "
              f"auxiliary in {int((losses[:, 2] > 0).sum())}, dead up to {int(losses[:, 4].max())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

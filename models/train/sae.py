"""The sparse autoencoder over tokens: trained with TopK, shipped with thresholds (JumpReLU).

Centring and scale are folded into the weights, so that the device feeds raw tokens; weights are
int8 with one scale per latent. `encode` follows `docs/bundle.md` to the letter.
"""

from dataclasses import dataclass

import numpy as np
import torch

# Sizes of the design's measured recipe for small data.
D_SAE, K = 256, 16
STEPS, BATCH, RATE = 2500, 1024, 2e-3
# k starts at 4 k and falls to k over the first part of training: prevents dead latents.
ANNEALED = 0.3


@dataclass
class Sae:
    """As shipped: int8 rows, one scale each; everything else fp32."""

    w_enc: np.ndarray
    w_enc_scale: np.ndarray
    b_enc: np.ndarray
    w_dec: np.ndarray
    w_dec_scale: np.ndarray
    b_dec: np.ndarray
    threshold: np.ndarray
    scale: float

    def tensors(self) -> dict[str, np.ndarray]:
        """As `sae.safetensors` holds them."""
        return {k: v for k, v in vars(self).items() if k != "scale"}

    def activations(self, x: np.ndarray) -> np.ndarray:
        """`pre` where `pre > threshold`, else 0: `[..., d_sae]`."""
        pre = (x @ self.w_enc.T.astype(np.float32)) * self.w_enc_scale + self.b_enc
        return np.where(pre > self.threshold, pre, 0).astype(np.float32)

    def code(self, tokens: np.ndarray) -> np.ndarray:
        """Image codes `[n, d_sae]` of tokens `[n, 49, d_token]`."""
        return np.stack([self.activations(t).mean(0) for t in tokens])

    def decoded(self, activations: np.ndarray) -> np.ndarray:
        """`sum(a_i w_dec_i) + b_dec`."""
        return activations @ (self.w_dec.astype(np.float32) * self.w_dec_scale[:, None]) + self.b_dec


def train(tokens: np.ndarray, seed: int) -> Sae:
    """Trains on tokens `[n, d_token]` and returns the shipped form."""
    torch.manual_seed(seed)
    mean = tokens.mean(0)
    scale = float(np.sqrt(tokens.shape[1] / np.square(tokens - mean).sum(1).mean()))
    x = torch.from_numpy((tokens - mean) * scale)
    pick = torch.randperm(len(x))[:D_SAE]
    dec = torch.nn.functional.normalize(x[pick] + 0.2 * torch.randn(D_SAE, x.shape[1]), dim=1)
    enc, b_enc = dec.clone().requires_grad_(), torch.zeros(D_SAE, requires_grad=True)
    dec, b_dec = dec.requires_grad_(), torch.zeros(x.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([enc, b_enc, dec, b_dec], lr=RATE)
    silent = torch.zeros(D_SAE)
    for step in range(STEPS):
        progress = step / STEPS
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (1 - progress) * 5)
        k = round(K * (1 + 3 * max(0.0, 1 - progress / ANNEALED)))
        batch = x[torch.randint(len(x), (BATCH,))]
        pre = (batch - b_dec) @ enc.T + b_enc
        values, index = pre.relu().topk(k, dim=1)
        acts = torch.zeros_like(pre).scatter(1, index, values)
        error = batch - (acts @ dec + b_dec)
        loss = error.square().sum(1).mean() / x.shape[1]
        silent = torch.where((acts > 0).any(0), 0.0, silent + BATCH)
        dead = silent > len(x)
        if dead.any():
            # AuxK: silent latents learn what the others leave over (target without the bias).
            rest, at = pre[:, dead].topk(min(int(dead.sum()), 128), dim=1)
            extra = torch.zeros(BATCH, int(dead.sum())).scatter(1, at, rest.relu()) @ dec[dead]
            loss = loss + (error.detach() - extra).square().sum(1).mean() / x.shape[1] / 32
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            dec /= dec.norm(dim=1, keepdim=True)
        if step % 500 == 0:
            print(f"sae: step {step}, k {k}, loss {loss.item():.4f}, dead {int(dead.sum())}", flush=True)
    parts = [p.detach().numpy() for p in (enc, b_enc, dec, b_dec)]
    return shipped(tokens, mean, scale, *parts)


def shipped(tokens, mean, scale, enc, b_enc, dec, b_dec) -> Sae:
    """Folds centring and scale, quantises, and puts one threshold in the place of TopK."""
    w_enc = enc * scale
    b_enc = b_enc - enc @ b_dec - (enc * scale) @ mean
    q_enc, s_enc = rows_int8(w_enc)
    q_dec, s_dec = rows_int8(dec / scale)
    sae = Sae(
        q_enc, s_enc, b_enc.astype(np.float32), q_dec, s_dec, (b_dec / scale + mean).astype(np.float32),
        np.zeros(D_SAE, np.float32), scale,
    )
    # One threshold for all: the value above which K latents of a token fire on average.
    sample = sae.activations(tokens[:: max(1, len(tokens) // 20_000)])
    cut = np.sort(sample.ravel())[-K * len(sample)]
    sae.threshold = np.full(D_SAE, max(cut, 0), np.float32)
    return sae


def rows_int8(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 rows and their scales: `real = q * scale`."""
    scale = np.abs(w).max(1) / 127
    return np.round(w / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def fvu(sae: Sae, tokens: np.ndarray, mean: np.ndarray) -> float:
    """Share of variance that is not explained, about the training mean, pooled over tokens."""
    x = tokens.reshape(-1, tokens.shape[-1])
    return float(np.square(x - sae.decoded(sae.activations(x))).sum() / np.square(x - mean).sum())


def fvu_pca(train: np.ndarray, tokens: np.ndarray, count: int) -> float:
    """The same for principal components of the training tokens."""
    mean = train.mean(0)
    _, vectors = np.linalg.eigh(np.cov((train - mean).T.astype(np.float64)))
    basis, x = vectors[:, -count:], tokens.reshape(-1, tokens.shape[-1]) - mean
    return float(1 - np.square(x @ basis).sum() / np.square(x).sum())

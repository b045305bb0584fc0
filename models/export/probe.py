"""Which tensors the embedding depends on: each is changed in turn, and the embedding looked at."""

import torch

from .families import Encoder

# Smallest relative change of `u` that counts. Rounding stays below 1e-6; a key's bias, which a
# softmax cancels, moves it by no more than that.
MOVED = 1e-5


@torch.no_grad()
def without_effect(encoder: Encoder, seed: int = 0) -> list[str]:
    """Names of loaded tensors that may be anything without the embedding changing, sorted."""
    draw = torch.Generator().manual_seed(seed)
    side, channels = encoder.probe_side, len(encoder.input.mean)
    image = torch.randn(1, channels, side, side, generator=draw)
    before, still = encoder.reference(image), []
    for name, tensor in encoder.tensors.items():
        kept = tensor.detach().clone()
        # Upwards by a different amount each: keeps variances positive, and no normalisation cancels it.
        size = kept.abs().mean() + kept.abs() + 0.1
        tensor.data.copy_(kept + size * torch.rand(kept.shape, generator=draw))
        moved = (encoder.reference(image) - before).norm() / before.norm()
        tensor.data.copy_(kept)
        if not moved > MOVED:
            still.append(name)
    return sorted(still)

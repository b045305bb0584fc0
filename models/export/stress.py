"""Plants outlier channels in a MedCLIP checkpoint and leaves its function as it was.

    python -m export.stress pytorch_model.bin --out stressed.bin --where norm --size 100

Trained transformers have channels a hundred times as large as the rest; networks trained for some
hundred steps have not. This gives the latter the former's trouble: one channel of every place is
made `size` times as large, and the weights that read it as much smaller.
"""

import argparse
import re
from pathlib import Path

import torch

from . import checkpoint

# What makes a channel, and what reads it: published names within one block.
PLACES = {
    # A normalisation and the layers behind it: equalisation reaches these.
    "norm": (
        ("layernorm_before", ("attention.self.query", "attention.self.key", "attention.self.value")),
        ("layernorm_after", ("intermediate.dense",)),
        ("bn1", ("conv2",)), ("bn2", ("conv3",)),
    ),
    # Values of attention and the layer behind it: attention is linear in them, but the graph between
    # is out of equalisation's reach.
    "attention": (("attention.self.value", ("attention.output.dense",)),),
}
SEED = 13


def stressed(state: dict[str, torch.Tensor], where: str, size: float) -> int:
    """Changes a checkpoint in place; returns the number of channels that were made outliers."""
    draw, planted = torch.Generator().manual_seed(SEED), 0
    for maker, readers in PLACES[where]:
        for key in sorted(state):
            block = re.fullmatch(rf"(vision_model\..*\.){re.escape(maker)}\.weight", key)
            if block is None or f"{block[1]}{readers[0]}.weight" not in state:
                continue
            # A channel that is there at all: one that a Relu always drops would stress nothing.
            channel = int(state[key].reshape(len(state[key]), -1).abs().sum(1).topk(8).indices[torch.randint(8, (), generator=draw)])
            for part in ("weight", "bias"):
                state[f"{block[1]}{maker}.{part}"][channel] *= size
            for reader in readers:
                state[f"{block[1]}{reader}.weight"][:, channel] /= size
            planted += 1
    return planted


def main() -> None:
    """Reads, plants, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--where", choices=sorted(PLACES), required=True)
    parser.add_argument("--size", type=float, default=100.0)
    given = parser.parse_args()
    state = checkpoint.read(given.checkpoint)
    print(f"{stressed(state, given.where, given.size)} channels made {given.size:g} times as large")
    torch.save(state, given.out)


if __name__ == "__main__":
    main()

"""MedCLIP's text tower for the workshop: Bio_ClinicalBERT, averaged as MedCLIP averages it.

Mean over the tokens of each of three hidden states (after the first and second layer, and the
last), mean of the three, projection, unit length. The mean over tokens is a plain one: padding
counts, so an embedding depends on what it was padded to. Here each text is embedded alone, which
pads nothing, unless `pad_to` asks for what a batch of the reference would have done.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import nn

from . import towers
from .families import TEXT
from .layout import LayoutError, compare, is_buffer

# MedCLIP's tokeniser is told to cut here (its code).
TOKENS_MAX = 77
# Hidden states that are averaged; 0 is the embedding layer's output.
STATES = (1, 2, -1)


class Text(nn.Module):
    """Texts to unit embeddings `[n, 512]`."""

    def __init__(self, net: nn.Module, head: nn.Linear, vocabulary: Path):
        super().__init__()
        self.net, self.head = net, head
        # Bio_ClinicalBERT is cased.
        self.pieces = BertWordPieceTokenizer(str(vocabulary), lowercase=False)
        self.pieces.enable_truncation(TOKENS_MAX)

    def ids(self, text: str) -> list[int]:
        """Word pieces with their marks at both ends."""
        return self.pieces.encode(text).ids

    @torch.no_grad()
    def forward(self, texts: list[str], pad_to: int | None = None) -> np.ndarray:
        """Each text alone, or padded with zeros to `pad_to` tokens."""
        found = []
        for text in texts:
            ids = self.ids(text)
            length = max(len(ids), pad_to or 0)
            padded = torch.tensor([ids + [0] * (length - len(ids))])
            mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids))])
            states = self.net(padded, attention_mask=mask, output_hidden_states=True).hidden_states
            u = self.head(torch.stack([states[i] for i in STATES], 1).mean(2).mean(1))
            found.append(nn.functional.normalize(u, dim=1)[0].numpy())
        return np.stack(found)


def load(state: dict[str, torch.Tensor], file: str, vocabulary: Path, **sizes) -> Text:
    """The text tower of a MedCLIP checkpoint, or an error that names every key that does not fit."""
    net = towers.bert(**sizes)
    head = nn.Linear(net.config.hidden_size, towers.D_MODEL, bias=False)
    expected = {f"{TEXT}model.{k}": tuple(v.shape) for k, v in net.state_dict().items()}
    expected |= {f"{TEXT}projection_head.weight": tuple(head.weight.shape)}
    own = {k: v for k, v in state.items() if k.startswith(TEXT)}
    compare(expected, {k: tuple(v.shape) for k, v in own.items()}, file)
    start = f"{TEXT}model."
    net.load_state_dict({k.removeprefix(start): v for k, v in own.items() if k.startswith(start) and not is_buffer(k)})
    head.load_state_dict({"weight": own[f"{TEXT}projection_head.weight"]})
    text = Text(net.eval().float(), head, vocabulary)
    if text.pieces.get_vocab_size() != net.config.vocab_size:
        raise LayoutError(f"{vocabulary}: expected {net.config.vocab_size} word pieces, found {text.pieces.get_vocab_size()}")
    return text

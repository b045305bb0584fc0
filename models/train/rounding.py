"""Rounds a network's weights to int8 so that its outputs stay, not each weight for itself.

Rounding to the nearest number moves every output of a layer at random. Here each layer's weights
are rounded one input at a time, and what an input's rounding moved is taken up by the weights of
the inputs not yet rounded, by how the inputs go together on calibration images (Frantar et al.,
GPTQ, arXiv 2210.17323, eq. 2-3). Every layer sees what the rounded layers before it give.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

# Convolutions with fewer weights stay fp32: together 19 kB of the first two layers, which see every
# pixel and are the most sensitive.
SMALL = 5_000
# Shares of the largest weight that a channel's scale is tried at; what lies beyond is cut off.
CLIPS = np.linspace(1.0, 0.5, 26)
# Added to the inputs' second moments, as a share of their mean (the paper's 1 %).
DAMPING = 0.01
# Images whose layer inputs are held at once.
BATCH = 16
LARGEST = 127


@dataclass
class Rounded:
    """One layer: integers `[outputs, inputs...]`, a scale an output, and the bias that fits them."""

    q: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


def rounded(network: nn.Module, images: torch.Tensor) -> dict[str, Rounded]:
    """The layers of a network in their order, by name; the network itself is given the rounded weights."""
    before = dict(copy.deepcopy(network).named_modules())
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.weight.numel() >= SMALL}
    found = {}
    for name, layer in layers.items():
        moments = seen(network, layer, images)
        weight = layer.weight.detach().double().flatten(1).numpy()
        scale = scales(weight, np.diag(moments))
        q = one_by_one(weight, scale, moments)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(q * scale[:, None]).float().reshape(layer.weight.shape))
        # What the rounding moves in the mean, a bias can give back.
        layer.bias.data += mean_output(before[""], before[name], images) - mean_output(network, layer, images)
        found[name] = Rounded(q.reshape(layer.weight.shape).astype(np.int8), scale.astype(np.float32), layer.bias.detach().numpy().copy())
    return found


@torch.no_grad()
def seen(network: nn.Module, layer: nn.Conv2d, images: torch.Tensor) -> np.ndarray:
    """Second moments `[inputs, inputs]` of what a layer sees."""
    inputs = layer.weight[0].numel()
    moments, count = torch.zeros(inputs, inputs, dtype=torch.float64), 0

    def look(_, given):
        nonlocal count
        columns = nn.functional.unfold(given[0], layer.kernel_size, padding=layer.padding, stride=layer.stride)
        columns = columns.transpose(0, 1).flatten(1)
        moments.add_((columns @ columns.T).double())
        count += columns.shape[1]

    watched(network, images, layer.register_forward_pre_hook(look))
    return (moments / count).numpy()


@torch.no_grad()
def mean_output(network: nn.Module, layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """Mean over images and places, a channel."""
    means = []
    watched(network, images, layer.register_forward_hook(lambda _, __, given: means.append(given.mean((0, 2, 3)) * len(given))))
    return torch.stack(means).sum(0) / len(images)


def watched(network: nn.Module, images: torch.Tensor, hook) -> None:
    """Shows all images to a network and takes the hook off again."""
    for start in range(0, len(images), BATCH):
        network(images[start : start + BATCH])
    hook.remove()


def scales(weight: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Of each output, the scale at which its rounded weights are nearest, each input by its importance."""
    largest = np.abs(weight).max(1).clip(1e-12)
    best, least = largest / LARGEST, np.full(len(weight), np.inf)
    for clip in CLIPS:
        scale = clip * largest / LARGEST
        off = np.square(nearest(weight, scale[:, None]) * scale[:, None] - weight) @ importance
        best, least = np.where(off < least, scale, best), np.minimum(off, least)
    # Kept as the file will hold it, so that the integers fit the scale that they are read with.
    return best.astype(np.float32).astype(np.float64)


def nearest(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The integer beside each weight."""
    return np.round(weight / scale).clip(-LARGEST, LARGEST)


def one_by_one(weight: np.ndarray, scale: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Integers `[outputs, inputs]`: each input's rounding is made up for by those after it."""
    left, inputs = weight.copy(), weight.shape[1]
    # The inputs that matter most first, while there is most left to make up with.
    order = np.argsort(-np.diag(moments), kind="stable")
    left, moments = left[:, order], moments[np.ix_(order, order)]
    damped = moments + DAMPING * np.diag(moments).mean() * np.eye(inputs)
    # Row `i` of this factor says how the rest takes up what input `i` lost.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    q = np.zeros_like(left)
    for at in range(inputs):
        q[:, at] = nearest(left[:, at], scale)
        lost = (left[:, at] - q[:, at] * scale) / factor[at, at]
        left[:, at + 1 :] -= np.outer(lost, factor[at, at + 1 :])
    out = np.empty_like(q)
    out[:, order] = q
    return out

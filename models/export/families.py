"""Which checkpoint layouts are understood, and how each becomes tokens and a head.

A family says what keys a checkpoint must hold, into which unmodified class of which library they
go, and what the encoder's input is. Everything else is the same for all.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import torch
from torch import nn

from . import towers
from .layout import DINO, SWIN, LayoutError, compare, is_buffer, to_published

VISION, TEXT = "vision_model.", "text_model."
# MedCLIPProcessor (its code): one mean and deviation, on a single channel that is repeated.
MEDCLIP = (0.5862785803043838, 0.27950088968644304)
# RAD-DINO's preprocessor_config.json.
RAD_DINO = (0.5307, 0.2583)
# torchvision's own for its published weights.
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
# The demo encoder's manifest.
DEMO = (0.5, 0.25)


@dataclass
class Input:
    """What the encoder takes: `[1, channels, side, side]`, `(pixel / 255 - mean) / std`."""

    side: int
    mean: list[float]
    std: list[float]
    fit: str = "pad"

    def spec(self) -> dict:
        """As `manifest.toml` has it under `[input]`."""
        sizes = {"channels": len(self.mean), "height": self.side, "width": self.side}
        return sizes | {"fit": self.fit, "mean": self.mean, "std": self.std}


@dataclass
class Encoder:
    """A loaded image tower."""

    tokens: nn.Module
    weight: torch.Tensor
    bias: torch.Tensor | None
    # The library's own forward to `u`, before unit length: what the export is compared with.
    reference: Callable[[torch.Tensor], torch.Tensor]
    input: Input
    # The network's tensors by their published names: parameters and averages, as loaded.
    tensors: dict[str, torch.Tensor]
    # Whether `e = u / ||u||` in the model itself.
    normalised: bool = True
    # Side of the images that the tensors are tried with, one after the other.
    probe_side: int = 224
    dropped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """A family before its checkpoint is there: networks without weights, and their names."""

    net: nn.Module
    tokens: Callable[[nn.Module], nn.Module]
    reference: Callable[[nn.Module, nn.Linear | None, torch.Tensor], torch.Tensor]
    input: Input
    prefix: str = ""
    table: tuple = ()
    # Names of the head in the checkpoint; None: the identity.
    head: str | None = None
    # A head beside the net; where it is inside, `head` names it there.
    beside: nn.Linear | None = None
    # Keys that belong to the layout and to nothing of the image, with their shapes.
    others: dict[str, tuple] = field(default_factory=dict)
    normalised: bool = False
    probe_side: int = 224


def medclip_text(**sizes) -> dict[str, tuple]:
    """Keys of MedCLIP that are not the image tower's, with their shapes."""
    with torch.device("meta"):
        text = towers.bert(**sizes)
    keys = {f"{TEXT}model.{k}": tuple(v.shape) for k, v in text.state_dict().items()}
    return keys | {f"{TEXT}projection_head.weight": (towers.D_MODEL, text.config.hidden_size), "logit_scale": ()}


def pooled(net, head, image):
    """MedCLIP's ViT and DINOv2: the network's own pooled output, then the projection."""
    u = net(image).pooler_output
    return u if head is None else head(u)


def whole(net, _head, image):
    """torchvision: the projection is the network's own last layer."""
    return net(image)


def medclip_resnet50(_given, _state) -> Plan:
    """MedCLIP's ResNet50."""
    mean, std = MEDCLIP
    net = towers.resnet("resnet50", towers.D_MODEL)
    spec = Input(224, [mean] * 3, [std] * 3)
    prefix = f"{VISION}model."
    return Plan(
        net, towers.ConvTokens, whole, spec, prefix, head="fc", others=medclip_text(), normalised=True, probe_side=64
    )


def medclip_vit(_given, _state) -> Plan:
    """MedCLIP's Swin-T."""
    mean, std = MEDCLIP
    net = towers.swin()
    beside = nn.Linear(net.config.hidden_size, towers.D_MODEL, bias=False)
    spec = Input(224, [mean] * 3, [std] * 3)
    head = f"{VISION}projection_head"
    return Plan(
        net, towers.SwinTokens, pooled, spec, f"{VISION}model.", SWIN, head, beside, medclip_text(), normalised=True
    )


def torchvision_net(name: str):
    """A torchvision network whose last layer is the projection, or has none."""
    last = "classifier" if name.startswith("densenet") else "fc"

    def plan(given, state) -> Plan:
        projection, weight = given.head == "projection", state.get(f"{last}.weight")
        if projection and (weight is None or weight.ndim != 2):
            raise LayoutError(f"{given.checkpoint}: expected {last}.weight of two axes, found none; --head identity does without")
        bias = f"{last}.bias" in state
        size = len(weight) if projection else None
        net = towers.densenet(size, bias) if last == "classifier" else towers.resnet(name, size, bias)
        wrap = towers.DenseTokens if last == "classifier" else towers.ConvTokens
        others = {} if projection else {k: tuple(state[k].shape) for k in (f"{last}.weight", f"{last}.bias") if k in state}
        spec = Input(224, *IMAGENET)
        return Plan(net, wrap, whole, spec, head=last if projection else None, others=others, probe_side=64)

    return plan


def rad_dino(given, _state) -> Plan:
    """RAD-DINO: the class token, or with `--patches` the mean of the patch tokens."""
    mean, std = RAD_DINO
    net, patches = towers.dino(), given.patches

    def reference(net, _head, image):
        states = net(image)
        return states.last_hidden_state[:, 1:].mean(1) if patches else states.pooler_output

    # Its processor crops what is not square; the device pads. On square pictures both are the same.
    spec = Input(518, [mean] * 3, [std] * 3)
    return Plan(net, lambda n: towers.DinoTokens(n, patches), reference, spec, table=DINO, probe_side=98)


def demo(_given, _state) -> Plan:
    """The demo bundle's student; what only its training needed is left."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "train"))
    import student

    whole_net = student.Student()
    others = {k: tuple(v.shape) for k, v in whole_net.state_dict().items() if k.startswith("to_")}

    def reference(net, head, image):
        return head(net(image).mean(1))

    spec = Input(224, [DEMO[0]], [DEMO[1]])
    return Plan(
        whole_net.encoder, lambda net: net, reference, spec, "encoder.", head="head", beside=whole_net.head,
        others=others, normalised=True,
    )


FAMILIES = {
    "medclip-resnet50": medclip_resnet50,
    "medclip-vit": medclip_vit,
    "rad-dino": rad_dino,
    "demo": demo,
} | {name: torchvision_net(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "densenet121")}
# Entry of a checkpoint that holds the weights, where it is not the file itself.
INSIDE = {"demo": "weights"}


def load(plan: Plan, state: dict[str, torch.Tensor], file: str) -> Encoder:
    """Fills a plan's networks from a checkpoint, or refuses it with every key that does not fit.

    A checkpoint without any text tower is taken; one with a part of it is not.
    """
    published = {f"{plan.prefix}{to_published(k, plan.table)}": k for k in plan.net.state_dict()}
    expected = {p: tuple(plan.net.state_dict()[k].shape) for p, k in published.items()}
    beside = {f"{plan.head}.{k}": v for k, v in plan.beside.state_dict().items()} if plan.beside else {}
    expected |= {k: tuple(v.shape) for k, v in beside.items()}
    others = plan.others
    if not any(k.startswith(TEXT) for k in state):
        others = {k: s for k, s in others.items() if not k.startswith(TEXT) and k in state}
    dropped = compare(expected | others, {k: tuple(v.shape) for k, v in state.items()}, file)
    check_buffers(plan, state, dropped, file)
    weights = {published[k]: v for k, v in state.items() if k in published and not is_buffer(k)}
    plan.net.load_state_dict(weights, strict=False)
    plan.net.eval().float()
    if plan.beside:
        plan.beside.load_state_dict({k.rsplit(".", 1)[1]: state[k] for k in beside})
    head = plan.beside or (plan.net.get_submodule(plan.head) if plan.head else None)
    weight, bias = (head.weight.detach(), head.bias) if head is not None else (torch.eye(width(plan)), None)
    named = plan.net.state_dict(keep_vars=True)
    tensors = {p: named[k] for p, k in published.items() if not is_buffer(p)}
    tensors |= {f"{plan.head}.{k}": v for k, v in plan.beside.state_dict(keep_vars=True).items()} if plan.beside else {}
    return Encoder(
        plan.tokens(plan.net).eval(), weight.float(), None if bias is None else bias.detach().float(),
        lambda image: plan.reference(plan.net, head, image), plan.input, tensors, plan.normalised, plan.probe_side,
        dropped, sorted(others),
    )


def check_buffers(plan: Plan, state: dict, dropped: list[str], file: str) -> None:
    """A dropped index must be the one that the class computes; else dropping it would change what is read.

    Published it is `[49, 49]`; transformers 5 keeps the same numbers in one row.
    """
    own = {f"{plan.prefix}{to_published(k, plan.table)}": v for k, v in plan.net.named_buffers()}
    for key in dropped:
        if not key.endswith("relative_position_index"):
            continue
        if key not in own or not torch.equal(state[key].reshape(-1), own[key].reshape(-1)):
            raise LayoutError(f"{file}: {key} is not the index that {type(plan.net).__name__} computes")


@torch.no_grad()
def width(plan: Plan) -> int:
    """Values of a token, where no head says."""
    spec = plan.input
    return plan.tokens(plan.net).eval()(torch.zeros(1, len(spec.mean), spec.side, spec.side)).shape[-1]

"""The networks as their libraries define them, and where each one's tokens and head are.

Every family gives `tokens [batch, n_tokens, d_token]` and a linear head such that
`head(mean(tokens))` is the model's image embedding before it is brought to unit length.
"""

import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, SwinConfig, SwinModel

# MedCLIP's projected embedding, both towers (its code).
D_MODEL = 512
# The attention that exports: scaled_dot_product_attention does not trace for Swin's windows.
ATTENTION = "eager"


class ConvTokens(nn.Module):
    """Tokens of a torchvision ResNet: the last map, which its own pooling would average."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image):
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return x.flatten(2).transpose(1, 2)


class DenseTokens(nn.Module):
    """Tokens of a torchvision DenseNet: its last map after the ReLU that its `forward` adds."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image):
        return torch.relu(self.net.features(image)).flatten(2).transpose(1, 2)


class SwinTokens(nn.Module):
    """Tokens of a transformers Swin: after the last normalisation, before its average pooling."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image).last_hidden_state


class DinoTokens(nn.Module):
    """The normalised class token of a DINOv2 as the only token, or its patch tokens."""

    def __init__(self, net: nn.Module, patches: bool = False):
        super().__init__()
        self.net, self.patches = net, patches

    def forward(self, image):
        states = self.net(image).last_hidden_state
        return states[:, 1:] if self.patches else states[:, :1]


def resnet(name: str, d_model: int | None = None, bias: bool = False) -> nn.Module:
    """A torchvision ResNet; with `d_model` its `fc` is that projection, without it has none."""
    net = getattr(torchvision.models, name)(weights=None)
    net.fc = nn.Identity() if d_model is None else nn.Linear(net.fc.in_features, d_model, bias=bias)
    return net


def densenet(d_model: int | None = None, bias: bool = False) -> nn.Module:
    """torchvision's DenseNet-121; the projection is its `classifier`."""
    net = torchvision.models.densenet121(weights=None)
    inputs = net.classifier.in_features
    net.classifier = nn.Identity() if d_model is None else nn.Linear(inputs, d_model, bias=bias)
    return net


def swin(**sizes) -> nn.Module:
    """Swin-T, the defaults of its configuration (patches 4, widths 96 to 768, depths 2-2-6-2)."""
    return SwinModel(SwinConfig(attn_implementation=ATTENTION, **sizes))


def dino(side: int = 518, **sizes) -> nn.Module:
    """DINOv2 ViT-B/14: RAD-DINO's network at its 518 pixels."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12} | sizes
    return Dinov2Model(Dinov2Config(image_size=side, patch_size=14, attn_implementation=ATTENTION, **sizes))


def bert(**sizes) -> nn.Module:
    """Bio_ClinicalBERT's network: BERT base over 28,996 word pieces."""
    sizes = {"vocab_size": 28996} | sizes
    return BertModel(BertConfig(attn_implementation=ATTENTION, **sizes))

"""Networks at 224 with random weights: building them costs what trained ones cost, and what they say means nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from models import mobilenetv2_cifar10, vit_cifar10
from torch import Tensor, nn

CLASSES = 1000
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of Sandler et al. 2018."""


def mobilenetv2() -> nn.Module:
    """MobileNetV2 at width 1: 3.5 million parameters."""
    return mobilenetv2_cifar10.MobileNetV2(STAGES, 32, 1280, CLASSES, stride=2)


def vit_small() -> nn.Module:
    """ViT-S/16 (Touvron et al. 2021, table 1) with the tokens' mean (Beyer et al. 2022): 22 million parameters."""
    return vit_cifar10.VisionTransformer(16, 196, 12, 6, 384, 1536, CLASSES)


def settled(network: Callable[[], nn.Module], images: Tensor) -> nn.Module:
    """A network with random weights of seed 0 whose batch norms have seen some images."""
    torch.manual_seed(0)
    made = network().train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the images' own statistics, not a tenth of them
    with torch.no_grad():
        made(images)
    return made.eval()

"""Networks with random weights: building them costs what trained ones cost, and what they say means nothing."""

from __future__ import annotations

from models import mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10
from torch import Tensor, nn

CLASSES = 1000
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of Sandler et al. 2018."""


def resnet56() -> nn.Module:
    """ResNet-56 for images of 32 x 32 (He et al. 2016, section 4.2)."""
    return resnet20_cifar10.ResNet20(9)


def mobilenetv2() -> nn.Module:
    """MobileNetV2 at 224 and width 1: 3.5 million parameters."""
    return mobilenetv2_cifar10.MobileNetV2(STAGES, 32, 1280, CLASSES, stride=2)


def vit_small() -> nn.Module:
    """ViT-S/16 at 224 (Touvron et al. 2021, table 1), the tokens' mean (Beyer et al. 2022): 22 million parameters."""
    return vit_cifar10.VisionTransformer(16, 196, 12, 6, 384, 1536, CLASSES)


class Residual(nn.Module):
    """Blocks of two 3x3 convolutions at one width and resolution, each beside a shortcut; a mean, a linear layer."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.linear = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) to (n, 10)."""
        x = self.stem(x).relu()
        for block in self.blocks:
            x = (x + block(x)).relu()
        return self.linear(x.mean((2, 3)))

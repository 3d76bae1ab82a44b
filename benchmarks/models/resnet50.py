"""ResNet-50 at 224 (He et al. 2016, section 4.2), without weights: for time and memory only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
WIDTH, GROWTH, CLASSES = 64, 4, 1000


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and a shortcut that is projected where the shape changes."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * GROWTH
        self.layers = nn.Sequential(
            *_convolution(channels_in, width, 1, 1),
            nn.ReLU(),
            *_convolution(width, width, 3, stride),
            nn.ReLU(),
            *_convolution(width, out, 1, 1),
        )
        same = stride == 1 and channels_in == out
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(channels_in, out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, h, w)."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def network() -> nn.Module:
    """The network as it is initialized."""
    layers: list[nn.Module] = [*_convolution(3, WIDTH, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = WIDTH
    for stage, count in enumerate(BLOCKS):
        for block in range(count):
            layers.append(Bottleneck(channels, WIDTH << stage, 2 if stage and not block else 1))
            channels = (WIDTH << stage) * GROWTH
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def _convolution(channels_in: int, channels: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels)

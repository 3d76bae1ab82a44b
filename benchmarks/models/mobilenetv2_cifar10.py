"""A small MobileNetV2 for CIFAR-10: Sandler et al. 2018, inverted residuals with linear bottlenecks and ReLU6.

    python benchmarks/train.py mobilenetv2_cifar10
    edgeqwt build benchmarks/models/mobilenetv2_cifar10.py:create --calibration samples.npz ...

The weights are looked for in the folder that the environment variable EDGEQWT_TRAINED names, else in
~/.cache/edgeqwt-trained, under a name that changes with the architecture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "mobilenetv2_cifar10"
CLASSES = 10
STEM, HEAD = 16, 192
STAGES = ((1, 8, 1, 2), (6, 16, 2, 2), (6, 24, 3, 1), (6, 32, 3, 2), (6, 48, 1, 1))
"""Expansion, channels, number of blocks and stride of the first of them, as in table 2 of the paper."""


class InvertedResidual(nn.Module):
    """Expand by 1x1, 3x3 depthwise, project by 1x1 without an activation; a shortcut where shapes allow one."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = _convolution(channels_in, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """3x3 convolution with a stride, the stages, a 1x1 convolution, global average, one linear layer."""

    def __init__(
        self, stages: Sequence[tuple[int, int, int, int]], stem: int, head: int, classes: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.stem, channels_in = _convolution(3, stem, 3, stride), stem
        blocks = []
        for expansion, channels, count, stride in stages:
            for block in range(count):
                blocks.append(InvertedResidual(channels_in, channels, expansion, stride if block == 0 else 1))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels_in, head, 1)
        self.linear = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def _convolution(channels_in: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


def network() -> nn.Module:
    """The network before training."""
    return MobileNetV2(STAGES, STEM, HEAD, CLASSES)


def weights_file() -> Path:
    """Where the trained weights are kept, outside of the repository."""
    folder = Path(os.environ.get("EDGEQWT_TRAINED", Path.home() / ".cache" / "edgeqwt-trained"))
    return folder / f"{NAME}-{hashlib.sha256(repr(network()).encode()).hexdigest()[:12]}.pt"


def create() -> nn.Module:
    """The trained network, in evaluation mode.

    Raises:
        FileNotFoundError: it has not been trained yet; the message says how to do that.
    """
    path = weights_file()
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; train them with: python benchmarks/train.py {NAME}")
    model = network()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()

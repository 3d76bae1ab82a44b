"""A small depthwise-separable network for CIFAR-10, in the style of MobileNetV1 (Howard et al. 2017), with ReLU.

    python benchmarks/train.py dscnn_cifar10
    edgeqwt build benchmarks/models/dscnn_cifar10.py:create --calibration samples.npz ...

The weights are looked for in the folder that the environment variable EDGEQWT_TRAINED names, else in
~/.cache/edgeqwt-trained, under a name that changes with the architecture.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "dscnn_cifar10"
CLASSES = 10
STEM = 16
BLOCKS = ((32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1))
"""Channels and stride of each depthwise-separable block."""


class DepthwiseSeparable(nn.Module):
    """A 3x3 depthwise and a 1x1 convolution, each with batch normalization and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = _convolution(channels_in, channels_in, 3, stride, groups=channels_in)
        self.pointwise = _convolution(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        return self.pointwise(self.depthwise(x))


class SeparableNetwork(nn.Module):
    """3x3 convolution at full resolution, the blocks, global average, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels_in = _convolution(3, STEM, 3), STEM
        blocks = []
        for channels, stride in BLOCKS:
            blocks.append(DepthwiseSeparable(channels_in, channels, stride))
            channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels_in, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.blocks(self.stem(x))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def _convolution(channels_in: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def network() -> nn.Module:
    """The network before training."""
    return SeparableNetwork()


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

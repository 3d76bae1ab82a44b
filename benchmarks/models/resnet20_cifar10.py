"""ResNet-20 for CIFAR-10: He et al. 2016, "Deep Residual Learning", section 4.2, with option A shortcuts.

    edgeqwt build benchmarks/models/resnet20_cifar10.py:create --calibration samples.npz ...

The weights are looked for in the folder that the environment variable EDGEQWT_SHARED
names, else in the folder `shared` next to the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
"""Mean of each input channel (RGB / 255) that the weights were trained with."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of each input channel (RGB / 255) that the weights were trained with."""
CLASSES = 10


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters.

    Where the block halves the image and widens the channels, the shortcut takes every second
    pixel and pads the new channels with zeros, half before and half after (option A).
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.widening = stride, (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.widening:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.widening, self.widening))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """Three stages of blocks with 16, 32 and 64 channels, global average, one linear layer; 9 blocks make ResNet-56."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, 1)
        self.layer2 = _stage(blocks, 16, 32, 2)
        self.layer3 = _stage(blocks, 32, 64, 2)
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, 32, 32) to logits (N, 10)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = functional.avg_pool2d(x, x.shape[-1])
        return self.linear(x.flatten(1))


def _stage(blocks: int, channels_in: int, channels: int, stride: int) -> nn.Sequential:
    others = (BasicBlock(channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(channels_in, channels, stride), *others)


def weights_file() -> Path:
    """Where the checkpoint is looked for."""
    shared = os.environ.get("EDGEQWT_SHARED")
    folder = Path(shared) if shared else Path(__file__).resolve().parents[2].parent / "shared"
    return folder / "models" / "resnet20_cifar10_state_dict.th"


def create() -> nn.Module:
    """The trained network, in evaluation mode.

    Raises:
        FileNotFoundError: when the checkpoint is not where `weights_file` looks.
    """
    path = weights_file()
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; set EDGEQWT_SHARED to the folder that holds models/")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): value for name, value in checkpoint["state_dict"].items()}
    model = ResNet20()
    model.load_state_dict(state)
    return model.eval()

"""A small network with linear attention for CIFAR-10 in the style of EfficientViT (Cai et al. 2023), without softmax.

    python benchmarks/train.py linear_attention_cifar10
    edgeqwt build benchmarks/models/linear_attention_cifar10.py:create --calibration samples.npz ...

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

NAME = "linear_attention_cifar10"
CLASSES = 10
STEM, HEAD = 24, 192
STAGES = ((4, 24, 1), (4, 48, 2))
"""Expansion, channels and stride of the inverted residuals before attention."""
DEPTH, DIMENSION = 2, 16
"""Blocks of attention, and the width of one of its heads."""
EPSILON = 1e-6


class InvertedResidual(nn.Module):
    """Expand by 1x1, 3x3 depthwise, project by 1x1 without an activation; a shortcut where shapes allow one."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = _convolution(channels_in, wide, 1)
        self.depthwise = _convolution(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class LinearAttention(nn.Module):
    """ReLU(Q) (ReLU(K)' V) over ReLU(Q) (ReLU(K)' 1), on the values and on their 5x5 neighbourhoods."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.near = nn.Sequential(
            nn.Conv2d(3 * channels, 3 * channels, 5, padding=2, groups=3 * channels, bias=False),
            nn.Conv2d(3 * channels, 3 * channels, 1, groups=3 * channels // DIMENSION, bias=False),
        )
        self.project = nn.Sequential(nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        qkv = self.qkv(x)
        scales = torch.cat((qkv, self.near(qkv)), dim=1)
        # Heads of query, key and value in turn: (N, heads, 3 * DIMENSION, H * W).
        heads = scales.flatten(2).unflatten(1, (-1, 3 * DIMENSION))
        query, key, value = heads.transpose(2, 3).chunk(3, dim=3)
        query, key = functional.relu(query), functional.relu(key)
        numerator = query @ (key.transpose(2, 3) @ value)
        denominator = query @ key.sum(2, keepdim=True).transpose(2, 3)
        mixed = numerator / (denominator + EPSILON)
        return self.project(mixed.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


class Block(nn.Module):
    """Linear attention and an inverted residual, each beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention, self.local = LinearAttention(channels), InvertedResidual(channels, channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return self.local(x + self.attention(x))


class LinearAttentionNetwork(nn.Module):
    """3x3 convolution, inverted residuals, blocks of attention, a 1x1 convolution, global average, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels_in = _convolution(3, STEM, 3, 2), STEM
        blocks: list[nn.Module] = []
        for expansion, channels, stride in STAGES:
            blocks.append(InvertedResidual(channels_in, channels, expansion, stride))
            channels_in = channels
        blocks += [Block(channels_in) for _ in range(DEPTH)]
        self.blocks = nn.Sequential(*blocks)
        self.head, self.linear = _convolution(channels_in, HEAD, 1), nn.Linear(HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def _convolution(channels_in: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.Hardswish(inplace=True))


def network() -> nn.Module:
    """The network before training."""
    return LinearAttentionNetwork()


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

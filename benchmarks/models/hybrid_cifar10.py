"""A small convolution-transformer hybrid for CIFAR-10 in the style of MobileViT (Mehta and Rastegari 2022), with SiLU.

    python benchmarks/train.py hybrid_cifar10
    edgeqwt build benchmarks/models/hybrid_cifar10.py:create --calibration samples.npz ...

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

NAME = "hybrid_cifar10"
CLASSES = 10
STEM, HEAD = 16, 192
STAGES = ((4, 24, 2), (4, 24, 1), (4, 48, 2))
"""Expansion, channels and stride of the inverted residuals before the transformer."""
DEPTH, HEADS, WIDTH, INNER = 3, 3, 96, 192
"""Of the transformer."""


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


class Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        query, key, value = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        weights = (query * self.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.project((weights @ value).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention and two linear layers with GELU between, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.widen, self.narrow = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(functional.gelu(self.widen(self.norm2(x))))


class MobileViTBlock(nn.Module):
    """Convolutions, a transformer with every position as a token, and a convolution over its output and the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Sequential(_convolution(channels, channels, 3), nn.Conv2d(channels, WIDTH, 1, bias=False))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, INNER) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.project, self.fuse = _convolution(WIDTH, channels, 1), _convolution(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        y = self.local(x)
        tokens = self.norm(self.blocks(y.flatten(2).transpose(1, 2)))
        y = self.project(tokens.transpose(1, 2).unflatten(2, y.shape[2:]))
        return self.fuse(torch.cat((x, y), dim=1))


class Hybrid(nn.Module):
    """3x3 convolution, inverted residuals, the transformer, a 1x1 convolution, global average, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels_in = _convolution(3, STEM, 3), STEM
        blocks: list[nn.Module] = []
        for expansion, channels, stride in STAGES:
            blocks.append(InvertedResidual(channels_in, channels, expansion, stride))
            channels_in = channels
        self.blocks, self.transformer = nn.Sequential(*blocks), MobileViTBlock(channels_in)
        self.head, self.linear = _convolution(channels_in, HEAD, 1), nn.Linear(HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.head(self.transformer(self.blocks(self.stem(x))))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def _convolution(channels_in: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.SiLU(inplace=True))


def network() -> nn.Module:
    """The network before training."""
    return Hybrid()


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

"""A small vision transformer for CIFAR-10: Dosovitskiy et al. 2021, with the tokens' mean as in Beyer et al. 2022.

    python benchmarks/train.py vit_cifar10
    edgeqwt build benchmarks/models/vit_cifar10.py:create --calibration samples.npz ...

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

NAME = "vit_cifar10"
CLASSES = 10
PATCH, TOKENS = 4, 64
DEPTH, HEADS, WIDTH, INNER = 6, 3, 96, 192


class Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # torch.fx, which Sony MCT reads with, takes no other way
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
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


class VisionTransformer(nn.Module):
    """Patches with learned positions, the blocks, a LayerNorm, the mean of the tokens, one linear layer."""

    def __init__(self, patch: int, tokens: int, depth: int, heads: int, width: int, inner: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, inner) for _ in range(depth)))
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the positions anew."""
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.linear(self.norm(self.blocks(x)).mean(dim=1))


def network() -> nn.Module:
    """The network before training."""
    return VisionTransformer(PATCH, TOKENS, DEPTH, HEADS, WIDTH, INNER, CLASSES)


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

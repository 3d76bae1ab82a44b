"""A small language model, byte by byte: a causal decoder (Vaswani et al. 2017) with norms first, as GPT-2 has them.

    python benchmarks/train.py decoder
    edgeqwt build benchmarks/models/decoder.py:create --calibration windows.npz ...

It is trained on the standard library's docstrings (`benchmarks/language.py`). The weights are looked for in the folder
that the environment variable EDGEQWT_TRAINED names, else in ~/.cache/edgeqwt-trained, under a name that changes with
the architecture.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "decoder"
LENGTH = 128
"""Bytes that it sees."""
BYTES = 128
"""ASCII; any other character is the last of them."""
DEPTH, HEADS, WIDTH, INNER = 4, 6, 192, 768


class Attention(nn.Module):
    """Self-attention of each byte to those before it and itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, bytes, width) to the same."""
        query, key, value = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        hidden = torch.full((x.shape[1], x.shape[1]), torch.finfo(torch.float32).min).triu(1)
        weights = (query * self.scale @ key.transpose(-2, -1) + hidden).softmax(dim=-1)
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
        """(N, bytes, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(functional.gelu(self.widen(self.norm2(x))))


class Decoder(nn.Module):
    """Bytes with learned positions, the blocks, a LayerNorm, one linear layer."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS, inner: int = INNER, depth: int = DEPTH) -> None:
        super().__init__()
        self.bytes, self.positions = nn.Embedding(BYTES, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width, heads, inner) for _ in range(depth)))
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, BYTES)
        for table in (self.bytes, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Integers (N, LENGTH) to the logits (N, LENGTH, BYTES) of the byte behind each."""
        x = self.bytes(text) + self.positions(torch.arange(text.shape[1]))
        return self.linear(self.norm(self.blocks(x)))


def network() -> nn.Module:
    """The network before training."""
    return Decoder()


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

"""BERT's encoder (Devlin et al. 2018), as small as it can be: tokens to the mean of the last layer's embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models import seeded

WORDS, WIDTH, HEADS, LONGEST = 100, 16, 2, 32


class Layer(nn.Module):
    """Attention and two linear layers with GELU between, each with its residual sum and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        heads = (layer(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        query, key, value = heads
        scores = query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5 + mask
        x = self.first(self.dense((scores.softmax(-1) @ value).transpose(1, 2).flatten(2)) + x)
        return self.second(self.narrow(functional.gelu(self.widen(x))) + x)


class Bert(nn.Module):
    """Ids below WORDS and a mask, integers (1, tokens), to (1, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.types, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1])
        x = self.norm(self.words(input_ids) + self.types(torch.zeros_like(input_ids)) + self.positions(places))
        used = attention_mask.float()
        mask = (1.0 - used[:, None, None, :]) * torch.finfo(torch.float32).min
        for layer in self.layers:
            x = layer(x, mask)
        return (x * used[:, :, None]).sum(1) / used.sum(1, keepdim=True)


def create() -> nn.Module:
    """The network, with weights that depend on nothing."""
    return seeded(Bert)

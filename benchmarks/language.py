"""Text that is always at hand, the standard library's docstrings, and what a model of its bytes makes of it."""

from __future__ import annotations

import ast
import sysconfig
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from common import Array
from models.decoder import BYTES, LENGTH
from sentences import DOCUMENTED
from torch import Tensor, nn
from torch.nn import functional

HELD_OUT = 20
"""One in so many modules is not trained on."""
APART = frozenset({"site-packages", "test", "tests", "idlelib", "__pycache__"})
TOKENS = 16
"""Windows in a batch."""
RATE, RISE, DECAY = 2e-3, 0.1, 0.05


@cache
def corpus() -> tuple[Array, Array]:
    """The docstrings' characters as int64 below BYTES, each a line of text apart: to train on, and held out."""
    parts: tuple[list[str], list[str]] = ([], [])
    for i, text in enumerate(_modules()):
        parts[i % HELD_OUT == HELD_OUT - 1].append(text)
    return _numbers("\n\n".join(parts[0])), _numbers("\n\n".join(parts[1]))


def windows(text: Array, count: int, length: int = LENGTH) -> Array:
    """Windows, int64 (count, length + 1), evenly spread over the text: what is read, and one more byte to tell."""
    starts = np.linspace(0, len(text) - length - 1, count).astype(int)
    return np.stack([text[start : start + length + 1] for start in starts])


def loss(logits: Tensor, text: Tensor) -> Tensor:
    """Mean cross entropy, in nats, of windows (n, length + 1) under the logits (n, length, BYTES) of what they read."""
    return functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())


def validation_loss(model: nn.Module, count: int = 128) -> float:
    """The loss on windows of modules that were not trained on."""
    text = torch.from_numpy(windows(corpus()[1], count))
    with torch.no_grad():
        parts = [float(loss(model(part[:, :-1]), part)) for part in text.split(TOKENS)]
    return float(np.mean(parts))


def batches(steps: int, seed: int) -> Iterator[Tensor]:
    """So many batches of windows at random places of the text to train on, the same for the same seed."""
    text, random = torch.from_numpy(corpus()[0]), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(0, len(text) - LENGTH - 1, (TOKENS, 1), generator=random)
        yield text[starts + torch.arange(LENGTH + 1)]


def train(
    model: nn.Module, steps: int, seed: int = 0, after_step: Callable[[torch.optim.Optimizer], None] = lambda _: None
) -> nn.Module:
    """The trained model, in evaluation mode: AdamW, the learning rate in one cycle; `after_step` may change states."""
    decayed, others = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=RISE)
    start = time.perf_counter()
    for many in batched(enumerate(batches(steps, seed), 1), 100):
        total = 0.0
        for _, text in many:
            found = loss(model.train()(text[:, :-1]), text)
            optimizer.zero_grad()
            found.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            after_step(optimizer)
            schedule.step()
            total += found.item()
        print(
            f"step {many[-1][0]}/{steps}: loss {total / len(many):.3f}, {time.perf_counter() - start:.0f} s", flush=True
        )
    return model.eval()


def generated(model: nn.Module, count: int, length: int = LENGTH, seed: int = 0) -> Array:
    """What a model says of its own, int64 (count, length): each byte drawn by its chances, the first ones at random."""
    random = torch.Generator().manual_seed(seed)
    text = torch.randint(0, BYTES, (count, 1), generator=random)
    with torch.no_grad():
        while text.shape[1] < length:
            chances = model(text)[:, -1].softmax(dim=-1)
            text = torch.cat((text, torch.multinomial(chances, 1, generator=random)), dim=1)
    return np.asarray(text.numpy())


def _modules() -> Iterator[str]:
    """The docstrings of each module of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        if APART.isdisjoint(path.relative_to(folder).parts):
            try:
                tree = ast.parse(path.read_bytes())
            except SyntaxError:  # some are templates
                continue
            found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, DOCUMENTED))
            if text := "\n\n".join(filter(None, found)):
                yield text


def _numbers(text: str) -> Array:
    return np.array([min(ord(c), BYTES - 1) for c in text], np.int64)

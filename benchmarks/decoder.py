"""A small language model in integers: perplexity of held-out text, static and run-time ranges of activations."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace

import language
import numpy as np
from common import Array, at_hand, outputs, show
from models import decoder

import edgeqwt
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import FLOAT
from edgeqwt.recipe.recipe import load

CALIBRATION, TEST = 64, 64  # windows
VARIANTS = (
    ("fast", "w8a8"),
    ("balanced", "w8a8"),
    ("balanced", "w4a8"),
    ("fast", "w8-dynamic"),
    ("balanced", "w8-dynamic"),
    ("fast", "w4-dynamic"),
    ("balanced", "w4-dynamic"),
)


@dataclass(frozen=True)
class Row:
    """One file: perplexity of a byte, the share of bytes told as the float model tells them, bytes."""

    perplexity: float
    agreement: float
    size: int


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[f"{r}:{p}" for r, p in VARIANTS], help="default: all of them")
    asked = parser.parse_args()
    model = at_hand(decoder.create)
    train, held_out = language.corpus()
    calibration = {"text": language.windows(train, CALIBRATION)[:, :-1]}
    test, told, rows = language.windows(held_out, TEST), None, dict[str, Row]()
    for recipe, precision in VARIANTS:
        if asked.only and f"{recipe}:{precision}" not in asked.only:
            continue
        chosen = replace(load(recipe), leave_one_out=0)
        built = edgeqwt.build(
            model, calibration=calibration, target="tflite", recipe=chosen, precision=precision, accept=True
        )
        if told is None:
            told = predicted(built.prepared.graph, test)
            rows["float"] = row(told, test, told, built.sizes[FLOAT])
        for name in built.variants:
            found = predicted(built.variants[name], test)
            rows[f"{precision}, {recipe}, {name}"] = row(found, test, told, built.sizes[name])
            print(f"{precision}, {recipe}, {name}: {rows[f'{precision}, {recipe}, {name}']}", flush=True)
    cells = [(name, f"{r.perplexity:.3f}", f"{r.agreement:.4f}", f"{r.size:,}") for name, r in rows.items()]
    show(f"decoder, {TEST} windows of held-out text", ("", "perplexity", "same next byte", "bytes"), cells)


def predicted(graph: Graph, text: Array) -> Array:
    """The graph's logits, (windows, length, bytes)."""
    dtype = np.dtype(graph.tensors[graph.inputs[0]].dtype)
    return outputs(graph, [window[None, :-1].astype(dtype) for window in text])


def row(found: Array, text: Array, told: Array, size: int) -> Row:
    """What counts of a file's logits."""
    wide = found.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    chances = np.take_along_axis(wide, text[:, 1:, None], -1)[..., 0] - np.log(np.exp(wide).sum(axis=-1))
    agreement = float((found.argmax(axis=-1) == told.argmax(axis=-1)).mean())
    return Row(math.exp(-float(chances.mean())), agreement, size)


if __name__ == "__main__":
    main()

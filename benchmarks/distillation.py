"""ZeroQuant's distillation layer by layer on a small language model: on text, its own words, and random bytes."""

from __future__ import annotations

import argparse
import time

import language
import numpy as np
from common import at_hand, show
from decoder import TEST, predicted, row
from models import decoder
from models.decoder import BYTES, LENGTH

import edgeqwt
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import Techniques, with_technique
from edgeqwt.progress import Stages, silent
from edgeqwt.techniques.codebook import EQUAL
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.widths.precision import parse

DATA = ("text", "own", "random")
WINDOWS = 48  # of calibration; one in four is held out
STEPS, BATCH = 60, 8  # of each layer's learning


def main() -> None:
    """Prints a row for each kind of data and each way to round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--precision", default="w4a8")
    parser.add_argument("--scope", choices=("layer", "block"), default="layer", help="what learns at a time")
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    model = at_hand(decoder.create)
    train, held_out = language.corpus()
    sources = {
        "text": lambda: language.windows(train, WINDOWS)[:, :-1],
        "own": lambda: language.generated(model, WINDOWS),
        "random": lambda: np.random.default_rng(0).integers(0, BYTES, (WINDOWS, LENGTH)),
    }
    learner = Reconstruction(scope=asked.scope, rounding="straight", iterations=asked.steps, batch=BATCH)
    test, rows = language.windows(held_out, TEST), list[tuple[str, ...]]()
    for data in asked.data:
        job = edgeqwt.open_job(model, calibration={"text": sources[data]()}, recipe="fast", precision=asked.precision)
        usual: Techniques = job.recipe.techniques
        told = predicted(job.prepared.graph, test)
        if not rows:
            rows.append(("float", f"{row(told, test, told, 0).perplexity:.3f}", "", ""))
        plans = {"nearest": usual, "distilled": with_technique(usual, learner), "gptq": with_technique(usual, EQUAL)}
        for name, techniques in plans.items():
            began = time.process_time()
            graph = make(job.context, techniques, parse(asked.precision), Stages(silent)).graph
            seconds = time.process_time() - began
            found = row(predicted(graph, test), test, told, 0)
            rows.append((f"{data}, {name}", f"{found.perplexity:.3f}", f"{found.agreement:.4f}", f"{seconds:.0f}"))
            print(*rows[-1], sep="; ", flush=True)
    show(f"decoder, {asked.precision}, {TEST} windows", ("", "perplexity", "same next byte", "CPU s"), rows)


if __name__ == "__main__":
    main()

"""Handwritten digits: train a small CNN, build it to int8 at 8- and 4-bit weights, compare real accuracies.

Run it with `make demo`. It needs no download: the 1797 scans are inside scikit-learn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from model import EPOCHS, calibration, create, data, evaluation

import edgeqwt
from edgeqwt import BuildResult, progress_display


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one row per model, each measured in LiteRT on scans that neither training nor calibration saw."""
    parser = argparse.ArgumentParser(description="Train a small CNN and build it at 8 and 4 bits.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for the built models (default: out)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of training (default: {EPOCHS})")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    network = create(options.epochs)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"Trained a CNN of {parameters:,} parameters on handwritten digits in {time.perf_counter() - start:.0f} s.")

    built = {}
    for bits in (8, 4):
        start = time.perf_counter()
        folder = options.output / f"digits-w{bits}"
        built[bits] = edgeqwt.build(
            network,
            calibration=calibration,
            evaluation=evaluation,
            precision=f"w{bits}a8",
            output=folder,
            display=progress_display(),
        )
        print(f"Built it with {bits}-bit weights in {time.perf_counter() - start:.0f} s: {folder}/model.tflite")
    print()
    print("\n".join(table(built)))
    print("\nEach report.json tells every layer. 4-bit weights of convolutions are stored in half a byte each.")


LABELS = {"float": "", "plain": "plain", "compensated": "edgeqwt"}


def table(built: dict[int, BuildResult]) -> Iterator[str]:
    """The float model, then each width: plain post-training quantization, and what edgeqwt makes of it."""
    tested = len(data()[1][1])
    yield f"{'weights':10}{'build':14}{'accuracy':>9}{f'wrong of {tested}':>14}{'output SQNR':>14}{'bytes':>9}"
    for bits, result in built.items():
        for variant, scores in result.scores.items():
            if variant not in LABELS or (variant == "float" and bits != 8):
                continue
            accuracy = scores["top1"]
            sqnr = f"{result.quality[variant].outputs[0].closeness.sqnr_db:.1f} dB" if variant != "float" else ""
            name = "float" if variant == "float" else f"{bits} bit"
            label = LABELS[variant]
            wrong, size = round((1 - accuracy) * tested), result.sizes[variant]
            yield f"{name:10}{label:14}{accuracy:9.4f}{wrong:14}{sqnr:>14}{size:9,}"


if __name__ == "__main__":
    main()

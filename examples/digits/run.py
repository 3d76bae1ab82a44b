"""Handwritten digits: train a small CNN, build it to int8 at 8- and 4-bit weights, compare real accuracies.

Run it with `make demo`. It needs no download: the 1797 scans are inside scikit-learn.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

import edgeqwt
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.terminal import console, progress_display

sys.path.insert(0, str(Path(__file__).parent))
from model import calibration, create, evaluation

OUTPUT = Path("out")


def main() -> None:
    """Prints one row per variant, each measured in LiteRT on scans that neither training nor calibration saw."""
    torch.set_num_threads(1)  # the network is too small to share
    start = time.perf_counter()
    network = create()
    print(
        f"trained a CNN of {sum(p.numel() for p in network.parameters()):,} parameters "
        f"in {time.perf_counter() - start:.0f} s"
    )
    OUTPUT.mkdir(exist_ok=True)
    built = {
        bits: edgeqwt.build(
            network,
            calibration=calibration(),
            evaluation=evaluation(),
            weight_bits=bits,
            output=OUTPUT / f"digits-w{bits}",
            display=progress_display(),
        )
        for bits in (8, 4)
    }
    _show(built)


def _show(built: dict[int, BuildResult]) -> None:
    from rich.table import Table

    table = Table(
        "weights",
        "compensation",
        "accuracy",
        "output SQNR dB",
        "bytes",
        title="digits, 597 test scans",
        title_justify="left",
    )
    table.add_row("float32", "", f"{built[8].scores['float']['top1']:.4f}", "", f"{built[8].sizes['float']:,}")
    for bits, result in built.items():
        for name, told in (("int8", "without"), ("compensated", "with")):
            sqnr = result.quality[name].outputs[0].closeness.sqnr_db
            accuracy = f"{result.scores[name]['top1']:.4f}"
            table.add_row(f"{bits} bit", told, accuracy, f"{sqnr:.1f}", f"{result.sizes[name]:,}")
    out = console()
    out.print(table)
    for bits, result in built.items():
        out.print(f"out/digits-w{bits}/: kept {result.choice.name}; report.json tells every layer")


if __name__ == "__main__":
    main()

"""Small networks on vectors, calibrated on 16 to 512 samples: ranges with and without tails, on fresh samples."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import torch
from common import Array, Requirement, finish, outputs, show
from torch import nn

import edgeqwt
from edgeqwt.output import progress_display
from edgeqwt.passes.technique import without
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import load

COUNTS, SEEDS, FRESH = (16, 48, 128, 512), (0, 1, 2), 4000
NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "regression": ((8, 16, 16, 3), nn.ReLU),
    "wide": ((6, 32, 32, 2), nn.ReLU),
    "one number": ((8, 16, 1), nn.Sigmoid),
    "saturating": ((6, 32, 32, 2), nn.Tanh),
    "autoencoder": ((16, 8, 3, 8, 16), nn.Tanh),
}
"""Widths of the layers, and what is between them."""
DRAWN: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "uniform": lambda random, shape: random.uniform(-1, 1, shape),
    "Student's t, 4": lambda random, shape: random.standard_t(4, shape),
}
MOST_LOSS = 2.0  # dB of the median: steps of wider ranges are coarser


@dataclass(frozen=True)
class Row:
    """One network, calibrated on some samples; decibels of what varies.

    Attributes:
        values: how they are distributed.
        count: calibration samples.
        held_out, error: what the build with tails says, and the standard error that it gives.
        without, kept: of its file on fresh samples, and of that of a build without tails.
    """

    values: str
    count: int
    held_out: float
    error: float
    without: float
    kept: float


def network(name: str, seed: int) -> nn.Module:
    """Dense layers with seeded weights."""
    torch.manual_seed(seed)
    widths, kind = NETWORKS[name]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), kind())]
    return nn.Sequential(*layers[:-1]).eval()


def fresh_db(result: BuildResult, model: nn.Module, samples: Array) -> float:
    """SQNR of what varies on samples that no build has seen."""
    with torch.inference_mode():
        wanted = model(torch.from_numpy(samples)).numpy().astype(np.float64)
    found = outputs(result.graph, samples[:, None]).reshape(wanted.shape)
    varying = np.square(wanted - wanted.mean(axis=0)).sum()
    return float(10 * np.log10(varying / np.square(found - wanted).sum()))


def rows(counts: Sequence[int], seeds: Sequence[int]) -> Iterator[Row]:
    """Two builds each of all combinations."""
    fast = load("fast")
    fast = replace(fast, quality=replace(fast.quality, accept=True), ceiling=False)
    short = replace(fast, techniques=without(fast.techniques, "range_tails"))
    for name, values, count, seed in product(NETWORKS, DRAWN, counts, seeds):
        model, random, size = network(name, seed), np.random.default_rng((seed, count)), NETWORKS[name][0][0]
        calibration, fresh = (DRAWN[values](random, (n, size)).astype(np.float32) for n in (count, FRESH))
        built = [
            edgeqwt.build(model, calibration=calibration, recipe=recipe, display=progress_display())
            for recipe in (short, fast)
        ]
        (judged,) = built[1].quality[built[1].choice.name].decisive
        said = judged.closeness.judged_db, judged.standard_error
        yield Row(values, count, *said, *(fresh_db(result, model, fresh) for result in built))


def main() -> None:
    """Prints one table: medians over networks and seeds."""
    parser = argparse.ArgumentParser(prog="few_values", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, help="calibration samples; 16, 48, 128 and 512 by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    asked = parser.parse_args()
    found = [*rows(asked.counts or COUNTS, asked.seeds)]
    table, required = [], []
    for values, count in dict.fromkeys((row.values, row.count) for row in found):
        those = [row for row in found if (row.values, row.count) == (values, count)]
        gains = [row.kept - row.without for row in those]
        medians = (np.median([getattr(row, key) for row in those]) for key in ("held_out", "without", "kept"))
        within = sum(abs(row.kept - row.held_out) <= 2 * row.error for row in those)
        figures = (f"{value:.1f}" for value in (*medians, min(gains), max(gains)))
        table.append((values, str(count), *figures, f"{within} of {len(those)}"))
        required.append(
            Requirement(
                f"{values}, {count}", f">= {-MOST_LOSS} dB", f"{np.median(gains):+.1f}", np.median(gains) >= -MOST_LOSS
            )
        )
    heads = (
        "values",
        "samples",
        "held-out, with",
        "fresh, without",
        "fresh, with",
        "least gain",
        "largest",
        "within 2 errors",
    )
    show(f"`fast`, w8a8, {len(NETWORKS)} networks, {FRESH} fresh samples, dB of what varies", heads, table)
    finish(required)


if __name__ == "__main__":
    main()

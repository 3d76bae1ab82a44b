"""all-MiniLM-L6-v2 in integers: how close its sentence embeddings come to the float ones, size, speed, placement."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from common import ROOT, Array, Figures, Requirement, at_least, at_most, equal, finish, show
from models import minilm
from scipy.stats import spearmanr
from sentences import sentences
from transformers import AESPA, Recipe, Result, benched, built_and_shown, result_of, show_costs, show_left, with_npu

from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.terminal import decibels
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.widths.precision import parse

CALIBRATION, TEST = 64, 300  # sentences
UNJUDGED = Figures(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Variant(Recipe):
    """One file that is built, and what it must show; fields as in Closeness."""

    cosine: float = 0.0
    spearman: float = 0.0
    neighbours: float = 0.0


VARIANTS = (
    Variant("w8a8, int8 only", "int8-only", "w8a8", cosine=0.97, spearman=0.95),
    Variant("w8a8, 16-bit regions", "balanced", "w8a8", cosine=0.995, spearman=0.99, neighbours=0.90),
    Variant("w4a8, 16-bit regions", "balanced", "w4a8", cosine=0.97, spearman=0.94),
    Variant("w8a8, plain", "plain", "w8a8"),
    Variant("w8, rounded at run time", "balanced", "w8-dynamic", cosine=0.995, spearman=0.99, neighbours=0.90),
    Variant("w4, rounded at run time", "balanced", "w4-dynamic", cosine=0.97, spearman=0.94),
)
ATTENDING = tuple(
    f"wa/module/layers.{k}/attention/{part}/Add_output_0"
    for k in range(minilm.LAYERS)
    for part in ("query", "key", "value")
)
TRIED = (
    Variant("w4a8, aespa", "balanced", "w4a8", AESPA),
    Variant("w4a8, queries, keys and values w8", "balanced", "w4a8", layers=ATTENDING),
)
"""Built where they are named: aespa's rounding, and what any rounding of queries, keys and values could reach."""


@dataclass(frozen=True)
class Closeness:
    """What counts of sentence embeddings beside those of the float file.

    Attributes:
        cosine: mean cosine of each sentence's two embeddings.
        spearman: rank correlation of the similarities of all pairs of sentences.
        neighbours: share of sentences whose nearest other sentence is the same.
        sqnr: in dB.
    """

    cosine: float
    spearman: float
    neighbours: float
    sqnr: float


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=[v.label for v in (*VARIANTS, *TRIED)],
        help=f"default: {len(VARIANTS)} of them",
    )
    parser.add_argument(
        "--leave-one-out", type=int, default=0, metavar="N", help="what each technique gains, on N samples"
    )
    parser.add_argument(
        "--uncompensated", action="store_true", help="also judge files as they were before compensation"
    )
    options = parser.parse_args()
    wanted = options.variants or [v.label for v in VARIANTS]
    chosen = [v for v in (*VARIANTS, *TRIED) if v.label in wanted]
    calibration, test = (minilm.tokens(texts) for texts in sentences(CALIBRATION, TEST))
    built = {v.label: build(v, calibration, options.leave_one_out) for v in chosen}
    exported = next(iter(built.values())).model.graph
    reference = embeddings(exported, test)
    close = {label: closeness(embeddings(result.graph, test), reference) for label, result in built.items()}
    if options.uncompensated:
        before = {f"{label}, uncompensated": result.uncompensated for label, result in built.items()}
        close |= {label: closeness(embeddings(graph, test), reference) for label, graph in before.items()}
    graphs = {"float": exported, **{label: result.graph for label, result in built.items()}}
    speed = dict(zip(graphs, benched(list(graphs.values())), strict=True))
    costs = {label: result_of(graph, UNJUDGED, speed[label]) for label, graph in graphs.items()}
    costs |= {label: with_npu(costs[label], graphs[label]) for label in built}
    rows = [
        (label, f"{c.cosine:.4f}", f"{c.spearman:.4f}", f"{c.neighbours:.4f}", decibels(c.sqnr))
        for label, c in close.items()
    ]
    header = ("", "cosine", "Spearman", "same nearest neighbour", "SQNR dB")
    show(f"all-MiniLM-L6-v2, {CALIBRATION} calibration sentences, {TEST} test sentences", header, rows)
    show_costs(costs)
    show_left("MiniLM", costs)
    finish([r for v in chosen for r in required(v, close[v.label], costs[v.label], costs["float"])])


def build(variant: Variant, calibration: dict[str, Array], leave_one_out: int) -> BuildResult:
    """One build from PyTorch."""
    source = f"{ROOT / 'benchmarks' / 'models' / 'minilm.py'}:create"
    return built_and_shown(variant, source, calibration, leave_one_out)


def required(variant: Variant, found: Closeness, cost: Result, exact: Result) -> Iterator[Requirement]:
    """What a variant must show."""
    if not parse(variant.precision).dynamic:
        yield equal(f"{variant.label}: ops left in float", len(cost.floating), 0)
    yield at_least(f"{variant.label}: cosine", found.cosine, variant.cosine)
    yield at_least(f"{variant.label}: Spearman", found.spearman, variant.spearman)
    yield at_least(f"{variant.label}: same nearest neighbour", found.neighbours, variant.neighbours)
    if variant.precision == "w8a8":
        yield at_most(f"{variant.label}: bytes by those of the float file", cost.bytes / exact.bytes, 0.27, "{:.3f}")
    if variant.recipe == "int8-only":
        yield at_most(
            f"{variant.label}: latency by that of the float file", cost.latency / exact.latency, 1.0, "{:.2f}"
        )


def embeddings(graph: Graph, tokens: dict[str, Array]) -> Array:
    """The graph's output for every sentence, as real values, from LiteRT with XNNPACK.

    Args:
        graph: float or integer; it has the model's inputs, under their names.
        tokens: from `models.minilm.tokens`.
    """
    named = {t: next(name for name in tokens if name in graph.tensors[t].name) for t in graph.inputs}
    types = {t: np.dtype(graph.tensors[t].dtype) for t in graph.inputs}
    samples = [
        {t: tokens[name][i : i + 1].astype(types[t]) for t, name in named.items()}
        for i in range(len(next(iter(tokens.values()))))
    ]
    out = graph.outputs[0]

    def run(runner: Runner, sample: dict[int, Array]) -> Array:
        return to_real(graph, out, runner.run(graph_feed(graph, sample))[out])

    return np.concatenate(list(ordered([xnnpack(graph) for _ in range(THREADS)], run, samples)))


def closeness(found: Array, reference: Array) -> Closeness:
    """Compares two (sentences, width) arrays of embeddings."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found.astype(np.float64), reference))
    ours, theirs = a @ a.T, b @ b.T
    pairs = np.triu_indices(len(a), 1)
    spearman = float(spearmanr(ours[pairs], theirs[pairs]).statistic)
    for similarities in (ours, theirs):
        np.fill_diagonal(similarities, -np.inf)
    neighbours = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    noise = float(np.square(found.astype(np.float64) - reference).sum())
    sqnr = 10 * np.log10(float(np.square(reference.astype(np.float64)).sum()) / noise) if noise else np.inf
    return Closeness(float((a * b).sum(axis=1).mean()), spearman, neighbours, float(sqnr))


if __name__ == "__main__":
    main()

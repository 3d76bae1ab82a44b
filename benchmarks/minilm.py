"""all-MiniLM-L6-v2 in integers: how close its sentence embeddings come to the float ones.

python benchmarks/minilm.py [RECIPE [PRECISION ...]]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from common import ROOT, Array, show
from models import minilm
from scipy.stats import spearmanr
from sentences import sentences

import edgeqwt
from edgeqwt.graph.graph import Graph
from edgeqwt.output import progress_display
from edgeqwt.quantize.precision import parse
from edgeqwt.recipes.recipe import load
from edgeqwt.report.terminal import decibels
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

CALIBRATION, TEST = 64, 300  # sentences
FLOATING = ("float16", "float32", "float64")


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
    """Prints the table."""
    recipe, *precisions = sys.argv[1:] or ["fast"]
    calibration, test = (minilm.tokens(texts) for texts in sentences(CALIBRATION, TEST))
    found: dict[str, tuple[Closeness, int]] = {}
    for precision in precisions or ("w8a8", "w8a16"):
        chosen = replace(load(recipe), precision=parse(precision))
        source = f"{ROOT / 'benchmarks' / 'models' / 'minilm.py'}:create"
        built = edgeqwt.build(source, calibration=calibration, recipe=chosen, display=progress_display())
        reference = embeddings(built.model.graph, test)
        found[precision] = closeness(embeddings(built.graph, test), reference), len(left_in_float(built.graph))
    rows = [
        (name, f"{c.cosine:.4f}", f"{c.spearman:.4f}", f"{c.neighbours:.4f}", decibels(c.sqnr), str(left))
        for name, (c, left) in found.items()
    ]
    header = ("", "cosine", "Spearman", "same nearest neighbour", "SQNR dB", "ops left in float")
    show(f"all-MiniLM-L6-v2, recipe {recipe}, {TEST} sentences", header, rows)


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


def left_in_float(graph: Graph) -> list[str]:
    """The ops that touch a float tensor."""
    return [op.kind for op in graph.ops if any(graph.tensors[t].dtype in FLOATING for t in op.tensors if t >= 0)]


if __name__ == "__main__":
    main()

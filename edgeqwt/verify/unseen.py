"""What samples do not show of outputs: those that are the same in all of them, and detectors that nothing fires in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.runtime.boundary import feed_as
from edgeqwt.runtime.runners import InterpreterError, xnnpack
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.resolution import back_to_logistic

LOOKED_AT = 8  # samples that show where nothing varies any more
FIRES = 0.1
"""A probability that is nowhere above this fires at no threshold that people use."""
NAMED = 3  # of what an op reads


def unvarying(
    graph: Graph, quality: Quality, samples: Iterable[Mapping[int, Array]], known: Collection[int] = ()
) -> Iterator[str]:
    """Sentences on outputs that are the same for all samples, with the op that makes them so.

    Args:
        graph: the float graph.
        quality: of the integer graph.
        samples: the held-out ones, by the float graph's input tensors; read where an output is such.
        known: positions of outputs of which something else is asked.
    """
    if quality.samples < 2:
        return
    for position, (t, output) in enumerate(zip(graph.outputs, quality.outputs, strict=True)):
        judged = quality.decisive[position]
        if position in known or judged.unresolved is not None or graph.tensors[t].is_constant:
            continue
        if output.closeness.varying_db is None:
            yield (
                f"output {output.name!r} is the same in all {quality.samples} held-out samples, so that nothing says "
                f"how well it comes out where it changes{_end(graph, t, samples)}. Calibrate with samples in which it "
                "changes"
            )


def _end(graph: Graph, output: int, samples: Iterable[Mapping[int, Array]]) -> str:
    """The op behind which nothing varies on the way to an output, and what it reads; "" where nobody knows."""
    producers, way, todo = graph.producers(), dict[int, Op](), [output]
    while todo:
        if (t := todo.pop()) in producers and t not in way:
            way[t] = graph.ops[producers[t]]
            todo += [u for u in way[t].inputs if u >= 0]
    reach = _reach(graph, sorted({*way, *(u for op in way.values() for u in op.inputs if u >= 0)}), samples)
    t = output
    while t in way:
        read = [u for u in way[t].inputs if u in reach]
        varying = [u for u in read if reach[u][2]]
        if varying:
            names = [f"{graph.tensors[u].name!r}, {reach[u][0]:.3g} to {reach[u][1]:.3g}" for u in varying[:NAMED]]
            held = [graph.tensors[u].data for u in way[t].inputs if u >= 0 and graph.tensors[u].is_float]
            names += [f"{float(value.reshape(())):.3g}" for value in held if value is not None and value.size == 1]
            return f": {way[t].kind} {graph.tensors[t].name!r} makes the same of all that it reads ({'; '.join(names)})"
        if not read:
            break
        t = read[0]
    return ""


def _reach(
    graph: Graph, tensors: list[int], samples: Iterable[Mapping[int, Array]]
) -> dict[int, tuple[float, float, bool]]:
    """The lowest and the highest value of activations, and whether they vary between samples."""
    asked = [t for t in tensors if not graph.tensors[t].is_constant]
    first, found = dict[int, Array](), dict[int, tuple[float, float, bool]]()
    try:
        runner = xnnpack(graph, asked)
        for sample in islice(samples, LOOKED_AT):
            feed = feed_as(graph, graph, sample)
            values = {**feed, **runner.run(feed)}
            for t in (t for t in asked if values[t].size):
                low, high, varies = found.get(t, (np.inf, -np.inf, False))
                varies = varies or not np.array_equal(first.setdefault(t, values[t].copy()), values[t])
                found[t] = min(low, float(values[t].min())), max(high, float(values[t].max())), varies
    except InterpreterError:  # an op that LiteRT does not run: the sentence names no op then
        return {}
    return found


def silent(graph: Graph, quality: Quality, statistics: Mapping[int, Statistics]) -> Iterator[str]:
    """Sentences on detectors of which no sample has anything to detect: probabilities by LOGISTIC that stay low.

    Args:
        graph: the float graph.
        quality: of the integer graph, in whose terms outputs are named.
        statistics: of the float graph's activations on the samples that are fitted on.
    """
    for t, output, judged in zip(graph.outputs, quality.outputs, quality.decisive, strict=True):
        seen = statistics.get(t)
        if seen is None or judged.unresolved is not None or not back_to_logistic(graph, t):
            continue
        if seen.high < FIRES:
            yield (
                f"output {output.name!r} is a probability and nowhere above {seen.high:.2g} in the calibration "
                "samples: what it is to detect seems to be in none of them, and its figures are those of all else. "
                "Calibrate with samples in which it fires, too"
            )

"""Graphs side by side: the one place that runs a graph and others made from it on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import feed_as, graph_feed
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import LiteRT, Values, xnnpack


def side_by_side[T](
    reference: Graph,
    taps: Iterable[int],
    graphs: Mapping[str, tuple[Graph, Sequence[int]]],
    samples: Iterable[Mapping[int, Array]],
    work: Callable[[Values, dict[str, Values]], T],
    threads: int = THREADS,
) -> Iterator[T]:
    """What is made of a graph's values and of those of others on each sample, in the samples' order.

    All run freely in LiteRT with its default kernels, so the error of a layer includes that of the layers before it.

    Args:
        reference: what the others are compared with.
        taps: its tensors to look at, beside the inputs and outputs.
        graphs: by name, with tensors to look at; inputs correspond by position.
        samples: real values by the reference's input tensor index; read once.
        work: gets the values as the interpreters have them, inputs included.
        threads: with one interpreter per graph each; the results do not depend on it.

    Raises:
        ToolError: LiteRT refuses a graph.
    """
    chunks = ([numbered] for numbered in enumerate(samples))
    return over(workers(reference, taps, graphs, threads), reference, graphs, chunks, lambda a, b: work(a[0], b[0]))


Worker = tuple[LiteRT, dict[str, LiteRT]]  # the reference's interpreter, and the others' by name
Known = Callable[[Graph, int], Values | None]
"""What is known of a graph's values on a sample, by its number: such a graph is not run on it."""


def nothing_known(graph: Graph, number: int) -> Values | None:
    """A Known of graphs that did not run before."""
    return None


def workers(
    reference: Graph, taps: Iterable[int], graphs: Mapping[str, tuple[Graph, Sequence[int]]], threads: int
) -> list[Worker]:
    """Interpreters of all graphs for each thread; arguments as for `side_by_side`."""
    wanted = sorted({*taps})
    return [
        (xnnpack(reference, wanted), {name: xnnpack(graph, looked) for name, (graph, looked) in graphs.items()})
        for _ in range(threads)
    ]


def over[T](
    prepared: list[Worker],
    reference: Graph,
    graphs: Mapping[str, tuple[Graph, Sequence[int]]],
    chunks: Iterable[Sequence[tuple[int, Mapping[int, Array]]]],
    work: Callable[[list[Values], list[dict[str, Values]]], T],
    views: bool = False,
    known: Known = nothing_known,
) -> Iterator[T]:
    """What is made of the values of each chunk of samples, in their order.

    Args:
        prepared: see `workers`.
        reference: as for `side_by_side`.
        graphs: likewise.
        chunks: of samples with their numbers.
        work: gets the values of each sample of a chunk.
        views: whether those of a sample that is alone in its chunk may be gone when `work` is done.
        known: what need not be run.
    """

    def values_of(graph: Graph, runner: LiteRT, number: int, given: Values, alone: bool) -> Values:
        found = known(graph, number)
        if found is None:
            found = runner.views(given) if alone else runner.run(given)
        return {**given, **found}

    def run(worker: Worker, chunk: Sequence[tuple[int, Mapping[int, Array]]]) -> T:
        (own, others), alone = worker, views and len(chunk) == 1
        found = [
            {
                name: values_of(graphs[name][0], runner, n, feed_as(graphs[name][0], reference, sample), alone)
                for name, runner in others.items()
            }
            for n, sample in chunk
        ]
        return work([values_of(reference, own, n, graph_feed(reference, s), alone) for n, s in chunk], found)

    return ordered(prepared, run, chunks)

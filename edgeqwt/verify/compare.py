"""Tensor by tensor, how far one TFLite graph is from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.metrics import Closeness, Sums, add_up, compare


@dataclass(frozen=True)
class TensorComparison:
    """One tensor that both graphs compute."""

    name: str
    kind: str
    closeness: Closeness


@dataclass(frozen=True)
class Comparison:
    """Tensors by name, in the first graph's order, and outputs by position."""

    tensors: tuple[TensorComparison, ...]
    outputs: tuple[TensorComparison, ...]
    samples: int


def compare_graphs(
    first: Graph, second: Graph, samples: Iterable[Mapping[int, Array]], threads: int = THREADS
) -> Comparison:
    """Runs both graphs in LiteRT with XNNPACK and compares every activation that has the same name and shape.

    Args:
        first: what is compared with, usually float.
        second: what is judged.
        samples: real-valued inputs by the first graph's input tensor index.
        threads: interpreters that run at a time.

    Raises:
        InputError: the graphs' inputs or outputs do not correspond, or there are no samples.
    """
    pairs = _pairs(first, second)
    workers = [(xnnpack(first, list(pairs)), xnnpack(second, list(pairs.values()))) for _ in range(threads)]

    def work(worker: tuple[Runner, Runner], sample: Mapping[int, Array]) -> dict[str, Sums]:
        by_position = dict(zip(second.inputs, [sample[t] for t in first.inputs], strict=True))
        wanted, found = worker[0].run(graph_feed(first, sample)), worker[1].run(graph_feed(second, by_position))
        return {
            str(t): compare(to_real(first, t, wanted[t]), to_real(second, other, found[other]))
            for t, other in pairs.items()
        }

    total: dict[str, Sums] = {}
    count = 0
    for sums in ordered(workers, work, samples):
        total, count = add_up(total, sums), count + 1
    if not count:
        raise InputError("there are no samples", "Give at least one.")
    rows = {t: _row(first, t, total[str(t)]) for t in pairs}
    outputs = tuple(rows[t] for t in first.outputs)
    return Comparison(tuple(row for t, row in rows.items() if t not in first.outputs), outputs, count)


def _row(graph: Graph, t: int, sums: Sums) -> TensorComparison:
    producer = graph.producers().get(t)
    kind = "INPUT" if producer is None else graph.ops[producer].kind
    return TensorComparison(graph.tensors[t].name, kind, sums.result())


def _pairs(first: Graph, second: Graph) -> dict[int, int]:
    for what, a, b in (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs)):
        shapes = [[g.tensors[t].shape for t in ts] for g, ts in ((first, a), (second, b))]
        if shapes[0] != shapes[1]:
            raise InputError(f"the files' {what} differ: {shapes[0]} and {shapes[1]}", "Compare files of one model.")
    by_name = {second.tensors[t].name: t for op in second.ops for t in op.outputs}
    pairs = {}
    for op in first.ops:
        for t in op.outputs:
            other = by_name.get(first.tensors[t].name)
            if other is not None and second.tensors[other].shape == first.tensors[t].shape:
                pairs[t] = other
    return {**pairs, **dict(zip(first.outputs, second.outputs, strict=True))}

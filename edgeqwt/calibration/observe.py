"""Run the float graph on calibration samples and keep statistics of every activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgeqwt.calibration.clipped import spared
from edgeqwt.calibration.deciding import Within, around
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import carriers, without_fills
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack


def float_activations(graph: Graph) -> tuple[int, ...]:
    """The float32 tensors that a run computes or takes in."""
    written = [t for op in graph.ops for t in op.outputs]
    return tuple(t for t in (*graph.inputs, *written) if graph.tensors[t].is_float)


def observe(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    deciding: Mapping[int, Within] = MappingProxyType({}),
) -> tuple[dict[int, Statistics], int]:
    """Statistics of every float activation over all samples, and the number of samples.

    What a tensor's readers clip away, or multiply by zero, is left out (see `calibration.clipped`), and so are fill
    values that constants brought in (see `graph.fills`), and what does not decide (see `calibration.deciding`).

    Args:
        graph: a float graph.
        samples: graph inputs by tensor index; read once, one at a time.
        threads: interpreters that run at a time; the result does not depend on it.
        deciding: what of outputs decides, by their position.

    Raises:
        InputError: a tensor takes a value that is NaN or infinite; the tensor is named. No value of an output
            decides.
    """
    wanted, filled = float_activations(graph), carriers(graph)
    clipped = {**spared(graph), **around(graph, deciding)}
    workers = [(xnnpack(graph, wanted), {t: Statistics() for t in wanted}) for _ in range(threads)]

    def work(worker: tuple[Runner, dict[int, Statistics]], numbered: tuple[int, Mapping[int, Array]]) -> None:
        (runner, statistics), (number, inputs) = worker, numbered
        values = {**inputs, **runner.run(inputs)}
        for t in wanted:
            try:
                needed = clipped[t].needed(values[t], values) if t in clipped else values[t]
                statistics[t].add(without_fills(needed) if t in filled else needed, sample=number)
            except InputError as error:
                raise InputError(f"tensor {graph.tensors[t].name!r}: {error.message}", error.hint) from None

    count = sum(1 for _ in ordered(workers, work, enumerate(samples)))
    total = {t: Statistics() for t in wanted}
    for _, part in workers:
        for t, statistics in part.items():
            total[t].merge(statistics)
    for position, within in deciding.items():
        if total[graph.outputs[position]].counts is None:
            what = f"output {graph.tensors[graph.outputs[position]].name!r} is nowhere {within} in {count} samples"
            raise InputError(what, "Calibrate with samples that have what decides there, or set its ends otherwise.")
    return total, count

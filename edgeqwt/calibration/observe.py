"""Run the float graph on calibration samples and keep statistics of every activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import batched
from types import MappingProxyType

import numpy as np

from edgeqwt.calibration.clipped import spared
from edgeqwt.calibration.deciding import Within, around
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import carriers, without_fills
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.parallel import THREADS, chunk_size, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

Chunk = tuple[tuple[int, Mapping[int, Array]], ...]  # consecutive samples with their numbers


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

    def work(worker: tuple[Runner, dict[int, Statistics]], numbered: Chunk) -> int:
        (runner, statistics), first = worker, numbered[0][0]
        runs = [{**inputs, **runner.run(inputs)} for _, inputs in numbered]
        for t in wanted:
            needed = [clipped[t].needed(values[t], values) if t in clipped else values[t] for values in runs]
            needed = [without_fills(value) for value in needed] if t in filled else needed
            try:
                if len({value.shape for value in needed}) == 1:
                    statistics[t].add_samples(np.stack(needed), first)
                else:  # of each, other values are left out
                    for sample, value in enumerate(needed, start=first):
                        statistics[t].add(value, sample=sample)
            except InputError as error:
                raise InputError(f"tensor {graph.tensors[t].name!r}: {error.message}", error.hint) from None
        return len(runs)

    size = chunk_size(sum(graph.tensors[t].size for t in wanted))
    count = sum(ordered(workers, work, batched(enumerate(samples), size)))
    total = {t: Statistics() for t in wanted}
    for _, part in workers:
        for t, statistics in part.items():
            total[t].merge(statistics)
    for position, within in deciding.items():
        if total[graph.outputs[position]].counts is None:
            what = f"output {graph.tensors[graph.outputs[position]].name!r} is nowhere {within} in {count} samples"
            raise InputError(what, "Calibrate with samples that have what decides there, or set its ends otherwise.")
    return total, count

"""Run the float graph on calibration samples and keep statistics of every activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import batched
from types import MappingProxyType

from edgeqwt.calibration.clipped import spared
from edgeqwt.calibration.deciding import Within, around
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import carriers, without_fills
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.parallel import THREADS, chunk_size, taken
from edgeqwt.runtime.runners import LiteRT, Values, xnnpack

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

    Args:
        graph: as for `observe_some`.
        samples: all of them.
        threads: as for `observe_some`.
        deciding: as for `observe_some`.

    Raises:
        InputError: as `observe_some`; no value of an output decides.
    """
    total, count = observe_some(graph, samples, 0, threads, deciding)
    require_deciding(graph, total, deciding, count)
    return total, count


def require_deciding(graph: Graph, total: Mapping[int, Statistics], deciding: Mapping[int, Within], count: int) -> None:
    """Stops where no value of an output decides.

    Raises:
        InputError: there is such an output.
    """
    for position, within in deciding.items():
        if total[graph.outputs[position]].counts is None:
            what = f"output {graph.tensors[graph.outputs[position]].name!r} is nowhere {within} in {count} samples"
            raise InputError(what, "Calibrate with samples that have what decides there, or set its ends otherwise.")


def observe_some(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    first: int,
    threads: int = THREADS,
    deciding: Mapping[int, Within] = MappingProxyType({}),
) -> tuple[dict[int, Statistics], int]:
    """Statistics of every float activation over a run of consecutive samples, and how many these are.

    Those of all runs merge to those of all samples, exactly and in any order.

    What a tensor's readers clip away, or multiply by zero, is left out (see `calibration.clipped`), and so are fill
    values that constants brought in (see `graph.fills`), and what does not decide (see `calibration.deciding`).

    Args:
        graph: a float graph.
        samples: graph inputs by tensor index; read once, one at a time.
        first: number of the first of them, of all samples.
        threads: interpreters that run at a time; the result does not depend on it.
        deciding: what of outputs decides, by their position.

    Raises:
        InputError: a tensor takes a value that is NaN or infinite; the tensor is named.
    """
    wanted, filled = float_activations(graph), carriers(graph)
    clipped = {**spared(graph), **around(graph, deciding)}
    statistics, count = {t: Statistics() for t in wanted}, 0

    def run(runner: LiteRT, numbered: Chunk) -> tuple[int, list[Values]]:
        look = runner.views if len(numbered) == 1 else runner.run
        return numbered[0][0], [{**inputs, **look(inputs)} for _, inputs in numbered]

    def take(found: tuple[int, list[Values]]) -> None:
        nonlocal count
        begin, runs = found
        for t in wanted:
            needed = [clipped[t].needed(values[t], values) if t in clipped else values[t] for values in runs]
            needed = [without_fills(value) for value in needed] if t in filled else needed
            try:
                if len({value.shape for value in needed}) == 1:
                    statistics[t].add_samples(needed, begin)
                else:  # of each, other values are left out
                    for sample, value in enumerate(needed, start=begin):
                        statistics[t].add(value, sample=sample)
            except InputError as error:
                raise InputError(f"tensor {graph.tensors[t].name!r}: {error.message}", error.hint) from None
        count += len(runs)

    size = chunk_size(sum(graph.tensors[t].size for t in wanted))
    taken([xnnpack(graph, wanted) for _ in range(threads)], run, take, batched(enumerate(samples, first), size))
    return statistics, count

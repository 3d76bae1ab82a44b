"""One linear op, in both graphs, on all calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.compensation.match import Pair
from edgeqwt.compensation.moments import Moments, evening, evening_rows
from edgeqwt.compensation.probe import with_probe
from edgeqwt.compensation.rescale import squared_error
from edgeqwt.graph.graph import Array, Graph, Quantization
from edgeqwt.graph.positions import every, some
from edgeqwt.layerwise.segmented_run import Chunk, SegmentedRun
from edgeqwt.runtime.parallel import THREADS, chunk_size, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

FLOAT_STEP = 1e-3
"""Step of an output that stays float, as a share of its root mean square: errors below it count alike."""
FOLDS = 3
"""Parts of the samples: what is fitted on the others, each confirms. Sample i is in part i modulo this."""
CHUNK = 16  # samples that a thread takes at a time, at most: enough to make the bookkeeping small
CHUNKS = 4  # at least, so that threads share few samples, too
ROWS = 1 << 16
"""Positions of all samples, about, that two numbers per channel are fitted on: what more of them would change is less
than a thousandth of the error."""
LEAST = 1024  # of one sample


@dataclass(frozen=True, eq=False)
class Totals:
    """Moments of a layer over samples.

    Attributes:
        evened: of each of `FOLDS`, evened (see `moments.evening`).
        plain: of each, every sample at weight 1.
    """

    evened: tuple[Moments, ...]
    plain: tuple[Moments, ...]

    def __add__(self, other: Totals) -> Totals:
        return Totals(_added(self.evened, other.evened), _added(self.plain, other.plain))


def _added(one: Sequence[Moments], other: Sequence[Moments]) -> tuple[Moments, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, eq=False)
class Layer:
    """One pair and the segments of both graphs that lead to it.

    Attributes:
        pair: the op in both graphs.
        k: its number, that is, the number of its segments.
        integer: the integer graph's segments, cut at the ops' inputs.
        floating: the float graph's, cut at the ops' outputs before their activations.
        count: number of samples.
        position_weights: the output sensitivity of each sample's positions; empty: the same for all.
    """

    pair: Pair
    k: int
    integer: SegmentedRun
    floating: SegmentedRun
    count: int
    position_weights: Sequence[Array] = ()

    def run(self, graph: Graph, reference: Graph) -> Totals:
        """Runs the segments on every sample, the integer one followed by the op's real output.

        Args:
            graph: the integer graph, everything before the op compensated.
            reference: the float graph.
        """
        i = self.pair.integer
        x, y = self.integer.cuts[self.k], graph.ops[i].outputs[0]
        stored = graph.tensors[y].quantization
        self.integer.start(self.k)
        self.floating.start(self.k)
        shape = graph.tensors[y].shape
        step = 1 if self.position_weights else every(shape, max(LEAST, ROWS // self.count))

        def taken(values: Array) -> Array:
            return some(values, step)

        workers = [
            (
                self.integer.runner(self.k, graph, lambda piece, new: with_probe(piece, new[x], graph, i), taken),
                self.floating.runner(self.k, reference, taken=taken),
            )
            for _ in range(THREADS)
        ]

        def work(worker: tuple[Callable[[Chunk], Array], Callable[[Chunk], Array]], chunk: Chunk) -> Totals:
            run_integer, run_float = worker
            q, y = run_integer(chunk), run_float(chunk)
            scale = FLOAT_STEP * float(np.sqrt(np.square(y).mean())) if stored is None else float(stored.scale[0])
            moments = Moments.of(q, y)
            folds = [np.asarray(chunk) % FOLDS == k for k in range(FOLDS)]
            plain = tuple(moments.total(1.0 * fold) for fold in folds)
            weights: Array | float = 1.0
            if self.position_weights:
                rows = evening_rows(q, y, [self.position_weights[n] for n in chunk], scale)
                evened = Moments.of(q, y, rows)
            else:
                evened, weights = moments, evening(moments, scale)
            return Totals(tuple(evened.total(weights * fold) for fold in folds), plain)

        size = chunk_size(graph.tensors[y].size, min(CHUNK, -(-self.count // CHUNKS)))
        chunks = [range(start, min(start + size, self.count)) for start in range(0, self.count, size)]
        zeros = (Moments.zero(graph.tensors[y].shape[-1]),) * FOLDS
        # Summed in the order of the samples, so that threads do not change the result.
        return sum(ordered(workers, work, chunks), Totals(zeros, zeros))

    def storage_errors(self, graph: Graph, choices: Sequence[Quantization]) -> Array:
        """Squared error of the stored output on all samples, for each choice of its scale.

        Args:
            graph: the integer graph, this op compensated too.
            choices: parameters of the output's type.
        """
        i = self.pair.integer
        x, activation = self.integer.cuts[self.k], graph.ops[i].activation
        dtype = graph.tensors[graph.ops[i].outputs[0]].dtype
        piece, probe = with_probe(graph.slice([], [x], []), 0, graph, i)

        def work(runner: Runner, sample: int) -> Array:
            only = range(sample, sample + 1)
            output = runner.run({piece.inputs[0]: self.integer.values(x, only)[0]})[probe]
            wanted = self.floating.values(self.floating.cuts[self.k], only)[0]
            return np.array([squared_error(output, wanted, activation, q, dtype) for q in choices])

        workers = [xnnpack(piece, [probe]) for _ in range(THREADS)]
        return sum(ordered(workers, work, range(self.count)), np.zeros(len(choices)))

    def finish(self) -> None:
        """Frees what no later layer reads."""
        self.integer.finish(self.k)
        self.floating.finish(self.k)

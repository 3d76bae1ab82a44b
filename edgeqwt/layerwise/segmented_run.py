"""Run a graph over all samples one segment at a time, keeping only what later segments read.

Fitting each layer on the compensated layers before it would cost a run of the whole network
per layer if it started anew each time. Here every op runs once per sample: the graph is cut at
the tensors to look at, and the activations that are still needed wait on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.segments import segment_graph, segments
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.boundary import feed_as
from edgeqwt.runtime.runners import xnnpack

Chunk = range  # numbers of consecutive samples
# Extends the graph of a segment, given old -> new tensor indices, and names the tensor that is wanted of it.
Extend = Callable[[Graph, Mapping[int, int]], tuple[Graph, int]]


class SegmentedRun:
    """One graph, cut at some tensors.

    Args:
        name: tells this graph's records from others' in the store.
        graph: its structure; `runner` takes the graph of the moment, which may have other scales.
        cuts: activation tensors; segment k ends with cuts[k].
        store: where live activations wait.
    """

    def __init__(self, name: str, graph: Graph, cuts: Sequence[int], store: ActivationStore) -> None:
        self.name, self.cuts, self.store = name, tuple(cuts), store
        self.parts = segments(graph, cuts)[: len(self.cuts)]
        self.last: dict[int, int] = {}  # tensor -> the last segment that reads it
        for k, part in enumerate(self.parts):
            self.last |= dict.fromkeys((*part.inputs, self.cuts[k]), k)
        self.specs = [(t.shape, np.dtype(DTYPES[t.dtype])) for t in graph.tensors]
        for t in graph.inputs:
            store.open((name, t))

    def feed(self, sample: int, inputs: Mapping[int, Array]) -> None:
        """Stores one sample's graph inputs."""
        for t, value in inputs.items():
            self.store.put((self.name, t), sample, value[None])

    def start(self, k: int) -> None:
        """Opens what segment k leaves behind; once, before its runners run."""
        for t in self._kept(k):
            self.store.open((self.name, t))

    def runner(
        self, k: int, graph: Graph, extend: Extend | None = None, taken: Callable[[Array], Array] = np.asarray
    ) -> Callable[[Chunk], Array]:
        """A function that runs segment k of `graph` on a chunk of samples.

        It returns cuts[k], or the tensor that `extend` wants, with the samples stacked in front: of each what `taken`
        takes of it.
        """
        part, cut = self.parts[k], self.cuts[k]
        if not part.ops and extend is None:
            return lambda chunk: np.stack([taken(value) for value in self.values(cut, chunk)])
        piece, new = segment_graph(graph, part)
        if cut not in new:  # computed by an earlier segment, and only read here
            piece, new = graph.slice([], [cut], []), {cut: 0}
        kept = self._kept(k)
        piece, wanted = (piece, new[cut]) if extend is None else extend(piece, new)
        old = {n: o for o, n in new.items()}
        interpreter = xnnpack(piece, [wanted])

        def run(chunk: Chunk) -> Array:
            inputs = {t: self.values(old[t], chunk) for t in piece.inputs}
            found: Array | None = None
            for i, sample in enumerate(chunk):
                values = interpreter.views({t: v[i] for t, v in inputs.items()})
                for t in kept:
                    self.store.put((self.name, t), sample, values[new[t]][None])
                value = taken(values[wanted])
                found = np.empty((len(chunk), *value.shape), value.dtype) if found is None else found
                found[i] = value
                values.clear()
                del value  # of the interpreter's own memory
            return np.empty(0) if found is None else found  # without samples

        return run

    def values(self, tensor: int, chunk: Chunk) -> Array:
        """A stored activation of some samples, stacked."""
        return self.store.get((self.name, tensor), chunk.start, len(chunk), *self.specs[tensor])

    def finish(self, k: int) -> None:
        """Drops what no later segment reads."""
        for t in {*self.parts[k].inputs, self.cuts[k]}:
            if self.last[t] == k and (self.name, t) in self.store:
                self.store.drop((self.name, t))

    def _kept(self, k: int) -> list[int]:
        """What segment k computes and a later one reads, or the second look at its own cut."""
        return [t for t in self.parts[k].outputs if self.last.get(t, -1) > k or t == self.cuts[k]]


def feed_both(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    integer: SegmentedRun,
    floating: SegmentedRun,
) -> int:
    """Stores samples for an integer graph and for the float one that it was lowered from.

    Args:
        graph: integer.
        reference: float; its inputs are in the graph's order.
        samples: real values by the reference's input tensor index; read once.
        integer: of `graph`.
        floating: of `reference`.

    Returns:
        How many there were.

    Raises:
        InputError: there are none.
    """
    count = 0
    for count, sample in enumerate(samples, start=1):
        floating.feed(count - 1, sample)
        integer.feed(count - 1, feed_as(graph, reference, sample))
    if not count:
        raise InputError("there are no calibration samples", "Give at least one; 128 to 512 are a good number.")
    return count

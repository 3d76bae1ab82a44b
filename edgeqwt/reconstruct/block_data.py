"""What blocks learn from and are judged by: both graphs walked from block to block, live activations on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeqwt.autograd.evaluate import as_tensor, needed
from edgeqwt.autograd.output_sensitivity import output_sensitivity
from edgeqwt.calibration.samples import roles
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.pairing import counterparts
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import Chunk, SegmentedRun, feed_both
from edgeqwt.reconstruct.blocks import Block
from edgeqwt.reconstruct.fisher import fisher
from edgeqwt.runtime.boundary import to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

CHUNK = 16  # samples that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Part:
    """A block's ops as a graph of their own.

    Attributes:
        graph: of the block's ops.
        given: its input tensors in the whole graph to those in `graph`.
        wanted: the same of the tensors that are looked at.
    """

    graph: Graph
    given: Mapping[int, int]
    wanted: Mapping[int, int]

    @staticmethod
    def of(graph: Graph, given: Sequence[int], wanted: Sequence[int]) -> Part:
        """The part of a graph between some tensors."""
        ops, read = needed(graph, wanted, set(given))
        piece, new = graph.slice_with_index(ops, read, wanted)
        return Part(piece, {t: new[t] for t in read}, {t: new[t] for t in wanted})

    def runner(self) -> Runner:
        """An interpreter of the part."""
        return xnnpack(self.graph, [*self.wanted.values()])


class BlockData:
    """Both graphs on all samples, block after block.

    Args:
        graph: integer; its structure counts, the graph of the moment is given to each method.
        reference: float.
        blocks: of the reference's ops, in order.
        store: where activations wait.

    Attributes:
        count: number of samples.
        fitted: numbers of the samples to learn from.
        confirming: numbers of the samples that nothing is learned from.
        signal: mean square of the block's outputs and taps, summed over the samples fitted on and those that confirm.
        importance: of the elements of outputs and taps where their errors are weighed; mean 1 per tensor.
        factors: of the same where errors of several elements count together (`fisher`), shape (rank, elements).
    """

    def __init__(self, graph: Graph, reference: Graph, blocks: Sequence[Block], store: ActivationStore) -> None:
        self.reference, self.blocks, self.store, self.count = reference, blocks, store, 0
        self.counterparts = counterparts(reference, graph)
        # Besides the first input, a block reads at most other inputs of the model, which are on disk anyway.
        self.floating = SegmentedRun("float", reference, [b.given[0] for b in blocks], store)
        self.integer = SegmentedRun("integer", graph, [self.counterparts[b.given[0]] for b in blocks], store)
        self.signal: dict[int, Array] = {}
        self.importance: dict[int, Array] = {}
        self.factors: dict[int, Array] = {}

    def feed(self, graph: Graph, samples: Iterable[Mapping[int, Array]]) -> None:
        """Stores the samples.

        Raises:
            InputError: there are none.
        """
        self.count = feed_both(graph, self.reference, samples, self.integer, self.floating)
        self.fitted, self.confirming = (np.flatnonzero(part).tolist() for part in roles(range(self.count), self.count))

    def reach(self, k: int, graph: Graph) -> None:
        """Runs both graphs up to block k's inputs, and the float one through the block."""
        chunks = [range(first, min(first + CHUNK, self.count)) for first in range(0, self.count, CHUNK)]
        for side, current in ((self.floating, self.reference), (self.integer, graph)):
            side.start(k)
            workers = [side.runner(k, current) for _ in range(THREADS)]
            for _ in ordered(workers, lambda run, chunk: run(chunk), chunks):
                pass
        block = self.blocks[k]
        part = Part.of(self.reference, block.given, (*block.outputs, *block.taps))
        for t in part.wanted:
            self.store.open(("target", t))

        def work(runner: Runner, chunk: Chunk) -> dict[int, Array]:
            signal: dict[int, Array] = {t: np.zeros(2) for t in part.wanted}
            for i in chunk:
                one = range(i, i + 1)
                found = runner.run({u: self.floating.values(t, one)[0] for t, u in part.given.items()})
                for t, u in part.wanted.items():
                    self.store.put(("target", t), i, found[u][None])
                    square = float(np.square(found[u].astype(np.float64)).mean())
                    signal[t] += square * np.array([i in fitted, i in confirming])
            return signal

        fitted, confirming = set(self.fitted), set(self.confirming)
        self.signal = {t: np.zeros(2) for t in part.wanted}
        for signal in ordered([part.runner() for _ in range(THREADS)], work, chunks):
            for t, value in signal.items():
                self.signal[t] += value

    def weigh(self, outputs: Sequence[int], rank: int = 0) -> None:
        """Finds the importance of every activation's elements for some outputs: their mean squared gradient.

        That is the diagonal of the Fisher information of outputs with unit Gaussian noise (BRECQ,
        equation 10, with all outputs in place of the loss); with a rank, errors of several elements count together,
        too (FIMA-Q; `fisher`).
        """
        inputs = self.reference.inputs
        samples = ({t: self.floating.values(t, range(i, i + 1))[0] for t in inputs} for i in self.fitted)
        wanted = {t for block in self.blocks for t in (*block.outputs, *block.taps)}
        if rank:
            for t, (diagonal, factors) in fisher(self.reference, samples, outputs, wanted, rank).items():
                mean = diagonal.mean() + np.square(factors).sum() / diagonal.size
                self.importance[t] = diagonal.reshape(self.reference.tensors[t].shape) / mean + 0.1
                self.factors[t] = factors / np.sqrt(mean)
            return
        found = output_sensitivity(self.reference, samples, outputs)
        # A tenth of the mean for what has hardly a gradient: it may have one on other samples.
        raised = {t: v + 0.1 * v.mean() for t, v in found.items() if t in wanted and v.any()}
        self.importance = {t: v / v.mean() for t, v in raised.items()}

    def leave(self, k: int) -> None:
        """Frees what no later block reads."""
        self.floating.finish(k)
        self.integer.finish(k)
        for t in self.signal:
            self.store.drop(("target", t))

    def inputs(self, k: int, graph: Graph, chosen: Sequence[int], floating: bool = False) -> dict[int, torch.Tensor]:
        """Block k's inputs for some of the fitted samples: what the integer graph computes, or the float one."""
        found = {}
        for t in self.blocks[k].given:
            if floating:
                values = [self.floating.values(t, range(i, i + 1)) for i in self._fitted(chosen)]
            else:
                u = self.counterparts[t]
                values = [to_real(graph, u, self.integer.values(u, range(i, i + 1))) for i in self._fitted(chosen)]
            found[t] = as_tensor(np.concatenate(values))
        return found

    def targets(self, chosen: Sequence[int]) -> dict[int, torch.Tensor]:
        """The block's outputs and taps in the float graph for some of the fitted samples."""
        return {t: as_tensor(np.concatenate([self._target(t, i) for i in self._fitted(chosen)])) for t in self.signal}

    def error(self, k: int, graph: Graph) -> float:
        """Squared error over squared signal of block k's outputs, summed over outputs, on the samples that confirm.

        Where errors of several elements count together, they do so here: errors that cancel each other are none.
        """
        block = self.blocks[k]
        part = Part.of(
            graph, [self.counterparts[t] for t in block.given], [self.counterparts[t] for t in block.outputs]
        )

        def work(runner: Runner, i: int) -> Array:
            found = runner.run({u: self.integer.values(t, range(i, i + 1))[0] for t, u in part.given.items()})
            values = [to_real(part.graph, u, found[u]).astype(np.float64) for u in part.wanted.values()]
            wanted = [self._target(t, i)[0] for t in block.outputs]
            errors = (v - w for v, w in zip(values, wanted, strict=True))
            return np.array([self._cost(t, e) for t, e in zip(block.outputs, errors, strict=True)])

        workers = [part.runner() for _ in range(THREADS)]
        # Summed in the order of the samples, so that threads do not change the result.
        noise = sum(ordered(workers, work, self.confirming), np.zeros(len(block.outputs)))
        signal = np.array([self.signal[t][1] for t in block.outputs])
        return float((noise / np.where(signal > 0, signal, 1)).sum())

    def _cost(self, t: int, error: Array) -> float:
        """Mean square of one sample's error at an output, as learning weighs it where factors are known."""
        if t not in self.factors:
            return float(np.square(error).mean())
        together = self.factors[t] @ error.reshape(-1)
        return float((self.importance[t] * np.square(error)).mean() + np.square(together).sum() / error.size)

    def _target(self, t: int, sample: int) -> Array:
        tensor = self.reference.tensors[t]
        return self.store.get(("target", t), sample, 1, tensor.shape, np.dtype(np.float32))

    def _fitted(self, chosen: Sequence[int]) -> list[int]:
        return [self.fitted[i] for i in chosen]

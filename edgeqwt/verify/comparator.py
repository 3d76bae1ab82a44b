"""How far graphs are from a float one at its outputs, whose values are kept for many looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType, TracebackType
from weakref import WeakKeyDictionary

import numpy as np

from edgeqwt.calibration.deciding import Within
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import fills_as_zero
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.pairing import counterparts
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, Values, xnnpack
from edgeqwt.verify.parts import Part, parts_of
from edgeqwt.verify.remembered import Remembered
from edgeqwt.verify.resolution import probable, probable_step
from edgeqwt.verify.spread import Spread


class Comparator:
    """Runs the float graph once per sample, keeps inputs and outputs on disk, and compares other graphs with them.

    Args:
        graph: float.
        samples: real-valued inputs by tensor index.
        outputs: tensors to compare, the graph's outputs by default; name those before a softmax,
            behind which most differences vanish. Other graphs have their counterparts (`graph.pairing`).
        deciding: what of the graph's outputs decides, by their position; the rest has no error.
        centered: leave out the mean error of each channel, which compensation corrects later; not where the float
            outputs are the same for all samples, because the errors then are, too.
        remembered: keeps what comes out of graphs.

    Attributes:
        count: number of samples.

    Raises:
        InputError: there are no samples.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Iterable[Mapping[int, Array]],
        outputs: Sequence[int] = (),
        *,
        centered: bool = False,
        deciding: Mapping[int, Within] = MappingProxyType({}),
        remembered: Remembered | None = None,
    ) -> None:
        self.graph, self.outputs, self.centered = graph, tuple(outputs) or graph.outputs, centered
        self._store, self.count = ActivationStore(), 0
        self._remembered = remembered
        # Of graphs that were compared and are still in use: what techniques compare is what came out of the last one.
        self._sums: WeakKeyDictionary[Graph, tuple[Array, list[Array], Array]] = WeakKeyDictionary()
        for t in {*graph.inputs, *self.outputs}:
            self._store.open(t)
        self._deciding = {graph.outputs[k]: within for k, within in deciding.items()}
        self._parts: dict[int, tuple[Part | None, ...]] = {
            t: (() if t in self._deciding else parts_of(graph, t)) or (None,) for t in self.outputs
        }
        probabilities = {t: probable(graph, t) for t in self.outputs if t not in self._deciding}
        self._probable = {
            (t, part)
            for t, mask in probabilities.items()
            for part in self._parts[t]
            if (mask if part is None else part.of(mask)).all()
        }
        spread: dict[tuple[int, Part | None], Spread] = {}
        whole: dict[tuple[int, Part | None], float] = {}

        def work(runner: Runner, inputs: Mapping[int, Array]) -> dict[int, Array]:
            return {**inputs, **runner.run(inputs)}

        for values in ordered([xnnpack(graph, self.outputs) for _ in range(THREADS)], work, samples):
            for t in {*graph.inputs, *self.outputs}:
                self._store.put(t, self.count, values[t][None])
            self._remember(graph, self.count, values, self.outputs)
            counting = {t: self._counting(t, values[t]) for t in self.outputs}
            for key, value in self._of_parts(counting).items():
                value = fills_as_zero(value)
                found = Spread(1, value)
                spread[key] = found if key not in spread else spread[key].plus(found)
                whole[key] = whole.get(key, 0.0) + float(np.square(value.astype(np.float64)).sum())
            self.count += 1
        if self.count == 0:
            raise InputError("there are no samples to compare models on", "Give some.")
        # What varies is the signal: beside a large mean, the error of what distinguishes the samples looks small.
        self._signal = {key: spread[key].varying or whole[key] for key in spread}
        self._reach = {key: spread[key].reach for key in spread}
        self.centered &= any(found.squares > 0 for found in spread.values())

    def __enter__(self) -> Comparator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def uncentered(self) -> Comparator:
        """The same samples and values, for errors of which the mean counts, too; not to be closed."""
        found = copy(self)
        found.centered = False
        return found

    def close(self) -> None:
        """Frees the disk."""
        self._store.__exit__(None, None, None)

    def noise(self, integer: Graph, threads: int = THREADS) -> float:
        """Squared error over the squares of what varies, summed over the outputs: 0.001 is 30 dB with one output.

        An output that joins parts of several kinds counts as so many outputs. A graph whose kernels end their process
        errs without bound: no candidate of the kind is kept.
        """
        try:
            return self._noise(integer, threads)
        except KernelEndedError:
            return math.inf

    def _noise(self, integer: Graph, threads: int) -> float:
        if integer not in self._sums:
            self._sums[integer] = self._summed(integer, threads)
        noise, total, rows = self._sums[integer]
        if self.centered:
            constant = np.array([np.square(error).sum() for error in total]) / rows
            noise = np.maximum(noise - constant, 0) * rows / np.maximum(rows - 1, 1)
        signal = np.array([*self._signal.values()])
        return float((noise / np.where(signal > 0, signal, 1)).sum())

    def _summed(self, integer: Graph, threads: int) -> tuple[Array, list[Array], Array]:
        """Of each output or part: the sum of squared errors, that of each channel's errors, and how many rows."""
        pairs = counterparts(self.graph, integer)
        taps = {t: pairs[t] for t in self.outputs}

        def work(runner: Runner, sample: int) -> list[Array]:
            fed = feed_as(integer, self.graph, {t: self._value(t, sample) for t in self.graph.inputs})
            values = {**fed, **runner.run(fed)}
            self._remember(integer, sample, values, [*taps.values()])
            wanted = {t: self._counting(t, self._value(t, sample)) for t in taps}
            errors = {
                t: fills_as_zero(self._counting(t, to_real(integer, u, values[u]).astype(np.float64)) - wanted[t])
                for t, u in taps.items()
            }
            return [e.reshape(-1, e.shape[-1] if e.ndim else 1) for e in self._of_parts(errors).values()]

        workers = [xnnpack(integer, [*taps.values()]) for _ in range(threads)]
        noise: Array = np.zeros(len(self._signal))
        total: list[Array] = [np.zeros(1)] * len(self._signal)
        # Summed in the order of the samples, so that threads do not change the result.
        for errors in ordered(workers, work, range(self.count)):
            noise += [np.square(error).sum() for error in errors]
            total = [old + error.sum(axis=0) for old, error in zip(total, errors, strict=True)]
        steps = {t: probable_step(integer, u) for t, u in taps.items()}
        # A probability that varies by less than a step of its kernels errs by all that it varies, whatever is done.
        judged = [key not in self._probable or self._reach[key] >= steps[key[0]] for key in self._signal]
        return np.where(judged, noise, 0.0), total, np.array([self.count * len(error) for error in errors])

    def _remember(self, graph: Graph, sample: int, values: Values, taps: Sequence[int]) -> None:
        if self._remembered is not None:
            self._remembered.put(graph, sample, {t: values[t] for t in {*graph.outputs, *taps}})

    def _of_parts(self, values: Mapping[int, Array]) -> dict[tuple[int, Part | None], Array]:
        """The outputs' values, those of each part by themselves; in one order always."""
        return {
            (t, part): values[t] if part is None else part.of(values[t])
            for t in self.outputs
            for part in self._parts[t]
        }

    def _counting(self, t: int, values: Array) -> Array:
        """Those that decide of a tensor's values."""
        return self._deciding[t].of(values) if t in self._deciding else values

    def _value(self, t: int, sample: int) -> Array:
        tensor = self.graph.tensors[t]
        value: Array = self._store.get(t, sample, 1, tensor.shape, np.dtype(DTYPES[tensor.dtype]))[0]
        return value

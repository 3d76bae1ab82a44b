"""How far an integer graph's outputs are from the float graph's, on samples that are kept for many looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType

import numpy as np

from edgeqwt.calibration.deciding import Within
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import fills_as_zero
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.parts import Part, parts_of
from edgeqwt.verify.spread import Spread


class Comparator:
    """Runs the float graph once per sample, keeps inputs and outputs on disk, and compares integer graphs with them.

    Args:
        graph: float.
        samples: real-valued inputs by tensor index.
        outputs: tensors to compare, the graph's outputs by default; name those before a softmax,
            behind which most differences vanish. Integer graphs have them by the same names.
        deciding: what of the graph's outputs decides, by their position; the rest has no error.
        centered: leave out the mean error of each channel, which compensation corrects later; not where the float
            outputs are the same for all samples, because the errors then are, too.

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
    ) -> None:
        self.graph, self.outputs, self.centered = graph, tuple(outputs) or graph.outputs, centered
        self._store, self.count = ActivationStore(), 0
        for t in {*graph.inputs, *self.outputs}:
            self._store.open(t)
        self._deciding = {graph.outputs[k]: within for k, within in deciding.items()}
        self._parts: dict[int, tuple[Part | None, ...]] = {
            t: (() if t in self._deciding else parts_of(graph, t)) or (None,) for t in self.outputs
        }
        spread: dict[tuple[int, Part | None], Spread] = {}
        whole: dict[tuple[int, Part | None], float] = {}

        def work(runner: Runner, inputs: Mapping[int, Array]) -> dict[int, Array]:
            return {**inputs, **runner.run(inputs)}

        for values in ordered([xnnpack(graph, self.outputs) for _ in range(THREADS)], work, samples):
            for t in {*graph.inputs, *self.outputs}:
                self._store.put(t, self.count, values[t][None])
            counting = {t: self._counting(t, values[t]) for t in self.outputs}
            for key, value in self._of_parts(counting).items():
                value = fills_as_zero(value)
                found = Spread(1, value)
                spread[key] = found if key not in spread else spread[key].plus(found)
                whole[key] = whole.get(key, 0.0) + float(np.square(value.astype(np.float64)).sum())
            self.count += 1
        if self.count == 0:
            raise InputError("there are no samples to search scales on", "Give some.")
        # What varies is the signal: beside a large mean, the error of what distinguishes the samples looks small.
        self._signal = {key: spread[key].varying or whole[key] for key in spread}
        self.centered &= any(found.squares > 0 for found in spread.values())

    def __enter__(self) -> Comparator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the disk."""
        self._store.__exit__(None, None, None)

    def noise(self, integer: Graph) -> float:
        """Squared error over the squares of what varies, summed over the outputs: 0.001 is 30 dB with one output.

        An output that joins parts of several kinds counts as so many outputs.
        """
        names = {integer.tensors[t].name: t for op in integer.ops for t in op.outputs}
        taps = {t: self._counterpart(integer, names, t) for t in self.outputs}

        def work(runner: Runner, sample: int) -> list[Array]:
            fed = feed_as(integer, self.graph, {t: self._value(t, sample) for t in self.graph.inputs})
            values = {**fed, **runner.run(fed)}
            wanted = {t: self._counting(t, self._value(t, sample)) for t in taps}
            errors = {
                t: fills_as_zero(self._counting(t, to_real(integer, u, values[u]).astype(np.float64)) - wanted[t])
                for t, u in taps.items()
            }
            return [e.reshape(-1, e.shape[-1] if e.ndim else 1) for e in self._of_parts(errors).values()]

        workers = [xnnpack(integer, [*taps.values()]) for _ in range(THREADS)]
        noise, total = np.zeros(len(self._signal)), [np.zeros(1)] * len(self._signal)
        # Summed in the order of the samples, so that threads do not change the result.
        for errors in ordered(workers, work, range(self.count)):
            noise += [np.square(error).sum() for error in errors]
            total = [old + error.sum(axis=0) for old, error in zip(total, errors, strict=True)]
        if self.centered:
            rows = np.array([self.count * len(error) for error in errors])
            constant = np.array([np.square(error).sum() for error in total]) / rows
            noise = np.maximum(noise - constant, 0) * rows / np.maximum(rows - 1, 1)
        signal = np.array([*self._signal.values()])
        return float((noise / np.where(signal > 0, signal, 1)).sum())

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

    def _counterpart(self, integer: Graph, names: Mapping[str, int], t: int) -> int:
        """The integer graph's tensor for one of the float graph's; graph outputs correspond by position."""
        if t in self.graph.outputs:
            return integer.outputs[self.graph.outputs.index(t)]
        return names[self.graph.tensors[t].name]

    def _value(self, t: int, sample: int) -> Array:
        tensor = self.graph.tensors[t]
        value: Array = self._store.get(t, sample, 1, tensor.shape, np.dtype(DTYPES[tensor.dtype]))[0]
        return value

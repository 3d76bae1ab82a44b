"""Two graphs side by side: the one place that runs a graph and others made from it on the same samples.

`side_by_side` gives all values of a sample to whoever wants them, `compared` sums them up pair of tensors by pair of
tensors, and a `Comparator` keeps the float graph's inputs and outputs for many looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import batched, islice
from types import MappingProxyType, TracebackType
from weakref import WeakKeyDictionary

import numpy as np

from edgeqwt.calibration.deciding import Within
from edgeqwt.errors import InputError
from edgeqwt.graph.fills import fills_as_zero
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.pairing import counterparts
from edgeqwt.graph.positions import thinned
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.boundary import feed_as, graph_feed, to_real
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.runtime.parallel import THREADS, chunk_size, ordered
from edgeqwt.runtime.runners import LiteRT, Runner, Values, xnnpack
from edgeqwt.verify.metrics import Sums, compare
from edgeqwt.verify.parts import Part, parts_of
from edgeqwt.verify.resolution import probable, probable_step
from edgeqwt.verify.spread import Spread


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
    return _side_by_side(reference, taps, graphs, batched(samples, 1), lambda a, b: work(a[0], b[0]), threads)


def _side_by_side[T](
    reference: Graph,
    taps: Iterable[int],
    graphs: Mapping[str, tuple[Graph, Sequence[int]]],
    chunks: Iterable[Sequence[Mapping[int, Array]]],
    work: Callable[[list[Values], list[dict[str, Values]]], T],
    threads: int,
    views: bool = False,
) -> Iterator[T]:
    """As `side_by_side`, several samples at a time; with `views`, those of one alone are gone when `work` is done."""
    return _over(_workers(reference, taps, graphs, threads), reference, graphs, chunks, work, views)


Worker = tuple[LiteRT, dict[str, LiteRT]]  # the reference's interpreter, and the others' by name


def _workers(
    reference: Graph, taps: Iterable[int], graphs: Mapping[str, tuple[Graph, Sequence[int]]], threads: int
) -> list[Worker]:
    wanted = sorted({*taps})
    return [
        (xnnpack(reference, wanted), {name: xnnpack(graph, looked) for name, (graph, looked) in graphs.items()})
        for _ in range(threads)
    ]


def _over[T](
    workers: list[Worker],
    reference: Graph,
    graphs: Mapping[str, tuple[Graph, Sequence[int]]],
    chunks: Iterable[Sequence[Mapping[int, Array]]],
    work: Callable[[list[Values], list[dict[str, Values]]], T],
    views: bool,
) -> Iterator[T]:
    """What workers make of the values of each chunk of samples."""

    def values_of(runner: LiteRT, given: Values, alone: bool) -> Values:
        return {**given, **(runner.views(given) if alone else runner.run(given))}

    def run(worker: Worker, chunk: Sequence[Mapping[int, Array]]) -> T:
        (own, others), alone = worker, views and len(chunk) == 1
        found = [
            {n: values_of(runner, feed_as(graphs[n][0], reference, sample), alone) for n, runner in others.items()}
            for sample in chunk
        ]
        return work([values_of(own, graph_feed(reference, sample), alone) for sample in chunk], found)

    return ordered(workers, run, chunks)


@dataclass(frozen=True)
class Look:
    """A pair of tensors, or of parts of them, to compare.

    Attributes:
        reference, tensor: in the one graph and in the other.
        varying: whether samples are compared one by one, by what varies and by rows: outputs, and what they are
            judged by.
        part: None: the whole.
        deciding: what of the tensors counts; None: everything.
        spread: whether what varies counts of others, too.
        probable_step: of a probability, the step that its kernels give it (`verify.resolution`); 0 of what is none.
        most: values of a sample that count, about, of what is not `varying`; None: all.
    """

    reference: int
    tensor: int
    varying: bool = False
    part: Part | None = None
    deciding: Within | None = None
    spread: bool = False
    probable_step: float = 0.0
    most: int | None = None

    def counting(self, values: Array) -> Array:
        """What counts of the values of one of the tensors."""
        values = values if self.deciding is None else self.deciding.of(values)
        return values if self.part is None else self.part.of(values)


@dataclass
class Total:
    """What was found of one look by now; what is kept of each sample, `errors` and the rest, where it varies."""

    sums: Sums = field(default_factory=Sums)
    errors: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)
    variations: list[float] = field(default_factory=list)

    def add(self, sums: Sums, each: bool) -> None:
        """Takes in one sample's sums, and keeps what is compared in pairs where `each` is set."""
        before, self.sums = self.sums, self.sums.plus(sums)
        if each:
            self.variations.append(_squares(self.sums) - _squares(before))
            self.errors.append(sums.error)
            self.agreeing.append(sums.agreeing)


def _squares(sums: Sums) -> float:
    return 0.0 if sums.spread is None else sums.spread.squares


def compared(
    reference: Graph,
    graphs: Mapping[str, tuple[Graph, Sequence[Look]]],
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
    first: int | None = None,
) -> tuple[int, dict[str, list[Total]]]:
    """How close graphs come to another one, look by look.

    Args:
        reference: what the others are compared with, usually float.
        graphs: by name, with what to look at.
        samples: as for `side_by_side`.
        threads: likewise.
        on_sample: called after each sample.
        first: how many samples looks count of that are not `varying`; None: all.

    Returns:
        How many samples there were, and by name a total for each look.

    Raises:
        InputError: there are no samples.
        ToolError: LiteRT refuses a graph.
    """
    totals = {name: [Total() for _ in looks] for name, (_, looks) in graphs.items()}
    taps = {look.reference for _, looks in graphs.values() for look in looks}
    tapped = {name: (graph, [look.tensor for look in looks]) for name, (graph, looks) in graphs.items()}
    sizes = [sum(graph.tensors[t].size for t in looked) for graph, looked in tapped.values()]
    size = chunk_size(sum(sizes) + sum(reference.tensors[t].size for t in taps))
    workers, source = _workers(reference, taps, tapped, threads), iter(samples)

    def taken(part: Iterable[Mapping[int, Array]], every: bool) -> int:
        looks = {
            name: [(look, total) for look, total in zip(found, totals[name], strict=True) if every or look.varying]
            for name, (_, found) in graphs.items()
        }

        def work(wanted: list[Values], found: list[dict[str, Values]]) -> tuple[int, dict[str, list[list[Sums]]]]:
            return len(wanted), {
                name: [_sums(reference, graphs[name][0], look, wanted, [v[name] for v in found]) for look, _ in kept]
                for name, kept in looks.items()
            }

        count = 0
        for number, parts in _over(workers, reference, tapped, batched(part, size), work, views=True):
            for name, by_look in parts.items():
                for (look, total), found in zip(looks[name], by_look, strict=True):
                    for sums in found:
                        total.add(sums, look.varying)
            count += number
            for _ in range(number):
                on_sample()
        return count

    count = taken(source if first is None else islice(source, first), every=True)
    count += taken(source, every=False)
    if count == 0:
        raise InputError("there are no samples to compare the models on", "Give at least one.")
    return count, totals


def _sums(reference: Graph, graph: Graph, look: Look, wanted: list[Values], found: list[Values]) -> list[Sums]:
    """Sums for a look: of each sample where it is compared in pairs, else of all together."""
    q = graph.tensors[look.tensor].quantization
    step = float(q.scale[0]) if q is not None and q.axis is None else None
    ours, theirs = [v[look.reference] for v in wanted], [v[look.tensor] for v in found]
    if look.varying or look.spread:  # what varies is kept
        ours = [*map(np.array, ours)]
    if look.varying:
        first = [look.counting(to_real(reference, look.reference, value)) for value in ours]
        second = [look.counting(to_real(graph, look.tensor, value)) for value in theirs]
        return [compare(a, b, step, varying=True) for a, b in zip(first, second, strict=True)]
    if look.most is not None:
        ours, theirs = ([thinned(value, look.most) for value in values] for values in (ours, theirs))
    stack = _stacked([to_real(reference, look.reference, value) for value in ours])
    if theirs[0].dtype.kind == "c" or (q is not None and q.axis is not None):  # not element by element
        theirs = [to_real(graph, look.tensor, value) for value in theirs]
    real = partial(to_real, graph, look.tensor)
    return [compare(stack, _stacked(theirs), step, varying=look.spread, rows=False, stacked=True, real=real)]


def _stacked(values: list[Array]) -> Array:
    return values[0][None] if len(values) == 1 else np.stack(values)


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

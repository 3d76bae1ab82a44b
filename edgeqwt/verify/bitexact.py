"""Do LiteRT's reference kernels, TFLite Micro and XNNPACK compute the same integers?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from edgeqwt.errors import InputError, ToolError
from edgeqwt.extras import MissingPackageError
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16, bits_of, stays_float
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.child import EndedError
from edgeqwt.runtime.ended import KernelEndedError, ending_op
from edgeqwt.runtime.overwritten import overwritten
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, Values
from edgeqwt.runtime.subprocess_runners import Host, litert_host, micro_host

FLOAT = 32


@dataclass(frozen=True)
class Difference:
    """One tensor as two kernel families compute it.

    Attributes:
        op: index of the op that computes it.
        kind: that op's kind.
        tensor: its name.
        elements: how many elements were compared, over all samples.
        differing: how many of them differ.
        largest: the largest difference: in integer steps; in real units for a float tensor.
        bits: the width of the op's activations; 32: float.
    """

    op: int
    kind: str
    tensor: str
    elements: int = 0
    differing: int = 0
    largest: float = 0.0
    bits: int = 8

    @property
    def known(self) -> bool:
        """Whether TFLite Micro is known to differ that much from the reference kernels.

        Kernels add floats in any order: results of ops that stay float are no integers to be held against each other.
        What is rounded behind them is compared on equal floats.
        """
        if self.bits == FLOAT:
            return True
        rows = RULES16 if self.bits == 16 else RULES
        return self.kind in rows and self.largest <= rows[self.kind].micro


@dataclass(frozen=True)
class Lacking:
    """An op that TFLite Micro does not take, when it loads it or when it runs it.

    Attributes:
        op: its index.
        kind: its kind.
        tensor: its output.
        reason: what TFLite Micro says.
    """

    op: int
    kind: str
    tensor: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} #{self.op} {self.tensor!r}: {self.reason}"


@dataclass(frozen=True)
class BitExactness:
    """The kernel families against each other on the same samples.

    Attributes:
        samples: how many.
        ops: how many ops TFLite Micro ran.
        elements: how many elements of their outputs were compared with the reference kernels'.
        differences: outputs in which TFLite Micro differs from the reference kernels, each op fed
            with the reference kernels' own bytes.
        lacking: ops that TFLite Micro does not take.
        unavailable: why TFLite Micro does not run the whole model: the first op that it does not take, or
            what else is in the way; None when it runs it.
        xnnpack: every op's outputs, XNNPACK against the reference kernels, each model running
            freely, so that differences add up along the model.
        xnnpack_outputs: the same at the graph's outputs.
        overwritten: outputs that LiteRT computes differently when, as in programs, nothing looks at the tensors in
            between: it writes over some that are still needed (`runtime.overwritten`).
    """

    samples: int
    ops: int
    elements: int
    differences: tuple[Difference, ...]
    lacking: tuple[Lacking, ...]
    unavailable: str | None
    xnnpack: tuple[Difference, ...]
    xnnpack_outputs: tuple[Difference, ...]
    overwritten: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing differs by more than the op table says it may; true of nothing compared."""
        return all(d.known for d in self.differences) and not self.overwritten


def compare_runtimes(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
) -> BitExactness:
    """Runs an integer graph in all three on every sample and compares every op's output.

    All run in other processes: where a check of a kernel's own ends one, the error names the op.

    Args:
        graph: an integer graph.
        samples: inputs by tensor index, as real values or integers; read once.
        threads: for LiteRT; TFLite Micro keeps Python's interpreter lock, so it has one.
        on_sample: called after each sample.

    Raises:
        InputError: there are no samples.
        KernelEndedError: a kernel of LiteRT's ends its process on a sample.
        ToolError: LiteRT refuses the graph.
    """
    results = [t for op in graph.ops for t in op.outputs]
    # Reference kernels are slow, and what they lose their plan tells: nothing has to run twice to see it.
    twice = {"reference": bool(overwritten(graph)), "xnnpack": True}
    workers = [
        tuple(_Watched(litert_host(k), kind, graph, results, alone) for kind, alone in twice.items())
        for k in range(threads)
    ]
    micro, free = OpByOp(graph), _Tally(graph)

    def work(worker: tuple[_Watched, ...], fed: Values) -> tuple[Values, Values]:
        return {**fed, **worker[0].run(fed)}, worker[1].run(fed)

    feeds = (graph_feed(graph, inputs) for inputs in samples)
    first = next(feeds, None)
    if first is None:
        raise InputError("there are no samples to compare the runtimes on", "Give at least one.")
    count = 0
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(micro.ahead, first)  # of large networks, that is the only sample
        for expected, found in ordered(workers, work, chain([first], feeds)):
            for t in results:
                free.add(t, expected[t], found[t])
            micro.check(expected, None if count else ahead.result())
            count += 1
            on_sample()
    compared, lacking = micro.tally.seen, tuple(sorted(micro.lacking, key=lambda lack: lack.op))
    return BitExactness(
        samples=count,
        ops=len({d.op for d in compared}),
        elements=sum(d.elements for d in compared),
        differences=tuple(d for d in compared if d.differing),
        lacking=lacking,
        unavailable=str(lacking[0]) if lacking else micro.unavailable,
        xnnpack=tuple(free.seen),
        xnnpack_outputs=tuple(free.by_tensor[t] for t in graph.outputs if t in free.by_tensor),
        overwritten=tuple(
            graph.tensors[t].name for t in graph.outputs if any(t in w.lost for ws in workers for w in ws)
        ),
    )


class _Watched:
    """A runner that looks at every tensor, beside one that looks at the outputs alone, as programs do.

    Args:
        host: the process of both.
        kind: a key of `runtime.runners.RUNNERS`.
        graph, results: see `compare_runtimes`.
        alone: whether there is one that looks at the outputs alone.
    """

    def __init__(self, host: Host, kind: str, graph: Graph, results: Sequence[int], alone: bool) -> None:
        self.host, self.kind, self.graph = host, kind, graph
        self.watched = host.runner(kind, graph, results)
        self.alone = host.runner(kind, graph) if alone else None
        self.lost: set[int] = set()

    def run(self, inputs: Mapping[int, Array]) -> Values:
        try:
            found = self.watched.run(inputs)
            outputs = {} if self.alone is None else self.alone.run(inputs)
        except EndedError as error:
            op = ending_op(self.graph, inputs, self.kind, self.host)
            raise KernelEndedError(self.graph, op, self.kind, error) from error
        alike = (np.array_equal(found[t], v, equal_nan=v.dtype.kind == "f") for t, v in outputs.items())
        self.lost |= {t for t, same in zip(outputs, alike, strict=True) if not same}
        return found


class _Tally:
    """Differences by tensor, added up."""

    def __init__(self, graph: Graph) -> None:
        self.origin = {
            t: Difference(i, op.kind, graph.tensors[t].name, bits=_bits(graph, op))
            for i, op in enumerate(graph.ops)
            for t in op.outputs
        }
        self.by_tensor: dict[int, Difference] = {}

    def add(self, tensor: int, expected: Array, found: Array) -> bool:
        """Takes in one sample's values of a tensor, and tells whether they differ."""
        before = self.by_tensor.get(tensor, self.origin[tensor])
        differing, largest = 0, 0.0
        if not np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f"):
            differs = expected != found
            differing = int(differs.sum())
            largest = float(np.abs(expected.astype(np.float64) - found).max())
        self.by_tensor[tensor] = replace(
            before,
            elements=before.elements + expected.size,
            differing=before.differing + differing,
            largest=max(before.largest, largest),
        )
        return differing > 0

    @property
    def seen(self) -> list[Difference]:
        """In the order of the ops."""
        return [self.by_tensor[t] for t in self.origin if t in self.by_tensor]


@dataclass(frozen=True, eq=False)
class _Piece:
    """Consecutive ops of the graph in a TFLite Micro interpreter of their own."""

    ops: tuple[int, ...]
    runner: Runner
    new: Mapping[int, int]
    inputs: tuple[int, ...]

    def run(self, values: Mapping[int, Array]) -> Values:
        """What it computes of the graph's values, by its own tensors."""
        return self.runner.run({self.new[t]: values[t] for t in self.inputs})


class OpByOp:
    """TFLite Micro, given the reference kernels' bytes wherever it differed from them.

    One differing op changes everything after it, and would hide whether the ops after it are
    exact. So the graph is cut right after any op that was seen to differ, and the rest of that
    sample runs again from the reference kernels' bytes, cut after all others of its kind as well: to
    load all that follows anew for each of them would take time that grows with the square of their
    number. A part that TFLite Micro refuses, when it loads it or, as many kernels that lack a type do,
    when it runs it, is halved until the ops that it lacks stand alone.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tally = _Tally(graph)
        self.lacking: list[Lacking] = []
        self.unavailable: str | None = None
        if any(t.is_variable for t in graph.tensors):
            self.unavailable = "the model keeps state between runs, so its ops cannot be run one by one"
            self.pieces: list[_Piece] = []
        else:
            self.pieces = [piece for part in self._parts() for piece in self._load(part)]

    def ahead(self, fed: Mapping[int, Array]) -> Values | None:
        """What the first part computes of a sample, for `check`: nothing has to be waited for that reads inputs alone.

        Args:
            fed: the graph's inputs.
        """
        if not self.pieces or not {*self.pieces[0].inputs} <= fed.keys():
            return None
        with suppress(ToolError):  # met again by `check`
            return self.pieces[0].run(fed)
        return None

    def check(self, expected: Mapping[int, Array], ahead: Values | None = None) -> None:
        """Compares every op on one sample.

        Args:
            expected: the reference kernels' value of every activation.
            ahead: what `ahead` gave of the sample.
        """
        waiting, done = self.pieces[::-1], []
        while waiting:
            piece, given, ahead = waiting.pop(), ahead, None
            try:
                found = piece.run(expected) if given is None else given
            except ToolError as error:
                waiting += [*self._halves(piece.ops, error)][::-1]
                continue
            differing = self._first_difference(piece, expected, found)
            if differing is None or differing == piece.ops[-1]:
                done.append(piece)
                continue
            at = piece.ops.index(differing) + 1
            done += self._load(piece.ops[:at])
            waiting += [p for part in self._behind(piece.ops[at:], differing) for p in self._load(part)][::-1]
        self.pieces = done

    def _parts(self) -> Iterator[tuple[int, ...]]:
        """All ops, those apart that TFLite Micro is known to lack: to find them by halves loads everything often."""
        start = 0
        for i, op in enumerate(self.graph.ops):
            rows = RULES16 if _bits(self.graph, op) == 16 else RULES
            if op.kind in rows and not rows[op.kind].tflm:
                yield from (part for part in (tuple(range(start, i)), (i,)) if part)
                start = i + 1
        if start < len(self.graph.ops):
            yield tuple(range(start, len(self.graph.ops)))

    def _behind(self, ops: Sequence[int], differing: int) -> Iterator[Sequence[int]]:
        """Ops behind one that differed, in parts that end with those of its kind: they often differ, too."""
        kind, start = self.graph.ops[differing].kind, 0
        for k, i in enumerate(ops, start=1):
            if self.graph.ops[i].kind == kind or k == len(ops):
                yield ops[start:k]
                start = k

    def _first_difference(self, piece: _Piece, expected: Mapping[int, Array], found: Values) -> int | None:
        for i in piece.ops:
            differs = [self.tally.add(t, expected[t], found[piece.new[t]]) for t in self.graph.ops[i].outputs]
            if any(differs):
                return i
        return None

    def _load(self, ops: Sequence[int]) -> Iterator[_Piece]:
        written = [t for i in ops for t in self.graph.ops[i].outputs]
        inputs = self._read_from_outside(ops, written)
        part, new = self.graph.slice_with_index(ops, inputs, written)
        try:
            runner = micro_host().runner("tflm", part)
        except ImportError as error:
            self.unavailable = f"the package tflite-micro cannot be imported: {error}"
            return
        except MissingPackageError as error:
            self.unavailable = error.message
            return
        except ToolError as error:
            yield from self._halves(ops, error)
            return
        yield _Piece(tuple(ops), runner, new, tuple(inputs))

    def _halves(self, ops: Sequence[int], error: ToolError) -> Iterator[_Piece]:
        """Both halves of a part that TFLite Micro refused; nothing of a single op, which it lacks."""
        if self.unavailable is None:
            self.unavailable = _reason(error)
        if len(ops) == 1:
            op = self.graph.ops[ops[0]]
            name = self.graph.tensors[op.outputs[0]].name if op.outputs else ""
            self.lacking.append(Lacking(ops[0], op.kind, name, _reason(error)))
            return
        half = len(ops) // 2
        yield from self._load(ops[:half])
        yield from self._load(ops[half:])

    def _read_from_outside(self, ops: Sequence[int], written: Sequence[int]) -> list[int]:
        inside = {*written}
        read = dict.fromkeys(t for i in ops for t in self.graph.ops[i].inputs if t >= 0)
        return [t for t in read if t not in inside and not self.graph.tensors[t].is_constant]


def _reason(error: ToolError) -> str:
    """TFLite Micro's own words: it prints the cause first, and what follows from it after that."""
    return next((line.strip() for line in error.log_tail.splitlines() if line.strip()), error.message)


def _bits(graph: Graph, op: Op) -> int:
    return FLOAT if stays_float(graph, op) else bits_of(graph, op)

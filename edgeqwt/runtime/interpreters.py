"""The interpreters themselves, in the process that asks: LiteRT's reference kernels, LiteRT with XNNPACK, TFLite Micro.

What ends a kernel ends that process: `runtime.runners` has them behind a trial in another one. A runner is prepared
once for a graph and the tensors to look at (`taps`), and then run sample by sample. Taps are made outputs of a copy of
the graph, which costs nothing and works alike in all interpreters.

What interpreters print is caught when they load a model. LiteRT gives the reason of a later
failure in its exception; TFLite Micro prints it, so its first run is caught too. Other runs are
not: the capture lets in one thread at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from edgeqwt.errors import InvariantError, ToolError
from edgeqwt.extras import optional
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.guard import running
from edgeqwt.runtime.native_log import captured_stderr

Values = dict[int, Array]


class InterpreterError(ToolError):
    """An interpreter refuses a model, or fails while it runs one.

    Args:
        interpreter: its name.
        doing: "load" or "run".
        lines: what it said, the cause first.
    """

    def __init__(self, interpreter: str, doing: str, lines: Sequence[str]) -> None:
        reason = "; ".join(dict.fromkeys(line.strip() for line in lines))
        super().__init__(interpreter, 1, "\n".join(lines), "`edgeqwt inspect` shows the ops of the model.")
        self.message = f"{interpreter} cannot {doing} the model: {reason[:300] or 'it gave no reason'}"
        self.args = (self.message,)
        self.arguments = (interpreter, doing, tuple(lines))


class Runner(Protocol):
    """One prepared interpreter. Not for use by two threads at once."""

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """Runs one sample.

        Args:
            inputs: by tensor index of the graph; shapes and element types as the graph's.

        Returns:
            The graph's outputs and taps by tensor index, as fresh arrays.

        Raises:
            InvariantError: the inputs are not the graph's, or have another shape or element type.
            InterpreterError: the interpreter fails, e.g. on a division by zero.
        """
        ...


class RunnerFactory(Protocol):
    """Makes a runner of one kind: what `RUNNERS` holds."""

    def __call__(self, graph: Graph, taps: Sequence[int] = ()) -> Runner:
        """Prepares a runner.

        Raises:
            InterpreterError: the interpreter refuses the model; its own words are in the message.
        """
        ...


def filled(graph: Graph, value: int = 0) -> dict[int, Array]:
    """A sample whose inputs hold one value.

    Raises:
        InterpreterError: an input is of a type that has no numbers.
    """
    for tensor in (graph.tensors[t] for t in graph.inputs):
        if tensor.dtype not in DTYPES:
            raise InterpreterError("LiteRT", "run", [f"input {tensor.name!r} has type {tensor.dtype}"])
    return {t: np.full(graph.tensors[t].shape, value, DTYPES[graph.tensors[t].dtype]) for t in graph.inputs}


class Files:
    """The files of graphs that were loaded: threads load the same one after another, and share it.

    Args:
        most: bytes that are kept at most; where there are more, all are forgotten.
    """

    def __init__(self, most: int) -> None:
        self.most, self.lock = most, Lock()
        self.known: WeakKeyDictionary[Graph, dict[tuple[int, ...], bytes]] = WeakKeyDictionary()

    def of(self, graph: Graph, wanted: Sequence[int]) -> bytes:
        """The file of a graph with the wanted tensors for outputs."""
        key = tuple(wanted)
        with self.lock:
            if key in self.known.get(graph, {}):
                return self.known[graph][key]
        content = flatbuffer.to_bytes(tapped(graph, wanted))
        with self.lock:
            held = sum(len(data) for files in self.known.values() for data in files.values())
            if held + len(content) > self.most:
                self.known.clear()
            if len(content) <= self.most:
                self.known.setdefault(graph, {})[key] = content
        return content


FILES = Files(1 << 27)


class LiteRT:
    """LiteRT's interpreter on one thread, with one family of kernels."""

    def __init__(self, graph: Graph, taps: Sequence[int] = (), *, kernels: str = "xnnpack") -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "reference": OpResolverType.BUILTIN_REF,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "xnnpack": OpResolverType.BUILTIN,
        }[kernels]
        self.graph, self.wanted = graph, list(dict.fromkeys((*graph.outputs, *taps)))
        self.name = f"LiteRT ({kernels} kernels)"
        self.note = f"{self.name} on {span(graph)}"
        content = FILES.of(graph, self.wanted)
        with _failures(self.name, "load", capture=True), running(self.note):
            self.interpreter: Any = Interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=resolver
            )
            self.interpreter.allocate_tensors()

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        self._invoke(inputs)
        return {t: self.interpreter.get_tensor(t) for t in self.wanted}

    def views(self, inputs: Mapping[int, Array]) -> Values:
        """As `run`, but the arrays are the interpreter's own memory, to be let go of before the next run."""
        self._invoke(inputs)
        return {t: self.interpreter.tensor(t)() for t in self.wanted}

    def _invoke(self, inputs: Mapping[int, Array]) -> None:
        check_inputs(self.graph, inputs)
        for tensor, array in inputs.items():
            self.interpreter.set_tensor(tensor, array)
        with _failures(self.name, "run", capture=False), running(self.note):
            self.interpreter.invoke()


class TFLiteMicro:
    """The TFLite Micro interpreter of the tflite-micro package: bit-true to the microcontroller's.

    It holds Python's interpreter lock while it runs, so more threads do not make it faster;
    `runtime.subprocess_runners` does.
    """

    name = "TFLite Micro"

    def __init__(self, graph: Graph, taps: Sequence[int] = ()) -> None:
        with optional():
            from tflite_micro import runtime

        self.graph, self.wanted = graph, list(dict.fromkeys((*graph.outputs, *taps)))
        content = flatbuffer.to_bytes(tapped(graph, self.wanted))
        with _failures(self.name, "load", capture=True), running(f"{self.name} on {span(graph)}"):
            self.interpreter: Any = runtime.Interpreter.from_bytes(content, arena_size=arena_size(graph))
        self.ran = False

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        check_inputs(self.graph, inputs)
        for position, tensor in enumerate(self.graph.inputs):
            self.interpreter.set_input(inputs[tensor], position)
        with _failures(self.name, "run", capture=not self.ran), running(f"{self.name} on {span(self.graph)}"):
            self.interpreter.invoke()
        self.ran = True
        return {t: np.array(self.interpreter.get_output(i)) for i, t in enumerate(self.wanted)}


def arena_size(graph: Graph) -> int:
    """Bytes that are more than enough for TFLite Micro; it ends the process where there are too few.

    All activations at once and scratch of their size, 4 bytes an element; unpacked int4 weights;
    a multiplier and a shift per scale; and some memory for the interpreter's own records.
    """
    tensors = [t for part in (graph, *graph.others) for t in part.tensors]
    ops = sum(len(part.ops) for part in (graph, *graph.others))
    activations = sum(t.size for t in tensors if not t.is_constant)
    unpacked = sum(t.size for t in tensors if t.dtype == "int4")
    scales = sum(t.quantization.scale.size for t in tensors if t.quantization is not None)
    return 8 * activations + 2 * unpacked + 64 * scales + 4096 * ops + (1 << 20)


def computed_shapes(runner: LiteRT) -> dict[int, tuple[int, ...]]:
    """The shapes of a loaded graph's tensors, those that LiteRT tells of."""
    found = runner.interpreter.get_tensor_details()
    return {detail["index"]: tuple(int(n) for n in detail["shape"]) for detail in found}


def loaded(kind: str, graph: Graph, taps: Sequence[int] = ()) -> Runner:
    """A runner of a kind: "tflm", or a family of LiteRT's kernels."""
    return TFLiteMicro(graph, taps) if kind == "tflm" else LiteRT(graph, taps, kernels=kind)


def span(graph: Graph) -> str:
    """The ops of a graph in a few words: its first and its last."""
    if not graph.ops:
        return "a model without ops"
    return " to ".join(graph.describe(i) for i in dict.fromkeys((0, len(graph.ops) - 1)))


def tapped(graph: Graph, wanted: Sequence[int]) -> Graph:
    """The graph with the wanted tensors as its outputs and without signatures, which would no longer fit."""
    return replace(graph, outputs=tuple(wanted), signatures=(), metadata={}, others=graph.others)


def check_inputs(graph: Graph, inputs: Mapping[int, Array]) -> None:
    """Raises InvariantError unless the arrays are what the graph's inputs take."""
    if inputs.keys() != {*graph.inputs}:
        raise InvariantError(f"a runner was given tensors {sorted(inputs)}, the graph's inputs are {graph.inputs}")
    for t, array in inputs.items():
        tensor = graph.tensors[t]
        if array.shape != tensor.shape or array.dtype != DTYPES.get(tensor.dtype, np.void):
            raise InvariantError(
                f"input {tensor.name!r} takes {tensor.dtype} {tensor.shape}, it was given {array.dtype} {array.shape}"
            )


@contextmanager
def _failures(interpreter: str, doing: str, capture: bool) -> Iterator[None]:
    """Turns what an interpreter raises into an InterpreterError; with `capture`, also what it prints."""
    failure: Exception | None = None
    context: AbstractContextManager[list[str]] = captured_stderr() if capture else nullcontext([])
    with context as log:
        try:
            yield
        except (RuntimeError, ValueError, MemoryError, IndexError) as error:  # std::out_of_range is the last one
            failure = error
    if failure is not None:
        raise InterpreterError(interpreter, doing, _cause(str(failure), log)) from failure


# What TFLite Micro raises when it has printed the cause.
_EMPTY_WORDS = ("TFLM failed to allocate tensors", "Interpreter invocation failed.")


def _cause(raised: str, printed: Sequence[str]) -> list[str]:
    """The lines that say why an interpreter failed, the cause first."""
    # LiteRT's messages run into each other.
    lines = [*re.sub(r"(?<=\S)(?=Node number \d)", "\n", raised).splitlines(), *printed]
    messages = [line for line in lines if line.strip() and not line.startswith("INFO") and line not in _EMPTY_WORDS]
    return messages or [raised]

"""How large an arena TFLite Micro needs: what it says, and what it really takes.

What the interpreter prints is not always enough to load the model once more, so the size is
searched for by loading and running. That happens in a process of its own: where the arena is too
small even for the interpreter's first records, TFLite Micro ends the process.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.children import end_with_parent
from edgeqwt.errors import InvariantError, ToolError
from edgeqwt.extras import need
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Graph
from edgeqwt.runtime.native_log import captured_stderr
from edgeqwt.runtime.runners import InterpreterError, arena_size

ALIGNMENT = 16
"""Of the arena; sizes are multiples of it."""
SAVED_BY_RECORD = {"TfLiteEvalTensor data": 12 / 24, "NodeAndRegistration struct": 32 / 64}
"""Share of these records that 32-bit pointers save: their structs hold hardly anything but pointers."""

_NAME = "TFLite Micro"
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from edgeqwt.runtime.arena import serve; serve()"
)


@dataclass(frozen=True)
class Arena:
    """What a model needs to run in TFLite Micro.

    Attributes:
        bytes: the smallest arena, a multiple of 16, in which the interpreter of the tflite-micro package
            loads the model and runs it. It is a 64-bit program.
        bytes32: an estimate of the same with 32-bit pointers, as on a Cortex-M: `bytes` less half of the
            records of tensors (24 bytes with 64-bit pointers, 12 with 32-bit ones) and of ops (64 and
            32). Smaller records count in full, so the real figure is rather below it; what an
            optimized kernel library asks for besides (CMSIS-NN's scratch buffers) is not in it.
        printed: what the interpreter says after a run in an ample arena: bytes "total", "head" (activations
            and scratch) and "tail" (what stays: its records and the kernels' data).
        records: what it says of the parts of "tail", bytes by name.
    """

    bytes: int
    bytes32: int
    printed: Mapping[str, int]
    records: Mapping[str, int]


def measure_arena(model: bytes) -> Arena:
    """Finds the arena that a model needs.

    Args:
        model: a .tflite file's bytes.

    Raises:
        InputError: the bytes are no TFLite model.
        MissingPackageError: the package tflite-micro is not installed.
        InterpreterError: TFLite Micro refuses the model, with its own words.
    """
    need("tflite_micro")
    graph = flatbuffer.from_bytes(model)
    enough = _aligned(arena_size(graph))
    printed, records = _parsed(_told(model, enough))
    smallest = _smallest(model, _aligned(printed["total"]), enough)
    saved = sum(share * records.get(name, 0) for name, share in SAVED_BY_RECORD.items())
    return Arena(smallest, _aligned(int(smallest - saved)), printed, records)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _parsed(lines: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    text = "\n".join(lines)
    printed = {name: int(size) for name, size in re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text)}
    records = {name: int(size) for name, size in re.findall(r"'([^']+)' used (\d+) bytes", text)}
    if printed.keys() != {"total", "head", "tail"}:
        raise ToolError(_NAME, 0, text, "Its report of the arena reads otherwise than expected: is its version pinned?")
    return printed, records


# -- this side of the search -----------------------------------------------------


def _told(model: bytes, enough: int) -> list[str]:
    """What the interpreter prints of its arena after a run."""
    done = _child(model, "report", enough, enough, enough)
    answer, lines = _last(done)
    if answer == "missing":
        hint = "Install edgeqwt's dependencies again: pip install edgeqwt."
        raise ToolError("the package tflite-micro", None, "\n".join(lines), hint)
    if answer != "report":
        raise InterpreterError(_NAME, "load and run", lines)
    return lines


def _last(done: subprocess.CompletedProcess[bytes]) -> tuple[str, list[str]]:
    try:
        answer, lines = pickle.loads(done.stdout)
    except (EOFError, pickle.UnpicklingError, ValueError):
        said = done.stderr.decode("utf-8", "replace").splitlines()[-5:]
        return "ended", [*said, f"its process ended with status {done.returncode}"]
    return answer, lines


def _smallest(model: bytes, guess: int, enough: int) -> int:
    """The smallest size that fits, between 0 and `enough`, which does."""
    low, high = 0, enough
    while high - low > ALIGNMENT:
        before = low, high
        for line in _child(model, "search", low, high, guess).stdout.decode().splitlines():
            size, _, verdict = line.partition(" ")
            if verdict == "fits":
                high = int(size)
            else:  # "small", or nothing where the process ended
                low = int(size)
        if (low, high) == before:
            raise InvariantError("the search for TFLite Micro's arena does not get on")
    return high


def _child(model: bytes, task: str, low: int, high: int, guess: int) -> subprocess.CompletedProcess[bytes]:
    message = pickle.dumps(sys.path) + pickle.dumps((task, model, low, high, guess))
    return subprocess.run(
        [sys.executable, "-c", _START, str(os.getpid())], input=message, capture_output=True, check=False
    )


# -- the other side --------------------------------------------------------------


def serve() -> None:
    """Reads one task from standard input and answers on standard output."""
    end_with_parent(int(sys.argv[1]))
    task, model, low, high, guess = pickle.load(sys.stdin.buffer)
    graph = flatbuffer.from_bytes(model)
    if task == "report":
        pickle.dump(_report(model, graph, high), sys.stdout.buffer)
        return
    with captured_stderr():  # every failed attempt prints some lines
        while high - low > ALIGNMENT:
            size = _next(low, high, guess)
            os.write(1, str(size).encode())
            fits = _fits(model, graph, size)
            os.write(1, b" fits\n" if fits else b" small\n")
            low, high = (low, size) if fits else (size, high)


def _next(low: int, high: int, guess: int) -> int:
    """The size to try: what was printed, then the next smaller one, which settles it mostly; then the middle."""
    for size in (guess, guess - ALIGNMENT):
        if low < size < high:
            return size
    return (low + high) // (2 * ALIGNMENT) * ALIGNMENT


def _fits(model: bytes, graph: Graph, size: int) -> bool:
    try:
        _run(model, graph, size)
    except RuntimeError:
        return False
    return True


def _report(model: bytes, graph: Graph, size: int) -> tuple[str, list[str]]:
    failure = ""
    with captured_stderr() as lines:
        try:
            _run(model, graph, size).print_allocations()  # type: ignore[attr-defined]
        except ImportError as error:
            return "missing", [str(error)]
        except (RuntimeError, ValueError) as error:
            failure = str(error)
    return ("failed", [*lines, failure]) if failure else ("report", lines)


def _run(model: bytes, graph: Graph, size: int) -> object:
    """An interpreter that ran the model once on zeros: what lies in a fresh arena may be no valid input."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=size)
    for position, t in enumerate(graph.inputs):
        tensor = graph.tensors[t]
        interpreter.set_input(np.zeros(tensor.shape, DTYPES[tensor.dtype]), position)
    interpreter.invoke()
    return interpreter

"""How large an arena TFLite Micro needs: what it says, and what it really takes.

What the interpreter prints is not always enough to load the model once more, so the size is
searched for by loading and running. That happens in a process of its own: where the arena is too
small even for the interpreter's first records, TFLite Micro ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeqwt.errors import ToolError
from edgeqwt.extras import need
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.child import Child, EndedError, Limits
from edgeqwt.runtime.interpreters import InterpreterError, arena_size, filled
from edgeqwt.runtime.native_log import captured_stderr
from edgeqwt.runtime.subprocess_runners import SECONDS

ALIGNMENT = 16
"""Of the arena; sizes are multiples of it."""
SAVED_BY_RECORD = {"TfLiteEvalTensor data": 12 / 24, "NodeAndRegistration struct": 32 / 64}
"""Share of these records that 32-bit pointers save: their structs hold hardly anything but pointers."""

_NAME = "TFLite Micro"
_LIMITS = Limits(seconds=SECONDS)


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
    child = Child(_NAME)
    try:
        printed, records = _parsed(_printed_lines(child, model, enough))
    except BaseException:
        child.end()
        raise
    smallest = _smallest(child, model, _aligned(printed["total"]), enough)
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


def _printed_lines(child: Child, model: bytes, enough: int) -> list[str]:
    """What the interpreter prints of its arena after a run."""
    lines: list[str] = child.call(_report, model, enough, doing="load and run", limits=_LIMITS)
    return lines


def _smallest(child: Child, model: bytes, guess: int, enough: int) -> int:
    """The smallest size that fits, between 0 and `enough`, which does."""
    low, high = 0, enough
    try:
        while high - low > ALIGNMENT:
            size = _next(low, high, guess)
            try:
                fits = child.call(_fits, model, size, limits=_LIMITS)
            except EndedError:
                fits, child = False, Child(_NAME)
            low, high = (low, size) if fits else (size, high)
    finally:
        child.end()
    return high


def _next(low: int, high: int, guess: int) -> int:
    """The size to try: what was printed, then the next smaller one, which settles it mostly; then the middle."""
    for size in (guess, guess - ALIGNMENT):
        if low < size < high:
            return size
    return (low + high) // (2 * ALIGNMENT) * ALIGNMENT


# -- the other side --------------------------------------------------------------


def _fits(model: bytes, size: int) -> bool:
    with captured_stderr():  # every failed attempt prints some lines
        try:
            _run(model, flatbuffer.from_bytes(model), size)
        except RuntimeError:
            return False
    return True


def _report(model: bytes, size: int) -> list[str]:
    failure = ""
    with captured_stderr() as lines:
        try:
            _run(model, flatbuffer.from_bytes(model), size).print_allocations()  # type: ignore[attr-defined]
        except (RuntimeError, ValueError) as error:
            failure = str(error)
    if failure:
        raise InterpreterError(_NAME, "load and run", [*lines, failure])
    return lines


def _run(model: bytes, graph: Graph, size: int) -> object:
    """An interpreter that ran the model once on zeros: what lies in a fresh arena may be no valid input."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=size)
    for position, zeros in enumerate(filled(graph).values()):
        interpreter.set_input(zeros, position)
    interpreter.invoke()
    return interpreter

"""Time per op in LiteRT, from its C library's profiler; Python's bindings do not reach it.

The C interface changes between releases, and a wrong guess of a struct ends the process: call this
in one of its own (`runtime.child.in_child`), and do without where it fails. It was read off LiteRT 2.1.2
to 2.3.0.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeqwt.benchmark.result import OpCost

RUNS = 50
WARM_UP = 3
LIBRARY = "libLiteRt.so"
RUNTIME_OPTIONS, PROFILING = b"runtime_options_string", b"enable_profiling = true\n"
"""What libraries from 2.1.3 on call the options of the runtime, and their text, which is TOML."""
MODELS_NEED_ENVIRONMENT = (2, 1, 6)
"""The release whose function that reads a model takes an environment first; no name in the library tells."""
CPU = 1
"""LiteRT's number of the processor among its accelerators."""
WRITE = 1
"""LiteRT's way to lock a buffer for writing."""
OPERATOR, DELEGATED = 1 << 1, (1 << 2, 1 << 3)
"""LiteRT's types of events: an op of the interpreter; one inside a delegate."""


class _Event(ctypes.Structure):
    """One event as the library writes it; the memory fields are three integers before and three after."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start", ctypes.c_uint64),
        ("microseconds", ctypes.c_uint64),
        ("memory", ctypes.c_uint64 * 6),
        ("node", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class _Library:
    """Calls of the C library; every one of them returns a status."""

    def __init__(self) -> None:
        spec = find_spec("ai_edge_litert")
        if spec is None or spec.origin is None:
            raise RuntimeError("the package ai-edge-litert is not installed")
        try:
            self.library = ctypes.CDLL(str(Path(spec.origin).parent / LIBRARY))
        except OSError as error:
            raise RuntimeError(f"LiteRT's C library cannot be loaded: {error}") from None
        self.version = tuple(int(part) for part in version("ai-edge-litert").split(".")[:3] if part.isdigit())

    def call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self.library, name)
        except AttributeError:
            raise RuntimeError(f"this LiteRT has no {name}") from None
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed with status {status}")

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Calls what hands out an object through its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def count(self, name: str, *arguments: Any) -> int:
        number = ctypes.c_size_t()
        self.call(name, *arguments, ctypes.byref(number))
        return number.value


def op_times(model: str) -> list[OpCost]:
    """Seconds of every op, in the order in which they run: the mean of the quicker half of RUNS runs.

    The library rounds each time down to whole microseconds. Inputs are zeros.

    Args:
        model: path of a .tflite file.

    Raises:
        RuntimeError: the library has another interface, or refuses the model.
    """
    litert = _Library()
    environment = ctypes.c_void_p()
    litert.call("LiteRtCreateEnvironment", ctypes.c_int(0), None, ctypes.byref(environment))
    first = [environment] if litert.version >= MODELS_NEED_ENVIRONMENT else []
    file = litert.new("LiteRtCreateModelFromFile", *first, os.fsencode(model))
    compiled = litert.new("LiteRtCreateCompiledModel", environment, file, _options(litert))
    profiler = litert.new("LiteRtCompiledModelGetProfiler", compiled)
    ends = [_buffers(litert, environment, file, compiled, side) for side in ("Input", "Output")]
    arguments = [part for buffers in ends for part in (ctypes.c_size_t(len(buffers)), buffers)]

    def run() -> None:
        litert.call("LiteRtRunCompiledModel", compiled, ctypes.c_size_t(0), *arguments)

    for _ in range(WARM_UP):
        run()
    observed = []
    for _ in range(RUNS):
        litert.call("LiteRtResetProfiler", profiler)
        litert.call("LiteRtStartProfiler", profiler)
        run()
        litert.call("LiteRtStopProfiler", profiler)
        observed.append(_events(litert, profiler))
    if len({tuple(one for one, _ in events) for events in observed}) != 1:
        raise RuntimeError("its profiler reports other ops in every run")
    return [
        OpCost(kind, f"node {node}", where, 1e-6 * _quick_half(microseconds), "s")
        for ((where, node, kind), _), microseconds in zip(
            observed[0], zip(*([spent for _, spent in events] for events in observed), strict=True), strict=True
        )
    ]


def _quick_half(values: Sequence[int]) -> float:
    """The mean of the smaller half: other programs only make a run slower, and one minimum is a whole microsecond."""
    kept = sorted(values)[: -(-len(values) // 2)]
    return sum(kept) / len(kept)


def _options(litert: _Library) -> ctypes.c_void_p:
    options = litert.new("LiteRtCreateOptions")
    litert.call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(CPU))
    if hasattr(litert.library, "LiteRtCreateRuntimeOptions"):  # up to 2.1.2
        opaque = litert.new("LiteRtCreateRuntimeOptions")
        runtime = litert.new("LiteRtFindRuntimeOptions", opaque)
        litert.call("LiteRtSetRuntimeOptionsEnableProfiling", runtime, ctypes.c_bool(True))
    else:
        c = ctypes.CDLL(None)
        c.strdup.restype = ctypes.c_void_p
        text = ctypes.c_void_p(c.strdup(PROFILING))  # the library frees it
        opaque = litert.new("LiteRtCreateOpaqueOptions", RUNTIME_OPTIONS, text, c.free)
    litert.call("LiteRtAddOpaqueOptions", options, opaque)
    return options


def _buffers(
    litert: _Library, environment: ctypes.c_void_p, model: ctypes.c_void_p, compiled: ctypes.c_void_p, side: str
) -> Any:
    """Buffers for the first signature's inputs or outputs, as a C array."""
    first = ctypes.c_size_t(0)
    signature = litert.new("LiteRtGetModelSignature", model, first)
    made = []
    for i in range(litert.count(f"LiteRtGetNumSignature{side}s", signature)):
        index = ctypes.c_size_t(i)
        tensor = litert.new(f"LiteRtGetSignature{side}TensorByIndex", signature, index)
        kind = ctypes.create_string_buffer(256)  # more than the struct of type and shape takes
        litert.call("LiteRtGetRankedTensorType", tensor, kind)
        needs = litert.new(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, first, index)
        made.append(litert.new("LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, needs))
        _clear(litert, made[-1])
    return (ctypes.c_void_p * len(made))(*made)


def _clear(litert: _Library, buffer: ctypes.c_void_p) -> None:
    """Writes zeros: what memory had before may be no row of a table, and GATHER ends the run at such an index."""
    address = ctypes.c_void_p()
    litert.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(WRITE))
    ctypes.memset(address, 0, litert.count("LiteRtGetTensorBufferSize", buffer))
    litert.call("LiteRtUnlockTensorBuffer", buffer)


def _events(litert: _Library, profiler: ctypes.c_void_p) -> list[tuple[tuple[str, int, str], int]]:
    """What happened since the profiler was started: where, which node of that and its kind, and microseconds."""
    number = ctypes.c_int()
    litert.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(number))
    events = (_Event * number.value)()
    litert.call("LiteRtGetProfilerEvents", profiler, number, events)
    found = []
    for event in events:
        tag = event.tag.decode("utf-8", "replace")
        delegated = event.type in DELEGATED
        if delegated or (event.type == OPERATOR and "Delegate" not in tag):
            where = "XNNPACK" if delegated else "CPU"
            found.append(((where, event.node, tag.removeprefix("Delegate/")), event.microseconds))
    return found

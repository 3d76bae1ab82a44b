"""What is measured of LiteRT inside a process of its own; `host` calls these through `runtime.child.in_child`."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeqwt.graph.graph import Array

WARM_UP = 3
"""Runs before the first that counts: the first touches memory, and branch predictors learn."""
LEAST = 5
"""Runs at least, however long they take."""
LOADS = 5

Inputs = Mapping[int, Array]


@dataclass(frozen=True)
class Loading:
    """Seconds and bytes of one model in a fresh process.

    Attributes:
        seconds: of LOADS loads, constructor and allocation of tensors; the first includes what the library
            does once.
        model_peak: bytes that loading and running added to the process at most; None where the system
            does not tell.
        process_peak: bytes that the whole process held at most: Python, numpy and LiteRT are in it.
    """

    seconds: tuple[float, ...]
    model_peak: int | None
    process_peak: int | None


def interpreter(model: str, kernels: str, threads: int) -> Any:
    """A LiteRT interpreter with its tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {"reference": OpResolverType.BUILTIN_REF, "xnnpack": OpResolverType.BUILTIN}[kernels]
    try:
        model.encode()
        file: dict[str, Any] = {"model_path": model}
    except UnicodeEncodeError:  # LiteRT takes names in UTF-8 alone
        file = {"model_content": Path(model).read_bytes()}
    made = Interpreter(**file, num_threads=threads, experimental_op_resolver_type=resolver)
    made.allocate_tensors()
    return made


def _feed(made: Any, inputs: Inputs) -> None:
    for tensor, array in inputs.items():
        made.set_tensor(tensor, array)


def loading(model: str, kernels: str, threads: int, inputs: Inputs) -> Loading:
    """Loads a model, runs it WARM_UP times, and looks at the memory of this process."""
    import ai_edge_litert.interpreter  # noqa: F401 (its memory is not the model's)

    _forget_peak()
    before = _status("VmRSS")
    seconds = []
    made = None
    for k in range(LOADS):
        start = time.perf_counter()
        made = interpreter(model, kernels, threads)
        seconds.append(time.perf_counter() - start)
        if k == 0:
            _feed(made, inputs)
            for _ in range(WARM_UP):
                made.invoke()
            peak = _status("VmHWM")
            del made
    model_peak = None if peak is None or before is None else max(peak - before, 0)
    return Loading(tuple(seconds), model_peak, peak)


def latencies(
    models: Sequence[str], kernels: str, threads: int, inputs: Sequence[Inputs], runs: int, seconds: float
) -> list[list[float]]:
    """Seconds of every run of every model; the models take turns, so that disturbances meet them alike.

    Args:
        models: paths.
        kernels: "xnnpack" or "reference".
        threads: of each interpreter.
        inputs: one sample per model, by tensor index.
        runs: of each model.
        seconds: for all together; it ends earlier when they are over and each ran LEAST times.
    """
    made = [interpreter(model, kernels, threads) for model in models]
    for one, sample in zip(made, inputs, strict=True):
        _feed(one, sample)
        for _ in range(WARM_UP):
            one.invoke()
    found: list[list[float]] = [[] for _ in models]
    order = list(range(len(models)))
    end = time.perf_counter() + seconds
    for k in range(runs):
        for m in order if k % 2 == 0 else reversed(order):
            start = time.perf_counter()
            made[m].invoke()
            found[m].append(time.perf_counter() - start)
        if k + 1 >= LEAST and time.perf_counter() > end:
            break
    return found


def _forget_peak() -> None:
    """Sets this process's peak memory to what it holds now; Linux only, and not everywhere allowed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int | None:
    """A field of this process's status in bytes. Not getrusage: its peak counts what the parent held at the start."""
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None

"""Numbered pieces of work, one after the other in a forked process, so that a dead one is counted and pinned down."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeqwt.children import limit_memory

MEMORY = 8 << 30  # bytes of address space beyond what the process has to begin with
Work = Callable[[int, Path], str]
"""Takes a number and a folder, gives one line."""


def each(work: Work, numbers: range, seconds: int, end: float = float("inf")) -> Iterator[tuple[int, str]]:
    """What the work says of each number; after a death, a new process goes on with the next one.

    Args:
        work: is done in a process that was forked off, many numbers in the same one: what it keeps stays warm.
        numbers: in this order.
        seconds: that one may take.
        end: of `time.monotonic()`, after which no further number is begun.

    Yields:
        The number, and what was said: "DIED: ..." where the process ended, "HARNESS ..." where the work raised.
    """
    at = numbers.start
    while at < numbers.stop and time.monotonic() < end:
        for index, said in _batch(work, range(at, numbers.stop), seconds, end):
            at = index + 1
            yield index, said


def _batch(work: Work, numbers: range, seconds: int, end: float) -> Iterator[tuple[int, str]]:
    source, sink = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(source)
            _work(work, numbers, seconds, end, Path(folder), sink)
        os.close(sink)
        last, said = numbers.start - 1, ""
        with os.fdopen(source, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                number, _, said = line.rstrip("\n").partition(" ")
                last = int(number)
                yield last, said
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0 and not said.startswith("HARNESS"):
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            yield last + 1, f"DIED: {how}"


def _work(work: Work, numbers: range, seconds: int, end: float, folder: Path, sink: int) -> None:
    """Works and tells of each number on `sink`; ends the process, whatever happens."""
    index = numbers.start
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_memory(0, MEMORY)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for index in numbers:
            if time.monotonic() > end:
                break
            signal.alarm(seconds)
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                said = work(index, folder)
            os.write(sink, f"{index} {said}\n".encode("utf-8", "replace"))
        os._exit(0)
    except BaseException as error:
        words = " ".join(str(error).split())
        os.write(sink, f"{index} HARNESS {type(error).__name__}: {words}\n".encode("utf-8", "replace"))
        os._exit(1)

"""The command line's work in a process of its own, so that the end of that process is an error like any other.

Native code can end its process: a kernel that divides by zero, a converter that asks for more memory than there is.
Nothing in that process can tell the user of it. So the command is forked off before anything else happens, and the
process that was started waits, passes signals on, and says what became of it. What native code ran at the end is in
notes that both share.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from edgeqwt.children import end_with_parent
from edgeqwt.disk import explained
from edgeqwt.errors import EdgeqwtError, InputError, InvariantError, ToolError
from edgeqwt.extras import missing_package

PATIENCE = 6.0
"""Seconds after which a signal that comes again ends a process that does not react."""
SLOTS, WIDTH = 16, 256  # of the notes: one for each thread, bytes of one
DONE = SLOTS * WIDTH  # the byte behind them: whether the command came to its end

_notes: mmap.mmap | None = None
_slots = itertools.count()
_own = threading.local()


@contextmanager
def running(what: str) -> Iterator[None]:
    """Notes down what native code this thread runs, for the process that waits for this one."""
    if _notes is None:
        yield
        return
    if not hasattr(_own, "slot"):
        _own.slot = next(_slots) % SLOTS
    start = _own.slot * WIDTH
    before = _notes[start : start + WIDTH]
    _notes[start : start + WIDTH] = what.encode("utf-8", "replace")[: WIDTH - 1].ljust(WIDTH, b"\0")
    try:
        yield
    finally:
        _notes[start : start + WIDTH] = before


def supervised(work: Callable[[Callable[[], None]], int], numbers: Sequence[int]) -> tuple[int, EdgeqwtError | None]:
    """Does the work in a forked process.

    Args:
        work: gives an exit code; nothing has been started yet that a fork would lose. It is given a function that it
            calls when it handles signals: they wait until then.
        numbers: signals that are passed on, those that this process ignores left out.

    Returns:
        The exit code, and an error where the process did not end by itself.
    """
    global _notes
    _notes = mmap.mmap(-1, SLOTS * WIDTH + 1)
    parent, stopped = os.getpid(), list[int]()
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def ready() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    child = os.fork()
    if child == 0:
        end_with_parent(parent)
        sys.exit(work(ready))
    _pass_on(child, numbers, stopped)
    ready()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        return status, None if _notes[DONE] else left(status)
    if stopped:  # it did not react to the first
        return 128 + stopped[0], None
    notes = [_notes[k * WIDTH : (k + 1) * WIDTH].rstrip(b"\0").decode("utf-8", "replace") for k in range(SLOTS)]
    return 0, ended(-status, list(dict.fromkeys(filter(None, notes))))


def done() -> None:
    """Notes down that the command came to its end: what its process exits with is its own exit code."""
    if _notes is not None:
        _notes[DONE] = 1


def left(status: int) -> EdgeqwtError:
    """A process that ended by itself before the command came to its end, as an error: `os._exit` of the user's code."""
    return InputError(
        f"something that the command ran ended its process, with exit code {status}",
        "Look for os._exit in Python code that the command was given.",
    )


def _pass_on(child: int, numbers: Sequence[int], stopped: list[int]) -> None:
    """Sends signals on to the process; one that comes again, `PATIENCE` later, ends it, and is noted in `stopped`."""
    first: list[float] = []

    def handler(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            if first and time.monotonic() - first[0] > PATIENCE:
                stopped.append(number)
                os.kill(child, signal.SIGKILL)
                return
            first.append(time.monotonic())
            os.kill(child, number)

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handler)


def ended(number: int, notes: Sequence[str]) -> EdgeqwtError:
    """A process that a signal ended, as an error."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    while_ = f" while it ran {'; '.join(notes)}" if notes else ""
    if number == signal.SIGKILL:
        return EdgeqwtError(
            f"the system ended the command (SIGKILL){while_}, as it does where memory runs out",
            "Free some, use a machine with more, or give a smaller model or smaller samples.",
        )
    error = ToolError("native code", 128 + number, "", "`edgeqwt inspect` shows the ops of a model.")
    error.message = f"{name} ended the command{while_}; nothing was written"
    return error


def as_error(error: BaseException, written: str = "nothing was written") -> EdgeqwtError:
    """Whatever Python code raised, as an error with a message, a hint and an exit code.

    Args:
        error: of any kind.
        written: what had been written by then, in words.
    """
    if isinstance(error, EdgeqwtError):
        return error
    if missing := missing_package(error):
        return missing
    if isinstance(error, OSError) and error.strerror:
        begun = written.startswith("nothing")
        return explained(error, f"{written[0].upper()}{written[1:]}." if begun else f"{written}.")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # as pathlib tells it
        return InputError(str(error), "Name a path whose links lead somewhere.")
    if isinstance(error, MemoryError):
        return EdgeqwtError("memory ran out", "Free some, or use a machine with more.")
    return InvariantError(f"{type(error).__name__}: {error} (EDGEQWT_DEBUG=1 shows where)")

"""Python functions in processes of their own: the one place that starts them, limits them and tells of their end.

LiteRT and TFLite Micro end the process where a check of theirs fails, and a file that was damaged on purpose
makes them write where they must not. What meets such a file runs here: memory and time are limited, and the end of the
process is an error like any other. Processes are started afresh, not forked: libraries like PyTorch hold locks in
threads that a fork would not have. Starting one takes about half a second.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeqwt.children import end_with_parent, limit_memory
from edgeqwt.disk import temporary_file
from edgeqwt.errors import EdgeqwtError, InvariantError
from edgeqwt.runtime.interpreters import InterpreterError
from edgeqwt.runtime.native_log import captured_stderr, log_is_own_file

# The new process finds modules where this one does, whether edgeqwt is installed or not.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from edgeqwt.runtime.child import serve; serve()"
)
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a call in another process may use; None: what there is.

    Attributes:
        memory: bytes of address space beyond what the process has when the call begins. Linux only.
        seconds: of wall-clock time.
    """

    memory: int | None = None
    seconds: float | None = None


class EndedError(InterpreterError):
    """A process did not answer: it crashed, or was ended because it took too long."""


class Child:
    """A process that calls functions, one after the other, and ends with this object.

    Args:
        what: runs there, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what, self.late = what, threading.Event()
        self.errors = temporary_file()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.end = weakref.finalize(self, _end, self.process, self.errors)
        self.limits = Limits()
        self._dump(sys.path, "start")

    def call(
        self, function: Callable[..., Any], *arguments: object, doing: str = "run", limits: Limits | None = None
    ) -> Any:
        """Calls a function there and returns what it returns.

        Args:
            function: importable by its name; it may raise RuntimeError or ValueError, as LiteRT does.
            arguments: picklable.
            doing: for messages: "load" or "run".
            limits: of this call.

        Raises:
            EndedError: the process ended, or it was ended because it took longer than it may.
            InterpreterError: the function raised; what was printed is in the message.
            EdgeqwtError: the function raised one; it is handed on as it is.
        """
        self.send(function, *arguments, doing=doing, limits=limits)
        return self.receive(doing)

    def send(self, function: Callable[..., Any], *arguments: object, doing: str, limits: Limits | None = None) -> None:
        """Begins a call; `receive` waits for its end."""
        self.limits = limits or Limits()
        self._dump((function, arguments, self.limits.memory), doing)

    def receive(self, doing: str) -> Any:
        """The answer to the last `send`."""
        assert self.process.stdout is not None
        try:
            with self._timed():
                failure, answer = pickle.load(self.process.stdout)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            raise self.ended(doing) from None
        except BaseException:
            self.end()  # its answer is still on the way, and would be taken for the next one's
            raise
        if failure == "edgeqwt":
            raise answer
        if failure == "library":
            raise InterpreterError(self.what, doing, answer)
        if failure == "import":
            raise ImportError(answer)
        if failure:
            raise InvariantError(f"{self.what}: {answer}")
        return answer

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Ends the process when the time of a call is over."""
        if self.limits.seconds is None:
            yield
            return

        # Not a method: the timer's thread would hold this object, and with it the process.
        timer = threading.Timer(self.limits.seconds, _stop, (self.process, self.late))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _dump(self, message: object, doing: str) -> None:
        assert self.process.stdin is not None
        try:
            pickle.dump(message, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise self.ended(doing) from None

    def ended(self, doing: str) -> EndedError:
        """What happened to a process that does not answer."""
        if not self.end.alive:
            return EndedError(self.what, doing, ["its process was ended"])
        status = self.process.wait()
        self.errors.seek(0)
        said = [line for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        self.end()
        return EndedError(self.what, doing, [*said[-5:], _how(status, self.late.is_set(), self.limits)])


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """Calls a function in a process of its own, which ends after it: what it measures is its own; see `Child.call`."""
    child = Child("LiteRT")
    try:
        return child.call(function, *arguments)
    finally:
        child.end()


def _how(status: int, late: bool, limits: Limits) -> str:
    """How a process ended, in words."""
    if late:
        return f"its process was ended after {limits.seconds:g} s, which is as long as it may take"
    within = f"; it may use {limits.memory // MIB} MiB" if limits.memory is not None and status < 0 else ""
    return f"its process ended with {_named(-status) if status < 0 else f'exit status {status}'}{within}"


def _stop(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


def _named(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def _end(process: subprocess.Popen[bytes], errors: Any) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        with contextlib.suppress(OSError):  # of what was not sent yet
            if stream is not None:
                stream.close()


# -- the other side ----------------------------------------------------------------


_serving = False


def serving() -> bool:
    """Whether this process is one that was started here: what ends it is an error of another one's."""
    return _serving


def serve() -> None:
    """Answers calls on standard input until there are no more."""
    global _serving
    _serving = True
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C ends the process that started this one, and so this one
    messages = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    log_is_own_file()
    while True:
        try:
            function, arguments, memory = pickle.load(messages)
        except EOFError:
            return
        limit_memory(0, memory)
        answer = _answer(function, arguments)
        limit_memory(0, None)
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, object]:
    """A kind of failure, or none, and the value or what there is to say."""
    failure: Exception | None = None
    with captured_stderr() as printed:
        try:
            return "", function(*arguments)
        except Exception as error:
            failure = error
    if isinstance(failure, EdgeqwtError):
        return "edgeqwt", failure.with_traceback(None)
    if isinstance(failure, ImportError):
        return "import", str(failure)
    if isinstance(failure, RuntimeError | ValueError | MemoryError):
        said = [line for line in printed if not line.startswith("INFO")]
        return "library", [*(str(failure) or type(failure).__name__).splitlines(), *said]
    return "bug", f"{type(failure).__name__}: {failure}"

"""Runners in processes of their own.

TFLite Micro keeps Python's interpreter lock while it runs, so threads do not make it faster, and
some of its checks end the process. A process per runner uses all cores, and its end is an error
like any other. Processes are started afresh, not forked: libraries like PyTorch hold locks in
threads that a fork would not have. Starting one takes about half a second.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from edgeqwt.children import end_with_parent
from edgeqwt.disk import temporary_file
from edgeqwt.errors import InvariantError
from edgeqwt.extras import need
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import RUNNERS, InterpreterError, Runner, Values, check_inputs

# The new process finds modules where this one does, whether edgeqwt is installed or not.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from edgeqwt.runtime.apart import serve; serve()"
)


def apart(kind: str, graph: Graph, taps: Sequence[int] = (), count: int = 1) -> list[Runner]:
    """Runners of one kind, each in a process of its own that ends with the runner.

    Args:
        kind: a key of RUNNERS.
        graph: what they run.
        taps: see `Runner`.
        count: how many runners.

    Raises:
        InterpreterError: the interpreter refuses the model, or its process ended.
        MissingPackageError: it is not installed.
    """
    if kind == "tflm":
        need("tflite_micro")
    runners = [_Apart(kind, graph, taps) for _ in range(count)]
    for runner in runners:  # they all load at the same time
        runner.receive("load")
    return list(runners)


class _Apart:
    """This side of a runner in another process. Every message is answered by one."""

    def __init__(self, kind: str, graph: Graph, taps: Sequence[int]) -> None:
        self.name, self.graph = f"the {kind} interpreter", graph
        self.errors = temporary_file()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.end = weakref.finalize(self, _end, self.process, self.errors)
        self.send(sys.path, "load")
        self.send((kind, flatbuffer.to_bytes(graph), tuple(taps)), "load")

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        check_inputs(self.graph, inputs)
        self.send(dict(inputs), "run")
        values: Values = self.receive("run")
        return values

    def send(self, message: object, doing: str) -> None:
        assert self.process.stdin is not None
        try:
            pickle.dump(message, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise self.ended(doing) from None

    def receive(self, doing: str) -> Any:
        assert self.process.stdout is not None
        try:
            failure, answer = pickle.load(self.process.stdout)
        except (OSError, ValueError, EOFError):
            raise self.ended(doing) from None
        except BaseException:
            self.end()  # its answer is still on the way, and would be taken for the next one's
            raise
        if failure == "interpreter":
            raise InterpreterError(*answer)
        if failure:
            raise InvariantError(f"{self.name}: {answer}")
        return answer

    def ended(self, doing: str) -> InterpreterError:
        """What happened to a process that does not answer."""
        if not self.end.alive:
            return InterpreterError(self.name, doing, ["its process was ended"])
        status = self.process.wait()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace").splitlines()
        self.end()
        return InterpreterError(self.name, doing, [*said[-5:], f"its process ended with {how}"])


def _end(process: subprocess.Popen[bytes], errors: Any) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        with contextlib.suppress(OSError):  # of what was not sent yet
            if stream is not None:
                stream.close()


def serve() -> None:
    """The other side: answers messages on standard input until there are no more."""
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C ends the process that started this one, and so this one
    messages = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(failure: str, value: object) -> None:
        pickle.dump((failure, value), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    runner: Runner | None = None
    while True:
        try:
            message = pickle.load(messages)
        except EOFError:
            return
        try:
            if runner is None:
                kind, data, taps = message
                runner = RUNNERS[kind](flatbuffer.from_bytes(data), taps)
                answer("", None)
            else:
                answer("", runner.run(message))
        except InterpreterError as error:
            answer("interpreter", error.arguments)
        except Exception as error:
            answer("bug", f"{type(error).__name__}: {error}")

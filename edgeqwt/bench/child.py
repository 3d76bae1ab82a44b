"""Runs a function in a fresh process: what it measures is its own, and its crash ends only itself."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from edgeqwt.children import end_with_parent
from edgeqwt.errors import InvariantError
from edgeqwt.runtime.native_log import captured_stderr
from edgeqwt.runtime.runners import InterpreterError

# The new process finds modules where this one does, whether edgeqwt is installed or not.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from edgeqwt.bench.child import serve; serve()"
)


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """Calls a function of a module in a process of its own and returns what it returns.

    Args:
        function: importable by its name; it may raise RuntimeError or ValueError, as LiteRT does.
        arguments: picklable.

    Raises:
        InterpreterError: the function raised, or its process ended; what was printed is in the message.
    """
    message = pickle.dumps(sys.path) + pickle.dumps((function, arguments))
    command = [sys.executable, "-c", _START, str(os.getpid())]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    try:
        failure, answer = pickle.loads(done.stdout)
    except (EOFError, pickle.UnpicklingError, ValueError):
        said = done.stderr.decode("utf-8", "replace").splitlines()[-5:]
        raise InterpreterError("LiteRT", "run", [*said, f"its process ended with status {done.returncode}"]) from None
    if failure == "runtime":
        raise InterpreterError("LiteRT", "run", answer)
    if failure:
        raise InvariantError(f"{function.__name__} in a process of its own: {answer}")
    return answer


def serve() -> None:
    """The other side: one call, one answer on standard output."""
    end_with_parent(int(sys.argv[1]))
    function, arguments = pickle.load(sys.stdin.buffer)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    failure: str = ""
    answer: object = None
    with captured_stderr() as printed:
        try:
            answer = function(*arguments)
        except (RuntimeError, ValueError, MemoryError) as error:
            failure, answer = "runtime", str(error)
        except Exception as error:
            failure, answer = "bug", f"{type(error).__name__}: {error}"
    if failure == "runtime":
        answer = [*str(answer).splitlines(), *(line for line in printed if not line.startswith("INFO"))]
    pickle.dump((failure, answer), answers)
    answers.flush()

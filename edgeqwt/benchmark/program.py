"""Runs another program to its end, or gives it up."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from edgeqwt.children import Watched
from edgeqwt.errors import ToolError


class LateError(ToolError):
    """A program did not end in time and was stopped."""

    def __init__(self, command: str, seconds: float, hint: str) -> None:
        super().__init__(command, None, "", hint)
        self.message = f"{command} did not end within {seconds:g} s"
        self.args = (self.message,)


def run_program(command: Sequence[str], timeout: float, hint: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command without input and returns what it printed, whatever its exit status.

    Args:
        command: program and arguments.
        timeout: seconds.
        hint: what to do when it takes longer.

    Raises:
        ToolError: it cannot be started.
        LateError: it did not end in time.
    """
    try:
        status, out, err = Watched(command, errors=subprocess.PIPE).wait(timeout)
    except subprocess.TimeoutExpired:
        raise LateError(" ".join(command)[:120], timeout, hint) from None
    except OSError as error:
        raise ToolError(command[0], None, str(error), f"It cannot be run here: {error.strerror}.") from None
    texts = (printed.decode("utf-8", "replace").replace("\r\n", "\n") for printed in (out, err))
    return subprocess.CompletedProcess(command, status, *texts)

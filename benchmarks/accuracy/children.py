"""A child process with a time limit, and what its log says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path


def child(command: list[str], log: Path, limit: float, place: Path, settings: Mapping[str, str]) -> None:
    """Runs a command in a folder, its output appended to a log; at the limit stops it and all that it started.

    Args:
        command: program and arguments.
        log: is appended to.
        limit: seconds.
        place: the working folder.
        settings: environment variables besides those of this process.

    Raises:
        RuntimeError: it failed, with the last line that it said, or exceeded the limit.
    """
    start = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            cwd=place,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"time limit of {limit / 60:.0f} min exceeded") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        raise RuntimeError(last_line(log) or f"exit status {status} after {time.monotonic() - start:.0f} s")


def last_line(log: Path) -> str:
    """The last line of a log that says something, progress bars aside."""
    lines = [part.strip() for part in re.split(r"[\r\n]", log.read_text(errors="replace"))]
    return next((line[:400] for line in reversed(lines) if line and "%|" not in line), "")

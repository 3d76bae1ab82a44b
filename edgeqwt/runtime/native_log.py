"""Catches what native libraries print on file descriptor 2."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Sends file descriptor 2 to a temporary file, and its lines to the list on leaving.

    LiteRT and TFLite Micro give the reason of a failure there and nowhere else, and
    LiteRT greets every process there. The descriptor belongs to the whole process, so
    only one thread at a time is let in.
    """
    lines: list[str] = []
    with _lock, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()

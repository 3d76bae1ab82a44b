"""Catches what native libraries print on file descriptor 2."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgeqwt.disk import temporary_file

_lock = threading.RLock()
_own_file = False


def log_is_own_file() -> None:
    """Says that descriptor 2 of this process is a file that can be read: what it gets stays there.

    So in processes that end when a check of a library's fails: its last words are found there.
    """
    global _own_file
    _own_file = True


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Sends file descriptor 2 to a temporary file, and its lines to the list on leaving.

    LiteRT and TFLite Micro give the reason of a failure there and nowhere else, and
    LiteRT greets every process there. The descriptor belongs to the whole process, so
    only one thread at a time is let in. Captures nest: the inner one takes the lines.
    """
    lines: list[str] = []
    if _own_file:
        start = os.fstat(2).st_size
        try:
            yield lines
        finally:
            _flush()
            said = os.pread(2, os.fstat(2).st_size - start, start)
            lines += said.decode("utf-8", "replace").splitlines()
        return
    with _lock, temporary_file() as file:
        _flush()
        try:
            saved = os.dup(2)
        except OSError:  # started with standard error closed (`2>&-`)
            saved = None
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            _flush()
            if saved is None:
                os.close(2)
            else:
                os.dup2(saved, 2)
                os.close(saved)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()


def _flush() -> None:
    """Sends what Python still holds to where it belongs."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
        sys.stderr.flush()

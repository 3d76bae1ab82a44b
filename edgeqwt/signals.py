"""Signals that ask the process to end wait until what must not be torn apart is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGTERM", "SIGINT") if hasattr(signal, name))
"""Signals that ask a process to end; not every system has all of them."""


@contextmanager
def held() -> Iterator[None]:
    """Signals whose handlers are Python functions, and so could raise anywhere, are handled when the block ends.

    Blocking them in this thread would not do: another thread takes a signal that this one blocks, and its handler
    runs in this one all the same. Only the main thread runs handlers; elsewhere nothing is to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = [(number, handler) for number in ENDING if callable(handler := signal.getsignal(number))]
    try:
        for number, _ in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

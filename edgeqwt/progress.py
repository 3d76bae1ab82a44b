"""Stages of a build: their names, their progress and how long they took."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module

REDRAW = 0.2  # seconds between pictures of one stage in a notebook

# Called with (units done, units in all or None where nobody knows yet).
Advance = Callable[[int, int | None], None]
# Shows one stage while it runs.
Display = Callable[[str], AbstractContextManager[Advance]]


def silent(name: str) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


def automatic(name: str) -> AbstractContextManager[Advance]:
    """A bar in notebooks, nothing elsewhere: programs say how they want to show it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return _in_cell(name) if hasattr(shell, "kernel") else silent(name)


@contextmanager
def _in_cell(name: str) -> Iterator[Advance]:
    """A stage in a notebook's cell, which is gone when it ends."""
    display, html = (getattr(import_module("IPython.display"), what) for what in ("display", "HTML"))
    start, seen = time.monotonic(), [-math.inf]
    shown = display(html(f"{name} …"), display_id=True)

    def advance(done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - seen[0] < REDRAW:
            return
        seen[0] = now
        left = f", about {(now - start) / done * (total - done):.0f} s left" if done and total else ""
        bar = f'<progress value="{done}" max="{total}"></progress> {done} of {total}' if total else f"{done}"
        shown.update(html(f"{name} {bar}{left}"))

    try:
        yield advance
    finally:
        shown.update(html(""))


class Stages:
    """Runs named stages, shows them and keeps their times.

    Attributes:
        seconds: wall-clock seconds of each finished stage, in order.
        peaks: MiB of memory that this process had taken at most by the end of each; none where the system does not say.
    """

    def __init__(self, display: Display = silent) -> None:
        self.display = display
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Advance]:
        """One stage, shown by its name."""
        with self._timed(name), self.display(name) as advance:
            yield advance

    @contextmanager
    def steps(self, name: str) -> Iterator[Callable[[str], None]]:
        """One stage whose steps are shown one after the other, each from when its name is given."""
        with self._timed(name), ExitStack() as shown:

            def step(what: str) -> None:
                shown.close()
                shown.enter_context(self.display(what))

            step(name)
            yield step

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        handed_back()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        if (most := peak()) is not None:
            self.peaks[name] = most


def peak() -> int | None:
    """MiB that this process had resident at most; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    # In bytes on macOS, in KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def handed_back() -> None:
    """Hands memory that is free back to the system, where glibc keeps it for each thread: stages use other threads."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def counted[T](items: Iterable[T], advance: Advance, total: int | None) -> Iterator[T]:
    """Passes items on and reports how many have passed."""
    for done, item in enumerate(items, start=1):
        yield item
        advance(done, total)

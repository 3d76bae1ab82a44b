"""Stages of a build: their names, their progress and how long they took."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

REDRAW = 0.2  # seconds between pictures of one stage in a notebook

# Called with (units done, units in all or None where nobody knows yet).
Shown = Callable[[int, int | None], None]
# Shows one stage while it runs.
Display = Callable[[str], AbstractContextManager[Shown]]


class Advance(Protocol):
    """Tells how far a stage has come."""

    def __call__(self, done: int, total: int | None, layer: str = "") -> None:
        """Units are done.

        Args:
            done: units.
            total: units in all; None where nobody knows yet.
            layer: the one that took what has passed since the last call, by its output's name.
        """


def quiet(done: int, total: int | None, layer: str = "") -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class LayerCost:
    """What one layer took in one stage.

    Attributes:
        seconds: of wall-clock time.
        peak_mib: MiB that the process had taken at most when it was done; null where the system does not say.
    """

    seconds: float
    peak_mib: int | None


def silent(name: str) -> AbstractContextManager[Shown]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


def automatic(name: str) -> AbstractContextManager[Shown]:
    """A bar in notebooks, nothing elsewhere: programs say how they want to show it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return _in_cell(name) if hasattr(shell, "kernel") else silent(name)


@contextmanager
def _in_cell(name: str) -> Iterator[Shown]:
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
        layers: what each layer took in the stages that go from one to the next.
    """

    def __init__(self, display: Display = silent) -> None:
        self.display = display
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self.layers: dict[str, dict[str, LayerCost]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Advance]:
        """One stage, shown by its name."""
        with self._timed(name), self.display(name) as shown:
            last = time.perf_counter()

            def advance(done: int, total: int | None, layer: str = "") -> None:
                nonlocal last
                begun, last = last, time.perf_counter()
                if layer:
                    costs = self.layers.setdefault(name, {})
                    before = costs[layer].seconds if layer in costs else 0.0
                    costs[layer] = LayerCost(before + last - begun, peak())
                shown(done, total)

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

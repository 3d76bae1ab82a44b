"""Stages of a build: their names, their progress and how long they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

# Called with (units done, units in all or None where nobody knows yet).
Advance = Callable[[int, int | None], None]
# Shows one stage while it runs.
Display = Callable[[str], AbstractContextManager[Advance]]


def silent(name: str) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


class Stages:
    """Runs named stages, shows them and keeps their times.

    Attributes:
        seconds: wall-clock seconds of each finished stage, in order.
    """

    def __init__(self, display: Display = silent) -> None:
        self.display = display
        self.seconds: dict[str, float] = {}

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
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def counted[T](items: Iterable[T], advance: Advance, total: int | None) -> Iterator[T]:
    """Passes items on and reports how many have passed."""
    for done, item in enumerate(items, start=1):
        yield item
        advance(done, total)

"""Stages of a build: their names, their progress and how long they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
        start = time.perf_counter()
        with self.display(name) as advance:
            yield advance
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def counted[T](items: Iterable[T], advance: Advance, total: int | None) -> Iterator[T]:
    """Passes items on and reports how many have passed."""
    for done, item in enumerate(items, start=1):
        yield item
        advance(done, total)

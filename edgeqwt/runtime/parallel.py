"""Run many samples on several threads, results in the order of the samples.

LiteRT releases the interpreter lock while it runs (TFLite Micro does not), so threads
with an interpreter each use all cores. At most a few results per thread are
held at a time, however many samples there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice

THREADS = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
WINDOW = 4  # results held per thread: enough to keep threads busy, little enough to keep memory flat
CHUNK = 16  # samples that a thread takes at a time, at most
ELEMENTS = 1 << 22  # of their activations, at most


def ordered[W, A, B](
    workers: list[W], work: Callable[[W, A], B], items: Iterable[A], window: int = WINDOW
) -> Iterator[B]:
    """Yields work(worker, item) for every item, in order; each worker serves one call at a time.

    Args:
        workers: one per thread, e.g. interpreters prepared for the same graph.
        work: pure but for the worker's own state.
        items: read lazily.
        window: results held per thread.
    """
    if len(workers) == 1:
        yield from (work(workers[0], item) for item in items)
        return
    idle = deque(workers)

    def call(item: A) -> B:
        worker = idle.popleft()  # there are as many threads as workers, so one is always idle
        try:
            return work(worker, item)
        finally:
            idle.append(worker)

    source = iter(items)
    with ThreadPoolExecutor(len(workers)) as pool:
        pending: deque[Future[B]] = deque(pool.submit(call, item) for item in islice(source, window * len(workers)))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(call, item) for item in islice(source, 1))
        finally:
            for future in pending:
                future.cancel()


def taken[W, A, B](
    workers: Sequence[W], run: Callable[[W, A], B], take: Callable[[B], object], items: Iterable[A]
) -> None:
    """Calls take(run(worker, item)) for every item; takes in order, one at a time, while other workers run.

    Where all threads summed up what they found, NumPy's many short calls would hand Python's interpreter lock from one
    to the other (statistics of ResNet-56: 10.7 s on two threads, 6.9 on one, 4.3 so).

    Args:
        workers: one per thread; none runs again before what it gave was taken, which may so be its own memory.
        run: pure but for the worker's own state.
        take: adds one up.
        items: read lazily.
    """

    def call(worker: W, item: A, before: Future[None] | None) -> None:
        found = run(worker, item)
        if before is not None:
            before.result()  # waits; where it failed, this one fails, too
        take(found)

    last, pending = None, deque[Future[None]]()
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            # They end in order, so that the worker of one that begins has been given up.
            for worker, item in zip(cycle(workers), items, strict=False):
                last = pool.submit(call, worker, item, last)
                pending.append(last)
                if len(pending) > WINDOW * len(workers):
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def each[A, B](work: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> list[B]:
    """work(item) of every item, in order, on so many threads."""
    return [*ordered([None] * threads, lambda _, item: work(item), items)]


def chunk_size(elements: int, most: int = CHUNK, limit: int = ELEMENTS) -> int:
    """How many samples to take at a time, of which so many elements are kept each: one at least.

    NumPy gives Python's interpreter lock away in every call: with arrays of a few thousand elements two threads do
    little but hand it to each other, and take as long as one. What is summed over several samples at once scales.

    Args:
        elements: of one sample.
        most: samples.
        limit: elements of all samples together, beyond which fewer are taken.
    """
    return max(1, min(most, limit // max(1, elements)))

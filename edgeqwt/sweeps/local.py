"""Cells in processes of this machine, each with cores of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from edgeqwt.runtime.child import MIB, Child
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.sweeps.plan import Cell, Plan
from edgeqwt.sweeps.table import LOST, Row
from edgeqwt.sweeps.work import build


def jobs_that_fit(plan: Plan) -> int:
    """How many builds of a plan have cores and memory on this machine at a time; one at least."""
    jobs = THREADS // plan.cores
    if plan.memory_mib:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
        jobs = min(jobs, memory // plan.memory_mib)
    return max(1, jobs)


def run(cells: Sequence[Cell], folder: Path, plan: Plan, jobs: int | None) -> Iterator[tuple[Cell, Row]]:
    """Builds cells, and yields each as it ends.

    Args:
        cells: of the plan.
        folder: their outputs go into.
        plan: what each needs.
        jobs: how many at a time; None: as many as fit.
    """
    count = jobs or jobs_that_fit(plan)
    free: SimpleQueue[set[int] | None] = SimpleQueue()
    for cores in _cores(count, plan.cores):
        free.put(cores)
    running, stopping = set[Child](), Event()

    def work(cell: Cell) -> Row:
        cores = free.get()
        if cores is not None:
            os.sched_setaffinity(0, cores)  # this thread's, which the process that it starts inherits
        try:
            return _until_kept(cell, str(folder / cell.folder), plan.retries, running, stopping)
        finally:
            free.put(cores)

    pool = ThreadPoolExecutor(count)
    try:
        futures = {pool.submit(work, cell): cell for cell in cells}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(running):
            child.end()
        pool.shutdown()


def _until_kept(cell: Cell, folder: str, retries: int, running: set[Child], stopping: Event) -> Row:
    """The row of a cell, begun again where its process was lost and nobody is stopping the sweep."""
    for _ in range(retries + 1):
        mine: list[Child] = []

        def started(child: Child, mine: list[Child] = mine) -> None:
            mine.append(child)
            running.add(child)

        row = build(cell, folder, started)
        running.difference_update(mine)
        if row.status != LOST or stopping.is_set():
            break
    return row


def _cores(count: int, each: int) -> list[set[int] | None]:
    """Cores for each job: its own as long as there are enough, else any."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    own = sorted(os.sched_getaffinity(0))
    parts: list[set[int] | None] = [set(own[k * each : (k + 1) * each]) for k in range(len(own) // each)]
    return [parts[k] if k < len(parts) else set(own) for k in range(count)]

"""Cells as tasks of a Ray cluster: files are put there once, lost workers' cells are begun again.

A task materializes what it needs from the object store under the worker's temporary folder, builds in a process of its
own as `local` does, and hands its output folder back: machines of a cluster need no file system in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import EdgeqwtError
from edgeqwt.report.folder import whole_folder
from edgeqwt.report.manifest import MANIFEST
from edgeqwt.runtime.child import MIB
from edgeqwt.runtime.cluster import connected
from edgeqwt.sweeps.contents import mirrored, packed, unpacked
from edgeqwt.sweeps.local import jobs_that_fit
from edgeqwt.sweeps.plan import Cell, Plan
from edgeqwt.sweeps.table import BUILT, LOST, Row
from edgeqwt.sweeps.work import build, lost


class _LostError(Exception):
    """The system ended a cell's process: the task is begun again."""


def run(cells: Sequence[Cell], folder: Path, plan: Plan, jobs: int | None, address: str) -> Iterator[tuple[Cell, Row]]:
    """Builds cells on a cluster, and yields each as it ends.

    Args:
        cells: of the plan.
        folder: their outputs go into.
        plan: what each needs: cores, memory.
        jobs: how many at a time; None: as many as fit.
        address: of the cluster, or START.

    Raises:
        MissingPackageError: Ray is not installed.
        ToolError: there is no cluster.
    """
    with connected(address, plan.cores * (jobs or jobs_that_fit(plan))):
        import ray

        task = ray.remote(
            num_cpus=plan.cores,
            memory=plan.memory_mib * MIB or None,
            max_retries=plan.retries,
            retry_exceptions=[_LostError],
        )(_task)
        needed = dict.fromkeys(path for cell in cells for path in cell.files)
        stored = {path: ray.put(packed(Path(path), Path(path).name)) for path in needed}
        waiting, running = list(reversed(cells)), dict[Any, Cell]()
        most = jobs or len(cells)
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    cell = waiting.pop()
                    running[task.remote(cell, {path: [stored[path]] for path in cell.files})] = cell
                (done, *_), _ = ray.wait(list(running))
                cell = running.pop(done)
                yield cell, _received(cell, done, folder)
        finally:
            for left in running:
                ray.cancel(left, force=True)


def _received(cell: Cell, done: Any, folder: Path) -> Row:
    """The row of a task that ended, its output in its place."""
    import ray

    try:
        row, data = ray.get(done)
    except (ray.exceptions.RayError, _LostError) as error:
        said = " ".join(str(error).split("\n", 1)[0].split())
        return lost(cell, f"the cluster lost the build: {said or type(error).__name__}")
    try:
        if data is not None:
            with whole_folder(folder / cell.folder) as work:
                unpacked(data, work)
                (work / MANIFEST).unlink()  # it gets one of its own
    except EdgeqwtError as error:
        return lost(cell, error.message)
    found: Row = row
    return found


# -- on the worker ---------------------------------------------------------------


def _task(cell: Cell, files: Mapping[str, Sequence[Any]]) -> tuple[Row, bytes | None]:
    """Builds a cell on a worker.

    Args:
        cell: of a plan.
        files: the contents of what it needs, by path: references in lists, which Ray hands on as they are.

    Returns:
        The row, and the output folder as an archive where there is one.
    """
    import ray

    with TemporaryFolder() as scratch:
        paths = {}
        for path, (stored,) in files.items():
            paths[path] = str(scratch / path.lstrip("/"))  # files keep their places beside each other
            Path(paths[path]).parent.mkdir(parents=True, exist_ok=True)
            unpacked(ray.get(stored), Path(paths[path]).parent)
        output = scratch / "out" / cell.folder
        row = build(replace(cell, options=mirrored(cell.options, paths)), str(output))
        if row.status == LOST:
            raise _LostError(row.message)
        return row, packed(output, ".") if row.status == BUILT else None

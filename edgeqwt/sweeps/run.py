"""A sweep: all builds of a plan, each once, in a table that grows while they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from edgeqwt.api_targets import target_of
from edgeqwt.disk import expect
from edgeqwt.progress import Display, automatic
from edgeqwt.report.manifest import MANIFEST
from edgeqwt.sweeps import local, table
from edgeqwt.sweeps import plan as plans
from edgeqwt.sweeps.plan import Cell, Plan
from edgeqwt.sweeps.table import BUILT, FAILED, FINISHED, Row
from edgeqwt.sweeps.work import row_of

LOCAL = "local"
BUILDS = "builds"
"""The folder of the builds' outputs, in the sweep's."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found so far.

    Attributes:
        folder: of the sweep; each build's output lies in a folder of `builds` in it.
        rows: one for each build of the plan, in its order.
    """

    folder: Path
    rows: tuple[Row, ...]

    @property
    def built(self) -> tuple[Row, ...]:
        """The rows of builds that have a file."""
        return tuple(row for row in self.rows if row.status == BUILT)

    def path(self, row: Row) -> Path:
        """The output folder of a build."""
        return self.folder / BUILDS / row.folder

    def __repr__(self) -> str:
        """How many builds there are of each status."""
        found = ", ".join(f"{count} {status}" for status, count in table.counts(self.rows).items())
        return f"Sweep({str(self.folder)!r}: {found})"


def sweep(
    plan: str | Path | Mapping[str, Any],
    *,
    output: str | Path,
    jobs: int | None = None,
    on: str = LOCAL,
    again: bool = False,
    display: Display = automatic,
) -> Sweep:
    """Builds all that a plan asks for: models × targets × recipes × precisions × calibration sets.

    A build that fails is a row with its error. What a sweep into the same folder has finished is not built again,
    unless its source, samples, options or versions have changed: one that was interrupted goes on where it stopped.

    Args:
        plan: a .toml file, or a mapping with the same keys; see docs/sweeps.md.
        output: folder of the table and the outputs.
        jobs: how many builds run at a time; None: as many as have cores and memory.
        on: "local": processes of this machine; "ray": a Ray cluster, started here where $RAY_ADDRESS names none; or the
            address of one.
        again: build anew what failed.
        display: shows the progress.

    Raises:
        InputError: the plan is wrong, or the folder cannot be used; nothing has been built then.
        MissingPackageError: Ray is asked for and not installed.
    """
    wanted, where, base = plans.read(plan)
    cells = plans.cells(wanted, where, base, target_of)
    folder = Path(output).resolve()
    with table.opened(folder) as results:
        expect(folder / table.FILE, folder / table.FILE)  # whoever interrupts the sweep hears that it is there
        results.plan(map(row_of, cells))
        finished = {
            row.key for row in results.rows() if row.status in FINISHED and not (again and row.status == FAILED)
        }
        left = [cell for cell in cells if cell.key not in finished]
        with display(f"{len(cells)} builds") as advance:
            advance(0, len(left))
            for done, (_, row) in enumerate(_built(left, folder / BUILDS, wanted, jobs, on), start=1):
                results.write(row.ending())
                advance(done, len(left))
        return Sweep(folder, results.rows())


def opened(folder: str | Path) -> Sweep:
    """A sweep that runs or has run.

    Raises:
        InputError: there is none in the folder.
    """
    return Sweep(Path(folder), table.read(Path(folder)))


def _built(cells: Sequence[Cell], folder: Path, wanted: Plan, jobs: int | None, on: str) -> Iterator[tuple[Cell, Row]]:
    """Cells with their rows, in the order in which they end."""
    if not cells:
        return iter(())
    folder.mkdir(exist_ok=True)
    # What a driver built that was killed before it could say so needs its row alone, which takes no cluster.
    standing = [cell for cell in cells if (folder / cell.folder / MANIFEST).is_file()]
    missing = [cell for cell in cells if cell not in standing]
    if on == LOCAL:
        return local.run([*standing, *missing], folder, wanted, jobs)
    from edgeqwt.sweeps import on_ray

    there = on_ray.run(missing, folder, wanted, jobs, on) if missing else ()
    return chain(local.run(standing, folder, wanted, jobs), there)

"""One build of a sweep, in a process of its own: what comes of it is a row, whatever happens."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgeqwt
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.guard import as_error
from edgeqwt.progress import peak
from edgeqwt.report.manifest import MANIFEST, MODEL, PACKAGE, REPORT
from edgeqwt.runtime.child import Child, EndedError
from edgeqwt.sweeps.contents import versions
from edgeqwt.sweeps.plan import Cell
from edgeqwt.sweeps.table import BUILT, FAILED, LOST, Row

SIGKILL = -9
LOST_HINT = "Run the sweep again, which begins with what is not finished; memory may have run out: see memory_mib."


def row_of(cell: Cell) -> Row:
    """A cell that nothing came of yet."""
    return Row(cell.key, cell.model, cell.calibration, cell.target, cell.recipe, cell.precision)


def lost(cell: Cell, message: str) -> Row:
    """A cell whose process or machine went away."""
    error = EdgeqwtError(message, LOST_HINT)
    return replace(failed(row_of(cell), error), status=LOST)


def build(cell: Cell, folder: str, started: Callable[[Child], None] = lambda child: None) -> Row:
    """Builds a cell in a fresh process, so that its memory and its end are its own.

    Args:
        cell: of a plan.
        folder: of its output; a whole one that stands there already, of a driver that was killed, is not built again.
        started: gets the process.

    Returns:
        Its row: built, failed, or lost where the system ended the process.
    """
    child = Child("the build")
    started(child)
    try:
        row: Row = child.call(_built, cell, folder)
    except EndedError as error:
        gone = child.process.returncode == SIGKILL
        return lost(cell, error.message) if gone else failed(row_of(cell), error)
    except EdgeqwtError as error:
        return failed(row_of(cell), error)
    finally:
        child.end()
    return row


def _built(cell: Cell, folder: str) -> Row:
    """The same in this process."""
    start, row, output = time.perf_counter(), row_of(cell), Path(folder)
    try:
        own = versions("ethos-u-vela" in cell.versions)
        if dict(own) != dict(cell.versions):
            raise InputError(_other_versions(own, cell.versions), "Install the same on all machines of a sweep.")
        if not (output / MANIFEST).is_file():
            edgeqwt.build(**cell.options, output=output)
        row = replace(row, status=BUILT, exit_code=0, folder=output.name, **measured(output))
        if cell.latency:
            row = replace(row, latency_ms=_latency(output / MODEL))
    except Exception as error:
        row = failed(row, as_error(error))
    return replace(row, seconds=round(time.perf_counter() - start, 3), peak_mib=row.peak_mib or peak())


def failed(row: Row, error: EdgeqwtError) -> Row:
    """The row of a build that an error stopped."""
    failures = "".join(f"; {sentence}" for sentence in getattr(error, "failures", ()))
    return replace(row, status=FAILED, message=f"{error.message}{failures}", hint=error.hint, exit_code=error.exit_code)


def measured(folder: Path) -> dict[str, Any]:
    """What the report of a build says, as columns of its row."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    kept = report["kept"]["name"]
    plain = next(iter(report["outputs"]))
    same = [output["top1"] for output in report["outputs"][kept] if output["top1"] is not None]
    scores = list(report["scores"].get(kept, {}).values())
    return {
        "kept": kept,
        "plain_db": _worst_db(report["outputs"][plain]),
        "kept_db": _worst_db(report["outputs"][kept]),
        "agreement": min(same, default=None),
        "score": scores[0] if scores else None,
        "bytes": report["bytes"][kept],
        "bit_operations": report["bit_operations"],
        "cycles": _cycles(folder / PACKAGE),
        "peak_mib": max(report["peak_mib"].values(), default=None),
        "sha256": hashlib.sha256((folder / MODEL).read_bytes()).hexdigest(),
    }


def _worst_db(outputs: list[Mapping[str, Any]]) -> float | None:
    """SQNR of what varies at the worst output; of the whole of one that does not vary."""
    judged = [output["judged_at"] for output in outputs]
    found = [at["sqnr_db"] if at["varying_db"] is None else at["varying_db"] for at in judged]
    return min((db for db in found if db is not None), default=None)


def _cycles(package: Path) -> float | None:
    from edgeqwt.report.pages import npu_summary

    found = npu_summary(package)
    return None if found is None else float(found["cycles"]["total"])


def _latency(path: Path) -> float:
    """Milliseconds of the shortest run with LiteRT's default kernels on this machine."""
    from edgeqwt.benchmark.bench import Options
    from edgeqwt.benchmark.host import HostSettings

    settings = HostSettings(kernels=("xnnpack",), profile=False)
    (found,) = edgeqwt.bench([path], "host", Options(host=settings))
    return 1000 * next(figure.value for figure in found.figures if figure.name == "latency_min")


def _other_versions(own: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    odd = next(name for name in (*wanted, *own) if own.get(name) != wanted.get(name))
    return (
        f"this machine has {odd} {own.get(odd, 'not at all')}, and the one with the plan {wanted.get(odd, 'has not')}"
    )

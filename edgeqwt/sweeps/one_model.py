"""One model at several widths: what each costs and how good it is, and the files of those that no other one beats."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import edgeqwt
from edgeqwt.disk import write_whole
from edgeqwt.errors import EdgeqwtError, InputError, QualityError, TargetError
from edgeqwt.output import finite
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe import recipe as recipes
from edgeqwt.report.folder import whole_folder
from edgeqwt.sweeps.front import best_keys
from edgeqwt.sweeps.page import page_html
from edgeqwt.sweeps.run import BUILDS, Sweep
from edgeqwt.sweeps.table import BUILT, Row
from edgeqwt.sweeps.work import failed, measured
from edgeqwt.widths.precision import MIXED, Mixed

FIRST, NARROW, WIDE = "w8a8", "w4a8", "w8a16"
PAGE, ROWS = "pareto.html", "pareto.json"
OWN = ("precision", "mixed", "before")
"""Arguments of `build` that make no sense for several widths."""


def pareto(model: object, *, calibration: Any, output: str | Path, overwrite: bool = False, **options: Any) -> Sweep:
    """Builds a model at several widths: 8 bits, weights of 4 bits, a mixture of both, 16-bit activations.

    It is converted, prepared and proved once. The mixture has half of the bytes that 4-bit weights save everywhere, and
    4 bits where they cost the outputs least. What is poor is built, too: its row says how poor it is.

    Args:
        model: as for `edgeqwt.build`.
        calibration: likewise.
        output: folder to make: a table, a page, and in `builds` the output folders of the builds that no other one
            beats in quality without costing more: in bytes, in bit operations, or in cycles where the target tells.
        overwrite: as for `edgeqwt.build`.
        options: of `edgeqwt.build`, for all builds alike, but for those of `OWN` and `accept`. A time budget is shared
            evenly.

    Raises:
        InputError: an option is not for several widths.
        EdgeqwtError: as `edgeqwt.build`, where the model cannot be built at any of the widths. What stops one
            of several is in its row.
    """
    if wrong := [name for name in OWN if options.get(name) is not None]:
        raise InputError(f"{wrong[0]} is not for several widths", "Leave it out, or build one width at a time.")
    with whole_folder(Path(output), overwrite) as folder:
        rows = _Builds(model, calibration, folder, options).all()
        best = best_keys(rows)
        found = Sweep(folder, tuple(row if row.key in best else _without_files(row, folder) for row in rows))
        write_whole(folder / PAGE, page_html(replace(found, folder=Path(output).resolve())).encode())
        text = json.dumps(finite([{**asdict(row), "best": row.key in best} for row in rows]), indent=2)
        write_whole(folder / ROWS, f"{text}\n".encode())
    return replace(found, folder=Path(output))


def _without_files(row: Row, folder: Path) -> Row:
    if row.folder:
        shutil.rmtree(folder / BUILDS / row.folder)
    return replace(row, folder="")


def _named(source: object) -> str:
    return Path(source).name if isinstance(source, str | Path) else type(source).__name__


class _Builds:
    """The builds of one model, one after the other; all but the first take up what that has converted and proved."""

    COUNT = 4

    def __init__(self, model: object, calibration: Any, folder: Path, options: dict[str, Any]) -> None:
        self.model, self.calibration, self.folder = model, calibration, folder
        self.options = {name: value for name, value in options.items() if name not in OWN}
        self.first: BuildResult | None = None
        self.errors: list[EdgeqwtError] = []
        chosen = options.get("recipe", recipes.DEFAULT)
        self.blank = Row(
            key="",
            model=_named(model),
            calibration=_named(calibration),
            target=options.get("target", "tflite"),
            recipe=chosen if isinstance(chosen, str) else chosen.name,
            precision="",
        )

    def all(self) -> list[Row]:
        """A row for each of the widths.

        Raises:
            EdgeqwtError: there is no build; the error at 8 bits.
        """
        first = self.row(FIRST)
        narrow, wide = self.row(NARROW), self.row(WIDE)
        if self.first is None:
            raise self.errors[0]
        if first.bytes and narrow.bytes and narrow.bytes < first.bytes:
            half = (first.bytes + narrow.bytes) // 2
            return [first, narrow, self.row(MIXED, mixed=Mixed(max_size=half)), wide]
        return [first, narrow, wide]

    def row(self, precision: str, **own: Any) -> Row:
        """The row of one of them, failed where the others may do."""
        row = replace(self.blank, key=precision, precision=precision)
        seconds = self.options.get("time_budget")
        own |= {"accept": True, "time_budget": None if seconds is None else seconds / self.COUNT}
        folder = self.folder / BUILDS / precision
        try:
            result = edgeqwt.build(
                self.model,
                **{**self.options, **own},
                calibration=self.calibration,
                output=folder,
                precision=precision,
                before=self.first,
            )
        except EdgeqwtError as error:
            if self.first is None and not isinstance(error, TargetError | QualityError):
                raise
            self.errors.append(error)
            return failed(row, error)
        self.first = self.first or result
        took = round(sum(result.seconds.values()), 3)
        return replace(row, status=BUILT, exit_code=0, folder=precision, seconds=took, **measured(folder)).ending()

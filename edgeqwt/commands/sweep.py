"""`edgeqwt sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgeqwt
from edgeqwt.commands import panels
from edgeqwt.commands.app import Running, command, group
from edgeqwt.commands.options import Json
from edgeqwt.disk import write_whole
from edgeqwt.errors import InputError
from edgeqwt.output import console, print_json, progress_display

if TYPE_CHECKING:
    from edgeqwt.sweeps.run import Sweep

EXAMPLES = ("edgeqwt sweep plan.toml -o sweep/", "edgeqwt sweep plan.toml -o sweep/ --on ray --jobs 8")
Csv = Annotated[bool, panels.output("--csv", help="Print the table as CSV, and nothing else.")]
Html = Annotated[Path | None, panels.output(help="Write a page of it, too.", metavar="FILE.html")]


@group("sweep", "edgeqwt sweep run --help", "edgeqwt sweep show --help", cls=Running, alone=False)
def sweep() -> None:
    """Build many models for many targets, as a plan says.

    Models × targets × recipes × precisions × calibration sets. `edgeqwt sweep PLAN` is `edgeqwt sweep run PLAN`. What
    is finished is not built again: a sweep that was interrupted goes on where it stopped.
    """


@command(*EXAMPLES, of=sweep)
def run(
    plan: Annotated[Path, typer.Argument(help="What to build, see docs/sweeps.md.", metavar="PLAN.toml")],
    output: Annotated[
        Path, panels.output("--output", "-o", help="Folder of the table and the builds.", metavar="FOLDER")
    ],
    jobs: Annotated[
        int | None,
        panels.run(help="Builds at a time.  [default: as many as have cores and memory]", min=1, metavar="N"),
    ] = None,
    on: Annotated[
        str, panels.run(help="local: processes of this machine; ray; or the address of a Ray cluster.", metavar="WHERE")
    ] = "local",
    again: Annotated[bool, panels.run("--again", help="Build anew what failed.")] = False,
    json: Json = False,
) -> None:
    """Build what a plan asks for, each build once.

    A build that fails is a row with its error, and never stops the others.
    """
    found = edgeqwt.sweep(plan, output=output, jobs=jobs, on=on, again=again, display=progress_display())
    _print(found, json=json)


@command("edgeqwt sweep show sweep/", "edgeqwt sweep show sweep/ --html sweep.html", of=sweep)
def show(
    folder: Annotated[Path, typer.Argument(help="Of a sweep that runs or has run.", metavar="FOLDER")],
    html: Html = None,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """Show the table of a sweep, and quality over what it costs.

    The best are marked: no other build of that model, judged on the same samples, is better and costs less.
    """
    from edgeqwt.sweeps.page import page_html
    from edgeqwt.sweeps.run import opened

    found = opened(folder)
    if html is not None:
        write_whole(html, page_html(found).encode())
    _print(found, json=json, csv=csv)


def _print(found: Sweep, json: bool = False, csv: bool = False) -> None:
    from edgeqwt.sweeps.show import print_csv, show_sweep, sweep_document

    if json and csv:
        raise InputError("--json and --csv exclude each other", "Give one of them.")
    if json:
        print_json(sweep_document(found))
    elif csv:
        print_csv(found.rows)
    else:
        show_sweep(console(), found)

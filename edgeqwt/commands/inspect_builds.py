"""Commands that show what builds left: diff, explore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeqwt.commands.app import command
from edgeqwt.commands.options import Json
from edgeqwt.disk import write_whole
from edgeqwt.output import answer


@command("edgeqwt diff out-fast/ out-best/", "edgeqwt diff out-fast/ out-best/ --report diff.html")
def diff(
    first: Annotated[Path, typer.Argument(help="Output folder of a build.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Output folder of another one.", metavar="B")],
    report: Annotated[Path | None, typer.Option(help="Write a page of it, too.", metavar="FILE.html")] = None,
    json: Json = False,
) -> None:
    """Show two builds side by side.

    Quality, size, options, and the ops whose own error changed.
    """
    from edgeqwt.report.diff import difference, difference_html, show_difference

    found = difference(first, second)
    if report is not None:
        write_whole(report, difference_html(found).encode())
    answer(json, found, lambda out: show_difference(out, found))


@command("edgeqwt explore out/")
def explore(folder: Annotated[Path, typer.Argument(help="Output folder of a build.", metavar="FOLDER")]) -> None:
    """Open a build in Model Explorer.

    Every op has its own error, gains and bits. Needs ai-edge-model-explorer.
    """
    from edgeqwt.report.model_explorer import explore

    explore(folder)

"""`edgeqwt tools`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgeqwt
from edgeqwt.commands.app import command, group
from edgeqwt.commands.completion import among
from edgeqwt.commands.options import Json
from edgeqwt.output import answer, progress_display, show_table


@group("tools", "edgeqwt tools", "edgeqwt tools install litert-torch")
def tools(context: typer.Context, json: Json = False) -> None:
    """List the tools that edgeqwt calls.

    Their version, state, and where they were found; and which SDKs of NPUs' vendors you have.
    `edgeqwt tools install NAME` makes an environment for one of them; a vendor's SDK is found in the folder that its
    variable names.
    """
    if context.invoked_subcommand is not None:
        return
    found = edgeqwt.tools()
    rows = [(t.tool, t.version or "", t.problem or "ready", t.where if t.problem else t.python) for t in found]
    header = ("tool", "version", "state", "interpreter or folder;\nelse where it was looked for")
    answer(json, found, lambda out: show_table(out, "Tools", header, rows, texts=4))


@command("edgeqwt tools install litert-torch", "edgeqwt tools install litertjs", of=tools)
def install(
    name: Annotated[
        str,
        typer.Argument(
            help="onnx2tf, litert-torch, tensorflow, qualcomm or litertjs.",
            metavar="NAME",
            autocompletion=among("onnx2tf", "litert-torch", "tensorflow", "qualcomm", "litertjs"),
        ),
    ],
    python: Annotated[
        Path | None,
        typer.Option(
            help="Interpreter to make the environment with, Python 3.12.  [default: this one]", metavar="FILE"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make an environment with a tool.

    At versions that are known to work; one that is there already is made anew. It goes to $EDGEQWT_TOOLS, or
    edgeqwt/tools in the user's data folder, and takes some GB and minutes.
    """
    with progress_display()(f"installing {name}"):
        found = edgeqwt.install_tool(name, python)
    ready = f"{found.tool} {found.version} is ready: {found.python}"
    answer(json, found, lambda out: out.print(ready, soft_wrap=True))

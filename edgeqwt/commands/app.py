"""The program as typer sees it; the commands register themselves in it."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

EXIT_CODES = (
    "Exit codes: 0 done; 2 a file, sample or option cannot be used; 3 the recipe is wrong; 4 an op has no integer "
    "form; 5 a program that edgeqwt calls failed; 6 the conversion changed the model; 7 the target does not take the "
    "model, or it costs more than its budget; 8 the integer model is too far from the float one; 70 a bug in edgeqwt; "
    "1 anything else, such as too little memory; 130 interrupted."
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help: typer's boxes leave no space for the text
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="PyTorch to proved, compensated full-integer TFLite models, for phones, NPUs and microcontrollers.",
    epilog=EXIT_CODES,
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"edgeqwt {importlib.metadata.version('edgeqwt')}")
        except importlib.metadata.PackageNotFoundError:
            print("edgeqwt, run from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that go before the command; the text is the app's."""

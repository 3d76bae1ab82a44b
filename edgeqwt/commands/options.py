"""Options that several commands have, and how their texts are parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from edgeqwt.commands import panels
from edgeqwt.commands.completion import offered, recipes, targets
from edgeqwt.errors import InputError

if TYPE_CHECKING:
    from edgeqwt.calibration.images import ImageOptions

Calibration = Annotated[
    str,
    panels.data(
        "--calibration",
        "-c",
        help="Calibration samples: .npz or .npy in the source model's layout, a folder of images (see --image), "
        "a .toml that describes one, or file.py:function.",
        metavar="DATA",
    ),
]
FileCalibration = Annotated[
    str,
    panels.data(
        "--calibration",
        "-c",
        help="Samples in the float file's layout, channels last as a rule: .npz or .npy, a folder of images (see "
        "--image), a .toml that describes one, or file.py:function.",
        metavar="DATA",
    ),
]
Image = Annotated[
    list[str] | None,
    panels.data(
        help="How images of a calibration folder become samples, e.g. --image size=96x96 --image mean=0.5,0.5,0.5; "
        "see docs/calibration.md.",
        metavar="KEY=VALUE",
    ),
]
Trust = Annotated[
    bool, panels.data("--trust", help="Let a model file run code of its own while it is loaded; see docs/sources.md.")
]
NAMED = "balanced, int8-only, fast, best, plain, or a .toml file; see docs/recipes.md."
Recipe = Annotated[str, panels.recipe(help=NAMED, metavar="NAME|FILE", autocompletion=offered(recipes))]


def parse_bytes(text: str) -> int:
    """A size such as 200000, 200kB or 256KiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG]?)(i?)B?", text)
    if found is None:
        raise typer.BadParameter(f"{text!r}; write it as 200000, 200kB or 256KiB")
    base = 1024 if found[3] else 1000
    if float(found[1]) == 0:
        raise typer.BadParameter("it must be more than nothing")
    return int(float(found[1]) * base ** {"": 0, "k": 1, "K": 1, "M": 2, "G": 3}[found[2]])


def parse_seconds(text: str) -> float:
    """A time such as 90, 90s, 5m or 1h30m."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.replace(" ", ""))
    parts = (None, None, None) if found is None else found.groups()
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r}; write it as 90s, 5m or 1h30m")
    return seconds


MaxSize = Annotated[
    int | None, panels.recipe(help="With mixed: bytes of the file at most.", parser=parse_bytes, metavar="SIZE")
]
Ram = Annotated[
    int | None, panels.target(help="What it may write at run time, such as 256KiB.", parser=parse_bytes, metavar="SIZE")
]
Flash = Annotated[
    int | None, panels.target(help="What it may take as stored, such as 1MiB.", parser=parse_bytes, metavar="SIZE")
]
Target = Annotated[
    str,
    panels.target(
        help="A name that `edgeqwt targets` lists, or a .toml file of your own.",
        metavar="NAME|FILE",
        autocompletion=offered(targets),
    ),
]
Samples = Annotated[int | None, panels.data(help="Use at most so many samples.", min=1, metavar="N")]
BatchSize = Annotated[
    str,
    panels.data(
        help="Rows of the file's inputs, whatever the size of the data's batches; keep: as the data has them.",
        metavar="N|keep",
    ),
]
State = Annotated[
    list[str] | None,
    panels.data(
        help="An input and an output that are one state, fed back at the next run; may be repeated; none: there are "
        "none.  [default: what names and shapes tell]",
        metavar="IN=OUT",
    ),
]
LAYER_EXAMPLES = """'head.*=w8a16', 'head.*=keep_float' or 'stem.*={ranges = "minmax"}'"""
Layer = Annotated[
    list[str] | None,
    panels.recipe(
        help=f"What layers have of their own, by name, such as {LAYER_EXAMPLES}; several times.",
        metavar="NAME=WIDTHS|keep_float|{TABLE}",
    ),
]
Json = Annotated[bool, panels.output("--json", help="Print the result as JSON, and nothing else.")]
Fix = Annotated[bool, panels.target("--fix", help="Apply what findings of `edgeqwt check` offer to apply.")]


def parse_images(options: list[str] | None) -> ImageOptions | None:
    """What --image gives; None without any.

    Raises:
        InputError: see `calibration.settings.parse_options`.
    """
    from edgeqwt.calibration.settings import parse_options

    return parse_options(options) if options else None


def parse_batch_size(text: str) -> int | None:
    """A number of rows; None for "keep"."""
    if text == "keep":
        return None
    if not re.fullmatch(r"[1-9]\d*", text):
        raise typer.BadParameter(f"--batch-size {text!r}; write a number, or keep")
    return int(text)


def parse_states(options: list[str] | None) -> list[tuple[str, str]] | None:
    """Pairs of an input and an output; None where names and shapes are to tell."""
    if not options:
        return None
    if options == ["none"]:
        return []
    pairs = [option.partition("=") for option in options]
    odd = next((option for option, (a, _, b) in zip(options, pairs, strict=True) if not a or not b), None)
    if odd is not None:
        raise typer.BadParameter(f"--state {odd!r}; write it as input=output, or none")
    return [(a, b) for a, _, b in pairs]


def parse_layers(entries: list[str]) -> dict[str, str | Mapping[str, object]]:
    """`--layer NAME=WIDTHS`, NAME=keep_float or NAME={a TOML table}, as often as given.

    Raises:
        InputError: an entry is no such pair.
    """
    from edgeqwt import toml

    found: dict[str, str | Mapping[str, object]] = {}
    for entry in entries:
        name, equals, value = entry.partition("={") if "={" in entry else entry.rpartition("=")
        if not name or not equals or not value:
            raise InputError(f"--layer {entry!r}", f"Write NAME=VALUE, such as {LAYER_EXAMPLES}.")
        try:
            found[name] = toml.parse(f"value = {{{value}")["value"] if equals == "={" else value
        except ValueError as error:
            raise InputError(f"--layer {entry!r}: {error}", f"Write a table as in {LAYER_EXAMPLES}.") from None
    return found

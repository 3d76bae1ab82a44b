"""Commands on .tflite files: compensate, inspect, compare, evaluate, check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgeqwt.commands.app import app
from edgeqwt.commands.options import (
    Calibration,
    Flash,
    Image,
    Json,
    Ram,
    Recipe,
    Samples,
    Target,
    Trust,
    parse_images,
)
from edgeqwt.errors import TargetError


@app.command()
def compensate(
    model: Annotated[Path, typer.Argument(help="int8 .tflite file, made by any tool.", metavar="INT8.tflite")],
    reference: Annotated[
        str,
        typer.Option(help="The float .tflite file that it was made from, or its source.", metavar="FLOAT.tflite"),
    ],
    calibration: Calibration,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .tflite file to write.", metavar="OUT.tflite")],
    recipe: Recipe = "balanced",
    image: Image = None,
    samples: Samples = None,
    trust: Trust = False,
    accept: Annotated[
        bool | None, typer.Option("--accept", help="Even if the reference is hardly what the file was made from.")
    ] = None,
) -> None:
    """Repair an int8 TFLite file of any tool.

    The result has the same ops and the same size; it is the file as it was where nothing helps.
    """
    from edgeqwt import api
    from edgeqwt.output import console, progress_display
    from edgeqwt.report.terminal import show_compensation

    result = api.compensate(
        model,
        reference,
        calibration=calibration,
        output=output,
        recipe=recipe,
        images=parse_images(image),
        samples=samples,
        accept=accept,
        trust=trust,
        display=progress_display(),
    )
    show_compensation(console(), result, output)


@app.command()
def inspect(model: Annotated[Path, typer.Argument(help="A .tflite file.", metavar="FILE")], json: Json = False) -> None:
    """Show what is in a TFLite file.

    Ops, types, scales and sizes.
    """
    from edgeqwt import api
    from edgeqwt.output import console, print_json
    from edgeqwt.report.terminal import show_description

    description = api.inspect(model)
    if json:
        print_json(description)
    else:
        show_description(console(), description)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="The .tflite file to compare with, usually float.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="The .tflite file to judge.", metavar="B")],
    calibration: Calibration,
    image: Image = None,
    samples: Samples = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page that shows where B errs.", metavar="FILE.html")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two TFLite files tensor by tensor.

    Shows the SQNR of every tensor that they have in common, by name, and of their outputs.
    """
    from edgeqwt import api
    from edgeqwt.output import console, print_json, progress_display
    from edgeqwt.report.terminal import show_comparison

    result = api.compare(
        first,
        second,
        calibration=calibration,
        images=parse_images(image),
        samples=samples,
        report=report,
        display=progress_display(),
    )
    if json:
        print_json(replace(result, own=replace(result.own, traces=())))
    else:
        show_comparison(console(), result)


@app.command()
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help=".tflite files of one network; the first is compared with, usually float.", metavar="FILE..."
        ),
    ],
    data: Annotated[
        str, typer.Option(help="Test samples: as --calibration of `build`, with or without labels.", metavar="DATA")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Labels where DATA has none: .npy or .npz, one row per sample.", metavar="FILE")
    ] = None,
    image: Image = None,
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Score TFLite files side by side, of any tool, float or integer.

    Accuracy where there are labels, agreement with the first file, SQNR of what varies; what the differences are worth,
    paired by sample; and which classes became which.
    """
    from edgeqwt import api
    from edgeqwt.output import console, print_json, progress_display
    from edgeqwt.report.scores import show_scores

    found = api.evaluate(
        files, data=data, labels=labels, images=parse_images(image), samples=samples, display=progress_display()
    )
    if json:
        print_json(found)
    else:
        show_scores(console(), found)


@app.command()
def check(
    model: Annotated[Path, typer.Argument(help="A .tflite file, float or integer.", metavar="FILE")],
    target: Target,
    fix: Annotated[
        Path | None, typer.Option(help="Apply what findings offer to apply, and write this file.", metavar="OUT.tflite")
    ] = None,
    activation_bits: Annotated[int, typer.Option(help="What a float file will get: 8 or 16.", metavar="N")] = 8,
    ram: Ram = None,
    flash: Flash = None,
    json: Json = False,
) -> None:
    """Tell what a target does not take of a TFLite file, and what to do.

    Exit code 7 where the target would refuse it.
    """
    from edgeqwt import api
    from edgeqwt.output import console, print_json
    from edgeqwt.profile import Budget
    from edgeqwt.report.findings import show_findings

    findings, done = api.check(model, target, fixed=fix, bits=activation_bits, budget=Budget(ram, flash))
    if json:
        print_json({"findings": findings, "fixed": done})
    else:
        show_findings(console(), findings, done, target)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(TargetError.exit_code)

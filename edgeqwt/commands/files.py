"""Commands on .tflite files: compensate, inspect, compare, evaluate, check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import edgeqwt
from edgeqwt.commands import panels
from edgeqwt.commands.app import command
from edgeqwt.commands.options import (
    FileCalibration,
    Fix,
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
from edgeqwt.errors import InputError, TargetError
from edgeqwt.output import answer, progress_display


@command(
    "edgeqwt compensate int8.tflite --reference float.tflite -c samples.npz -o better.tflite",
    "edgeqwt compensate int8.tflite --reference float.tflite -c photos/ --image size=96x96 -o better.tflite",
)
def compensate(
    model: Annotated[Path, typer.Argument(help="int8 .tflite file, made by any tool.", metavar="INT8.tflite")],
    reference: Annotated[
        str, panels.data(help="The float .tflite file that it was made from, or its source.", metavar="FLOAT.tflite")
    ],
    calibration: FileCalibration,
    output: Annotated[Path, panels.output("--output", "-o", help="The .tflite file to write.", metavar="OUT.tflite")],
    recipe: Recipe = "balanced",
    image: Image = None,
    samples: Samples = None,
    trust: Trust = False,
    accept: Annotated[
        bool | None, panels.quality("--accept", help="Even if the reference is hardly what the file was made from.")
    ] = None,
    json: Json = False,
) -> None:
    """Repair an int8 TFLite file of any tool.

    The result has the same ops and is no larger; it is the file as it was where nothing helps.
    """
    from edgeqwt.report.terminal import compensation_document, show_compensation

    result = edgeqwt.compensate(
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
    answer(json, compensation_document(result, output), lambda out: show_compensation(out, result, output))


@command("edgeqwt inspect model.tflite", "edgeqwt inspect model.tflite --json > model.json")
def inspect(model: Annotated[Path, typer.Argument(help="A .tflite file.", metavar="FILE")], json: Json = False) -> None:
    """Show what is in a TFLite file.

    Ops, types, scales and sizes.
    """
    from edgeqwt.report.inspect import show_description

    description = edgeqwt.inspect(model)
    answer(json, description, lambda out: show_description(out, description))


@command(
    "edgeqwt compare float.tflite int8.tflite -c samples.npz",
    "edgeqwt compare float.tflite int8.tflite -c samples.npz --report compared.html",
)
def compare(
    first: Annotated[Path, typer.Argument(help="The .tflite file to compare with, usually float.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="The .tflite file to judge.", metavar="B")],
    calibration: FileCalibration,
    image: Image = None,
    samples: Samples = None,
    report: Annotated[
        Path | None, panels.output(help="Write a page that shows where B errs.", metavar="FILE.html")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two TFLite files tensor by tensor.

    Shows the SQNR of every tensor that they have in common, by name, and of their outputs.
    """
    from edgeqwt.report.terminal import show_comparison

    result = edgeqwt.compare(
        first,
        second,
        calibration=calibration,
        images=parse_images(image),
        samples=samples,
        report=report,
        display=progress_display(),
    )
    data = ["-c", calibration, *(part for option in image or [] for part in ("--image", option))]
    untraced = replace(result, own=replace(result.own, traces=()))
    answer(json, untraced, lambda out: show_comparison(out, result, first, second, data))


@command(
    "edgeqwt evaluate float.tflite int8.tflite better.tflite --data test.npz",
    "edgeqwt evaluate float.tflite int8.tflite --data test.npy --labels labels.npy",
)
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help=".tflite files of one network; the first is compared with, usually float.", metavar="FILE..."
        ),
    ],
    data: Annotated[
        str, panels.data(help="Test samples: as --calibration of `build`, with or without labels.", metavar="DATA")
    ],
    labels: Annotated[
        Path | None, panels.data(help="Labels where DATA has none: .npy or .npz, one row per sample.", metavar="FILE")
    ] = None,
    image: Image = None,
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Score TFLite files side by side.

    They may be of any tool, float or integer. Accuracy where there are labels, agreement with the first file, SQNR of
    what varies; what the differences are worth, paired by sample; and which classes became which.
    """
    from edgeqwt.report.scores import show_scores

    found = edgeqwt.evaluate(
        files, data=data, labels=labels, images=parse_images(image), samples=samples, display=progress_display()
    )
    answer(json, found, lambda out: show_scores(out, found))


@command(
    "edgeqwt check model.tflite --target ethos-u55-128",
    "edgeqwt check model.tflite --target ethos-u55-128 --fix -o fixed.tflite",
    "edgeqwt check float.tflite --target tflm-cortex-m4 --ram 256KiB --flash 1MiB",
)
def check(
    model: Annotated[Path, typer.Argument(help="A .tflite file, float or integer.", metavar="FILE")],
    target: Target,
    fix: Fix = False,
    output: Annotated[
        Path | None, panels.output("--output", "-o", help="With --fix: the file to write.", metavar="OUT.tflite")
    ] = None,
    activation_bits: Annotated[int, panels.target(help="What a float file will get: 8 or 16.", metavar="N")] = 8,
    ram: Ram = None,
    flash: Flash = None,
    json: Json = False,
) -> None:
    """Tell what a target does not take of a file.

    And what to do about it.

    Exit code 7 where the target would refuse it.
    """
    from edgeqwt.profile import Budget
    from edgeqwt.report.findings import show_findings

    if fix != (output is not None):
        raise InputError(
            "--fix needs a file to write" if fix else "--output is for what --fix makes",
            "Give both: --fix --output OUT.tflite.",
        )
    findings, done = edgeqwt.check(model, target, fixed=output, bits=activation_bits, budget=Budget(ram, flash))
    found = {"findings": findings, "fixed": done}
    answer(json, found, lambda out: show_findings(out, findings, done, target))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(TargetError.exit_code)


@command("edgeqwt export model.tflite -o model.onnx")
def export(
    model: Annotated[Path, typer.Argument(help="A .tflite file, as a rule an integer one.", metavar="FILE")],
    output: Annotated[Path, panels.output("--output", "-o", help="The file to write.", metavar="OUT.onnx")],
    to: Annotated[str, typer.Option(help="onnx-qdq, the only one so far.", metavar="FORMAT")] = "onnx-qdq",
    json: Json = False,
) -> None:
    """Write a TFLite file as QDQ ONNX.

    With the same integers, scales and interface, for onnxruntime and the compilers that read it.
    """
    edgeqwt.export(model, output, to)
    data = {"file": str(output), "format": to, "bytes": output.stat().st_size}
    answer(json, data, lambda out: out.print(f"{output} is the same model as {to}", soft_wrap=True))

"""The commands: each parses its options, calls `edgeqwt.api`, prints."""

from __future__ import annotations

import importlib.metadata
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeqwt.errors import TargetError

if TYPE_CHECKING:
    from edgeqwt.calibration.images import ImageOptions
    from edgeqwt.quantize.precision import Mixed

EXIT_CODES = (
    "Exit codes: 0 done; 2 a file, sample or option cannot be used; 3 the recipe is wrong; 4 an op has no integer "
    "form; 5 a program that edgeqwt calls failed; 6 the conversion changed the model; 7 the target does not take the "
    "model, or it costs more than its budget; 70 a bug in edgeqwt; 1 anything else, such as too little memory; "
    "130 interrupted."
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help: typer's boxes leave no room for the text
    context_settings={"max_content_width": 100},
    help="PyTorch to proved, compensated full-integer TFLite models, for phones, NPUs and microcontrollers.",
    epilog=EXIT_CODES,
)

Calibration = Annotated[
    str,
    typer.Option(
        "--calibration",
        "-c",
        help="Calibration samples: .npz or .npy in the source model's layout, a folder of images (see --image), "
        "a .toml that describes one, or file.py:function.",
        metavar="DATA",
    ),
]
Image = Annotated[
    list[str] | None,
    typer.Option(
        help="How images of a calibration folder become samples, e.g. --image size=96x96 --image mean=0.5,0.5,0.5; "
        "see docs/calibration.md.",
        metavar="KEY=VALUE",
    ),
]
NAMED = "balanced, int8-only, fast, best, plain, or a .toml file; see docs/recipes.md."
Recipe = Annotated[str, typer.Option(help=NAMED, metavar="NAME|FILE")]


def _bytes(text: str) -> int:
    """A size such as 200000, 200kB or 256KiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKM]?)(i?)B?", text)
    if found is None:
        raise typer.BadParameter(f"{text!r}; write it as 200000, 200kB or 256KiB")
    base = 1024 if found[3] else 1000
    if float(found[1]) == 0:
        raise typer.BadParameter("it must be more than nothing")
    return int(float(found[1]) * base ** {"": 0, "k": 1, "K": 1, "M": 2}[found[2]])


MaxSize = Annotated[
    int | None, typer.Option(help="With mixed: bytes of the file at most.", parser=_bytes, metavar="SIZE")
]
Ram = Annotated[
    int | None, typer.Option(help="What it may write at run time, such as 256KiB.", parser=_bytes, metavar="SIZE")
]
Flash = Annotated[
    int | None, typer.Option(help="What it may take as stored, such as 1MiB.", parser=_bytes, metavar="SIZE")
]
Target = Annotated[
    str, typer.Option(help="A name that `edgeqwt targets` lists, or a .toml file of your own.", metavar="NAME|FILE")
]
Samples = Annotated[int | None, typer.Option(help="Use at most so many samples.", min=1, metavar="N")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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


@app.command()
def build(
    model: Annotated[
        str,
        typer.Argument(
            help="file.py:function or package.module:function that returns a module; .pt2, .onnx or .tflite.",
            metavar="MODEL",
        ),
    ],
    calibration: Calibration,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.", metavar="FOLDER")],
    target: Target = "tflite",
    recipe: Recipe = "balanced",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Widths: w8a8, w4a8 (packed int4), w8a16, ...; mixed: chosen per layer, with one of the next three.",
            metavar="wNaM|mixed",
        ),
    ] = None,
    max_size: MaxSize = None,
    max_latency: Annotated[
        float | None,
        typer.Option(help="With mixed: time at most, in that at 8 bits everywhere (a model).", metavar="RATIO"),
    ] = None,
    min_sqnr: Annotated[
        float | None, typer.Option(help="With mixed: SQNR of the outputs at least.", metavar="DB")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="With mixed: let ops have 16-bit activations.")] = False,
    ranges: Annotated[
        str | None, typer.Option(help="Rule for activation ranges; see docs/recipes.md.", metavar="NAME")
    ] = None,
    compensate: Annotated[bool | None, typer.Option("--compensate/--no-compensate", help="Whether CWAC runs.")] = None,
    float_io: Annotated[bool | None, typer.Option("--float-io/--int8-io", help="Type of inputs and outputs.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="Test samples, with labels or what else the metric needs.", metavar="DATA")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="How --evaluation is scored: top1, or file.py:function.  [default: top1]", metavar="NAME"),
    ] = None,
    image: Image = None,
    samples: Samples = None,
    sequence_length: Annotated[
        str | None,
        typer.Option(
            help="Cut or pad token ids and masks to so many; 32,64,128 builds one model each, in FOLDER/seq32, ...",
            metavar="N[,N...]",
        ),
    ] = None,
    onnx2tf_python: Annotated[
        str | None, typer.Option(help="Interpreter that has onnx2tf, where it is not this one.", metavar="PYTHON")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Keep the conversion's files and logs in this folder.", metavar="FOLDER")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Apply what findings of `edgeqwt check` offer to apply.")] = False,
    ram: Ram = None,
    flash: Flash = None,
    max_cycles: Annotated[
        int | None, typer.Option(help="Of one inference, by the NPU's compiler.", min=1, metavar="N")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output folder that no build made.")
    ] = False,
) -> None:
    """Build an int8 TFLite model, and prove it.

    The output folder gets the model, the float model that it was made from, a report, and the target's package.
    """
    from edgeqwt import api
    from edgeqwt.output import console, progress_display
    from edgeqwt.report.folder import whole_folder
    from edgeqwt.report.terminal import show_build
    from edgeqwt.target import Budget

    made = partial(
        api.build,
        model,
        calibration=calibration,
        target=target,
        recipe=recipe,
        precision=precision,
        mixed=_mixed(max_size, max_latency, min_sqnr, wide),
        ranges=ranges,
        compensation=compensate,
        float_io=float_io,
        metric=metric,
        evaluation=evaluation,
        images=_images(image),
        samples=samples,
        onnx2tf_python=onnx2tf_python,
        overwrite=overwrite,
        fix=fix,
        budget=Budget(ram, flash, max_cycles),
        display=progress_display(),
    )
    lengths = _lengths(sequence_length)
    if len(lengths) < 2:
        only = lengths[0] if lengths else None
        show_build(console(), made(output=output, work=work, sequence_length=only), output)
        return
    with whole_folder(output, overwrite) as place:  # all of them or none
        results = {
            n: made(output=place / f"seq{n}", work=work and work / f"seq{n}", sequence_length=n) for n in lengths
        }
    for n, result in results.items():
        show_build(console(), result, output / f"seq{n}")


@app.command()
def compensate(
    model: Annotated[Path, typer.Argument(help="int8 .tflite file, made by any tool.", metavar="INT8.tflite")],
    reference: Annotated[
        Path, typer.Option(help="The float .tflite file that it was made from.", metavar="FLOAT.tflite")
    ],
    calibration: Calibration,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .tflite file to write.", metavar="OUT.tflite")],
    recipe: Recipe = "balanced",
    image: Image = None,
    samples: Samples = None,
) -> None:
    """Repair an int8 TFLite file of any tool.

    The result has the same ops and the same size; it is the file as it was where nothing helps.
    """
    from edgeqwt import api
    from edgeqwt.output import console, progress_display
    from edgeqwt.report.terminal import show_compensation

    result = api.compensate_file(
        model,
        reference,
        calibration=calibration,
        output=output,
        recipe=recipe,
        images=_images(image),
        samples=samples,
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

    description = api.inspect_file(model)
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
    json: Json = False,
) -> None:
    """Compare two TFLite files tensor by tensor.

    Shows the SQNR of every tensor that they have in common, by name, and of their outputs.
    """
    from edgeqwt import api
    from edgeqwt.output import console, print_json, progress_display
    from edgeqwt.report.terminal import show_comparison

    result = api.compare_files(
        first, second, calibration=calibration, images=_images(image), samples=samples, display=progress_display()
    )
    if json:
        print_json(result)
    else:
        show_comparison(console(), result)


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
    from edgeqwt.report.findings import show_findings
    from edgeqwt.target import Budget

    findings, done = api.check_file(model, target, fixed=fix, bits=activation_bits, budget=Budget(ram, flash))
    if json:
        print_json({"findings": findings, "fixed": done})
    else:
        show_findings(console(), findings, done, target)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(TargetError.exit_code)


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A .tflite file; with qemu a firmware, or its folder.", metavar="FILE")],
    on: Annotated[
        str, typer.Option("--on", help="host, tflm, qemu, android, or a target with an NPU.", metavar="WHERE")
    ],
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="A second file: run both side by side and print ratios.", metavar="OTHER"),
    ] = None,
    runs: Annotated[int, typer.Option(help="Of each model (host, android).", min=1)] = 100,
    threads: Annotated[int, typer.Option(help="Of LiteRT's interpreter.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of random inputs.")] = 0,
    machine: Annotated[
        str | None,
        typer.Option(help="QEMU's board, mps2-an386 or mps3-an547; else by the firmware's processor.", metavar="NAME"),
    ] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option(help="LiteRT's benchmark_model program for the Android device.", metavar="FILE")
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="The Android device, as `adb devices` lists it.", metavar="ID")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result to this file, too; see docs/bench.md.", metavar="FILE.json")
    ] = None,
) -> None:
    """Measure a model: latency, memory, cycles, and whether runtimes agree.

    Exit code 1 where a check fails.
    """
    from edgeqwt import api
    from edgeqwt.bench.bench import Options
    from edgeqwt.bench.host import HostSettings
    from edgeqwt.bench.terminal import show_bench, write_bench
    from edgeqwt.output import console
    from edgeqwt.report.folder import check_file

    if json is not None:
        check_file(json)
    host = HostSettings(runs=runs, threads=threads, seed=seed)
    options = Options(host, seed=seed, machine=machine, benchmark=benchmark_model, serial=serial)
    results = api.bench_files([model] if compare is None else [model, compare], on, options)
    show_bench(console(), results)
    if json is not None:
        write_bench(results, json)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command()
def targets() -> None:
    """List the targets that --target knows."""
    from edgeqwt import api
    from edgeqwt.output import console
    from edgeqwt.report.findings import show_targets

    show_targets(console(), api.list_targets())


def _mixed(max_size: int | None, max_latency: float | None, min_sqnr: float | None, wide: bool) -> Mixed | None:
    from edgeqwt.quantize.precision import Mixed

    if (max_size, max_latency, min_sqnr, wide) == (None, None, None, False):
        return None
    return Mixed(max_size or 0, max_latency or 0.0, min_sqnr or 0.0, wide)


def _images(options: list[str] | None) -> ImageOptions | None:
    from edgeqwt.calibration.settings import parse_options

    return parse_options(options) if options else None


def _lengths(text: str | None) -> list[int]:
    """Lengths such as 64 or 32,64,128; none where the option is not given."""
    from edgeqwt.errors import InputError

    parts = [] if text is None else text.split(",")
    if not all(re.fullmatch(r"\s*[1-9]\d*\s*", part) for part in parts) or len({*map(str.strip, parts)}) < len(parts):
        raise InputError(f"--sequence-length {text!r} is no length", "Give one such as 64, or several: 32,64,128.")
    return [int(part) for part in parts]

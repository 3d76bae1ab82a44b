"""The command line: parses, calls `edgeqwt.api`, prints. Errors become one line, a hint and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeqwt.errors import EdgeqwtError, InputError, InvariantError, ToolError

if TYPE_CHECKING:
    from edgeqwt.calibration.images import ImageOptions

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="PyTorch to proved, compensated full-integer TFLite models, for phones, NPUs and microcontrollers.",
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
Samples = Annotated[int | None, typer.Option(help="Use at most so many samples.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def build(
    model: Annotated[
        str,
        typer.Argument(
            help="file.py:function or package.module:function that returns a module; .pt2, .onnx or .tflite."
        ),
    ],
    calibration: Calibration,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    target: Annotated[str, typer.Option(help="See `edgeqwt targets`.")] = "tflite",
    recipe: Annotated[str, typer.Option(help="A named recipe, or a .toml file.")] = "balanced",
    weight_bits: Annotated[int | None, typer.Option(help="Width of weights.", min=2, max=8)] = None,
    ranges: Annotated[str | None, typer.Option(help="Rule for activation ranges: minmax or mse.")] = None,
    compensate: Annotated[bool | None, typer.Option("--compensate/--no-compensate", help="Whether CWAC runs.")] = None,
    float_io: Annotated[bool | None, typer.Option("--float-io/--int8-io", help="Type of inputs and outputs.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="top1, or file.py:function that scores outputs; needs --evaluation.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="Test samples for the metric, with labels: .npz.", metavar="DATA")
    ] = None,
    image: Image = None,
    samples: Samples = None,
    onnx2tf_python: Annotated[
        str | None, typer.Option(help="Interpreter that has onnx2tf, where it is not this one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an output folder that no build made.")] = False,
) -> None:
    """Build a proved int8 TFLite model, and a report, from a PyTorch, ONNX or float TFLite model."""
    from edgeqwt import api
    from edgeqwt.report.terminal import console, progress_display, show_build

    result = api.build(
        model,
        calibration=calibration,
        target=target,
        output=output,
        recipe=recipe,
        weight_bits=weight_bits,
        ranges=ranges,
        compensation=compensate,
        float_io=float_io,
        metric=metric,
        evaluation=evaluation,
        images=_images(image),
        samples=samples,
        onnx2tf_python=onnx2tf_python,
        overwrite=overwrite,
        display=progress_display(),
    )
    show_build(console(), result, output)


@app.command()
def compensate(
    model: Annotated[Path, typer.Argument(help="int8 .tflite file, made by any tool.")],
    reference: Annotated[Path, typer.Option(help="The float .tflite file that it was made from.")],
    calibration: Calibration,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .tflite file to write.")],
    recipe: Annotated[str, typer.Option(help="A named recipe, or a .toml file.")] = "balanced",
    image: Image = None,
    samples: Samples = None,
) -> None:
    """Repair an int8 TFLite file made by another tool: same ops, same size, better output."""
    from edgeqwt import api
    from edgeqwt.report.terminal import console, progress_display, show_compensation

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
def inspect(model: Annotated[Path, typer.Argument(help=".tflite file.")], json: Json = False) -> None:
    """Show a TFLite file's ops, types, scales and sizes."""
    from edgeqwt import api
    from edgeqwt.report.terminal import console, print_json, show_description

    description = api.inspect_file(model)
    if json:
        print_json(description)
    else:
        show_description(console(), description)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Reference .tflite file.")],
    second: Annotated[Path, typer.Argument(help="The .tflite file to judge.")],
    calibration: Calibration,
    image: Image = None,
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Show the SQNR of every tensor that two TFLite files have in common, and of their outputs."""
    from edgeqwt import api
    from edgeqwt.report.terminal import console, print_json, progress_display, show_comparison

    result = api.compare_files(
        first, second, calibration=calibration, images=_images(image), samples=samples, display=progress_display()
    )
    if json:
        print_json(result)
    else:
        show_comparison(console(), result)


@app.command()
def targets() -> None:
    """List the targets that --target knows."""
    from edgeqwt import api
    from edgeqwt.report.terminal import console, show_targets

    show_targets(console(), api.list_targets())


def _images(options: list[str] | None) -> ImageOptions | None:
    from edgeqwt.calibration.settings import parse_options

    return parse_options(options) if options else None


def main() -> None:
    """The console script. Nothing but this function catches errors."""
    try:
        app()
    except EdgeqwtError as error:
        _fail(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(
            InputError(f"{error.strerror}{where}", "Make room, or choose another place; nothing was left half-written.")
        )
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of Ctrl-C
            print("\nedgeqwt: interrupted; nothing was written", file=sys.stderr)
        raise
    except Exception as error:
        if os.environ.get("EDGEQWT_DEBUG"):
            raise
        _fail(InvariantError(f"{type(error).__name__}: {error} (EDGEQWT_DEBUG=1 shows where)"))


def _fail(error: EdgeqwtError) -> None:
    if isinstance(error, ToolError) and error.log_tail:
        print(error.log_tail, file=sys.stderr)
    print(f"edgeqwt: error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

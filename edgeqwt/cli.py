"""The command line: parses, calls `edgeqwt.api`, prints. Errors become one line, a hint and an exit code."""

from __future__ import annotations

import errno
import importlib.metadata
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeqwt.errors import EdgeqwtError, InputError, InvariantError, ToolError

if TYPE_CHECKING:
    from edgeqwt.calibration.images import ImageOptions

EXIT_CODES = (
    "Exit codes: 0 done; 2 a file, sample or option cannot be used; 3 the recipe is wrong; 4 an op has no integer "
    "form; 5 a program that edgeqwt calls failed; 6 the conversion changed the model; 70 a bug in edgeqwt; 1 anything "
    "else, such as too little memory; 130 interrupted."
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUT_OF_ROOM = "Make room where the output goes, and for temporary files ($TMPDIR names their place)."
ELSEWHERE = "Choose another place."
UNTOUCHED = "Nothing was written."
UsageError = typer.BadParameter.__bases__[0]  # click's, wherever this version of typer keeps it

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
Recipe = Annotated[
    str, typer.Option(help="balanced, fast, best, plain, or a .toml file; see docs/recipes.md.", metavar="NAME|FILE")
]
Samples = Annotated[int | None, typer.Option(help="Use at most so many samples.", min=1, metavar="N")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; what cleans up after Ctrl-C runs for all of them.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stopper:
    """Signal handler that raises Stopped.

    A second signal within PATIENCE seconds is passed over: it would stop the cleaning up. A later one
    is not, because somebody's `except` may have swallowed the first.
    """

    PATIENCE = 3.0

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.last > self.PATIENCE:
            self.last = now
            raise Stopped(number)


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
    target: Annotated[str, typer.Option(help="See `edgeqwt targets`.", metavar="NAME")] = "tflite",
    recipe: Recipe = "balanced",
    precision: Annotated[
        str | None, typer.Option(help="Widths: w8a8, w4a8 (packed int4), w8a16, ...", metavar="wNaM")
    ] = None,
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
    onnx2tf_python: Annotated[
        str | None, typer.Option(help="Interpreter that has onnx2tf, where it is not this one.", metavar="PYTHON")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Keep the conversion's files and logs in this folder.", metavar="FOLDER")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output folder that no build made.")
    ] = False,
) -> None:
    """Build an int8 TFLite model, and prove it.

    The output folder gets the model, the float model that it was made from, and a report.
    """
    from edgeqwt import api
    from edgeqwt.report.terminal import console, progress_display, show_build

    result = api.build(
        model,
        calibration=calibration,
        target=target,
        output=output,
        recipe=recipe,
        precision=precision,
        ranges=ranges,
        compensation=compensate,
        float_io=float_io,
        metric=metric,
        evaluation=evaluation,
        images=_images(image),
        samples=samples,
        onnx2tf_python=onnx2tf_python,
        work=work,
        overwrite=overwrite,
        display=progress_display(),
    )
    show_build(console(), result, output)


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
def inspect(model: Annotated[Path, typer.Argument(help="A .tflite file.", metavar="FILE")], json: Json = False) -> None:
    """Show what is in a TFLite file.

    Ops, types, scales and sizes.
    """
    from edgeqwt import api
    from edgeqwt.report.terminal import console, print_json, show_description

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
    """The console script."""
    _open_standard_streams()
    stopper = Stopper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stopper)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Nothing but this function catches errors.

    Args:
        arguments: without the program's name.
    """
    try:
        with typer.main.get_command(app).make_context("edgeqwt", list(arguments) or ["--help"]) as context:
            context.command.invoke(context)
        sys.stdout.flush()  # while a closed pipe can still be told from success
        return 0
    except typer.Exit as end:
        return end.exit_code
    except KeyboardInterrupt as stop:
        print("edgeqwt: interrupted; nothing was written", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    except (BrokenPipeError, SystemExit):  # rich makes the second of the first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return EdgeqwtError.exit_code
    except Exception as error:
        if os.environ.get("EDGEQWT_DEBUG") and not isinstance(error, EdgeqwtError):
            raise
        return _told(_as_edgeqwt(error))


def _open_standard_streams() -> None:
    """Gives a process that was started without them (`>&-`) the null device.

    Otherwise the first files that are opened take their descriptors, and what libraries print lands in them.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))


def _as_edgeqwt(error: BaseException) -> EdgeqwtError:
    """Any error as one with a message, a hint and an exit code."""
    if isinstance(error, EdgeqwtError):
        return error
    if isinstance(error, UsageError):
        usage: Any = error
        command = usage.ctx.command_path if usage.ctx is not None else "edgeqwt"
        return InputError(usage.format_message().rstrip("."), f"See `{command} --help`.")
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return InputError(
            f"{error.strerror}{where}", f"{OUT_OF_ROOM if error.errno in FULL else ELSEWHERE} {UNTOUCHED}"
        )
    if isinstance(error, MemoryError):
        return EdgeqwtError("memory ran out", "Free some, or use a machine with more.")
    return InvariantError(f"{type(error).__name__}: {error} (EDGEQWT_DEBUG=1 shows where)")


def _told(error: EdgeqwtError) -> int:
    if isinstance(error, ToolError) and error.log_tail:
        print(error.log_tail, file=sys.stderr)
    # One line each, whatever a library put into the text.
    print(f"edgeqwt: error: {' '.join(error.message.split())}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {' '.join(error.hint.split())}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()

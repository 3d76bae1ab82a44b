"""`edgeqwt build`."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeqwt.commands.app import command
from edgeqwt.commands.interfaces import Decides, Inputs, Outputs, Pixels, SplitOutputs, Standardize, parse_interface
from edgeqwt.commands.options import (
    BatchSize,
    Calibration,
    Flash,
    Image,
    Layer,
    MaxSize,
    Ram,
    Recipe,
    Samples,
    State,
    Target,
    Trust,
    parse_batch_size,
    parse_images,
    parse_layers,
    parse_states,
)

if TYPE_CHECKING:
    from edgeqwt.widths.precision import Mixed


@command(
    "edgeqwt build my_model.py:create -c samples.npy -o out",
    "edgeqwt build model.onnx -c photos/ --image size=224x224 --evaluation test.npz -o out",
    "edgeqwt build float.tflite -c samples.npz --precision w4a8 --target ethos-u55-128 --fix -o out",
    "edgeqwt build my_model.py:create -c samples.npy --layer 'head.*=w8a16' --recipe best -o out",
)
def build(
    model: Annotated[
        str,
        typer.Argument(
            help="file.py:function or package.module:function that returns a module; .pt2, .pt (TorchScript), .onnx or "
            ".tflite.",
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
    layer: Layer = None,
    ranges: Annotated[
        str | None, typer.Option(help="Rule for activation ranges; see docs/recipes.md.", metavar="NAME")
    ] = None,
    compensation: Annotated[
        bool | None, typer.Option("--compensation/--no-compensation", help="Whether CWAC runs.")
    ] = None,
    float_io: Annotated[bool | None, typer.Option("--float-io/--int8-io", help="Type of inputs and outputs.")] = None,
    preserve: Annotated[
        str | None,
        typer.Option(
            help="What of pruned or clustered weights stays; found by itself.  [default: sparsity,clusters]",
            metavar="sparsity,clusters|none",
        ),
    ] = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    pixels: Pixels = None,
    split_outputs: SplitOutputs = False,
    standardize: Standardize = None,
    decides: Decides = None,
    evaluation: Annotated[
        str | None, typer.Option(help="Test samples, with labels or what else the metric needs.", metavar="DATA")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="How --evaluation is scored: top1, or file.py:function.  [default: top1]", metavar="NAME"),
    ] = None,
    image: Image = None,
    samples: Samples = None,
    batch_size: BatchSize = "1",
    state: State = None,
    sequence_length: Annotated[
        str | None,
        typer.Option(
            help="Cut or pad token ids and masks to so many; 32,64,128 builds one model each, in FOLDER/seq32, ...",
            metavar="N[,N...]",
        ),
    ] = None,
    converter: Annotated[
        str,
        typer.Option(
            help="onnx2tf, litert-torch or tensorflow; auto: those that are installed, until one's result is right.",
            metavar="NAME",
        ),
    ] = "auto",
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
    max_partitions: Annotated[
        int | None,
        typer.Option(help="Pieces that the NPU runs, with the CPU between: 1 is the whole model.", min=1, metavar="N"),
    ] = None,
    min_quality: Annotated[
        float | None,
        typer.Option(
            help="SQNR of what varies between samples, at each output; less is no result (exit code 8).  [default: 10]",
            metavar="DB",
        ),
    ] = None,
    trust: Trust = False,
    accept: Annotated[
        bool | None, typer.Option("--accept", help="Write the model although its quality is below that.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output folder that no build made, or that was edited since.")
    ] = False,
) -> None:
    """Build an int8 TFLite model, and prove it.

    The output folder gets the model, the float model that it was made from, a report, and the target's package.
    """
    from edgeqwt import api
    from edgeqwt.calibration.deciding import parse as parse_deciding
    from edgeqwt.output import console, progress_display
    from edgeqwt.profile import Budget
    from edgeqwt.report.folder import whole_folder
    from edgeqwt.report.terminal import show_build

    made = partial(
        api.build,
        model,
        calibration=calibration,
        target=target,
        recipe=recipe,
        precision=precision,
        mixed=_mixed(max_size, max_latency, min_sqnr, wide),
        layers=parse_layers(layer or []),
        ranges=ranges,
        compensation=compensation,
        float_io=float_io,
        preserve=None if preserve is None else _names(preserve),
        interface=parse_interface(inputs, outputs, pixels, split_outputs, standardize),
        outputs=parse_deciding(decides or []),
        metric=metric,
        evaluation=evaluation,
        images=parse_images(image),
        samples=samples,
        states=parse_states(state),
        batch_size=parse_batch_size(batch_size),
        converter=converter,
        onnx2tf_python=onnx2tf_python,
        overwrite=overwrite,
        fix=fix,
        budget=Budget(ram, flash, max_cycles, max_partitions),
        min_quality=min_quality,
        accept=accept,
        trust=trust,
        display=progress_display(),
    )
    lengths = _lengths(sequence_length)
    if len(lengths) < 2:
        only = lengths[0] if lengths else None
        show_build(console(), made(output=output, work=work, sequence_length=only), output)
        return
    with whole_folder(output, overwrite) as output_folder:  # all of them or none
        results = {
            n: made(output=output_folder / f"seq{n}", work=work and work / f"seq{n}", sequence_length=n)
            for n in lengths
        }
    for n, result in results.items():
        show_build(console(), result, output / f"seq{n}")


def _mixed(max_size: int | None, max_latency: float | None, min_sqnr: float | None, wide: bool) -> Mixed | None:
    from edgeqwt.widths.precision import Mixed

    if (max_size, max_latency, min_sqnr, wide) == (None, None, None, False):
        return None
    return Mixed(max_size or 0, max_latency or 0.0, min_sqnr or 0.0, wide)


def _lengths(text: str | None) -> list[int]:
    """Lengths such as 64 or 32,64,128; none where the option is not given."""
    from edgeqwt.errors import InputError

    parts = [] if text is None else text.split(",")
    if not all(re.fullmatch(r"\s*[1-9]\d*\s*", part) for part in parts) or len({*map(str.strip, parts)}) < len(parts):
        raise InputError(f"--sequence-length {text!r} is no length", "Give one such as 64, or several: 32,64,128.")
    return [int(part) for part in parts]


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them; "none" for no name."""
    return () if text == "none" else tuple(part.strip() for part in text.split(","))

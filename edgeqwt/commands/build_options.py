"""Options of `edgeqwt build` alone; those that other commands have as well are in `options.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeqwt.commands import panels

# -- What is built, and where it goes --------------------------------------------------------------

Source = Annotated[
    str,
    typer.Argument(
        help="file.py:function or package.module:function that returns a module; .pt2, .pt (TorchScript), .onnx or "
        ".tflite.",
        metavar="MODEL",
    ),
]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder to make.", metavar="FOLDER", rich_help_panel=panels.OUTPUT)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an output folder that no build made, or that was edited since.",
        rich_help_panel=panels.OUTPUT,
    ),
]
Converter = Annotated[
    str,
    typer.Option(
        help="onnx2tf, litert-torch or tensorflow; auto: those that are installed, until one's result is right.",
        metavar="NAME",
        rich_help_panel=panels.DATA,
    ),
]
ConverterPython = Annotated[
    str | None,
    typer.Option(
        help="Interpreter that has onnx2tf, where it is not this one.", metavar="PYTHON", rich_help_panel=panels.DATA
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(
        help="Keep the conversion's files and logs in this folder.", metavar="FOLDER", rich_help_panel=panels.OUTPUT
    ),
]

# -- Widths and techniques -------------------------------------------------------------------------

Precision = Annotated[
    str | None,
    typer.Option(
        help="Widths: w8a8, w4a8 (packed int4), w8a16, ...; mixed: chosen per layer, with one of the next three.",
        metavar="wNaM|mixed",
        rich_help_panel=panels.RECIPE,
    ),
]
MaxLatency = Annotated[
    float | None,
    typer.Option(
        help="With mixed: time at most, in that at 8 bits everywhere (a model).",
        metavar="RATIO",
        rich_help_panel=panels.RECIPE,
    ),
]
MinSQNR = Annotated[
    float | None,
    typer.Option(help="With mixed: SQNR of the outputs at least.", metavar="DB", rich_help_panel=panels.RECIPE),
]
Wide = Annotated[
    bool, typer.Option("--wide", help="With mixed: let ops have 16-bit activations.", rich_help_panel=panels.RECIPE)
]
Ranges = Annotated[
    str | None,
    typer.Option(
        help="Rule for activation ranges; see docs/recipes.md.", metavar="NAME", rich_help_panel=panels.RECIPE
    ),
]
Compensation = Annotated[
    bool | None,
    typer.Option("--compensation/--no-compensation", help="Whether CWAC runs.", rich_help_panel=panels.RECIPE),
]
Preserve = Annotated[
    str | None,
    typer.Option(
        help="What of pruned or clustered weights stays; found by itself.  [default: sparsity,clusters]",
        metavar="sparsity,clusters|none",
        rich_help_panel=panels.RECIPE,
    ),
]
FloatInterface = Annotated[
    bool | None,
    typer.Option("--float-io/--int8-io", help="Type of inputs and outputs.", rich_help_panel=panels.INTERFACE),
]
SequenceLength = Annotated[
    str | None,
    typer.Option(
        help="Cut or pad token ids and masks to so many; 32,64,128 builds one model each, in FOLDER/seq32, ...",
        metavar="N[,N...]",
        rich_help_panel=panels.DATA,
    ),
]

# -- What the result is measured by, and held against ----------------------------------------------

Evaluation = Annotated[
    str | None,
    typer.Option(
        help="Test samples, with labels or what else the metric needs.", metavar="DATA", rich_help_panel=panels.QUALITY
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="How --evaluation is scored: top1, or file.py:function.  [default: top1]",
        metavar="NAME",
        rich_help_panel=panels.QUALITY,
    ),
]
MinQuality = Annotated[
    float | None,
    typer.Option(
        help="SQNR of what varies between samples, at each output; less is no result (exit code 8).  [default: 10]",
        metavar="DB",
        rich_help_panel=panels.QUALITY,
    ),
]
Accept = Annotated[
    bool | None,
    typer.Option(
        "--accept", help="Write the model although its quality is below that.", rich_help_panel=panels.QUALITY
    ),
]
MaxCycles = Annotated[
    int | None,
    typer.Option(help="Of one inference, by the NPU's compiler.", min=1, metavar="N", rich_help_panel=panels.TARGET),
]
MaxPartitions = Annotated[
    int | None,
    typer.Option(
        help="Pieces that the NPU runs, with the CPU between: 1 is the whole model.",
        min=1,
        metavar="N",
        rich_help_panel=panels.TARGET,
    ),
]
Compress = Annotated[
    bool,
    typer.Option(
        "--compress",
        help="For tflm: 4-bit and clustered weights behind lookup tables in the firmware's model.",
        rich_help_panel=panels.TARGET,
    ),
]

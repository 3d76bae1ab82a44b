"""Options of `edgeqwt build` alone; those that other commands have as well are in `options.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeqwt.commands import panels
from edgeqwt.commands.completion import among, offered, range_rules
from edgeqwt.commands.options import parse_bytes, parse_seconds

# -- What is built, and where it goes --------------------------------------------------------------

Source = Annotated[
    str,
    typer.Argument(
        help="file.py:function or package.module:function that returns a module; .pt2, .pt (TorchScript), .onnx or "
        ".tflite.",
        metavar="MODEL",
    ),
]
OutputFolder = Annotated[Path, panels.output("--output", "-o", help="Folder to make.", metavar="FOLDER")]
Overwrite = Annotated[
    bool, panels.output("--overwrite", help="Replace an output folder that no build made, or that was edited since.")
]
Converter = Annotated[
    str,
    panels.data(
        help="onnx2tf, litert-torch or tensorflow; auto: those that are installed, until one's result is right.",
        metavar="NAME",
        autocompletion=among("auto", "onnx2tf", "litert-torch", "tensorflow"),
    ),
]
ConverterPython = Annotated[
    str | None, panels.data(help="Interpreter that has onnx2tf, where it is not this one.", metavar="PYTHON")
]
Work = Annotated[
    Path | None, panels.output(help="Keep the conversion's files and logs in this folder.", metavar="FOLDER")
]

Cache = Annotated[
    bool,
    panels.run(
        "--cache/--no-cache",
        help="Take what a converter wrote of the same model before; in $EDGEQWT_CACHE, or the user's cache folder.",
    ),
]

TimeBudget = Annotated[
    float | None,
    panels.run(
        help="Time that the build should take, such as 90s, 5m or 1h: costly techniques do less, and say so.",
        parser=parse_seconds,
        metavar="TIME",
    ),
]
Memory = Annotated[
    int | None,
    panels.run(
        help="Memory that it should take, such as 4GiB: what does not fit is left out, or refused.",
        parser=parse_bytes,
        metavar="SIZE",
    ),
]
Device = Annotated[
    str, panels.run(help="Where gradients are computed; auto is CUDA where torch has it.", metavar="cpu|cuda|auto")
]

# -- Widths and techniques -------------------------------------------------------------------------

Precision = Annotated[
    str | None,
    panels.recipe(
        help="Widths: w8a8, w4a8 (packed int4), w8a16, ...; mixed: chosen per layer, with one of the next three.",
        metavar="wNaM|mixed",
    ),
]
Pareto = Annotated[
    bool,
    panels.recipe(
        "--pareto", help="Build w8a8, w4a8, a mixture of both and w8a16, and keep those that no other one beats."
    ),
]
MaxLatency = Annotated[
    float | None,
    panels.recipe(help="With mixed: time at most, in that at 8 bits everywhere (a model).", metavar="RATIO"),
]
MinSQNR = Annotated[float | None, panels.recipe(help="With mixed: SQNR of the outputs at least.", metavar="DB")]
Wide = Annotated[bool, panels.recipe("--wide", help="With mixed: let ops have 16-bit activations.")]
Ranges = Annotated[
    str | None,
    panels.recipe(
        help="Rule for activation ranges; see docs/recipes.md.", metavar="NAME", autocompletion=offered(range_rules)
    ),
]
Compensation = Annotated[bool | None, panels.recipe("--compensation/--no-compensation", help="Whether CWAC runs.")]
Preserve = Annotated[
    str | None,
    panels.recipe(
        help="What of pruned or clustered weights stays; found by itself.  [default: sparsity,clusters]",
        metavar="sparsity,clusters|none",
    ),
]
FloatInterface = Annotated[bool | None, panels.interface("--float-io/--int8-io", help="Type of inputs and outputs.")]
SequenceLength = Annotated[
    str | None,
    panels.data(
        help="Cut or pad token ids and masks to so many; 32,64,128 builds one model each, in FOLDER/seq32, ...",
        metavar="N[,N...]",
    ),
]

# -- What the result is measured by, and held against ----------------------------------------------

Evaluation = Annotated[
    str | None, panels.quality(help="Test samples, with labels or what else the metric needs.", metavar="DATA")
]
Metric = Annotated[
    str | None,
    panels.quality(
        help="How --evaluation is scored: top1, or file.py:function of two dicts of arrays by name: outputs, and "
        "what is in the data besides inputs (docs/comparing.md).  [default: top1]",
        metavar="NAME",
    ),
]
MinQuality = Annotated[
    float | None,
    panels.quality(
        help="SQNR of what varies between samples, at each output; less is no result (exit code 8).  [default: 10]",
        metavar="DB",
    ),
]
Accept = Annotated[bool | None, panels.quality("--accept", help="Write the model although its quality is below that.")]
MaxCycles = Annotated[int | None, panels.target(help="Of one inference, by the NPU's compiler.", min=1, metavar="N")]
MaxPartitions = Annotated[
    int | None,
    panels.target(help="Pieces that the NPU runs, with the CPU between: 1 is the whole model.", min=1, metavar="N"),
]
Groups = Annotated[
    str | None,
    panels.target(
        "--groups", help="Scales for each of N groups of an input's values, where they pay: t=5.", metavar="INPUT=N"
    ),
]
Compress = Annotated[
    bool,
    panels.target(
        "--compress", help="For tflm: 4-bit and clustered weights behind lookup tables in the firmware's model."
    ),
]

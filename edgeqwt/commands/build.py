"""`edgeqwt build`."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import edgeqwt
from edgeqwt.commands import build_options as own
from edgeqwt.commands import interfaces, options
from edgeqwt.commands.app import command
from edgeqwt.errors import InputError
from edgeqwt.output import console, print_json, progress_display, show_facts

if TYPE_CHECKING:
    from pathlib import Path

    from edgeqwt.pipeline import BuildResult
    from edgeqwt.widths.precision import Mixed


@command(
    "edgeqwt build my_model.py:create -c samples.npy -o out",
    "edgeqwt build model.onnx -c photos/ --image size=224x224 --evaluation test.npz -o out",
    "edgeqwt build float.tflite -c samples.npz --precision w4a8 --target ethos-u55-128 --fix -o out",
    "edgeqwt build my_model.py:create -c samples.npy --layer 'head.*=w8a16' --recipe best -o out",
)
def build(
    model: own.Source,
    calibration: options.Calibration,
    output: own.OutputFolder,
    target: options.Target = "tflite",
    recipe: options.Recipe = "balanced",
    precision: own.Precision = None,
    max_size: options.MaxSize = None,
    max_latency: own.MaxLatency = None,
    min_sqnr: own.MinSQNR = None,
    wide: own.Wide = False,
    layer: options.Layer = None,
    ranges: own.Ranges = None,
    compensation: own.Compensation = None,
    float_io: own.FloatInterface = None,
    preserve: own.Preserve = None,
    inputs: interfaces.Inputs = None,
    outputs: interfaces.Outputs = None,
    pixels: interfaces.Pixels = None,
    split_outputs: interfaces.SplitOutputs = False,
    standardize: interfaces.Standardize = None,
    decides: interfaces.Decides = None,
    evaluation: own.Evaluation = None,
    metric: own.Metric = None,
    image: options.Image = None,
    samples: options.Samples = None,
    batch_size: options.BatchSize = "1",
    state: options.State = None,
    sequence_length: own.SequenceLength = None,
    converter: own.Converter = "auto",
    onnx2tf_python: own.ConverterPython = None,
    work: own.Work = None,
    fix: options.Fix = False,
    compress: own.Compress = False,
    groups: own.Groups = None,
    ram: options.Ram = None,
    flash: options.Flash = None,
    max_cycles: own.MaxCycles = None,
    max_partitions: own.MaxPartitions = None,
    min_quality: own.MinQuality = None,
    trust: options.Trust = False,
    accept: own.Accept = None,
    overwrite: own.Overwrite = False,
    cache: own.Cache = True,
    time_budget: own.TimeBudget = None,
    memory: own.Memory = None,
    device: own.Device = "cpu",
    pareto: own.Pareto = False,
    json: options.Json = False,
) -> None:
    """Build an int8 TFLite model, and prove it.

    The output folder gets the model, the float model that it was made from, a report, and the target's package.
    """
    from edgeqwt.calibration.deciding import parse as parse_deciding
    from edgeqwt.profile import Budget

    made = partial(
        edgeqwt.build,
        model,
        calibration=calibration,
        target=target,
        recipe=recipe,
        precision=precision,
        mixed=_mixed(max_size, max_latency, min_sqnr, wide),
        layers=options.parse_layers(layer or []),
        ranges=ranges,
        compensation=compensation,
        float_io=float_io,
        preserve=None if preserve is None else _names(preserve),
        interface=interfaces.parse_interface(inputs, outputs, pixels, split_outputs, standardize),
        outputs=parse_deciding(decides or []),
        metric=metric,
        evaluation=evaluation,
        images=options.parse_images(image),
        samples=samples,
        states=options.parse_states(state),
        batch_size=options.parse_batch_size(batch_size),
        converter=converter,
        onnx2tf_python=onnx2tf_python,
        overwrite=overwrite,
        fix=fix,
        compress=compress,
        groups=groups,
        budget=Budget(ram, flash, max_cycles, max_partitions),
        min_quality=min_quality,
        accept=accept,
        trust=trust,
        cache=cache,
        time_budget=time_budget,
        memory=memory,
        device=device,
        display=progress_display(),
    )
    lengths = _lengths(sequence_length)
    if pareto:
        _several_widths(partial(made, work=work), lengths, output, json)
        return
    _show(_by_length(made, lengths, output, work, overwrite), json)


def _show(results: dict[Path, BuildResult], json: bool) -> None:
    """Builds by folder, or their reports as JSON: that of a single one as its report.json has it, others by folder."""
    from edgeqwt.report.document import document
    from edgeqwt.report.terminal import show_build

    if json:
        reports = {str(folder): document(result) for folder, result in results.items()}
        print_json(reports if len(reports) > 1 else next(iter(reports.values())))
        return
    for folder, result in results.items():
        show_build(console(), result, folder)


def _several_widths(made: partial[BuildResult], lengths: list[int], output: Path, json: bool) -> None:
    """Builds the Pareto front of widths, and shows it."""
    from edgeqwt.sweeps.one_model import PAGE, pareto
    from edgeqwt.sweeps.show import show_sweep, sweep_document

    if len(lengths) > 1:
        raise InputError("--pareto is for one sequence length", "Give one, or build one length at a time.")
    only = lengths[0] if lengths else None
    found = pareto(*made.args, **made.keywords, output=output, sequence_length=only)
    if json:
        print_json(sweep_document(found))
        return
    show_sweep(console(), found)
    kept = [f"{found.path(row)}/model.tflite" for row in found.rows if row.folder]
    show_facts(console(), [("files", ", ".join(kept)), ("next", f"open {output}/{PAGE}: quality over costs")])


def _by_length(
    made: partial[BuildResult], lengths: list[int], output: Path, work: Path | None, overwrite: bool
) -> dict[Path, BuildResult]:
    """Builds by their folders: one, or one within `output` for each of several sequence lengths, all or none."""
    from edgeqwt.report.files import page_where_refused
    from edgeqwt.report.folder import whole_folder

    if len(lengths) < 2:
        return {output: made(output=output, work=work, sequence_length=lengths[0] if lengths else None)}
    with page_where_refused(output, str(made.args[0])), whole_folder(output, overwrite) as folder:
        return {
            output / f"seq{n}": made(output=folder / f"seq{n}", work=work and work / f"seq{n}", sequence_length=n)
            for n in lengths
        }


def _mixed(max_size: int | None, max_latency: float | None, min_sqnr: float | None, wide: bool) -> Mixed | None:
    from edgeqwt.widths.precision import Mixed

    if (max_size, max_latency, min_sqnr, wide) == (None, None, None, False):
        return None
    return Mixed(max_size or 0, max_latency or 0.0, min_sqnr or 0.0, wide)


def _lengths(text: str | None) -> list[int]:
    """Lengths such as 64 or 32,64,128; none where the option is not given."""
    parts = [] if text is None else text.split(",")
    if not all(re.fullmatch(r"\s*[1-9]\d*\s*", part) for part in parts) or len({*map(str.strip, parts)}) < len(parts):
        raise InputError(f"--sequence-length {text!r} is no length", "Give one such as 64, or several: 32,64,128.")
    return [int(part) for part in parts]


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them; "none" for no name."""
    return () if text == "none" else tuple(part.strip() for part in text.split(","))

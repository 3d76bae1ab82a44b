"""The Python API, and the one module that puts the parts together.

`edgeqwt.build(module, calibration=samples, target="tflite")` and the command line both come
through here; nothing else reaches `edgeqwt.converters` and `edgeqwt.target`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.api_files import compare, evaluate, export, inspect, limited
from edgeqwt.api_job import open_job, proved_float
from edgeqwt.api_targets import bench, check, install_tool, target_of, targets, tools
from edgeqwt.api_web import bundle_demo, demo_assets, serve_demo
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import InputError
from edgeqwt.extras import need
from edgeqwt.invoked import recorded
from edgeqwt.loading import trusting
from edgeqwt.output import progress_display
from edgeqwt.profile import Budget
from edgeqwt.progress import Display, Stages, silent
from edgeqwt.recipe import recipe as recipe_files
from edgeqwt.recipe.overrides import overridden

if TYPE_CHECKING:
    from edgeqwt.calibration.deciding import Deciding
    from edgeqwt.calibration.images import ImageOptions
    from edgeqwt.interface.options import Interface
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.recipe.recipe import Recipe
    from edgeqwt.repair import CompensationResult
    from edgeqwt.widths.precision import Mixed

__all__ = [
    "bench",
    "build",
    "bundle_demo",
    "check",
    "compare",
    "compensate",
    "demo_assets",
    "evaluate",
    "export",
    "inspect",
    "install_tool",
    "open_job",
    "progress_display",
    "serve_demo",
    "targets",
    "tools",
]  # fmt: skip


@recorded
def build(
    model: object,
    *,
    calibration: Source,
    target: str = "tflite",
    output: str | Path | None = None,
    recipe: str | Recipe = "balanced",
    precision: str | None = None,
    mixed: Mixed | None = None,
    layers: Mapping[str, str | Mapping[str, object]] | None = None,
    ranges: str | None = None,
    compensation: bool | None = None,
    float_io: bool | None = None,
    preserve: Sequence[str] | None = None,
    interface: Interface | None = None,
    outputs: Mapping[str, Deciding] | None = None,
    metric: str | Any | None = None,
    evaluation: Source | None = None,
    images: ImageOptions | None = None,
    samples: int | None = None,
    batch_size: int | None = 1,
    sequence_length: int | None = None,
    states: Sequence[tuple[str, str]] | None = None,
    converter: str = "auto",
    onnx2tf_python: str | None = None,
    work: str | Path | None = None,
    overwrite: bool = False,
    fix: bool = False,
    budget: Budget | None = None,
    min_quality: float | None = None,
    accept: bool | None = None,
    trust: bool = False,
    display: Display = silent,
) -> BuildResult:
    """Builds a proved int8 TFLite model.

    Args:
        model: a torch module, "file.py:function" or "package.module:function" that returns one, or the
            path of a .pt2, TorchScript, .onnx or float .tflite file.
        calibration: samples in the model's own layout; see `calibration.sources.open_samples`.
        target: a name that `targets()` lists, or the path of a .toml profile.
        output: folder to make, with the model, the report, the target's package and the conversion's log; none
            by default.
        recipe: a name, a .toml file, or a Recipe; the next nine arguments override it.
        precision: widths of weights and activations, such as w8a8, w4a8 (packed int4) or w8a16; or mixed.
        mixed: the limit within which widths are chosen layer by layer.
        layers: what layers have of their own, by patterns of their names: widths, {"head.*": "w8a16"}; that they stay
            float, {"head.*": "keep_float"}; or a table as in recipes, {"stem.*": {"ranges": "minmax"}}.
        ranges: rule for activation ranges, by name.
        compensation: whether CWAC runs.
        float_io: whether inputs and outputs stay float32, those that `interface` says nothing of.
        interface: types of inputs and outputs by name, pixels, and what else they are to be like.
        outputs: what decides in outputs, by name, "" for all: {"scores": Deciding(above=0.5)}.
        preserve: what of pruned or clustered weights stays: "sparsity", "clusters".
        metric: "top1" (the default), "file.py:function" or a function; scores the outputs on `evaluation`.
        evaluation: test samples, with labels or what else the metric needs.
        images: how a folder of images becomes samples, for calibration and evaluation.
        samples: use at most so many calibration samples.
        batch_size: of the file, whatever the batches of the data: samples are cut and joined along their first
            axis; None leaves them as they come.
        sequence_length: what sequences are cut or padded to, in calibration and evaluation; by default they are
            as long as in the first calibration sample.
        states: names of an input and an output that are one state, which the application feeds back: both get one
            scale and layout. None: what names and shapes tell; () for none.
        converter: "onnx2tf", "litert-torch" or "tensorflow"; with "auto" those that take the model and are installed
            are tried in turn until the result of one computes what the model does.
        onnx2tf_python: interpreter that has onnx2tf, where it is not this one.
        work: folder that keeps the conversion's files and logs; a temporary one by default.
        overwrite: replace an output folder that no build made, or that was edited since.
        fix: apply what findings offer to apply.
        budget: what the model may cost on the target.
        min_quality: decibels that outputs have to reach (`verify.thresholds.Thresholds.min_db`).
        accept: write a model that does not reach them all the same.
        trust: let a model file run code of its own while it is loaded: .pt2, TorchScript, Keras, SavedModel.
        display: shows the stages while they run.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; nothing is written then, and an older output stays as it was.
            TargetError: the target does not take the model, or it costs more than its budget.
            QualityError: the model is too far from the float one.
    """
    from edgeqwt.converters.sequence import find_sequences
    from edgeqwt.interface.bind import normalized
    from edgeqwt.pipeline import as_it_is
    from edgeqwt.pipeline import build as run
    from edgeqwt.report.files import write_build
    from edgeqwt.report.folder import PACKAGE, whole_folder
    from edgeqwt.target.budget import foresee, own_board
    from edgeqwt.target.budget import require as require_budget
    from edgeqwt.target.check import require
    from edgeqwt.target.fix import fix as fixed
    from edgeqwt.target.package.deliver import deliver
    from edgeqwt.target.plugin import compiled_for, plugin_findings
    from edgeqwt.verify.evaluate import open_evaluation

    if metric is not None and evaluation is None:
        raise InputError("a metric needs evaluation data", "Give --evaluation DATA with it.")
    chosen = overridden(
        recipe, precision=precision, mixed=mixed, layers=layers, ranges=ranges, compensation=compensation,
        float_io=float_io, preserve=preserve, interface=interface, outputs=outputs,
    )  # fmt: skip
    chosen = recipe_files.with_quality(chosen, min_quality, accept)
    profile, stages, limit = target_of(target), Stages(display), budget or Budget()
    need(*(["tflite_micro"] if "tflm" in profile.runtimes else []), *(["ethosu"] if profile.npu is not None else []))
    board = own_board(profile, limit)
    data = limited(open_samples(calibration, images=images, batch_size=batch_size), samples)
    test = (
        None
        if evaluation is None
        else open_samples(evaluation, images=_for_folder(evaluation, images), batch_size=batch_size)
    )
    data = normalized(data, chosen.interface)
    test = None if test is None else normalized(test, chosen.interface)
    with ExitStack() as stack:
        stack.enter_context(trusting(trust))
        folder = None if output is None else stack.enter_context(whole_folder(Path(output), overwrite))
        scratch = stack.enter_context(_workspace(work))
        if sequence_length is not None:
            sequences = find_sequences(model, data.first(), sequence_length)
            data = sequences.of(data)

        converted, chosen, proved = proved_float(
            model, data, chosen, profile, stages, scratch,
            states=states, converter=converter, onnx2tf_python=onnx2tf_python,
        )  # fmt: skip
        if sequence_length is not None:
            sequences = sequences.named([binding.spec.name for binding in converted.inputs])
            converted = replace(converted, notes=(sequences.note(), *converted.notes))
            test = None if test is None else sequences.of(test)
        bits = chosen.precision.activation_bits
        require(converted.graph, board, bits=bits, fixing=fix)
        foresee(converted.graph, profile, limit, bits)
        scored = None if test is None else open_evaluation(test, metric, converted)
        source = str(model) if isinstance(model, str | Path) else type(model).__name__
        adapt = partial(fixed, profile=profile) if fix else as_it_is
        result = run(converted, data, chosen, profile, scored, stages, source, adapt, proved)
        with stages("package"):
            findings = plugin_findings(result.graph, profile, require(result.graph, board, bits=bits))
            require_budget(result.graph, profile, limit)
            placed = (
                None if profile.plugin is None or profile.plugin.qnn is None else compiled_for(result.graph, profile)
            )
            result = replace(result, findings=findings, placed=placed)
            if folder is not None:
                result = deliver(result, data, folder / PACKAGE, board)
        if folder is not None:
            write_build(result, folder)
    return result


@recorded
def compensate(
    model: str | Path,
    reference: str | Path,
    *,
    calibration: Source,
    output: str | Path | None = None,
    recipe: str | Recipe = "balanced",
    images: ImageOptions | None = None,
    samples: int | None = None,
    accept: bool | None = None,
    trust: bool = False,
    display: Display = silent,
) -> CompensationResult:
    """Repairs an int8 TFLite file, made by any tool, against the float file that it came from.

    The result has the same ops and the same size; where compensation does not help on held-out
    samples it is the file as it was.

    Args:
        model: the int8 file.
        reference: the float file, or any other source that `build` takes from a file, "file.py:function" included.
        calibration: as for `build`, in the float file's layout.
        output: the file to write, and a report beside it as .report.html; none by default.
        recipe: its ranges and compensation sections count.
        images: as for `build`.
        samples: as for `build`.
        accept: compensate although the reference is hardly what the file was made from.
        trust: as for `build`.
        display: shows the stages while they run.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; nothing is written then.
    """
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer
    from edgeqwt.repair import check_order, compensate_graph
    from edgeqwt.report.files import page_beside, write_page
    from edgeqwt.report.folder import check_file, copy_file
    from edgeqwt.runtime.foreign import read_foreign

    stages = Stages(display)
    chosen = recipe_files.with_quality(recipe_files.load(recipe) if isinstance(recipe, str) else recipe, None, accept)
    if output is not None:
        check_file(Path(output))
        check_file(page_beside(Path(output)))
        if _same_file(Path(output), Path(reference)):
            raise InputError(
                f"{output} is the reference file", "Write to another one; the float model is needed again."
            )
    graph, is_file = read_foreign(Path(model)), Path(reference).suffix == ".tflite"
    check_order(str(model), graph, str(reference), flatbuffer.read(Path(reference)) if is_file else None)
    data = limited(open_samples(calibration, images=images), samples)
    with trusting(trust), _workspace() as work, stages.steps("convert") as step:
        converted = convert(str(reference), data, work, progress=step)
    result = compensate_graph(graph, converted, data, chosen, stages)
    if output is not None:
        if result.graph is graph:
            copy_file(Path(model), Path(output))
        else:
            flatbuffer.write(result.graph, Path(output))
        write_page(result, Path(model), str(reference), Path(output))
    return result


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _for_folder(source: Source, images: ImageOptions | None) -> ImageOptions | None:
    """The image options where the source is a folder: calibration images may go with a test set of another kind."""
    return images if isinstance(source, str | Path) and Path(source).is_dir() else None


@contextmanager
def _workspace(kept: str | Path | None = None) -> Iterator[Path]:
    """A folder for intermediate files: the user's, which stays, or a temporary one."""
    if kept is not None:
        if Path(kept).exists() and not Path(kept).is_dir():
            raise InputError(f"{kept} is a file", "Name a folder for intermediate files.")
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept).resolve()
        return
    with TemporaryFolder() as folder:
        yield folder

"""The Python API, and the one module that puts the parts together.

`edgeqwt.build(module, calibration=samples, target="tflite")` and the command line both come
through here; nothing else reaches `edgeqwt.converters` and `edgeqwt.target`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.api_files import limited
from edgeqwt.api_job import as_before, constants_hinted, proved_float, with_constants, without_constants
from edgeqwt.api_targets import target_of
from edgeqwt.calibration.deciding import Deciding
from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.observations import Observations
from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.sequence import Sequences
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import InputError
from edgeqwt.extras import need
from edgeqwt.interface.options import Interface
from edgeqwt.invocation import recorded
from edgeqwt.loading import trusting
from edgeqwt.passes.limits import UNLIMITED, Limits
from edgeqwt.profile import Budget, TargetProfile
from edgeqwt.progress import Display, Stages, automatic
from edgeqwt.recipe import recipe as recipe_files
from edgeqwt.recipe.overrides import overridden
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.user_cache import entries
from edgeqwt.widths.precision import Mixed

if TYPE_CHECKING:
    from edgeqwt.grouped import Grouping
    from edgeqwt.judgement import Adapt
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.verify.evaluate import Evaluation


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
    compress: bool = False,
    groups: str | None = None,
    budget: Budget | None = None,
    min_quality: float | None = None,
    accept: bool | None = None,
    trust: bool = False,
    cache: bool = True,
    time_budget: float | None = None,
    memory: int | None = None,
    device: str = "cpu",
    observations: Observations | None = None,
    before: BuildResult | None = None,
    display: Display = automatic,
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
        precision: widths of weights and activations, such as w8a8, w4a8 (packed int4) or w8a16; w8-dynamic or
            w4-dynamic, whose activations are rounded at run time; or mixed.
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
        compress: put weights of few values behind lookup tables in the firmware's model, for TFLite Micro; the budget
            is judged without them.
        groups: an input of one value and a number of groups, such as "t=5": the file gets a signature for each group
            of its values, with scales of its own and the same weights, where that pays.
        budget: what the model may cost on the target.
        min_quality: decibels that outputs have to reach (`verify.thresholds.Thresholds.min_db`).
        accept: write a model that does not reach them all the same.
        trust: let a model file run code of its own while it is loaded: .pt2, TorchScript, Keras, SavedModel.
        cache: take what a converter wrote of the same model before, and go on where a build of the same stopped, see
            docs/how-to/slow-builds.md.
        time_budget: seconds that the build should take at most: costly techniques then do less, and say so.
        memory: bytes that the build should have resident at most; what does not fit is left out, or refused.
        device: where gradients are computed: "cpu", "cuda", or "auto", which is CUDA where torch has it.
        observations: what a job observed of this model on these samples, so that it is not observed again.
        before: a build of the same model for the same target, with the same inputs and outputs, on the same samples: it
            is not converted, prepared and proved again.
        display: shows the stages while they run; by default notebooks do, and nothing elsewhere.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; nothing is written then, and an older output stays as it was.
            TargetError: the target does not take the model, or it costs more than its budget.
            QualityError: the model is too far from the float one; OUTPUT.refused.html beside the output shows where.
    """
    from edgeqwt.converters.sequence import find_sequences
    from edgeqwt.passes.unfinished import Unfinished
    from edgeqwt.pipeline import build as run
    from edgeqwt.report.files import write_build
    from edgeqwt.runtime.device import chosen_device, on_device
    from edgeqwt.target.budget import foresee, own_board
    from edgeqwt.target.check import require

    if metric is not None and evaluation is None:
        raise InputError("a metric needs evaluation data", "Give --evaluation DATA with it.")
    chosen = overridden(
        recipe, precision=precision, mixed=mixed, layers=layers, ranges=ranges, compensation=compensation,
        float_io=float_io, preserve=preserve, interface=interface, outputs=outputs,
    )  # fmt: skip
    chosen = recipe_files.with_quality(chosen, min_quality, accept)
    limits = Limits.from_now(time_budget, memory)
    profile, stages, limit = target_of(target), Stages(display), budget or Budget()
    grouping = _of_runtime(profile, compress, groups)
    need(*(["tflite_micro"] if "tflm" in profile.runtimes else []), *(["ethosu"] if profile.npu is not None else []))
    board = own_board(profile, limit)
    unfinished = Unfinished(entries("builds", cache and limits == UNLIMITED))
    opened = partial(_opened, images=images, batch_size=batch_size, wanted=chosen.interface)
    data = opened(calibration, most=samples)
    test = None if evaluation is None else _suited(opened(evaluation, folders=True), metric)
    hint = constants_hinted(model, data, chosen.interface.constants)
    there = _all(unfinished, on_device(chosen_device(device)), hint)
    source = str(model) if isinstance(model, str | Path) else type(model).__name__
    with trusting(trust), _output_folder(output, overwrite, source) as folder, _workspace(work) as scratch, there:
        model, data, test, chosen, constants = without_constants(model, data, test, chosen, scratch)
        sequences = None if sequence_length is None else find_sequences(model, data.first(), sequence_length)
        data = data if sequences is None else sequences.of(data)
        converted, chosen, proved = as_before(before, chosen) if before is not None else proved_float(
            model, data, chosen, profile, stages, scratch,
            states=states, converter=converter, onnx2tf_python=onnx2tf_python, cache=cache,
        )  # fmt: skip
        converted, test = (converted, test) if sequences is None else _of_length(sequences, converted, test)
        converted = with_constants(converted, constants)
        require(converted.graph, board, bits=chosen.precision.activation_bits, fixing=fix)
        foresee(converted.graph, profile, limit, chosen.precision.activation_bits)
        scored = None if test is None else _evaluation(test, metric, converted)
        result = run(
            converted, data, chosen, profile, scored, stages, source, _fixing(profile, fix),
            proved, observations, limits, grouping, unfinished,
        )  # fmt: skip
        result = _packaged(result, data, board, limit, folder, stages, compress)
        if folder is not None:
            write_build(result, folder)
    return result


@contextmanager
def _all(*contexts: AbstractContextManager[object]) -> Iterator[None]:
    """Several contexts as one."""
    with ExitStack() as entered:
        for context in contexts:
            entered.enter_context(context)
        yield


def _of_length(
    sequences: Sequences, converted: ConvertedModel, test: Samples | None
) -> tuple[ConvertedModel, Samples | None]:
    """The model with a note on the length of its sequences, and the test samples at that length."""
    named = sequences.named([binding.spec.name for binding in converted.inputs])
    noted = replace(converted, notes=tuple(dict.fromkeys((named.note(), *converted.notes))))
    return noted, None if test is None else named.of(test)


def _of_runtime(profile: TargetProfile, compress: bool, groups: str | None) -> Grouping | None:
    """What selects scales of groups, after the target's runtime was found to take what was asked for.

    Raises:
        InputError: it does not.
    """
    from edgeqwt.grouped import require_signatures
    from edgeqwt.target.package.package import require_lookup

    if compress:
        require_lookup(profile)
    return None if groups is None else require_signatures(groups, profile)


def _suited(test: Samples, metric: str | Any | None) -> Samples:
    """The test samples, after what the metric needs was found among them."""
    from edgeqwt.verify.evaluate import check_metric

    check_metric(test, metric)
    return test


def _evaluation(test: Samples, metric: str | Any | None, converted: ConvertedModel) -> Evaluation:
    """What scores the builds, after the metric was tried."""
    from edgeqwt.verify.evaluate import open_evaluation, try_metric

    scored = open_evaluation(test, metric, converted)
    try_metric(scored, converted)
    return scored


def _opened(
    source: Source,
    *,
    images: ImageOptions | None,
    batch_size: int | None,
    wanted: Interface,
    most: int | None = None,
    folders: bool = False,
) -> Samples:
    """A build's samples, normalized where the file is to take the raw ones.

    Args:
        source: as the user names it.
        images: how images of a folder become samples.
        batch_size: as for `build`.
        wanted: what inputs are to be like.
        most: how many of them count.
        folders: whether `images` are for folders alone: calibration images may go with a test set of another kind.
    """
    from edgeqwt.interface.bind import normalized

    images = images if not folders or (isinstance(source, str | Path) and Path(source).is_dir()) else None
    return normalized(limited(open_samples(source, images=images, batch_size=batch_size), most), wanted)


def _fixing(profile: TargetProfile, fix: bool) -> Adapt:
    """What rewrites integer graphs for the target: what findings offer to apply, where the user asks for it."""
    from edgeqwt.judgement import as_it_is
    from edgeqwt.target.fix import fix as fixed

    return partial(fixed, profile=profile) if fix else as_it_is


def _packaged(
    result: BuildResult,
    data: Samples,
    board: TargetProfile,
    limit: Budget,
    folder: Path | None,
    stages: Stages,
    compress: bool,
) -> BuildResult:
    """A build with what its target finds of the file, and with the target's package, where there is a folder for it.

    Raises:
        TargetError: the target does not take the file, or it costs more than its budget.
    """
    from edgeqwt.report.manifest import PACKAGE
    from edgeqwt.target.budget import require as require_budget
    from edgeqwt.target.check import require
    from edgeqwt.target.package.deliver import deliver
    from edgeqwt.target.plugin import compiled_for, plugin_findings

    profile = result.target
    with stages("package"):
        found = require(result.graph, board, bits=result.recipe.precision.activation_bits)
        findings = plugin_findings(result.graph, profile, found)
        require_budget(result.file, profile, limit)
        compiled = profile.plugin is not None and profile.plugin.toolchain is not None
        placed = compiled_for(result.graph, profile) if compiled else None
        result = replace(result, findings=findings, placed=placed)
        return result if folder is None else deliver(result, data, folder / PACKAGE, board, compress)


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


@contextmanager
def _output_folder(output: str | Path | None, overwrite: bool, source: str) -> Iterator[Path | None]:
    """The folder that takes the place of `output` when all is written; None where nothing is to be written.

    Where the build is refused for its quality, a page beside it.
    """
    from edgeqwt.report.files import page_where_refused
    from edgeqwt.report.folder import whole_folder

    if output is None:
        yield None
        return
    with page_where_refused(Path(output), source), whole_folder(Path(output), overwrite) as folder:
        yield folder

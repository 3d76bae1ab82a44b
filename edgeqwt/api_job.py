"""The part of the Python API before any technique runs: from a source model to a proved float graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.api_files import limited
from edgeqwt.api_targets import target_of
from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.observations import Observations
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.converted import Constant, ConvertedModel
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import (
    ConversionError,
    InputError,
    InvariantError,
    ParityError,
    RecipeError,
    TargetError,
    ToolError,
    UnsupportedError,
)
from edgeqwt.extras import optional
from edgeqwt.graph.graph import Array
from edgeqwt.loading import trusting
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Display, Stages, silent
from edgeqwt.recipe.overrides import overridden
from edgeqwt.recipe.recipe import Recipe

if TYPE_CHECKING:
    from edgeqwt.job import Job
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.proved import Proved


def open_job(
    model: object,
    *,
    calibration: Source,
    target: str = "tflite",
    recipe: str | Recipe = "balanced",
    precision: str | None = None,
    layers: Mapping[str, str | Mapping[str, object]] | None = None,
    images: ImageOptions | None = None,
    samples: int | None = None,
    batch_size: int | None = 1,
    states: Sequence[tuple[str, str]] | None = None,
    converter: str = "auto",
    trust: bool = False,
    cache: bool = True,
    observations: Observations | None = None,
    display: Display = silent,
) -> Job:
    """A model converted, proved and ready for its recipe's techniques, which the caller applies one by one.

        job = edgeqwt.open_job(model, calibration=samples)
        state = job.start()
        for technique in job.techniques:
            state, account = job.apply(technique, state)
        job.save(state, "model.tflite")

    Arguments are those of `build`. What a build does afterwards is not done: choosing between variants, comparing
    runtimes, the report.

    Raises:
        EdgeqwtError: as `build`; RecipeError where the recipe chooses widths layer by layer ("mixed"), which takes
            many builds.
    """
    from edgeqwt.job import begun
    from edgeqwt.target.check import require

    chosen = overridden(recipe, precision=precision, layers=layers)
    if chosen.mixed is not None:
        raise RecipeError("mixed precision takes many builds", "Give widths, such as w8a8, or call build.")
    profile, stages = target_of(target), Stages(display)
    data = limited(open_samples(calibration, images=images, batch_size=batch_size), samples)
    with trusting(trust), TemporaryFolder() as scratch, constants_hinted(model, data, chosen.interface.constants):
        model, data, _, chosen, constants = without_constants(model, data, None, chosen, scratch)
        converted, chosen, proved = proved_float(
            model, data, chosen, profile, stages, scratch, states=states, converter=converter, cache=cache
        )
    require(converted.graph, profile, bits=chosen.precision.activation_bits)
    converted = with_constants(converted, constants)
    return begun(converted, data, chosen, profile, stages, proved, observations)


def without_constants(
    model: object, data: Samples, test: Samples | None, recipe: Recipe, scratch: Path
) -> tuple[object, Samples, Samples | None, Recipe, tuple[Constant, ...]]:
    """A build's model, calibration and test samples and recipe, without inputs that are to be constants, and those.

    Numbers that TorchScript takes are such, where it keeps a state: the state becomes inputs and outputs.

    Raises:
        InputError: the model is no .onnx file, has no such input, or samples have several values of it; a state in
            attributes cannot be taken out.
    """
    if not (names := recipe.interface.constants):
        return _stateless(model, data, test, recipe)
    if not _is_onnx(model):
        raise InputError(
            f"input {names[0]!r} can be a constant of .onnx models only",
            "Wrap the module in one whose forward gives the value itself.",
        )
    from edgeqwt.converters.from_onnx.constants import constants_in, without

    first = data.first()
    model, data = constants_in(Path(str(model)), data, names, scratch)
    values = {name: first[name] for name in names}
    test = None if test is None else without(test, values)
    inputs = {name: kind for name, kind in recipe.interface.inputs.items() if name not in names}
    constants = tuple(Constant.of(name, np.asarray(value)) for name, value in values.items())
    return model, data, test, replace(recipe, interface=replace(recipe.interface, inputs=inputs)), constants


def _stateless(
    model: object, data: Samples, test: Samples | None, recipe: Recipe
) -> tuple[object, Samples, Samples | None, Recipe, tuple[Constant, ...]]:
    """The same of a TorchScript module that keeps a state in its attributes; other models as they are."""
    from edgeqwt.converters.resolve import scripted

    with optional():
        found = scripted(model)
        if found is None:
            return model, data, test, recipe, ()
        from edgeqwt.converters.from_torch.states import lifted

        taken = lifted(found.what, found.module, data)
    if taken is None:
        return found, data, test, recipe, ()
    constants = tuple(Constant.of(name, value) for name, value in taken.constants.items())
    model = replace(found, module=taken.module, notes=(taken.note,))
    return model, taken.samples(data), None if test is None else taken.samples(test), recipe, constants


def with_constants(model: ConvertedModel, constants: tuple[Constant, ...]) -> ConvertedModel:
    """The model that knows which of its source's inputs are constants, and says so."""
    notes = (*(constant.sentence for constant in constants), *model.notes)
    return replace(model, constants=constants, notes=notes) if constants else model


@contextmanager
def constants_hinted(model: object, data: Samples, already: Sequence[str]) -> Iterator[None]:
    """Adds to errors about the model which inputs of an .onnx file could be constants, beside those that are to be."""
    try:
        yield
    except (ConversionError, ParityError, TargetError, ToolError, UnsupportedError) as error:
        if _is_onnx(model):
            from edgeqwt.converters.from_onnx.constants import hint

            error.hint += hint(Path(str(model)), data, already)
        raise


def _is_onnx(model: object) -> bool:
    return isinstance(model, str | Path) and Path(model).suffix == ".onnx"


def as_before(built: BuildResult, recipe: Recipe) -> tuple[ConvertedModel, Recipe, Proved]:
    """What `proved_float` returned for a build, for another recipe that has the same inputs and outputs."""
    from edgeqwt.proved import Proved

    same = replace(recipe, precision=replace(recipe.precision, ports=built.recipe.precision.ports))
    return built.model, same, Proved(built.model.graph, built.prepared, built.parity)


def _proved_before(sample: Sample) -> Mapping[str, Array]:
    raise InvariantError("the source model has been proved, and let go of")


def proved_float(
    model: object,
    data: Samples,
    recipe: Recipe,
    target: TargetProfile,
    stages: Stages,
    scratch: Path,
    *,
    states: Sequence[tuple[str, str]] | None = None,
    converter: str = "auto",
    onnx2tf_python: str | None = None,
    cache: bool = True,
) -> tuple[ConvertedModel, Recipe, Proved]:
    """The float graph of the first converter whose result computes what the source does.

    Args:
        model: as for `build`.
        data: calibration samples in the source model's layout.
        recipe: what inputs and outputs are to be like, and how much is proved.
        target: see `proved.for_target`.
        stages: shows and times the steps.
        scratch: a folder for the conversion's files.
        states: as for `build`.
        converter: as for `build`.
        onnx2tf_python: as for `build`.
        cache: as for `build`.

    Returns:
        The converted model, the recipe with what its inputs and outputs became, and the proof.

    Raises:
        EdgeqwtError: ConversionError, ParityError and ToolError are the usual ones.
    """
    from edgeqwt.converters.convert import first_to_pass
    from edgeqwt.converters.states import with_states
    from edgeqwt.proved import bound, prove

    def gate(found: ConvertedModel) -> tuple[ConvertedModel, Recipe, Proved]:
        found, own = bound(with_states(found, states), data, recipe)
        proof = prove(found, data, own, target, stages)
        # What runs the source takes as much memory as the model, and is asked no more.
        return replace(found, run_source=_proved_before, trace_source=None), own, proof

    steps = partial(stages.steps, "convert")
    return first_to_pass(
        model, data, scratch, gate,
        converter=converter, onnx2tf_python=onnx2tf_python, cache=cache, steps=steps,
    )  # fmt: skip

"""Any source to a float TFLite graph: the functions that the build calls.

Converters are tried in order until what one makes passes the gate that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converted import Attempt, ConvertedModel
from edgeqwt.converters import cache as conversions
from edgeqwt.converters import onnx2tf_tool, tools, trained
from edgeqwt.converters.closed import closed
from edgeqwt.converters.converter import Converter, NoConverterError, NothingElseError, Work
from edgeqwt.converters.from_keras.source import FILES as KERAS_FILES
from edgeqwt.converters.from_tflite import source as tflite_source
from edgeqwt.converters.from_tflite.sequence_lstm import written_out
from edgeqwt.converters.resolve import TorchObject, resolve
from edgeqwt.converters.source import Source, open_keras, open_onnx, open_torch
from edgeqwt.converters.through_litert_torch import LitertTorch
from edgeqwt.converters.through_onnx2tf import Onnx2tf
from edgeqwt.converters.through_tensorflow import TensorFlow
from edgeqwt.converters.tools import Found
from edgeqwt.disk import out_of_space
from edgeqwt.errors import ConversionError, EdgeqwtError, InputError, ParityError, ToolError
from edgeqwt.extras import optional
from edgeqwt.graph import flatbuffer
from edgeqwt.lowering.fake_quant import extracted, is_fake_quantized
from edgeqwt.prepare.prepare import sentence
from edgeqwt.runtime.foreign import survived
from edgeqwt.runtime.misread import MISREAD, read_rightly

AUTO = "auto"
CONVERTERS: tuple[Converter, ...] = (
    Onnx2tf(),
    Onnx2tf(three_axes=True),
    LitertTorch(),
    TensorFlow(),
    Onnx2tf("tensorflow", "tensorflow", onnx2tf_tool.TENSORFLOW),
)
"""In the order in which they are tried: the quickest to run first, the one that is wrong most often last."""

Steps = Callable[[], AbstractContextManager[Callable[[str], None]]]
"""Opens a stage whose steps are reported by name; see `progress.Stages.steps`."""


def convert(
    source: object,
    samples: Samples,
    workdir: Path,
    *,
    converter: str = AUTO,
    onnx2tf_python: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ConvertedModel:
    """Converts a source model to a float TFLite graph, which is not yet held against the source.

    Args and errors as of `first_to_pass`.
    """
    steps = lambda: nullcontext(progress)  # noqa: E731
    return first_to_pass(
        source, samples, workdir, lambda model: model, converter=converter, onnx2tf_python=onnx2tf_python, steps=steps
    )


def first_to_pass[T](
    source: object,
    samples: Samples,
    workdir: Path,
    gate: Callable[[ConvertedModel], T],
    *,
    converter: str = AUTO,
    onnx2tf_python: str | None = None,
    cache: bool = True,
    steps: Steps = lambda: nullcontext(lambda step: None),
) -> T:
    """Converts a source model with the first converter whose result passes a gate.

    Args:
        source: "file.py:function" or "package.module:function" that returns a module (or a module and
            example inputs), a path of a .pt2, TorchScript, .onnx, .keras, .h5 or .tflite file or a
            SavedModel, or a torch module itself.
        samples: calibration samples in the source's own layout; the first one gives a torch model's
            example input, and the size of dynamic dimensions.
        workdir: intermediate files and logs are left in it.
        gate: is given a converted model, with what went wrong before it, and raises where it is not what its
            source is. An InputError of its that is no ParityError is about the samples or the options: it ends the
            search.
        converter: the one to use, by name; "auto" for all that take the source and are installed, in order.
        onnx2tf_python: interpreter that has onnx2tf, for this call; see `tools.find`.
        cache: whether what a converter wrote of the same file before counts, see `converters.cache`.
        steps: opens the stage in which a conversion is shown.

    Returns:
        What the gate returned.

    Raises:
        InputError: the source or the samples cannot be used, or there is no such converter.
        MissingPackageError: the source needs a package that is not installed.
        ConversionError: several converters were tried, and none passed.
        EdgeqwtError: the only one that was tried did not pass, and why.
    """
    wanted = _chosen(converter)
    workdir.mkdir(parents=True, exist_ok=True)
    work = Work(workdir.resolve(), onnx2tf_python, cache=conversions.opened(cache))
    with optional(), steps() as step:
        step("loading the source model")
        found = resolve(source)
        if isinstance(found, Path) and found.suffix == ".tflite":
            model = _from_tflite(found, samples, work.folder)
            opened = None
        else:
            opened = _open(found, samples, work)
    if opened is None:
        return gate(model)
    return _tried(opened, _taking(opened, wanted, converter), work, gate, steps)


def _chosen(name: str) -> tuple[Converter, ...]:
    """The converters of a name.

    Raises:
        InputError: there is none.
    """
    chosen = tuple(c for c in CONVERTERS if name in (AUTO, c.name))
    if not chosen:
        known = ", ".join(dict.fromkeys((AUTO, *(c.name for c in CONVERTERS))))
        raise InputError(f"there is no converter {name!r}", f"These there are: {known}.")
    return chosen


def _open(found: TorchObject | Path, samples: Samples, work: Work) -> Source:
    if isinstance(found, Path) and found.suffix == ".onnx":
        return open_onnx(found, samples)
    if isinstance(found, Path) and (found.suffix in KERAS_FILES or found.is_dir()):
        return open_keras(found, samples, work.folder / "tensorflow.log")
    return open_torch(found, samples, work.torch_log)


def _taking(source: Source, converters: Sequence[Converter], name: str) -> list[Converter]:
    """Those that take a source.

    Raises:
        InputError: the one that was asked for does not take such sources.
    """
    taking = [c for c in converters if c.takes(source)]
    if not taking:
        others = ", ".join(dict.fromkeys(c.name for c in CONVERTERS if c.takes(source)))
        raise InputError(f"{name} does not convert {source.what}", f"These do: {others}.")
    return taking


def _tried[T](
    source: Source, converters: Sequence[Converter], work: Work, gate: Callable[[ConvertedModel], T], steps: Steps
) -> T:
    attempts: list[Attempt] = []
    errors: list[EdgeqwtError] = []
    absent: list[Found] = []
    for converter in converters:
        found = converter.find(work)
        if found.version is None:
            absent.append(found)
            continue
        try:
            with steps() as step:
                model = converter.convert(source, replace(work, progress=step))
        except NothingElseError:
            continue
        except NoConverterError:
            raise
        except EdgeqwtError as error:
            if full := out_of_space(work.folder):
                raise full from error
            failure = error
        else:
            try:
                return gate(replace(model, converter=converter.name, attempts=tuple(attempts)))
            except EdgeqwtError as error:
                if isinstance(error, InputError) and not isinstance(error, ParityError):
                    raise
                failure = error
        if attempts and attempts[-1].converter == converter.name:
            continue  # the same tool's second try: what stopped the first is about the model as it came
        errors.append(failure)
        attempts.append(_attempt(converter.name, found.version, failure))
    raise _none(source.what, attempts, errors, absent)


def _attempt(converter: str, version: str, error: EdgeqwtError) -> Attempt:
    message = error.message
    if isinstance(error, ToolError) and error.log_tail:
        message += f": {error.log_tail.splitlines()[-1].strip()}"
    return Attempt(converter, version, message, error.op, error.location, error.hint)


def _none(
    what: str, attempts: Sequence[Attempt], errors: Sequence[EdgeqwtError], absent: Sequence[Found]
) -> EdgeqwtError:
    """The error where no converter's result passes: the only one's own, or one that lists them all."""
    if not errors:
        return tools.missing(absent[0])
    others = [found.tool for found in absent if found.tool not in ("onnx2tf", *(a.converter for a in attempts))]
    more = f" Another converter may take it: `edgeqwt tools install {others[0]}`." if others else ""
    if len(errors) == 1:
        errors[0].hint += more
        return errors[0]
    error = ConversionError(what, [attempt.sentence for attempt in attempts], more.strip())
    error.exit_code = errors[0].exit_code
    error.__cause__ = errors[0]
    return error


def _from_tflite(path: Path, samples: Samples, workdir: Path) -> ConvertedModel:
    loaded = graph = tflite_source.load(path)
    remarks = graph.remarks
    specs = [binding.spec for binding in tflite_source.bindings(graph)[0]]
    graph, notes = closed(graph, specs, validated(samples, specs).first())
    if graph is not loaded:
        graph = survived(graph, str(path))  # what was open has only been loaded so far
    graph, written = written_out(graph)
    notes = (*notes, *written)
    inputs, outputs = tflite_source.bindings(graph)
    if not is_fake_quantized(graph):
        run = replace(tflite_source.TfliteRunner.open(path, inputs, outputs), fresh=bool(written)).run
        graph, names = read_rightly(graph)
        notes = (*notes, *([sentence(MISREAD, names)] if names else []))
        return ConvertedModel(graph, inputs, outputs, run, notes=(*remarks, *notes))
    below, learned = extracted(graph)
    below, _ = read_rightly(below)
    inputs, outputs = tflite_source.bindings(below)
    few = validated(samples, [binding.spec for binding in inputs]).head(trained.SAMPLES)
    source = tflite_source.TfliteRunner.open(path, inputs, outputs)
    note = trained.check_rounding(str(path), source.run, below, (inputs, outputs), learned, few)
    float_file = workdir / "without_rounding.tflite"
    flatbuffer.write(below, float_file)
    run = tflite_source.TfliteRunner.open(float_file, inputs, outputs).run
    return ConvertedModel(below, inputs, outputs, run, notes=(*remarks, *notes, note), learned=learned)

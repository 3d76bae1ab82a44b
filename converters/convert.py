"""Any source to a float TFLite graph: the one function that the build calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converted import Binding, ConvertedModel, LearnedRanges
from edgeqwt.converters import (
    onnx2tf_tool,
    onnx_rewrites,
    onnx_source,
    open_ends,
    places,
    tflite_source,
    torch_source,
    trace,
    trained,
)
from edgeqwt.converters.binding import bind, describe
from edgeqwt.converters.diagnose import first_run
from edgeqwt.converters.integers import narrowed
from edgeqwt.converters.onnx2tf_tool import Conversion
from edgeqwt.converters.onnx_rounding import rounds, without_rounding
from edgeqwt.converters.onnx_source import OnnxRunner
from edgeqwt.converters.recurrent import unrolled
from edgeqwt.converters.recurrent_torch import plain_sequences
from edgeqwt.converters.resolve import TorchObject, resolve
from edgeqwt.converters.torch_source import TorchModel
from edgeqwt.errors import InputError, ParityError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.quantize.fake_quant import extracted, is_fake_quantized

if TYPE_CHECKING:
    import onnx

REDUCED_PRECISION = "reduced_precision_support"
EXPORT_TOLERANCE = 2**-10
"""Largest difference between torch and its ONNX export, relative to the largest output. Both compute in
float32 and differ in the order of sums: sqrt(n)·2^-24 for n terms, which leaves room for n = 2^20 and
a factor of 16 of cancellation; a wrong export differs by the size of the output itself."""


def convert(
    source: object,
    samples: Samples,
    workdir: Path,
    *,
    onnx2tf_python: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
    backend: str = onnx2tf_tool.FLATBUFFER,
) -> ConvertedModel:
    """Converts a source model to a float TFLite graph.

    Args:
        source: "file.py:function" or "package.module:function" that returns a module (or a module and
            example inputs), a path of a .pt2, .onnx or .tflite file, or a torch module itself.
        samples: calibration samples in the source's own layout; the first one gives a torch model's
            example input, and the size of dynamic dimensions.
        workdir: intermediate files and logs are left in it.
        onnx2tf_python: interpreter that has onnx2tf; by default $EDGEQWT_ONNX2TF_PYTHON, else the running one.
        progress: is told the name of each step as it begins.
        backend: of onnx2tf; for tests.

    Raises:
        InputError: the source or the samples cannot be used.
        ParityError: torch's own ONNX export computes something else than the module.
        ToolError: onnx2tf is missing or fails.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    workdir = workdir.resolve()
    tool = _Tool(workdir, onnx2tf_python, backend, progress)
    progress("loading the source model")
    found = resolve(source)
    if isinstance(found, Path) and found.suffix == ".tflite":
        return _from_tflite(found, samples, workdir)
    if isinstance(found, Path) and found.suffix == ".onnx":
        return _through_onnx2tf(_onnx(found, samples), tool, samples)
    return _through_onnx2tf(_exported(_torch_model(found, samples.first(), tool), samples, tool), tool, samples)


@dataclass(frozen=True)
class _Tool:
    """How onnx2tf is run, and where."""

    workdir: Path
    python: str | None
    backend: str
    progress: Callable[[str], None]

    @property
    def torch_log(self) -> Path:
        """What torch says."""
        return self.workdir / "torch_export.log"


@dataclass(frozen=True, eq=False)
class _Source:
    """A source model on its way to TFLite.

    Attributes:
        proto: its ONNX form, with static shapes.
        inputs: the source's, in its order.
        run: runs the source.
        sample: the first one.
        notes: on what was done so far.
        torch: how messages name the torch model that was exported; None where the source is ONNX.
    """

    proto: onnx.ModelProto
    inputs: tuple[InputSpec, ...]
    run: Callable[[Sample], Mapping[str, Array]]
    sample: Sample
    notes: tuple[str, ...]
    torch: str | None = None

    def versions(self) -> dict[str, str]:
        """Of the packages that took part so far."""
        return {**(torch_source.version() if self.torch else {}), **onnx_source.versions()}


def _torch_model(found: TorchObject | Path, sample: Sample, tool: _Tool) -> TorchModel:
    if isinstance(found, Path):
        return torch_source.from_program(found, sample, tool.torch_log)
    return torch_source.from_module(found.what, found.module, sample, found.examples)


def _exported(model: TorchModel, samples: Samples, tool: _Tool) -> _Source:
    sample = validated(samples, model.inputs).first()
    with plain_sequences(model.what, model.module):
        outputs = first_run(model, sample)
    tool.progress("exporting to ONNX")
    path = tool.workdir / "torch.onnx"
    notes = torch_source.export(model, sample, path, tool.torch_log)
    proto, fixed = onnx_source.with_static_shapes(onnx_rewrites.loadable(onnx_source.load(path)), sample)
    proto, steps = unrolled(proto)
    if not rounds(proto):  # values between two steps may fall to either side: `trained.check_rounding` looks at it
        check_export(model.what, outputs, OnnxRunner(proto).run(sample))
    return _Source(proto, model.inputs, model.run, sample, (*notes, *fixed, *steps), model.what)


def _onnx(path: Path, samples: Samples) -> _Source:
    proto = onnx_source.load(path)
    sample = validated(samples, onnx_source.input_specs(proto)).first()
    proto, notes = onnx_source.with_static_shapes(proto, sample)
    runner = OnnxRunner(proto)
    proto, steps = unrolled(proto)
    return _Source(proto, runner.specs, runner.run, sample, (*notes, *steps))


def _from_tflite(path: Path, samples: Samples, workdir: Path) -> ConvertedModel:
    graph = tflite_source.load(path)
    inputs, outputs = tflite_source.bindings(graph)
    if not is_fake_quantized(graph):
        run = tflite_source.TfliteRunner.open(path, inputs, outputs).run
        return ConvertedModel(graph, inputs, outputs, run, notes=graph.remarks)
    below, learned = extracted(graph)
    inputs, outputs = tflite_source.bindings(below)
    few = validated(samples, [binding.spec for binding in inputs]).head(trained.SAMPLES)
    source = tflite_source.TfliteRunner.open(path, inputs, outputs)
    note = trained.check_rounding(str(path), source.run, below, (inputs, outputs), learned, few)
    float_file = workdir / "without_rounding.tflite"
    flatbuffer.write(below, float_file)
    run = tflite_source.TfliteRunner.open(float_file, inputs, outputs).run
    return ConvertedModel(below, inputs, outputs, run, notes=(*graph.remarks, note), learned=learned)


def _through_onnx2tf(source: _Source, tool: _Tool, samples: Samples) -> ConvertedModel:
    import onnx

    tool.progress("converting to TFLite")
    path = tool.workdir / "source.onnx"
    source = replace(source, proto=onnx_rewrites.rewritten(source.proto))
    onnx.save(source.proto, path)
    conversion = onnx2tf_tool.run_onnx2tf(path, tool.workdir, tool.python, backend=tool.backend)
    graph = narrowed(_read(conversion, source))
    where = places.places(graph, source.proto, conversion.sources, from_torch=source.torch is not None)
    _refuse_ops(graph, where)
    inputs, outputs = bind(graph, source.inputs, source.sample, source.run(source.sample))
    learned = None
    if is_fake_quantized(graph):
        graph, learned, source = _below(graph, source, samples)
        inputs, outputs = bind(graph, source.inputs, source.sample, source.run(source.sample))
    return ConvertedModel(
        graph=graph,
        inputs=inputs,
        outputs=outputs,
        run_source=source.run,
        trace_source=_Tracer(source, graph, inputs, conversion.sources).trace,
        places=where,
        notes=(*source.notes, *graph.remarks, *_changes(graph, inputs, outputs), *_shortcomings(conversion)),
        log=conversion.log,
        versions={**source.versions(), "onnx2tf": conversion.version},
        learned=learned,
    )


def _below(graph: Graph, source: _Source, samples: Samples) -> tuple[Graph, LearnedRanges, _Source]:
    """The float network below one that was trained with quantization, what was learned, and the source likewise."""
    graph, learned = extracted(graph)
    inputs, outputs = bind(graph, source.inputs, source.sample, source.run(source.sample))
    few = validated(samples, source.inputs).head(trained.SAMPLES)
    note = trained.check_rounding(source.torch or "the ONNX model", source.run, graph, (inputs, outputs), learned, few)
    proto = without_rounding(source.proto)
    return (
        graph,
        learned,
        replace(source, proto=proto, run=OnnxRunner(proto).run, torch=None, notes=(*source.notes, note)),
    )


def _changes(graph: Graph, inputs: tuple[Binding, ...], outputs: tuple[Binding, ...]) -> Iterator[str]:
    for kind, bindings in (("input", inputs), ("output", outputs)):
        for binding in bindings:
            sentence = describe(binding, graph, kind)
            if sentence:
                yield sentence


def _shortcomings(conversion: Conversion) -> Iterator[str]:
    if not conversion.simplified:
        yield "onnxsim could not simplify the ONNX model before the conversion; its log says why"


def _read(conversion: Conversion, source: _Source) -> Graph:
    def values() -> Mapping[str, Array]:
        return {**source.sample, **OnnxRunner(source.proto, everything=True).run(source.sample)}

    try:
        graph = without_reduced_precision(open_ends.read(conversion.tflite, values, conversion.sources))
    except InputError as error:
        raise ParityError(
            f"onnx2tf {conversion.version} wrote a broken model: {error.message}",
            f"Change the model around that place. --work FOLDER keeps onnx2tf's log, as {conversion.log.name}.",
        ) from error
    # onnx2tf permits half precision everywhere: on Arm, XNNPACK would then compute something else than on x86.
    return replace(graph, metadata={key: value for key, value in graph.metadata.items() if key != REDUCED_PRECISION})


def _refuse_ops(graph: Graph, where: Mapping[str, str]) -> None:
    for i, op in enumerate(graph.ops):
        place = where.get(graph.tensors[op.outputs[0]].name, "an unknown place") if op.outputs else "an unknown place"
        name = f"{graph.describe(i)}, from {place},"
        if op.kind == "CUSTOM":
            raise UnsupportedError(
                name,
                "tflite",
                f"onnx2tf knows no TFLite op for it and wrote the custom op {op.custom_code!r}",
                "Replace it in the model, or cut the model before it.",
            )
        if any(graph.tensors[t].is_variable for t in op.inputs if t >= 0):
            raise UnsupportedError(
                name,
                "tflite",
                "it keeps its state from one inference to the next, which the source model does not",
                "Write it as a loop over single steps in forward, with states as ordinary values.",
            )


def without_reduced_precision(graph: Graph) -> Graph:
    """The graph without onnx2tf's metadata entry that lets XNNPACK compute a float model in float16.

    On Arm the float model would then differ from what parity was proved for.
    """
    kept = {name: value for name, value in graph.metadata.items() if name != "reduced_precision_support"}
    return replace(graph, metadata=kept)


@dataclass(frozen=True)
class _Tracer:
    """Runs the ONNX model that onnx2tf was given with all its values in sight."""

    source: _Source
    graph: Graph
    inputs: tuple[Binding, ...]
    said: Mapping[str, tuple[str, ...]]

    @cached_property
    def _runner(self) -> OnnxRunner:
        return OnnxRunner(self.source.proto, everything=True)

    def trace(self, sample: Sample) -> dict[str, Array]:
        """The source's values of graph tensors: see `trace.align`.

        Raises:
            ParityError: on this sample the ONNX model is wrong already: torch's export went wrong.
        """
        from edgeqwt.runtime.runners import xnnpack

        values = self._runner.run(sample)
        if self.source.torch:
            names = onnx_source.output_names(self.source.proto)
            check_export(self.source.torch, self.source.run(sample), {name: values[name] for name in names})
        taps = [t for op in self.graph.ops for t in op.outputs]
        feeds = {b.tensor: b.to_graph(np.asarray(sample[b.spec.name]), self.graph) for b in self.inputs}
        computed = xnnpack(self.graph, taps).run(feeds)
        spelled = {onnx2tf_tool.spelled(name): value for name, value in values.items()}
        return trace.align(self.graph, {t: computed[t] for t in taps}, spelled, self.said)


def check_export(what: str, expected: Mapping[str, Array], exported: Mapping[str, Array]) -> None:
    """Compares what torch computes with what its ONNX export computes.

    Raises:
        ParityError: they differ; the export, not what follows it, is to blame.
    """
    for (name, wanted), found in zip(expected.items(), exported.values(), strict=True):
        if wanted.size != found.size:
            raise _export_error(what, f"output {name!r} has shape {found.shape} instead of {wanted.shape}")
        a, b = wanted.astype(np.float64).ravel(), found.astype(np.float64).ravel()
        if np.isnan(a).any():
            raise InputError(
                f"{what}: output {name!r} is NaN on a sample", "Check the weights and the sample's scaling."
            )
        with np.errstate(invalid="ignore"):  # equal infinities
            difference = float(np.where(a == b, 0.0, np.abs(a - b)).max(initial=0.0))
        largest = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
        if not difference <= EXPORT_TOLERANCE * largest + np.finfo(np.float32).tiny:
            raise _export_error(what, f"output {name!r} differs by {difference:.3g}, with values up to {largest:.3g}")


def _export_error(what: str, difference: str) -> ParityError:
    return ParityError(
        f"{what}: torch.onnx.export changed the model: {difference}",
        "Branches, loops and random numbers that depend on the input's values are frozen when a module is exported: "
        "take them out of forward.",
    )

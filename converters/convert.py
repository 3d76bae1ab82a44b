"""Any source to a float TFLite graph: the one function that the build calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.converters import onnx2tf_tool, onnx_source, places, tflite_source, torch_source, trace
from edgeqwt.converters.binding import bind, describe
from edgeqwt.converters.onnx2tf_tool import Conversion
from edgeqwt.converters.onnx_source import OnnxRunner
from edgeqwt.converters.resolve import TorchObject, resolve
from edgeqwt.converters.torch_source import TorchModel
from edgeqwt.errors import InputError, ParityError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph

if TYPE_CHECKING:
    import onnx

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
    if isinstance(found, TorchObject):
        model = torch_source.from_module(found.what, found.module, samples.first(), found.examples)
        return _from_torch(model, samples, tool)
    if found.suffix == ".pt2":
        return _from_torch(torch_source.from_program(found, samples.first(), tool.torch_log), samples, tool)
    if found.suffix == ".onnx":
        return _from_onnx(found, samples, tool)
    return _from_tflite(found)


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


def _from_torch(model: TorchModel, samples: Samples, tool: _Tool) -> ConvertedModel:
    sample = validated(samples, model.inputs).first()
    outputs = model.run(sample)
    tool.progress("exporting to ONNX")
    onnx_file = tool.workdir / "source.onnx"
    notes = torch_source.export(model, sample, onnx_file, tool.torch_log)
    proto, fixed = onnx_source.with_static_shapes(onnx_source.load(onnx_file), sample)
    exported = OnnxRunner(proto)
    check_export(model.what, outputs, exported.run(sample))
    return _through_onnx2tf(
        proto, model.inputs, sample, outputs, model.run, tool, (*notes, *fixed), torch_source.version(), model.what
    )


def _from_onnx(path: Path, samples: Samples, tool: _Tool) -> ConvertedModel:
    proto = onnx_source.load(path)
    sample = validated(samples, onnx_source.input_specs(proto)).first()
    proto, notes = onnx_source.with_static_shapes(proto, sample)
    runner = OnnxRunner(proto)
    return _through_onnx2tf(proto, runner.specs, sample, runner.run(sample), runner.run, tool, notes, {}, "")


def _from_tflite(path: Path) -> ConvertedModel:
    graph = tflite_source.load(path)
    inputs, outputs = tflite_source.bindings(graph)
    runner = tflite_source.TfliteRunner.open(path, inputs, outputs)
    return ConvertedModel(graph, inputs, outputs, runner.run)


def _through_onnx2tf(
    proto: onnx.ModelProto,
    inputs: tuple[InputSpec, ...],
    sample: Sample,
    outputs: Mapping[str, Array],
    run_source: Callable[[Sample], Mapping[str, Array]],
    tool: _Tool,
    notes: tuple[str, ...],
    versions: Mapping[str, str],
    torch_name: str,
) -> ConvertedModel:
    """Converts an ONNX model with static shapes.

    Args:
        proto: the model.
        inputs: the source's, in its order.
        sample: the first one.
        outputs: what the source computes on it.
        run_source: runs the source.
        tool: how to run onnx2tf.
        notes: on what was done so far.
        versions: of the tools used so far.
        torch_name: the torch source that the model was exported from, or "".
    """
    import onnx

    tool.progress("converting to TFLite")
    onnx_file = tool.workdir / "source.onnx"
    onnx.save(proto, onnx_file)
    conversion = onnx2tf_tool.run_onnx2tf(onnx_file, tool.workdir, tool.python, backend=tool.backend)
    graph = _read(conversion)
    where = places.places(graph, proto, conversion.sources, from_torch=bool(torch_name))
    _refuse_custom_ops(graph, where)
    bound_inputs, bound_outputs = bind(graph, inputs, sample, outputs)
    told = [describe(b, graph, "input") for b in bound_inputs] + [describe(b, graph, "output") for b in bound_outputs]
    if not conversion.simplified:
        told.append(f"onnxsim could not simplify the ONNX model before the conversion; see {conversion.log.name}")
    tracer = _Tracer(graph, bound_inputs, proto, conversion.sources, run_source, torch_name)
    return ConvertedModel(
        graph=graph,
        inputs=bound_inputs,
        outputs=bound_outputs,
        run_source=run_source,
        trace_source=tracer.trace,
        places=where,
        notes=(*notes, *(sentence for sentence in told if sentence)),
        log=conversion.log,
        versions={**versions, **onnx_source.versions(), "onnx2tf": conversion.version},
    )


def _read(conversion: Conversion) -> Graph:
    try:
        return flatbuffer.read(conversion.tflite)
    except InputError as error:
        raise ParityError(
            f"onnx2tf {conversion.version} wrote a broken model: {error.message}",
            f"Change the model around that place. onnx2tf's log is {conversion.log}.",
        ) from error


def _refuse_custom_ops(graph: Graph, where: Mapping[str, str]) -> None:
    for i, op in enumerate(graph.ops):
        if op.kind == "CUSTOM":
            place = where.get(graph.tensors[op.outputs[0]].name, "an unknown place")
            raise UnsupportedError(
                f"{graph.describe(i)}, from {place},",
                "tflite",
                f"onnx2tf knows no TFLite op for it and wrote the custom op {op.custom_code!r}",
                "Replace it in the model, or cut the model before it.",
            )


@dataclass(frozen=True)
class _Tracer:
    """Runs the ONNX model that onnx2tf was given with all its values in sight."""

    graph: Graph
    inputs: tuple[Binding, ...]
    proto: onnx.ModelProto
    sources: Mapping[str, tuple[str, ...]]
    run_source: Callable[[Sample], Mapping[str, Array]]
    torch_name: str

    @cached_property
    def _runner(self) -> OnnxRunner:
        return OnnxRunner(self.proto, everything=True)

    def trace(self, sample: Sample) -> dict[str, Array]:
        """The source's values of graph tensors: see `trace.align`.

        Raises:
            ParityError: on this sample the ONNX model is wrong already: torch's export went wrong.
        """
        from edgeqwt.runtime.runners import xnnpack

        values = self._runner.run(sample)
        if self.torch_name:
            names = onnx_source.output_names(self.proto)
            check_export(self.torch_name, self.run_source(sample), {name: values[name] for name in names})
        taps = [t for op in self.graph.ops for t in op.outputs]
        feeds = {b.tensor: b.to_graph(np.asarray(sample[b.spec.name]), self.graph) for b in self.inputs}
        computed = xnnpack(self.graph, taps).run(feeds)
        spelled = {onnx2tf_tool.spelled(name): value for name, value in values.items()}
        return trace.align(self.graph, {t: computed[t] for t in taps}, spelled, self.sources)


def check_export(what: str, expected: Mapping[str, Array], exported: Mapping[str, Array]) -> None:
    """Compares what torch computes with what its ONNX export computes.

    Raises:
        ParityError: they differ; the export, not what follows it, is to blame.
    """
    for (name, wanted), found in zip(expected.items(), exported.values(), strict=True):
        if wanted.size != found.size:
            raise _export_error(what, f"output {name!r} has shape {found.shape} instead of {wanted.shape}")
        a, b = wanted.astype(np.float64).ravel(), found.astype(np.float64).ravel()
        if not np.isfinite(a).all():
            raise InputError(
                f"{what}: output {name!r} is NaN or infinite on a sample", "Check the weights and the sample's scaling."
            )
        largest = float(np.abs(a).max(initial=0.0))
        difference = float(np.abs(a - b).max(initial=0.0))
        if not difference <= EXPORT_TOLERANCE * largest + np.finfo(np.float32).tiny:
            raise _export_error(what, f"output {name!r} differs by {difference:.3g}, with values up to {largest:.3g}")


def _export_error(what: str, difference: str) -> ParityError:
    return ParityError(
        f"{what}: torch.onnx.export changed the model: {difference}",
        "Branches, loops and random numbers that depend on the input's values are frozen when a module is exported: "
        "take them out of forward.",
    )

"""A source as ONNX, made once for all that convert from it, and what onnx2tf made of that read back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx

from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import Binding, ConvertedModel, LearnedRanges
from edgeqwt.converters import locations, onnx2tf_tool, trace, trained, unwritten_tensors
from edgeqwt.converters.binding import bind, changes
from edgeqwt.converters.closed import as_computed
from edgeqwt.converters.converter import Work
from edgeqwt.converters.from_onnx import constants as onnx_constants
from edgeqwt.converters.from_onnx import flow as onnx_flow
from edgeqwt.converters.from_onnx import loadable as onnx_loadable
from edgeqwt.converters.from_onnx import source as onnx_source
from edgeqwt.converters.from_onnx.recurrent import unrolled
from edgeqwt.converters.from_onnx.rounding import rounds, without_rounding
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.converters.integers import narrowed
from edgeqwt.converters.onnx2tf_tool import Conversion
from edgeqwt.converters.source import EXPORT_TOLERANCE, ONNX, TORCH, Source
from edgeqwt.errors import InputError, ParityError, UnsupportedError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.fake_quant import extracted, is_fake_quantized

REDUCED_PRECISION = "reduced_precision_support"
CHOOSING = frozenset({"ArgMax", "ArgMin", "TopK"})
"""Among equal values torch chooses in no order: the gate knows which are equal, and whether the rest is right."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A source with the ONNX model that stands for it, and sentences on how it came about."""

    source: Source
    proto: onnx.ModelProto
    notes: tuple[str, ...]


REPLACE = "Replace it in the model, or cut the model before it."
TREES = re.compile("TREEENSEMBLE|SVM(CLASSIFIER|REGRESSOR)|NEIGHBO")
NO_LAYER = (
    "Trees, support vectors and neighbours are no layers, and gain nothing from TFLite: generate C of them (emlearn, "
    "m2cgen), or train a small network in their place."
)


def as_onnx(source: Source, work: Work) -> Exported:
    """The source as ONNX, made once for all tries."""
    if ONNX not in work.kept:
        work.kept[ONNX] = _exported(source, work) if source.kind == TORCH else _unrolled(source)
    found: Exported = work.kept[ONNX]
    return found


def _exported(source: Source, work: Work) -> Exported:
    from edgeqwt.converters.from_torch import source as torch_source

    assert source.torch is not None
    work.progress("exporting to ONNX")
    path = work.folder / "torch.onnx"
    notes = torch_source.export(source.torch, source.sample, path, work.torch_log)
    proto = onnx_loadable.loadable(onnx_source.load(path))
    proto, fixed = onnx_source.with_static_shapes(proto, source.sample)
    proto, flow = onnx_flow.resolved(proto)
    proto, steps = unrolled(proto)
    # Values between two steps may fall to either side: `trained.check_rounding` looks at it.
    if not rounds(proto) and not any(node.op_type in CHOOSING for node in proto.graph.node):
        check_export(source.what, source.outputs, _outputs(source, proto))
    return Exported(source, proto, (*source.notes, *notes, *fixed, *flow, *steps))


def _outputs(source: Source, proto: onnx.ModelProto) -> Mapping[str, Array]:
    """What onnxruntime computes of the export on the first sample."""
    try:
        return OnnxRunner(proto).run(source.sample)
    except InputError as error:
        raise InputError(
            f"{source.what}: torch.onnx.export gives a model that does not run: {error.message}",
            "Write that part of forward otherwise; --work FOLDER keeps torch.onnx.",
        ) from error


def _unrolled(source: Source) -> Exported:
    assert source.proto is not None
    proto, flow = onnx_flow.resolved(source.proto, lambda: onnx_constants.of_one_value(source.samples))
    proto, steps = unrolled(proto)
    return Exported(source, proto, (*source.notes, *flow, *steps))


def read_back(exported: Exported, conversion: Conversion) -> ConvertedModel:
    """What onnx2tf wrote, with its inputs and outputs found, and the float model below it where it rounds.

    Raises:
        ParityError, UnsupportedError: it cannot be used.
    """
    source = exported.source
    graph = as_computed(narrowed(_read(conversion, exported)))[0]  # onnx2tf states other shapes at times
    where = locations.locations(graph, exported.proto, conversion.sources, from_torch=source.kind == TORCH)
    _refuse_ops(graph, where)
    inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs)
    learned = None
    if is_fake_quantized(graph):
        graph, learned, exported = _below(graph, exported)
        source = exported.source
        inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs)
    return ConvertedModel(
        graph=graph,
        inputs=inputs,
        outputs=outputs,
        run_source=source.run,
        trace_source=_Tracer(exported, graph, inputs, conversion.sources).trace,
        locations=where,
        notes=(*exported.notes, *graph.remarks, *changes(graph, inputs, outputs), *_shortcomings(conversion)),
        log=conversion.log,
        versions={**(source.versions or {}), **onnx_source.versions(), "onnx2tf": conversion.version},
        learned=learned,
        cached=conversion.cached,
    )


def _below(graph: Graph, exported: Exported) -> tuple[Graph, LearnedRanges, Exported]:
    """The float network below one that was trained with quantization, what was learned, and the source likewise."""
    source = exported.source
    graph, learned = extracted(graph)
    inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs)
    few = source.samples.head(trained.SAMPLES)
    note = trained.check_rounding(source.what, source.run, graph, (inputs, outputs), learned, few)
    proto = without_rounding(exported.proto)
    runner = OnnxRunner(proto)
    below = replace(source, kind=ONNX, run=runner.run, outputs=runner.run(source.sample), torch=None)
    return graph, learned, Exported(below, proto, (*exported.notes, note))


def _shortcomings(conversion: Conversion) -> Iterator[str]:
    if not conversion.simplified:
        yield "onnxsim could not simplify the ONNX model before the conversion; its log says why"


def _read(conversion: Conversion, exported: Exported) -> Graph:
    def values() -> Mapping[str, Array]:
        sample = exported.source.sample
        return {**sample, **OnnxRunner(exported.proto, everything=True).run(sample)}

    try:
        return without_reduced_precision(unwritten_tensors.read(conversion.tflite, values, conversion.sources))
    except InputError as error:
        raise ParityError(
            f"onnx2tf {conversion.version} wrote a broken model: {error.message}",
            f"Change the model around that location. --work FOLDER keeps onnx2tf's log, as {conversion.log.name}.",
        ) from error


def _refuse_ops(graph: Graph, where: Mapping[str, str]) -> None:
    for i, op in enumerate(graph.ops):
        location = (
            where.get(graph.tensors[op.outputs[0]].name, "an unknown location") if op.outputs else "an unknown location"
        )
        name = f"{graph.describe(i)}, from {location},"
        if op.kind == "CUSTOM":
            why = f"onnx2tf knows no TFLite op for it and wrote the custom op {op.custom_code!r}"
            raise UnsupportedError(name, "tflite", why, NO_LAYER if TREES.search(op.custom_code) else REPLACE)
        if op.kind == "WHERE" and not graph.tensors[op.inputs[0]].is_constant:
            raise UnsupportedError(
                name,
                "tflite",
                "how many positions it gives (torch.where(mask), mask.nonzero(), x[mask]) depends on the values, and a "
                "TFLite file's sizes are fixed",
                "Compute all rows and multiply them with the mask, or choose by torch.where(mask, x, other).",
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
    kept = {name: value for name, value in graph.metadata.items() if name != REDUCED_PRECISION}
    return replace(graph, metadata=kept)


@dataclass(frozen=True)
class _Tracer:
    """Runs the ONNX model that onnx2tf was given with all its values in sight."""

    exported: Exported
    graph: Graph
    inputs: tuple[Binding, ...]
    said: Mapping[str, tuple[str, ...]]

    @cached_property
    def _runner(self) -> OnnxRunner:
        return OnnxRunner(self.exported.proto, everything=True)

    def trace(self, sample: Sample) -> dict[str, Array]:
        """The source's values of graph tensors: see `trace.align`.

        Raises:
            ParityError: on this sample the ONNX model is wrong already: torch's export went wrong.
        """
        values, source = self._runner.run(sample), self.exported.source
        if source.kind == TORCH:
            names = onnx_source.output_names(self.exported.proto)
            check_export(source.what, source.run(sample), {name: values[name] for name in names})
        spelled = {onnx2tf_tool.spelled(name): value for name, value in values.items()}
        return trace.matched(self.graph, self.inputs, sample, spelled, self.said)


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

"""Keras, SavedModel → TensorFlow's TFLiteConverter → float TFLite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converted import Binding, ConvertedModel, LearnedRanges
from edgeqwt.converters import tools
from edgeqwt.converters.binding import bind, changes
from edgeqwt.converters.closed import closed
from edgeqwt.converters.converter import Work
from edgeqwt.converters.from_tflite.control_flow import FLOW
from edgeqwt.converters.from_tflite.sequence_lstm import written_out
from edgeqwt.converters.from_tflite.source import TfliteRunner
from edgeqwt.converters.layout import named_as_in_source
from edgeqwt.converters.source import KERAS, Source
from edgeqwt.converters.tools import Found
from edgeqwt.converters.trained import SAMPLES, Bindings, check_rounding
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.fake_quant import extracted, is_fake_quantized
from edgeqwt.runtime.misread import read_rightly

NAME = "tensorflow"


@dataclass(frozen=True)
class TensorFlow:
    """TensorFlow's own converter.

    Attributes:
        name: as users write it.
    """

    name: str = NAME

    def takes(self, source: Source) -> bool:
        """Keras files and SavedModels."""
        return source.kind == KERAS

    def find(self, work: Work) -> Found:
        """See `Converter`."""
        return tools.find(NAME)

    def convert(self, source: Source, work: Work) -> ConvertedModel:
        """See `Converter`.

        Raises:
            InputError: the converter fails, or its file cannot be used.
        """
        keras = source.keras
        assert keras is not None
        work.progress("converting with TensorFlow")
        file = work.folder / "tensorflow.tflite"
        keras.convert(source.sample, file)
        graph = flatbuffer.read(file)
        inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs)
        graph, flow = _without_flow(graph, inputs, source)
        graph, written = written_out(graph)
        flow = (*flow, *written)
        if flow:
            inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs)
        learned = None
        if is_fake_quantized(graph):
            source, graph, learned = _below(source, graph, (inputs, outputs), work)
            inputs, outputs = bind(graph, source.inputs, source.sample, source.run(source.sample))
        graph = named_as_in_source(read_rightly(graph)[0], (*inputs, *outputs))
        computed = [graph.tensors[t].name for op in graph.ops for t in op.outputs]
        return ConvertedModel(
            graph=graph,
            inputs=inputs,
            outputs=outputs,
            run_source=source.run,
            locations={name: _location(name) for name in computed},
            notes=(*source.notes, *graph.remarks, *flow, *changes(graph, inputs, outputs)),
            log=keras.log,
            versions={**(source.versions or {}), NAME: keras.version},
            learned=learned,
        )


def _below(
    source: Source, graph: Graph, bindings: tuple[Bindings, Bindings], work: Work
) -> tuple[Source, Graph, LearnedRanges]:
    """The float network below one that was trained with quantization, what was learned, and the source likewise."""
    below, learned = extracted(graph)
    moved = dict(zip((*graph.inputs, *graph.outputs), (*below.inputs, *below.outputs), strict=True))
    inputs, outputs = (tuple(replace(b, tensor=moved[b.tensor]) for b in side) for side in bindings)
    few = source.samples.head(SAMPLES)
    note = check_rounding("the Keras model", source.run, below, (inputs, outputs), learned, few)
    file = work.folder / "without_rounding.tflite"
    flatbuffer.write(below, file)
    run = TfliteRunner.open(file, inputs, outputs).run
    return replace(source, run=run, notes=(*source.notes, note)), below, learned


def _without_flow(graph: Graph, inputs: Sequence[Binding], source: Source) -> tuple[Graph, tuple[str, ...]]:
    """The graph without IF and WHILE, which TensorFlow writes for tf.cond, loops and some recurrent layers."""
    if not any(op.kind in FLOW for op in graph.ops):
        return graph, ()
    sample = {graph.tensors[b.tensor].name: b.to_graph(source.sample[b.spec.name], graph) for b in inputs}
    tensors = [graph.tensors[t] for t in graph.inputs]
    return closed(graph, [InputSpec(t.name, sample[t.name].shape, t.dtype) for t in tensors], sample)


def _location(name: str) -> str:
    """The layer that a tensor is named after: "model/act/Relu;model/conv/Conv2D" is "model/conv".

    Of fused ops the last one is the one that computes, the others what it took up.
    """
    parts = [part for part in name.replace("StatefulPartitionedCall/", "").split(";") if part]
    computing = [part for part in parts if "ReadVariableOp" not in part] or parts or [name]
    return computing[-1].rpartition("/")[0] or computing[-1]

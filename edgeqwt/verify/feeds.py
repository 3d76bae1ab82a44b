"""The source's inputs and outputs in a graph that was made from the converted one."""

from __future__ import annotations

from collections.abc import Iterator

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import require_interface


def feed(converted: ConvertedModel, graph: Graph, sample: Sample) -> dict[int, Array]:
    """A source sample as real values by tensor index of a graph with converted.graph's inputs, in its order.

    Raises:
        InvariantError: the graph has other inputs or outputs.
    """
    require_interface(graph, converted.graph)
    values = converted.graph_inputs(sample)
    return {new: values[old] for old, new in zip(converted.graph.inputs, graph.inputs, strict=True) if old in values}


def feeds(converted: ConvertedModel, graph: Graph, samples: Samples) -> Iterator[dict[int, Array]]:
    """Each of the samples as `feed` gives it."""
    return (feed(converted, graph, sample) for sample in samples)


def output_tensor(converted: ConvertedModel, graph: Graph, binding: Binding) -> int:
    """The tensor that carries an output of the source in a graph with converted.graph's outputs, in its order."""
    require_interface(graph, converted.graph)
    return graph.outputs[converted.graph.outputs.index(binding.tensor)]

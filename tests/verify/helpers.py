"""Float graphs as sources of themselves, so that a corrupted copy can be held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack


def as_source(graph: Graph, *, converted: Graph | None = None, trace: bool = True, **more: Any) -> ConvertedModel:
    """A model whose source is `graph` itself, run by LiteRT, and which was "converted" to `converted`."""
    activations = [t for op in graph.ops for t in op.outputs]
    runner = xnnpack(graph, activations)

    def bound(t: int) -> Binding:
        return Binding(InputSpec(graph.tensors[t].name, graph.tensors[t].shape, graph.tensors[t].dtype), t)

    def values(sample: Sample) -> dict[int, Array]:
        return runner.run({t: sample[graph.tensors[t].name] for t in graph.inputs})

    def run_source(sample: Sample) -> Mapping[str, Array]:
        found = values(sample)
        return {graph.tensors[t].name: found[t] for t in graph.outputs}

    def trace_source(sample: Sample) -> Mapping[str, Array]:
        return {graph.tensors[t].name: value for t, value in values(sample).items()}

    return ConvertedModel(
        graph=graph if converted is None else converted,
        inputs=tuple(map(bound, graph.inputs)),
        outputs=tuple(map(bound, graph.outputs)),
        run_source=run_source,
        trace_source=trace_source if trace else None,
        **more,
    )


def image_samples(graph: Graph, images: npt.NDArray[Any], count: int) -> Iterator[Sample]:
    """CIFAR-10 images as samples of MLPerf Tiny's image classification model, which takes 0 to 255."""
    name = graph.tensors[graph.inputs[0]].name
    return ({name: image[None].astype(np.float32)} for image in images[:count])


def weights_changed(graph: Graph, op: int, change: Callable[[Array], Array], slot: int = 1) -> Graph:
    """The graph with a constant of one op changed."""
    t = graph.ops[op].inputs[slot]
    data = graph.tensors[t].data
    assert data is not None
    changed = np.ascontiguousarray(change(data.copy()), data.dtype)
    return graph.with_tensors({t: replace(graph.tensors[t], data=changed)})

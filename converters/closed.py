"""Shapes of .tflite files as LiteRT computes them: what a file states is believed nowhere.

Dimensions that a file leaves open take their sizes from a sample. What a model computes from shapes alone is constant
then, and so is control flow that hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converters.from_tflite.control_flow import FLOW, check_resolved, chosen, resolved
from edgeqwt.errors import ToolError, UnsupportedError
from edgeqwt.graph.demands import check_demands
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.prepare.constants import ROUNDING, fold
from edgeqwt.runtime.foreign import computed_shapes

SHAPING = MappingProxyType(
    {
        "RESHAPE": (1,),
        "FILL": (0,),
        "BROADCAST_TO": (1,),
        "TILE": (1,),
        "RANGE": (0, 1, 2),
        "SLICE": (2,),
        "RESIZE_BILINEAR": (1,),
        "RESIZE_NEAREST_NEIGHBOR": (1,),
        "TRANSPOSE_CONV": (0,),
    }
)
"""The inputs of ops that say which shape the result has."""


def open_shape(tensor: Tensor) -> tuple[int | None, ...]:
    """A tensor's shape, None where its size is open."""
    signature = tensor.shape_signature or tensor.shape
    if len(signature) != len(tensor.shape):
        signature = tensor.shape
    return tuple(None if s < 0 else n if n >= 0 else None for s, n in zip(signature, tensor.shape, strict=True))


def closed(graph: Graph, specs: Sequence[InputSpec], sample: Sample) -> tuple[Graph, tuple[str, ...]]:
    """The graph with the shapes that its tensors have on a sample, and sentences on what that changed.

    Args:
        graph: as a file has it.
        specs: of its inputs, in order.
        sample: by the names of `specs`.

    Raises:
        UnsupportedError: a shape, or which ops run, depends on the values of the inputs.
        InputError: with these shapes, an op contradicts its tensors.
    """
    notes = list[str]()
    changes = {}
    for t, spec in zip(graph.inputs, specs, strict=True):
        shape = tuple(np.shape(sample[spec.name]))
        if None in spec.shape:
            before = ", ".join("?" if n is None else str(n) for n in spec.shape)
            notes.append(f"input {spec.name!r} with dynamic shape ({before}) was fixed to {shape}")
            changes[t] = replace(graph.tensors[t], shape=shape, shape_signature=None)
    graph = graph.with_tensors(changes) if changes else graph
    values = {t: sample[spec.name] for t, spec in zip(graph.inputs, specs, strict=True)}
    while True:
        graph, wrong = as_computed(graph, values)
        if wrong and not notes:
            some = ", ".join(map(repr, wrong[:3]))
            notes.append(f"the file states other shapes than LiteRT computes, of {len(wrong)} tensors: {some}")
        if not notes and not any(op.kind in FLOW or op.kind == "SHAPE" for op in graph.ops):
            break
        folded, names = fold(graph, ROUNDING)  # what training learned stays in sight
        folded, found = resolved(folded)
        if not names and not found:  # all that can be known is
            folded, found = chosen(folded)
        notes.extend(found)
        if not names and not found:
            break
        values = dict(zip(folded.inputs, (values[t] for t in graph.inputs), strict=True))
        graph = folded
    check_resolved(graph)
    _check_fixed(graph)
    check_demands(graph, "the model")
    return graph, tuple(notes)


def as_computed(graph: Graph, values: Mapping[int, Array] | None = None) -> tuple[Graph, list[str]]:
    """The graph with the shapes that LiteRT computes, and the names of the tensors that have others in it.

    Args:
        graph: as a file has it.
        values: of its inputs; zeros without any.
    """
    dynamic = any(None in open_shape(t) for t in graph.tensors) or any(_shaping(graph, op) for op in graph.ops)
    try:
        found = computed_shapes(graph, values, dynamic, "the model")
    except ToolError:  # whoever runs the file says why
        return graph, []
    wrong, changes = [], {}
    for t in {*graph.inputs, *(t for op in graph.ops for t in op.outputs)}:
        tensor = graph.tensors[t]
        shape = found.get(t, tensor.shape)
        if shape != tensor.shape:
            wrong.append(tensor.name)
        if shape != tensor.shape or None in open_shape(tensor):
            changes[t] = replace(tensor, shape=shape, shape_signature=None)
    return (graph.with_tensors(changes) if changes else graph), wrong


def _shaping(graph: Graph, op: Op) -> list[int]:
    """The activations that say which shape an op's result has."""
    read = (op.inputs[k] for k in SHAPING.get(op.kind, ()) if k < len(op.inputs))
    return [t for t in read if t >= 0 and not graph.tensors[t].is_constant]


def _check_fixed(graph: Graph) -> None:
    for i, op in enumerate(graph.ops):
        for t in _shaping(graph, op):
            raise UnsupportedError(
                graph.describe(i),
                "tflite",
                f"the shape of its result, {graph.tensors[t].name!r}, depends on the values of the inputs",
                "Give it a fixed shape in the model.",
            )

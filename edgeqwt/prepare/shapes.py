"""Shapes that a file states and its ops do not compute: LiteRT computes its own, and so they are believed nowhere."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import DTYPES, Graph, Op
from edgeqwt.prepare.rewriting import uses, value
from edgeqwt.runtime.interpreters import filled
from edgeqwt.runtime.runners import xnnpack

REDUCING = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")


def computed(graph: Graph) -> tuple[Graph, list[str]]:
    """Gives activations the shapes that running them gives, where a reduction's is not what its axes make.

    A reduction over all axes has the shape (), which onnx2tf writes as (1,); what is computed from it follows.
    """
    if all(_is_right(graph, op) for op in graph.ops):
        return graph, []
    wanted = [t for op in graph.ops for t in op.outputs if graph.tensors[t].dtype in DTYPES]
    try:
        found = xnnpack(graph, wanted).run(filled(graph, 1))
    except ToolError:  # other checks say why
        return graph, []
    changes = {
        t: replace(graph.tensors[t], shape=found[t].shape, shape_signature=None)
        for t in wanted
        if found[t].shape != graph.tensors[t].shape
        and found[t].size == graph.tensors[t].size
        and t not in uses(graph).named
    }
    return (graph.with_tensors(changes), [t.name for t in changes.values()]) if changes else (graph, [])


def _is_right(graph: Graph, op: Op) -> bool:
    """Whether a reduction's output has the shape that its axes make; true of other ops, and of the model's outputs."""
    axes = value(graph, op.inputs[1]) if op.kind in REDUCING else None
    if axes is None or op.outputs[0] in uses(graph).named:
        return True
    shape, kept = graph.tensors[op.inputs[0]].shape, bool(op.options.get("keepDims"))
    gone = {int(a) % max(len(shape), 1) for a in axes.reshape(-1)}
    left = tuple(1 if a in gone else n for a, n in enumerate(shape) if kept or a not in gone)
    return graph.tensors[op.outputs[0]].shape == left

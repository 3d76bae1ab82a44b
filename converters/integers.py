"""Inputs of 64-bit integers, which small devices do not take, as 32-bit ones."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op

WIDE, NARROW = "int64", "int32"


def narrowed(graph: Graph) -> Graph:
    """The graph with int32 inputs instead of int64 ones where ops read them through CAST alone.

    So onnx2tf writes token ids and masks, and TFLite Micro has no CAST from int64. Casts to int32
    go; others cast from int32. Below 2^31, as ids and masks are, nothing changes by it.
    """
    readers, named = graph.consumers(), {*graph.outputs, *(t for s in graph.signatures for _, t in s.outputs)}

    def read_by(t: int) -> list[Op]:
        return [graph.ops[i] for i in readers.get(t, [])]

    inputs = {t for t in graph.inputs if graph.tensors[t].dtype == WIDE and t not in named}
    inputs = {t for t in inputs if all(op.kind == "CAST" for op in read_by(t))}
    casts = [op for t in inputs for op in read_by(t)]
    needless = [op for op in casts if graph.tensors[op.outputs[0]].dtype == NARROW and op.outputs[0] not in named]
    sources = {op.outputs[0]: op.inputs[0] for op in needless}
    editor = Editor(graph)
    for t in inputs:
        editor.tensors[t] = replace(editor.tensors[t], dtype=NARROW)
    for op in graph.ops:
        if op in casts and op not in needless:
            editor.add_op(op.with_options(inDataType=NARROW.upper()))
        elif op not in needless:
            editor.add_op(replace(op, inputs=tuple(sources.get(t, t) for t in op.inputs)))
    return editor.finish()

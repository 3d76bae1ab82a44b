"""What passes are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor

Rewrite = Callable[[Editor, Graph, Op], bool]
"""Adds ops that stand in for `op` to the editor and returns True, or does nothing and returns False."""


def each_op(kind: str, rewrite: Rewrite) -> Callable[[Graph], tuple[Graph, list[str]]]:
    """A pass that offers every op of a kind to a rewrite; it names the rewritten ops by their outputs."""

    def run(graph: Graph) -> tuple[Graph, list[str]]:
        if not any(op.kind == kind for op in graph.ops):
            return graph, []
        editor, names = Editor(graph), []
        for op in graph.ops:
            if op.kind == kind and rewrite(editor, graph, op):
                names.append(graph.tensors[op.outputs[0]].name)
            else:
                editor.add_op(op)
        return (editor.finish(), names) if names else (graph, [])

    return run


def without(graph: Graph, dropped: set[int], changed: dict[int, Op], editor: Editor) -> Graph:
    """The editor's graph with the old ops, some dropped (by index) and some replaced."""
    for i, op in enumerate(graph.ops):
        if i not in dropped:
            editor.add_op(changed.get(i, op))
    return editor.finish()


def constant(editor: Editor, name: str, data: Array) -> int:
    """Adds a constant of float32, int32 or bool."""
    return editor.add_tensor(Tensor(name, data.shape, data.dtype.name, data))


def activation_like(editor: Editor, graph: Graph, like: int, suffix: str, shape: tuple[int, ...]) -> int:
    """Adds an activation that is named after another one and has its type."""
    model = graph.tensors[like]
    return editor.add_tensor(Tensor(f"{model.name}/{suffix}", shape, model.dtype))


def value(graph: Graph, t: int) -> Array | None:
    """A constant's data; None for activations and absent inputs."""
    return graph.tensors[t].data if t >= 0 else None


def ports(graph: Graph) -> frozenset[int]:
    """Tensors that callers see: they must go on being written under their names."""
    named = (t for s in graph.signatures for _, t in (*s.inputs, *s.outputs))
    return frozenset((*graph.outputs, *named))


def sole_reader(graph: Graph, t: int) -> int | None:
    """The index of the one op that reads a tensor, if it is the only use."""
    readers = graph.consumers().get(t, [])
    return readers[0] if len(readers) == 1 and t not in ports(graph) else None


def op_like(op: Op, kind: str, inputs: tuple[int, ...], **options: Any) -> Op:
    """A new op with the outputs of an old one."""
    return Op(kind, inputs, op.outputs, options)


def retyped(op: Op, kind: str, inputs: tuple[int, ...]) -> Op:
    """An op of another kind that has the same options."""
    return replace(op, kind=kind, inputs=inputs, version=1)


def float32(values: Any) -> Array:
    """A float32 array."""
    return np.asarray(values, np.float32)

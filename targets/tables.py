"""An op of one variable as a table of its 256 values, and back: which op a table is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import RULES
from edgeqwt.lowering.lookup_tables import function_values, to_int8
from edgeqwt.prepare.rewriting import constant

# Ops without options whose tables lowering writes, and GELU's two curves.
CURVES: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("GELU", {"approximate": False}, "GeluOptions"),
    ("GELU", {"approximate": True}, "GeluOptions"),
    ("ELU", {}, "NONE"),
    ("EXP", {}, "ExpOptions"),
    ("LOG", {}, "NONE"),
    ("RSQRT", {}, "NONE"),
    ("RELU_0_TO_1", {}, "NONE"),
)
VERSIONS: Mapping[str, int] = {"EXP": 2, "LOG": 2, "RSQRT": 2}
"""Operator versions of the int8 forms, where they are not 1 or the op table's."""


def curve(op: Op, x: Quantization, y: Quantization) -> Array:
    """The int8 values, shape (256,), of an op of one variable, from -128 on."""
    ports = (Tensor("x", (256,), "float32"), Tensor("y", (256,), "float32"))
    graph = Graph(ports, (replace(op, inputs=(0,), outputs=(1,), version=1),), (0,), (1,))
    with np.errstate(all="ignore"):
        return to_int8(function_values(graph, [0], x), y)


def source(graph: Graph, op: Op) -> int | None:
    """The int8 tensor that a table's GATHER looks up, where an op is one: GATHER(table, CAST(x) + 128)."""
    producers = graph.producers()
    if op.kind != "GATHER" or op.options.get("batchDims", 0) or op.options.get("axis", 0):
        return None
    table = graph.tensors[op.inputs[0]]
    add = graph.ops[producers[op.inputs[1]]] if op.inputs[1] in producers else None
    if table.data is None or table.shape != (256,) or table.dtype != "int8" or add is None or add.kind != "ADD":
        return None
    offsets = [graph.tensors[t].data for t in add.inputs]
    cast = next((graph.ops[producers[t]] for t in add.inputs if t in producers), None)
    if cast is None or cast.kind != "CAST" or not any(o is not None and o.size == 1 and o == 128 for o in offsets):
        return None
    x = graph.tensors[cast.inputs[0]]
    return cast.inputs[0] if x.dtype == "int8" and x.quantization is not None else None


def native(graph: Graph, op: Op, kinds: Iterable[str]) -> Op | None:
    """The op, of one of some kinds, whose values are exactly a table's; None where an op is no such table."""
    x = source(graph, op)
    if x is None:
        return None
    allowed = set(kinds)
    xq, yq, table = (
        graph.tensors[x].quantization,
        graph.tensors[op.outputs[0]].quantization,
        graph.tensors[op.inputs[0]],
    )
    if xq is None or yq is None or table.data is None:
        return None
    for candidate in _candidates(x, op, allowed):
        if np.array_equal(curve(candidate, xq, yq), table.data):
            return candidate
    return None


def _candidates(x: int, op: Op, allowed: set[str]) -> Iterator[Op]:
    for kind, options, name in CURVES:
        if kind in allowed:
            version = VERSIONS.get(kind, RULES[kind].version)
            yield Op(kind, (x,), op.outputs, options, version, extra={"optionsType": name})


def as_table(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """An int8 op of one variable as CAST, ADD and GATHER of its values, as `look_up` adds them."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype != "int8" or x.quantization is None or y.quantization is None or len(op.inputs) != 1:
        return None
    values = curve(op, x.quantization, y.quantization)
    table = editor.add_tensor(Tensor(f"{y.name}/table", (256,), "int8", values, y.quantization))
    return look_up(editor, op.inputs[0], table, op.outputs, y.name)


def look_up(editor: Editor, x: int, table: int, outputs: tuple[int, ...], name: str, version: int = 2) -> Op:
    """The GATHER of a table of 256 at the integers of an int8 tensor, behind a CAST and an ADD, which are added."""
    shape = editor.tensors[x].shape
    wide, index = (editor.add_tensor(Tensor(f"{name}/{part}", shape, "int32")) for part in ("int32", "index"))
    offset = constant(editor, f"{name}/128", np.array(128, np.int32))
    editor.add_op(Op("CAST", (x,), (wide,), {"inDataType": "INT8", "outDataType": "INT32"}))
    editor.add_op(Op("ADD", (wide, offset), (index,), {"fusedActivationFunction": "NONE"}))
    return Op("GATHER", (table, index), outputs, {"axis": 0, "batchDims": 0}, version=version)

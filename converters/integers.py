"""64-bit integers at inputs and of ARG_MAX, which small devices do not take, as 32-bit ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op

WIDE, NARROW = "int64", "int32"
INDICES = ("ARG_MAX", "ARG_MIN")
# fmt: off
OF_ONE_TYPE = frozenset({
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "TILE", "BROADCAST_TO",
    "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "REVERSE_V2", "CUMSUM", "MAXIMUM", "MINIMUM",
    "REDUCE_MAX", "REDUCE_MIN", "SELECT", "SELECT_V2", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER",
    "GREATER_EQUAL",
})
# fmt: on
"""Ops that move, choose and compare integers, whose inputs and outputs of 64 bits become 32 bits together."""


def narrowed(graph: Graph) -> Graph:
    """The graph with int32 inputs and indices, not int64 ones, where ops move, choose, compare and cast them alone.

    So onnx2tf writes token ids and masks, and what ARG_MAX finds; TFLite Micro has no CAST from int64 and no ARG_MAX
    to it, and LiteRT no ARG_MAX of it. What such ops compute of them is 32 bits, too, also at outputs of indices.
    Casts to int32 go; others cast from int32. Below 2^31, as ids, masks and indices are, nothing changes by it.
    """
    narrow = _narrow(graph)
    if not narrow:
        return graph
    named, editor = _named(graph), Editor(graph)
    for t in narrow:
        tensor = graph.tensors[t]
        editor.tensors[t] = replace(
            tensor, dtype=NARROW, data=None if tensor.data is None else tensor.data.astype(NARROW)
        )
    sources: dict[int, int] = {}
    for op in graph.ops:
        op = replace(op, inputs=tuple(sources.get(t, t) for t in op.inputs))
        if op.kind == "CAST" and {op.inputs[0], op.outputs[0]} & narrow:
            kinds = [editor.tensors[t].dtype for t in (op.inputs[0], op.outputs[0])]
            if kinds == [NARROW, NARROW] and op.outputs[0] not in named:
                sources[op.outputs[0]] = op.inputs[0]
                continue
            op = op.with_options(inDataType=kinds[0].upper(), outDataType=kinds[1].upper())
        if op.kind in INDICES and op.outputs[0] in narrow:
            op = op.with_options(outputType=NARROW.upper())
        editor.add_op(op)
    return editor.finish()


def _named(graph: Graph) -> set[int]:
    return {*graph.outputs, *(t for s in graph.signatures for _, t in s.outputs)}


def _narrow(graph: Graph) -> set[int]:
    """The tensors of 64 bits that become 32 bits: those of one type with an input or indices, where none must stay."""
    groups, fixed, named = list[set[int]](), set[int](), _named(graph)
    for op in graph.ops:
        for ports in _together(op):
            groups.append({t for t in ports if t >= 0 and graph.tensors[t].dtype == WIDE})
        free = {t for ports in _together(op) for t in ports}
        fixed |= {*op.inputs, *op.outputs} - free
    limits = np.iinfo(NARROW)
    for t, tensor in enumerate(graph.tensors):
        if tensor.data is not None and tensor.dtype == WIDE and tensor.data.size:
            fixed |= {t} if tensor.data.min() < limits.min or tensor.data.max() > limits.max else set()
    found: set[int] = set()
    starts = [(t, named) for t in graph.inputs]
    starts += [(op.outputs[0], named & {*graph.inputs}) for op in graph.ops if op.kind in INDICES]
    for t, staying in starts:
        if graph.tensors[t].dtype == WIDE:
            joined = _joined(t, groups)
            found |= joined if not joined & (fixed | staying) else set()
    return found


def _joined(start: int, groups: list[set[int]]) -> set[int]:
    """The tensors that groups tie to one, over others."""
    found = {start}
    while more := {t for group in groups if group & found for t in group} - found:
        found |= more
    return found


def _together(op: Op) -> list[tuple[int, ...]]:
    """The tensors of an op that may become 32 bits, those of one type together."""
    match op.kind:
        case "CAST":
            return [op.inputs, op.outputs]
        case "ARG_MAX" | "ARG_MIN":
            return [op.inputs, op.outputs]
        case "GATHER" | "GATHER_ND":
            return [(op.inputs[0], *op.outputs), op.inputs[1:]]
    return [(*op.inputs, *op.outputs)] if op.kind in OF_ONE_TYPE else []

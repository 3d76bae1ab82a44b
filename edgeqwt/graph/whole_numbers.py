"""Float tensors whose values are whole numbers: places that were rounded down, and what is computed of them.

A scale does not hold whole numbers exactly: 4 may be stored as 3.98. What cuts off or rounds down behind it would make
3 of that. Who asks here can round to the next whole number first.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import JOINS, MOVES, RESHAPES, SPLITS

ROUNDING = frozenset({"FLOOR", "CEIL", "ROUND", "SIGN"})
# fmt: off
KEEPING = frozenset({
    "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "ABS", "NEG", "SQUARE", "RELU", "RELU6", "SUM", "REDUCE_MAX",
    "REDUCE_MIN", "SELECT", "SELECT_V2", "GATHER", "GATHER_ND", "TILE", "BROADCAST_TO", "PAD", *MOVES, *SPLITS, *JOINS,
})
# fmt: on
"""Ops that make whole numbers of whole numbers."""
MOVING = (*RESHAPES, "TRANSPOSE")
"""Ops that keep all values, one of each."""
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def is_whole(graph: Graph, t: int) -> bool:
    """Whether all values of a tensor are whole numbers, by the ops that compute it.

    Args:
        graph: float.
        t: a tensor; those of integers and conditions are whole.
    """
    producers, known = graph.producers(), dict[int, bool]()

    def found(t: int) -> bool:
        if t not in known:
            known[t] = False  # whatever would lead back here
            known[t] = looked_up(t)
        return known[t]

    def looked_up(t: int) -> bool:
        tensor = graph.tensors[t]
        if not tensor.is_float:
            return True
        if tensor.data is not None:
            return bool((np.isfinite(tensor.data) & (tensor.data == np.rint(tensor.data))).all())
        op = graph.ops[producers[t]] if t in producers else None
        if op is None or op.activation not in ACTIVATIONS:
            return False
        if op.kind in ROUNDING or (op.kind == "CAST" and not graph.tensors[op.inputs[0]].is_float):
            return True
        return op.kind in KEEPING and all(found(u) for u in op.inputs if u >= 0)

    return found(t)


def counts(graph: Graph, output: int) -> bool:
    """Whether an output holds integers that are numbers, of conditions or rounded values: how often, how many.

    Places and classes are none, as how far two of them lie apart says nothing.

    Args:
        graph: float.
        output: one of its outputs.
    """
    producers, seen, todo = graph.producers(), set[int](), [output]
    if graph.tensors[output].is_float or graph.tensors[output].dtype == "bool":
        return False
    while todo:
        t = todo.pop()
        op = graph.ops[producers[t]] if t in producers else None
        if t in seen or graph.tensors[t].is_constant:
            continue
        seen.add(t)
        if op is None or (op.kind not in KEEPING and op.kind != "CAST"):
            return False
        if op.kind != "CAST" or graph.tensors[op.inputs[0]].dtype not in ("bool", "float32"):
            todo += [u for u in op.inputs if u >= 0]
    return True


def back_to_cast(graph: Graph, output: int) -> list[int]:
    """An output of integers that are numbers, such as pixels, and what it is moved from, back to a CAST of real ones.

    Args:
        graph: float.
        output: one of its outputs.

    Returns:
        Tensors of integers, the CAST's output last; none where they are places, classes or a mask, or read elsewhere.
    """
    producers, readers, way = graph.producers(), graph.consumers(), [output]
    if graph.tensors[output].is_float or graph.tensors[output].quantization is not None:
        return []
    while (i := producers.get(way[-1])) is not None and len(readers.get(way[-1], ())) == (len(way) > 1):
        op = graph.ops[i]
        if op.kind == "CAST":
            return way if graph.tensors[op.inputs[0]].is_float and not _chosen(graph, op.inputs[0]) else []
        if op.kind not in MOVING or op.inputs[0] in graph.outputs:
            return []
        way.append(op.inputs[0])
    return []


def _chosen(graph: Graph, t: int) -> bool:
    """Whether numbers are whole by what they are computed of, before the last rounding."""
    producers = graph.producers()
    while (i := producers.get(t)) is not None and graph.ops[i].kind in ("ROUND", "FLOOR", *MOVING):
        t = graph.ops[i].inputs[0]
    return is_whole(graph, t)

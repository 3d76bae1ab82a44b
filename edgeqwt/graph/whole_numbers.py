"""Float tensors whose values are whole numbers: places that were rounded down, and what is computed of them.

A scale does not hold whole numbers exactly: 4 may be stored as 3.98. What cuts off or rounds down behind it would make
3 of that. Who asks here can round to the next whole number first.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph

ROUNDING = frozenset({"FLOOR", "CEIL", "ROUND", "SIGN"})
# fmt: off
KEEPING = frozenset({
    "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "ABS", "NEG", "SQUARE", "RELU", "RELU6", "SUM", "REDUCE_MAX",
    "REDUCE_MIN", "SELECT", "SELECT_V2", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE",
    "SPLIT", "SPLIT_V", "CONCATENATION", "PACK", "UNPACK", "GATHER", "GATHER_ND", "TILE", "BROADCAST_TO", "PAD",
})
# fmt: on
"""Ops that make whole numbers of whole numbers."""
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

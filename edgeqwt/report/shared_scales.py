"""Why a tensor's integers reach further than its values: its kernel's scale, or another tensor's that it shares."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from edgeqwt.compensation.rescale import sharing_scale
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES

LITTLE = 0.5
"""Of the grid: a tensor whose values take up less asks why."""


def range_reasons(graph: Graph, spans: Mapping[int, tuple[float, float]]) -> dict[int, str]:
    """A sentence for each tensor that uses little of its integers, where the graph says why.

    Args:
        graph: integer.
        spans: tensor index -> extremes of the float model's values, where they are known.
    """
    fixed = {op.outputs[0]: op.kind for op in graph.ops if op.outputs and _is_fixed(graph, op.kind, op.outputs[0])}
    found: dict[int, str] = {}
    for t, (low, high) in spans.items():
        q = graph.tensors[t].quantization
        if q is None or q.axis is not None:
            continue
        grid = float(q.scale[0]) * (65535 if graph.tensors[t].dtype.endswith("16") else 255)
        if high - low >= LITTLE * grid:
            continue
        if t in fixed:
            found[t] = f"{fixed[t]}'s kernel demands this scale."
            continue
        shared = {u for u in sharing_scale(graph, t) if _same_grid(graph, t, u)}
        widest = max((u for u in spans if u in shared), key=lambda u: spans[u][1] - spans[u][0])
        first, last = spans[widest]
        if last - first > 2 * (high - low):
            kinds = ", ".join(sorted({op.kind for op in graph.ops if _ties(op, shared)}))
            found[t] = (
                f"It shares the scale of {graph.tensors[widest].name!r}, whose values reach from {first:.3g} to "
                f"{last:.3g}; what ties them: {kinds}."
            )
    return found


def _is_fixed(graph: Graph, kind: str, t: int) -> bool:
    q, rule = graph.tensors[t].quantization, RULES.get(kind)
    return q is not None and rule is not None and rule.fixed_output is not None and graph.tensors[t].dtype == "int8"


def _ties(op: Op, shared: Set[int]) -> bool:
    slots = RULES[op.kind].tied_inputs(op) if op.kind in RULES else ()
    return {*op.outputs} <= shared and any(op.inputs[slot] in shared for slot in slots if slot < len(op.inputs))


def _same_grid(graph: Graph, a: int, b: int) -> bool:
    one, other = graph.tensors[a].quantization, graph.tensors[b].quantization
    if one is None or other is None:
        return False
    return np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point)

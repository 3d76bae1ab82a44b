"""Where a model's outputs are decided: before softmax and its like, and before the choice of the largest."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RESHAPES, RULES

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
CHOICES = ("ARG_MAX", "ARG_MIN")
"""Ops whose indices have no size: how far two of them lie apart says nothing."""


def before_saturation(graph: Graph, tensor: int) -> tuple[int, list[str]]:
    """The input of the saturating or choosing op that an output comes from, and the ops passed on the way back to it.

    Softmax and its like saturate: most errors of their input vanish, and the rest is decided by
    the few samples that are on the edge, so that their output tells candidates apart only with
    many samples. Their input tells with few. Not of a softmax whose classes become places, as those of a heat map in
    cells: values are read there, wherever they lie, and no class is chosen.

    Args:
        graph: float or integer.
        tensor: an output; it comes back itself where nothing saturates or chooses.
    """
    producers, passed, found = graph.producers(), list[Op](), (tensor, 0)
    while (i := producers.get(tensor)) is not None and graph.ops[i].kind in RULES:
        op, rule = graph.ops[i], RULES[graph.ops[i].kind]
        decides = rule.fixed_output is not None or op.kind in CHOICES
        if not decides and rule.same_scale != (0,) and op.kind not in CONVERSIONS:
            break
        if op.kind == "SOFTMAX" and not _stay_classes(graph, op, passed):
            break
        tensor = op.inputs[0]
        if op.kind not in CONVERSIONS:
            passed.append(op)
        if decides:
            found = (tensor, len(passed))
    return found[0], [op.kind for op in passed[: found[1]]]


def _stay_classes(graph: Graph, softmax: Op, behind: Sequence[Op]) -> bool:
    """Whether the classes of a softmax are along one axis wherever the ops behind it move them, the last op first."""
    axis = len(graph.tensors[softmax.outputs[0]].shape) - 1
    for op in reversed(behind):
        before, after = (graph.tensors[t].shape for t in (op.inputs[0], op.outputs[0]))
        if op.kind in RESHAPES:
            rest = math.prod(before[axis + 1 :])
            axes = [k for k, n in enumerate(after) if n == before[axis] and math.prod(after[k + 1 :]) == rest]
            if not axes:
                return False
            axis = axes[0]
        elif op.kind == "TRANSPOSE" and (moved := graph.tensors[op.inputs[1]].data) is not None:
            axis = moved.tolist().index(axis)
        elif op.kind == "SPACE_TO_DEPTH":
            return False
        elif len(before) != len(after):
            return True  # where they lie then is not known
    return True


def decision_tensors(graph: Graph, bounded: bool = False, deciding: Container[int] = ()) -> tuple[int, ...]:
    """Where errors count: the real outputs that are computed, or what goes into their softmax or chooses them.

    Args:
        graph: float.
        bounded: behind TANH and LOGISTIC, not before them.
        deciding: positions of outputs where errors count themselves, because it is known which of their values decide.
    """
    found: list[int] = []
    for position, t in enumerate(graph.outputs):
        end, passed = before_saturation(graph, t)
        if graph.tensors[t].is_float:
            behind = bounded and any(RULES[kind].elementwise for kind in passed)
            found.append(t if behind or position in deciding else end)
        elif graph.tensors[end].is_float:
            found.append(end)
    return tuple(t for t in dict.fromkeys(found) if not graph.tensors[t].is_constant)

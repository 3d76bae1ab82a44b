"""Which form an op takes where its row of the op table leaves a choice."""

from __future__ import annotations

from collections.abc import Set

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.opset import RULES, Form


def form_of(graph: Graph, op: Op, missing: Set[str] = frozenset()) -> Form:
    """How an op of a float graph is written in integers.

    Args:
        graph: float.
        op: of a kind that the op table has.
        missing: kinds that the target lacks; a table stands in for those that are elementwise.
    """
    rule = RULES[op.kind]
    if not any(graph.tensors[t].is_float for t in op.tensors):
        return Form.INTEGER
    if op.kind in missing and rule.elementwise:
        return Form.LOOKUP
    if rule.form is Form.RECIPROCAL:
        numerator = graph.tensors[op.inputs[0]]
        return Form.LOOKUP if numerator.is_constant and numerator.size == 1 else Form.REWRITTEN
    return rule.form


def variable_slot(graph: Graph, op: Op) -> int:
    """The one input slot of a LOOKUP op that holds an activation."""
    return next(s for s, t in enumerate(op.inputs) if t >= 0 and not graph.tensors[t].is_constant)


def is_number(tensor: Tensor) -> bool:
    """Whether a constant is one number, be it repeated."""
    return tensor.data is not None and bool((tensor.data == tensor.data.reshape(-1)[:1]).all())


def has_one_variable(graph: Graph, op: Op) -> bool:
    """Whether a table can hold an op: all its inputs but one are numbers."""
    inputs = [graph.tensors[t] for t in op.inputs if t >= 0]
    return sum(not tensor.is_constant for tensor in inputs) == 1 and all(
        is_number(tensor) for tensor in inputs if tensor.is_constant
    )

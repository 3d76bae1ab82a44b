"""Which form an op takes where its row of the op table leaves a choice."""

from __future__ import annotations

from collections.abc import Set

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES, Form


def form_of(graph: Graph, op: Op, missing: Set[str] = frozenset()) -> Form:
    """How an op of a float graph is written in integers.

    Args:
        missing: kinds that the target lacks; a table stands in for those that are elementwise.
    """
    rule = RULES[op.kind]
    if not any(graph.tensors[t].is_float for t in op.tensors):
        return Form.INTEGER
    if op.kind in missing and rule.elementwise:
        return Form.LOOKUP
    if rule.form is Form.GUARDED and _is_scalar_constant(graph, op.inputs[0]):
        return Form.LOOKUP  # c / x is a function of x alone
    return rule.form


def variable_slot(graph: Graph, op: Op) -> int:
    """The one input slot of a LOOKUP op that holds an activation."""
    return next(s for s, t in enumerate(op.inputs) if t >= 0 and not graph.tensors[t].is_constant)


def symmetric_slots(graph: Graph, op: Op) -> tuple[int, ...]:
    """The op's input slots whose tensors must have zero point 0."""
    return () if form_of(graph, op) is Form.LOOKUP else RULES[op.kind].symmetric


def _is_scalar_constant(graph: Graph, t: int) -> bool:
    return graph.tensors[t].is_constant and graph.tensors[t].size == 1

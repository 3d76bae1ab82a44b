"""Parameters that activations have by themselves: those of functions whose kernels demand them, and of pixels."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16, rule_at
from edgeqwt.scales.groups import Activation
from edgeqwt.widths.plan import Plan
from edgeqwt.widths.precision import FLOAT

INT8, INT16 = np.iinfo(np.int8), np.iinfo(np.int16)


def fixed_outputs(graph: Graph, plan: Plan, tables: Set[int]) -> dict[Activation, tuple[float, int]]:
    """The parameters that ops demand of their outputs, also at the model's interface, and those of pixels.

    What an op gives in 16 bits at a scale of its own choice has a scale of its own choice in a copy of 8 bits, too.
    """
    fixed: dict[Activation, tuple[float, int]] = {}
    for i, op in enumerate(graph.ops):
        for t in () if i in tables or _free(plan, i, op) else op.outputs:
            for bits in {plan.ops[i], plan.port(t) if t in graph.outputs else plan.ops[i]} - {FLOAT}:
                value = rule_at(op.kind, bits).fixed_output if (bits == 8 or op.kind in RULES16) else None
                if value is not None and graph.tensors[t].is_float:
                    fixed[t, bits] = value
    for t in graph.outputs:  # probabilities that others only pick or move: rare ones may lack among the samples
        if plan.port(t) == 8 and (value := _carried(graph, plan, t)) is not None:
            fixed.setdefault((t, 8), value)
    for t, (low, high) in plan.spans.items():
        if (bits := plan.port(t)) == 16:  # its kernels know no zero point
            fixed[t, 16] = max(low / INT16.min, high / INT16.max), 0
        elif bits == 8:
            scale = (high - low) / (INT8.max - INT8.min)
            fixed[t, 8] = scale, round(INT8.min - low / scale)
    return fixed


def _free(plan: Plan, i: int, op: Op) -> bool:
    """Whether an op gives 16 bits at a scale of its own choice."""
    return plan.ops[i] == 16 and op.kind in RULES16 and rule_at(op.kind, 16).fixed_output is None


def _carried(graph: Graph, plan: Plan, t: int) -> tuple[float, int] | None:
    """The fixed 8-bit parameters of what 16-bit ops pick or move on the way to an output; None where it has none."""
    producers, todo, seen = graph.producers(), [t], {t}
    found = set[tuple[float, int] | None]()
    while todo:
        at = todo.pop()
        i = producers.get(at)
        op = None if i is None else graph.ops[i]
        rule = None if op is None else RULES.get(op.kind)
        moved = {op.inputs[k] for k in rule.tied_inputs(op)} if op is not None and rule is not None else set[int]()
        if i is not None and moved and plan.ops[i] == 16:
            todo += [u for u in sorted(moved - seen) if not graph.tensors[u].is_constant]
            seen |= moved
        else:
            own = rule is None or at == t or (i is not None and op is not None and _free(plan, i, op))
            found.add(None if rule is None or own else rule.fixed_output)
    return found.pop() if len(found) == 1 else None

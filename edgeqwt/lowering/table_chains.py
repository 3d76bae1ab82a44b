"""Ops of one variable, one after the other, that one table replaces: their results in between are never rounded.

1 / sqrt(variance + epsilon) in 8 bits is one table of the variance instead of an ADD and a table of its sum.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.lowering.forms import variable_slot
from edgeqwt.scales.activations import Assignment

WITH_A_NUMBER = ("ADD", "SUB", "MUL")
"""Ops on two tensors that are functions of one variable where the other tensor is one number."""


def chains(graph: Graph, forms: Mapping[int, Form], assignment: Assignment) -> Mapping[int, tuple[int, ...]]:
    """The ops that each table computes, in order; the last one is the op that is written as a table anyway.

    Args:
        graph: float.
        forms: of each op.
        assignment: widths, and which inputs need parameters of their own.

    Returns:
        By the last op of each chain.
    """
    producers, readers, found = graph.producers(), graph.consumers(), dict[int, tuple[int, ...]]()
    for i in (i for i, form in forms.items() if form is Form.LOOKUP):
        chain = [i]
        while (before := _before(graph, chain[0], producers, readers, assignment)) is not None:
            chain.insert(0, before)
        found[i] = tuple(chain)
    inner = {i for chain in found.values() for i in chain[:-1]}
    return {i: chain for i, chain in found.items() if i not in inner}


def softpluses(graph: Graph, assignment: Assignment) -> Mapping[int, tuple[int, ...]]:
    """The ops of each log(1 + exp(x)) and log(logistic(x)) in 16 bits, in order, by the last one."""
    (producers, readers), found = graph.links, dict[int, tuple[int, ...]]()
    for last, op in enumerate(graph.ops):
        if op.kind != "LOG" or (i := producers.get(op.inputs[0], -1)) < 0:
            continue
        chain: tuple[int, ...] = i, last
        if graph.ops[i].kind == "ADD" and graph.ops[i].activation == "NONE":
            power = [t for t in graph.ops[i].inputs if not graph.tensors[t].is_number(1)]
            chain = (producers.get(power[0], -1), *chain) if len(power) == 1 else chain
        inner = [graph.ops[k].outputs[0] for k in chain[:-1] if k >= 0]
        alone = all(len(readers[t]) == 1 and t not in graph.outputs for t in inner)
        wide = all(k >= 0 and assignment.plan.ops[k] == 16 for k in chain)
        if wide and alone and graph.ops[chain[0]].kind == ("LOGISTIC", "EXP")[len(chain) - 2]:
            found[last] = chain
    return found


def _before(
    graph: Graph, i: int, producers: Mapping[int, int], readers: Mapping[int, list[int]], assignment: Assignment
) -> int | None:
    """The op of one variable whose result op i alone reads, in 8 bits and as it is."""
    if RULES[graph.ops[i].kind].fixed_output is not None:  # outputs are judged before it (graph/saturation.py)
        return None
    slot = variable_slot(graph, graph.ops[i])
    t = graph.ops[i].inputs[slot]
    j = producers.get(t, -1)
    if j < 0 or len(readers[t]) > 1 or t in graph.outputs or (i, slot) in assignment.requantize:
        return None
    narrow = all(assignment.plan.ops[k] == 8 for k in (i, j))
    return j if narrow and _has_one_variable(graph, graph.ops[j]) else None


def _has_one_variable(graph: Graph, op: Op) -> bool:
    """Whether each element of the output depends on the same element of one input."""
    variables = [t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant]
    numbers = all(graph.tensors[t].size == 1 for t in op.inputs if t not in variables)
    if len(variables) != 1 or not numbers or not (RULES[op.kind].elementwise or op.kind in WITH_A_NUMBER):
        return False
    x, y = graph.tensors[variables[0]], graph.tensors[op.outputs[0]]
    return x.is_float and y.is_float and x.shape == y.shape

"""A model of the time that a run takes by its widths: multiplications, elements of other ops, copies between widths."""

from __future__ import annotations

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import has_constant_weights, multiplications
from edgeqwt.widths.plan import Plan, copies
from edgeqwt.widths.precision import OpTimes, Precision, Widths


def run_time(graph: Graph, precision: Precision, plan: Plan, times: OpTimes) -> float:
    """Time of a run, in that of a multiplication with 8-bit weights and activations.

    Args:
        graph: float, lowerable.
        precision: has the widths of weights.
        plan: has those of activations.
        times: of the device.
    """
    total = sum(times.copy * graph.tensors[t].size for t, _ in sorted(copies(graph, plan)))
    for i, (op, bits) in enumerate(zip(graph.ops, plan.ops, strict=True)):
        if is_layer(graph, i):
            weights = precision.of(graph.tensors[op.outputs[0]].name).weights
            total += multiplications(graph, op) * times.multiplication(Widths(weights, bits))
        else:
            total += elements_time(graph, i, bits, times)
    return total


def is_layer(graph: Graph, index: int) -> bool:
    """Whether an op's multiplications are what it costs: one with constant weights."""
    op = graph.ops[index]
    return has_constant_weights(graph, op) and multiplications(graph, op) > 0


def elements_time(graph: Graph, index: int, bits: int, times: OpTimes) -> float:
    """Of any other op."""
    elements = sum(graph.tensors[t].size for t in graph.ops[index].outputs)
    return elements * (times.element16 if bits == 16 else times.element)

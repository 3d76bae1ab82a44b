"""What activations are for, where that says how far their ranges should reach."""

from __future__ import annotations

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import RULES


def exponentials(graph: Graph) -> set[int]:
    """What EXP computes, and what of it is multiplied by constants or moved: sizes of boxes, as detectors decode them.

    An input that is a little larger than any before makes an output that is several times as large. What a function
    reads that kernels interpolate between few points is none.
    """
    found = set[int]()
    for op in graph.ops:
        active = [t for t in op.inputs if _is_real(graph, t)]
        moved = op.kind in RULES and bool(RULES[op.kind].tied_inputs(op))
        if op.kind == "EXP" or ((op.kind == "MUL" or moved) and active and found.issuperset(active)):
            found |= {t for t in op.outputs if graph.tensors[t].is_float}
    return found - {t for op in graph.ops for t in _of_function(graph, op)}


def at_layers(graph: Graph) -> set[int]:
    """What layers read and compute, and what enters and leaves the graph: there a clipped value is missing in sums.

    What lies between, such as the variance that a norm divides by, needs its small values more.
    """
    ends = {t for op in graph.ops if is_linear(op) for t in (slots(op).data, *op.outputs)}
    return ends | {*graph.inputs, *graph.outputs}


def _of_function(graph: Graph, op: Op) -> list[int]:
    """What a function of one variable reads; nothing of other ops."""
    known = op.kind in RULES and RULES[op.kind].elementwise
    return [t for t in op.inputs if _is_real(graph, t)] if known else []


def _is_real(graph: Graph, t: int) -> bool:
    return t >= 0 and graph.tensors[t].is_float and not graph.tensors[t].is_constant

"""What activations are for, where that says how far their ranges should reach."""

from __future__ import annotations

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import JOINS, MOVES, RULES, SPLITS
from edgeqwt.scales.before_curves import SATURATING, SLOPES

CONSTANTS_APPLY = ("ADD", "SUB", "MUL")
MAKING = (*CONSTANTS_APPLY, *MOVES, *SPLITS, *JOINS)
TURNS = ("SIN", "COS")
"""Their arguments are as good at either end."""


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

    So is what curves that saturate, and constants, make of one of these: it has the same samples' large values; what an
    output is made of by sums, products and moves alone, of which it has its own; and angles. What else lies between,
    such as the variance that a norm divides by, needs its small values more.
    """
    found = {t for op in graph.ops if is_linear(op) for t in (slots(op).data, *op.outputs)}
    found |= {*graph.inputs, *graph.outputs}
    for op in graph.ops:
        active = [t for t in op.inputs if _is_real(graph, t)]
        if len(active) == 1 and active[0] in found and (op.kind in SLOPES or op.kind in CONSTANTS_APPLY):
            found |= {*op.outputs}
    return found | _makes_outputs(graph)


def _makes_outputs(graph: Graph) -> set[int]:
    """What sums, products and moves alone make outputs of, and angles; the outputs themselves, too."""
    found = {*graph.outputs}
    for op in reversed(graph.ops):
        if op.kind in TURNS or (op.kind in MAKING and not found.isdisjoint(op.outputs)):
            found |= {t for t in op.inputs if _is_real(graph, t)}
    return found


def unsaturated(graph: Graph) -> set[int]:
    """What the caller or other ops than softmax and its like read; where ops only move values their output decides.

    Args:
        graph: float.
    """
    found = set(graph.outputs)
    for op in graph.ops:
        if op.kind not in SATURATING:
            tied = tied_slots(graph, op) if op.kind in RULES and graph.tensors[op.outputs[0]].is_float else []
            found |= {t for slot, t in enumerate(op.inputs) if slot not in tied}
    return found


def curves(graph: Graph) -> dict[int, frozenset[str]]:
    """The kinds of softmax and its like that read a tensor, of those that some read."""
    found: dict[int, frozenset[str]] = {}
    for op in graph.ops:
        if op.kind in SATURATING:
            found[op.inputs[0]] = found.get(op.inputs[0], frozenset()) | {op.kind}
    return found


def tied_slots(graph: Graph, op: Op) -> list[int]:
    """Input slots with activations that must share one scale."""
    tied = RULES[op.kind].tied_inputs(op)
    return [s for s in tied if s < len(op.inputs) and _is_real(graph, op.inputs[s])]


def _of_function(graph: Graph, op: Op) -> list[int]:
    """What a function of one variable reads; nothing of other ops."""
    known = op.kind in RULES and RULES[op.kind].elementwise
    return [t for t in op.inputs if _is_real(graph, t)] if known else []


def _is_real(graph: Graph, t: int) -> bool:
    return t >= 0 and graph.tensors[t].is_float and not graph.tensors[t].is_constant

"""Rewrite the scale of a linear op's output, with every tensor tied to it, where it pays.

An int8 file made with ranges that clip (a moving average of extremes, say) loses more at a
layer's output than any gain can repair. The output's scale and zero point live in the file
only: the op's own multiplier and the biases of the ops that read it follow from them, so
rewriting them is as free as the gain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.compensate.fold import requantized_bias, slots
from edgeqwt.graph.graph import Array, Graph, Quantization, Tensor
from edgeqwt.graph.opset import RULES, activate
from edgeqwt.quantize.weights import MULTIPLIER_LIMIT, dequantize, quantize

# Relative change of scale below which two choices of range are the same choice.
SAME_SCALE = 0.02

# Ops that read the integers themselves (CAST feeds lookup tables), or whose guard constants
# depend on the zero point (DIV): their input's scale cannot move.
READ_RAW = frozenset({"CAST", "DIV"})


@dataclass(frozen=True)
class Tied:
    """Tensors that share one scale by the kernels' rules, or the reason why it cannot be rewritten."""

    tensors: frozenset[int]
    fixed: str = ""


def tied(graph: Graph, op_index: int) -> Tied:
    """The activations and constants that share the scale of a linear op's output."""
    producers, readers = graph.producers(), graph.consumers()
    members, todo = set(), [graph.ops[op_index].outputs[0]]
    while todo:
        t = todo.pop()
        if t in members or graph.tensors[t].quantization is None:
            continue
        members.add(t)
        for i in [*readers.get(t, []), *([producers[t]] if t in producers else [])]:
            op, rule = graph.ops[i], RULES[graph.ops[i].kind]
            in_slots = [op.inputs[s] for s in rule.tied_inputs(op) if s < len(op.inputs) and op.inputs[s] >= 0]
            if in_slots and (t in op.outputs or t in in_slots):
                todo += [*in_slots, *op.outputs]
    return Tied(frozenset(members), _obstacle(graph, op_index, members))


def _obstacle(graph: Graph, op_index: int, members: set[int]) -> str:
    producers, readers = graph.producers(), graph.consumers()
    for t in sorted(members):
        if t in graph.inputs or t in graph.outputs:
            return "the scale belongs to the model's interface"
        source = producers.get(t)
        if source is not None and source != op_index and not RULES[graph.ops[source].kind].same_scale:
            return f"the scale is shared with {graph.describe(source)}"
        for i in readers.get(t, []):
            if graph.ops[i].kind in READ_RAW:
                return f"{graph.describe(i)} depends on it"
    return ""


def differs(a: Quantization, b: Quantization) -> bool:
    """Whether two per-tensor parameters are different choices, not the same one rounded differently."""
    ratio = float(a.scale[0]) / float(b.scale[0])
    return abs(np.log(ratio)) > SAME_SCALE or abs(int(a.zero_point[0]) - int(b.zero_point[0])) > 2


def squared_error(output: Array, reference: Array, activation: str, q: Quantization) -> float:
    """Squared error against the float layer when a (corrected) output is stored at some scale.

    Args:
        output: the integer layer's real output before its activation, after correction.
        reference: the float layer's output before its activation.
    """
    stored = dequantize(quantize(activate(output, activation), q, -128, 127), q)
    return float(np.square(stored - activate(reference, activation)).sum())


def rewrite(graph: Graph, members: frozenset[int], q: Quantization) -> Graph | None:
    """The graph with one scale for all members and the biases of their readers at their new scale.

    Returns None where a reader's bias cannot follow, or a multiplier would leave XNNPACK's range.
    """
    changes: dict[int, Tensor] = {}
    for t in members:
        tensor = graph.tensors[t]
        changes[t] = replace(tensor, quantization=q, extra={})
        if tensor.data is not None and tensor.quantization is not None:
            data = quantize(dequantize(tensor.data, tensor.quantization), q, -128, 127)
            changes[t] = replace(changes[t], data=data)
    readers = graph.consumers()
    for op in graph.ops:
        rule = RULES[op.kind]
        if not rule.linear:
            continue
        s = slots(op)
        weight = graph.tensors[s.weight]
        if not {s.data, s.output} & members or weight.quantization is None:
            continue
        x, y = (changes.get(t, graph.tensors[t]).quantization for t in (s.data, s.output))
        if x is None or y is None:
            return None
        product = float(x.scale[0]) * float(weight.quantization.scale.max())
        if product / float(y.scale[0]) > MULTIPLIER_LIMIT:
            return None
        if s.data in members and s.bias >= 0:
            bias, old = graph.tensors[s.bias], graph.tensors[s.data].quantization
            if len(readers[s.bias]) > 1 or bias.data is None or old is None:
                return None
            moved = np.rint(bias.data * (float(old.scale[0]) / float(x.scale[0])))
            if np.abs(moved).max(initial=0) > 2**31 - 1:
                return None
            scale = np.broadcast_to(weight.quantization.scale, bias.data.shape)
            changes[s.bias] = requantized_bias(bias, moved.astype(bias.data.dtype), x.scale[0], scale)
    return graph.with_tensors(changes)

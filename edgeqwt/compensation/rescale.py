"""Rewrite the scale of a linear op's output, with every tensor tied to it, where it pays.

An integer file made with ranges that clip (a moving average of extremes, say) loses more at a
layer's output than any gain can repair. The output's scale and zero point live in the file
only: the op's own multiplier and the biases of the ops that read it follow from them, so
rewriting them is as free as the gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensation.fold import bias_limit, with_bias, with_quantization
from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import RULES, OpRule, activate
from edgeqwt.graph.opset16 import BITS, RULES16, bits_of
from edgeqwt.runtime.boundary import limits
from edgeqwt.scales.activations import parameters
from edgeqwt.scales.ranges import RangeRule
from edgeqwt.scales.weights import quantize

# Relative change of scale below which two choices of range are the same choice.
SAME_SCALE = 0.02


@dataclass(frozen=True)
class Tied:
    """Tensors that share one scale by the kernels' rules, or the reason why it cannot be rewritten."""

    tensors: frozenset[int]
    fixed: str = ""


def tied(graph: Graph, op_index: int, with_outputs: bool = False) -> Tied:
    """The activations and constants that share the scale of a linear op's output.

    Args:
        graph: an integer graph.
        op_index: a linear op.
        with_outputs: whether scales of the graph's own outputs may be rewritten.
    """
    members = sharing_scale(graph, graph.ops[op_index].outputs[0])
    return Tied(frozenset(members), _obstacle(graph, op_index, members, with_outputs))


def sharing_scale(graph: Graph, tensor: int) -> set[int]:
    """A tensor of an integer graph and those that kernels want at its scale, over any number of ops."""
    producers, readers = graph.links
    members: set[int] = set()
    todo = [tensor]
    while todo:
        t = todo.pop()
        if t in members or graph.tensors[t].quantization is None:
            continue
        members.add(t)
        for i in [*readers.get(t, ()), *([producers[t]] if t in producers else ())]:
            op = graph.ops[i]
            together = _tied_inputs(graph, op)
            if together and (t in op.outputs or t in together):
                todo += [*together, *op.outputs]
    return members


def differs(a: Quantization, b: Quantization) -> bool:
    """Whether two per-tensor parameters are different choices, not the same one rounded differently."""
    ratio = float(a.scale[0]) / float(b.scale[0])
    return abs(math.log(ratio)) > SAME_SCALE or abs(int(a.zero_point[0]) - int(b.zero_point[0])) > 2


def preferred(graph: Graph, tensor: int, statistics: Statistics, rule: RangeRule) -> Quantization:
    """The parameters that a range rule chooses for an activation of an integer graph, at its width.

    Args:
        graph: an integer graph.
        tensor: an int8 or int16 activation.
        statistics: of the real values.
        rule: chooses the range.
    """
    return parameters(statistics, rule, BITS[graph.tensors[tensor].dtype])


def squared_error(output: Array, reference: Array, activation: str, q: Quantization, dtype: str = "int8") -> float:
    """Squared error against the float layer when a (corrected) output is stored at some scale.

    Args:
        output: the integer layer's real output before its activation, after correction.
        reference: the float layer's output before its activation.
        activation: the fused activation's name.
        q: parameters to store the activated output at.
        dtype: the type to store it in.
    """
    stored = q.real(quantize(activate(output, activation), q, *limits(dtype), DTYPES[dtype]))
    return float(np.square(stored - activate(reference, activation)).sum())


def rewrite(graph: Graph, members: frozenset[int], q: Quantization) -> Graph | None:
    """The graph with one scale for all members, and the biases of their readers at their new scale.

    Returns:
        None where a constant would be clipped, a reader's bias cannot follow, or a kernel
        would refuse the ratio of an op's scales.
    """
    changes: dict[int, Tensor] = {}
    for t in members:
        changes[t] = with_quantization(graph.tensors[t], q)
        if (constant := graph.tensors[t].data) is not None and (old := graph.tensors[t].quantization) is not None:
            real, dtype = old.real(constant), graph.tensors[t].dtype
            data = quantize(real, q, *limits(dtype), DTYPES[dtype])
            changes[t] = replace(changes[t], data=data)
            if np.abs(q.real(data) - real).max(initial=0) > q.scale[0]:
                return None
    moved = graph.with_tensors(changes)
    producers, readers = graph.links
    at = {i for t in members for i in (*readers.get(t, ()), *([producers[t]] if t in producers else ()))}
    touched = [graph.ops[i] for i in sorted(at)]
    biases: dict[int, Tensor] = {}
    for op in touched:
        if _rule(graph, op).linear and slots(op).data in members and slots(op).bias >= 0:
            bias = _moved_bias(graph, moved, op)
            if bias is None:
                return None
            biases[slots(op).bias] = bias
    return moved.with_tensors(biases) if all(_accepted(moved, op) for op in touched) else None


def _tied_inputs(graph: Graph, op: Op) -> list[int]:
    """The tensors that the op obliges to have its outputs' scale."""
    return [op.inputs[s] for s in _rule(graph, op).tied_inputs(op) if s < len(op.inputs) and op.inputs[s] >= 0]


def _rule(graph: Graph, op: Op) -> OpRule:
    rows = RULES16 if bits_of(graph, op) == 16 and op.kind in RULES16 else RULES
    return rows.get(op.kind, OpRule(op.kind))


def _obstacle(graph: Graph, op_index: int, members: set[int], with_outputs: bool) -> str:
    """Why the members' scale cannot be rewritten; empty where it can."""
    producers, readers = graph.links
    fed_back = {after for _, after in graph.state_tensors()}
    for t in sorted(members):
        if t in graph.inputs or t in fed_back or (t in graph.outputs and not with_outputs):
            return "the scale belongs to the model's interface"
        source = producers.get(t)
        if source is not None and source != op_index and not _rule(graph, graph.ops[source]).same_scale:
            return f"the scale is shared with {graph.describe(source)}"
        for i in readers.get(t, ()):
            if _depends(graph, graph.ops[i], t):
                return f"{graph.describe(i)} depends on it"
    return ""


def _depends(graph: Graph, op: Op, t: int) -> bool:
    """Whether an op needs just this scale or zero point of a tensor that it reads.

    CAST feeds tables of the 256 integers' values, and copies at 16 bits; DIV's guard is a constant near the zero
    point; an op that the table does not know may do anything.
    """
    return (
        op.kind not in RULES or op.kind in ("CAST", "DIV") or any(op.inputs[s] == t for s in _rule(graph, op).symmetric)
    )


def _moved_bias(graph: Graph, moved: Graph, op: Op) -> Tensor | None:
    """The bias of an op whose input has another scale now; None where it cannot follow."""
    s = slots(op)
    bias, weight = graph.tensors[s.bias], graph.tensors[s.weight]
    old, new = graph.tensors[s.data].quantization, moved.tensors[s.data].quantization
    shared = len(graph.links[1][s.bias]) > 1
    if shared or bias.data is None or weight.quantization is None or old is None or new is None:
        return None
    integers = np.rint(bias.data.astype(np.float64) * (float(old.scale[0]) / float(new.scale[0])))
    if np.abs(integers).max(initial=0) > bias_limit(bias):
        return None
    return with_bias(bias, integers, new.scale[0], weight.quantization.scale)


def _accepted(graph: Graph, op: Op) -> bool:
    """Whether the kernels take the op's scales."""
    rule, out = _rule(graph, op), graph.tensors[op.outputs[0]].quantization
    inputs = [_scale(graph, t) for t in op.inputs if t >= 0 and graph.tensors[t].quantization is not None]
    if rule.linear:
        inputs = [_scale(graph, slots(op).data) * _scale(graph, slots(op).weight)]
    if out is None or not inputs:
        return True
    smallest, largest = rule.right_scales
    right = min(inputs) >= max(smallest, rule.smallest_input) and max(inputs) <= largest
    return right and rule.ratio(inputs) / float(out.scale[0]) < rule.largest_ratio


def _scale(graph: Graph, t: int) -> float:
    q = graph.tensors[t].quantization
    return 0.0 if q is None else float(q.scale.max())

"""Scales that the kernels would not take: outputs that calibration saw (nearly) dead, vanishing inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.scales.activations import Assignment, constant_range, enlarged, spanning
from edgeqwt.scales.groups import Activation

# LiteRT refuses a fused activation whose limits overflow int32 at the output's scale.
CLIPPED, SMALLEST_CLIPPED = ("RELU6", "RELU_N1_TO_1"), 2.0**-27

WeightScale = Callable[[int, Op, Assignment], Array]


def within_limits(graph: Graph, assignment: Assignment, weight_scale: WeightScale) -> Assignment:
    """Enlarges scales until every op's ratio of scales is one that all kernels accept.

    Args:
        graph: float, lowerable.
        assignment: scales as the range rule chose them.
        weight_scale: a linear op's weight scales, which may depend on its input's scale.
    """
    # Each round can raise ratios further down, hence the loop; it ends because scales only grow.
    for _ in range(len(graph.ops) + 1):
        smallest: dict[Activation, float] = {}
        for i in range(len(graph.ops)):
            smallest |= _too_small(graph, i, assignment, weight_scale)
        if not smallest:
            break
        assignment = enlarged(assignment, smallest)
    return assignment


def beyond_kernels(graph: Graph, assignment: Assignment) -> tuple[int, ...]:
    """The ops of 16 bits whose kernels are wrong at their input's scale."""
    found = []
    for i, op in enumerate(graph.ops):
        if assignment.plan.ops[i] == 16 and op.inputs[0] in assignment.quantization:
            smallest, largest = rule_at(op.kind, 16).right_scales
            if not smallest <= float(assignment.read(i, op.inputs[0]).scale[0]) <= largest:
                found.append(i)
    return tuple(found)


def _too_small(graph: Graph, i: int, assignment: Assignment, weight_scale: WeightScale) -> Mapping[Activation, float]:
    """The op's tensors whose scales are too small, and the smallest scales that would do."""
    op, bits = graph.ops[i], assignment.plan.ops[i]
    out = op.outputs[0]
    if out not in assignment.quantization:  # integers alone, or an op that stays float
        return {}
    rule = rule_at(op.kind, bits)
    needed = SMALLEST_CLIPPED if (op.activation in CLIPPED or op.kind in CLIPPED) else 0.0
    found = {
        (t, bits): rule.smallest_input
        for t in op.inputs
        if t in assignment.plan.computed_bits and float(assignment.read(i, t).scale[0]) < 0.999 * rule.smallest_input
    }
    if rule.largest_ratio < float("inf"):
        if rule.linear:
            x = float(assignment.read(i, op.inputs[rule.data]).scale[0])
            inputs = [x * float(weight_scale(i, op, assignment).max())]
        else:
            inputs = [_scale(graph, t, assignment, bits) for t in op.inputs if graph.tensors[t].is_float]
        needed = max(needed, rule.ratio(inputs) / rule.largest_ratio)
    if float(assignment.read(i, out).scale[0]) < needed:
        found[out, bits] = 1.01 * needed
    return found


def _scale(graph: Graph, t: int, assignment: Assignment, bits: int) -> float:
    computed = t in assignment.plan.computed_bits
    q = assignment.at(t, bits) if computed else spanning(*constant_range(graph, t), bits)
    return float(q.scale[0])

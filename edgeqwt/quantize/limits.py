"""Scales that the kernels would not take: outputs that calibration saw (nearly) dead, vanishing inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES, OpRule
from edgeqwt.quantize.activations import Assignment, affine, constant_range, enlarged

# LiteRT refuses a fused activation whose limits overflow int32 at the output's scale.
CLIPPED, SMALLEST_CLIPPED = ("RELU6", "RELU_N1_TO_1"), 2.0**-27

WeightScale = Callable[[Op, OpRule, Assignment], Array]


def within_limits(graph: Graph, assignment: Assignment, weight_scale: WeightScale) -> Assignment:
    """Enlarges scales until every op's ratio of scales is one that all kernels accept.

    Args:
        graph: float, lowerable.
        assignment: scales as the range rule chose them.
        weight_scale: a linear op's weight scales, which may depend on its input's scale.
    """
    # Each round can raise ratios further down, hence the loop; it ends because scales only grow.
    for _ in range(len(graph.ops) + 1):
        smallest: dict[int, float] = {}
        for op in graph.ops:
            smallest |= _too_small(graph, op, assignment, weight_scale)
        if not smallest:
            break
        assignment = enlarged(assignment, smallest)
    return assignment


def _too_small(graph: Graph, op: Op, assignment: Assignment, weight_scale: WeightScale) -> Mapping[int, float]:
    """The op's tensors whose scales are too small, and the smallest scales that would do."""
    rule, scales = RULES[op.kind], assignment.quantization
    out = op.outputs[0]
    if out not in scales:
        return {}
    needed = SMALLEST_CLIPPED if (op.activation in CLIPPED or op.kind in CLIPPED) else 0.0
    found = {
        t: rule.smallest_input
        for t in op.inputs
        if t in scales and float(scales[t].scale[0]) < 0.999 * rule.smallest_input
    }
    if rule.largest_ratio < float("inf"):
        if rule.linear:
            product = float(scales[op.inputs[rule.data]].scale[0]) * float(weight_scale(op, rule, assignment).max())
            inputs = [product]
        else:
            inputs = [_scale(graph, t, assignment) for t in op.inputs]
        needed = max(needed, rule.ratio(inputs) / rule.largest_ratio)
    if float(scales[out].scale[0]) < needed:
        found[out] = 1.01 * needed
    return found


def _scale(graph: Graph, t: int, assignment: Assignment) -> float:
    q = assignment.quantization[t] if t in assignment.quantization else affine(*constant_range(graph, t))
    return float(q.scale[0])

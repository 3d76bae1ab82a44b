"""Lowering: a float graph and its scales become a full-integer graph.

Every float32 tensor becomes int8 under the same name; integer and bool tensors
stay as they are. Each op is written in the form that its row of the op table
names (`opset.Form`); `quantize.writer` has one function per form.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import OpRule
from edgeqwt.quantize.activations import Assignment, assign
from edgeqwt.quantize.check import check_lowerable, check_observed
from edgeqwt.quantize.limits import within_limits
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.ranges import RangeRule
from edgeqwt.quantize.writer import Writer, linear_weight_scale

__all__ = ["Precision", "check_lowerable", "lower"]


def lower(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    precision: Precision,
    places: Mapping[str, str],
    target: str = "tflite",
    missing: Set[str] = frozenset(),
) -> Graph:
    """The full-integer graph: int8 activations and weights, int32 biases, int8 inputs and outputs.

    Args:
        graph: float, in canonical form (`prepare`), tensor names unique.
        statistics: of every float activation.
        rule: chooses activation ranges.
        precision: widths.
        places: tensor name to the place in the source model, for messages.
        target: the target's name, for messages.
        missing: kinds of ops that the target lacks: a table stands in where the op is elementwise.

    Raises:
        UnsupportedError: an op has no integer form; it is named with its place in the source.
        InputError: a constant holds NaN or infinite values.
    """
    check_lowerable(graph, places, target)
    check_observed(graph, statistics, places, target)

    def weight_scale(op: Op, row: OpRule, assignment: Assignment) -> Array:
        return linear_weight_scale(graph, op, row, assignment, precision)

    assignment = within_limits(graph, assign(graph, statistics, rule), weight_scale)
    return Writer(graph, assignment, precision, missing).run()

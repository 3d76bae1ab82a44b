"""Lowering: a float graph and its scales become an integer graph.

Every float32 tensor becomes int8 or int16 under the same name; integer and bool tensors
stay as they are. Each op gets a width (`widths.plan`) and is written in the form that its row
of the op table names (`opset.Form`); `lowering.op_writer` has one function per form. Ops that
are to stay float are copied, between DEQUANTIZE and QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.lowering.op_writer import Writer, linear_weight_scale
from edgeqwt.lowering.preconditions import check_lowerable, check_observed, check_scales, large_values
from edgeqwt.profile import LITERT, Kernels
from edgeqwt.scales.activations import Assignment, assign
from edgeqwt.scales.limits import beyond_kernels, within_limits
from edgeqwt.scales.ranges import RangeRule
from edgeqwt.scales.scales import RULED, Scales
from edgeqwt.widths.plan import SCALE, planned
from edgeqwt.widths.precision import Precision

__all__ = ["Precision", "assigned", "check_lowerable", "lower"]


def lower(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    precision: Precision,
    kernels: Kernels = LITERT,
    scales: Scales = RULED,
) -> Graph:
    """The full-integer graph, inputs and outputs included.

    Args:
        graph: float, in canonical form (`prepare`), tensor names unique.
        statistics: of every float activation.
        rule: chooses activation ranges.
        precision: widths.
        kernels: what the target lacks, and what messages name.
        scales: stand in for those that the rules choose; they are enlarged where kernels need it.

    Raises:
        UnsupportedError: an op has no integer form; it is named with its location in the source. Or none has one whose
            activations are rounded at run time, where the precision asks for that.
        InputError: a constant holds NaN or infinite values, or an activation values beyond all scales.
        RecipeError: the precision names layers that the graph does not have.
    """
    check_lowerable(graph, kernels, precision.floats, every=precision.dynamic)
    assignment = assigned(graph, statistics, rule, precision, kernels, scales)
    check_observed(graph, statistics, assignment.plan.ops, kernels)
    scales_of = {t: float(q.scale[0]) for t, q in assignment.quantization.items()}
    check_scales(graph, scales_of, kernels.locations, statistics)
    lowered = Writer(graph, assignment, precision, kernels, scales.weights).run()
    if precision.dynamic and all(tensor.quantization is None for tensor in lowered.tensors):
        none = "none of its ops has a kernel that rounds activations at run time, and all would stay float"
        raise UnsupportedError("the model", kernels.target, none, "Build it with --precision w8a8.")
    return lowered


def assigned(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    precision: Precision,
    kernels: Kernels = LITERT,
    scales: Scales = RULED,
) -> Assignment:
    """Every activation's scale and every op's width, as `lower` chooses them; arguments as there.

    `plan.kept` of the result tells which ops have 8 bits instead of 16, and why.
    """

    def weight_scale(index: int, op: Op, assignment: Assignment) -> Array:
        return linear_weight_scale(graph, index, op, assignment, precision, scales.weights)

    narrow: dict[int, str] = {}
    large = large_values(graph, statistics)
    while True:
        plan = planned(graph, precision, kernels, narrow, large)
        assignment = assign(graph, statistics, rule, plan, scales.ranges)
        assignment = within_limits(graph, assignment, weight_scale)
        beyond = beyond_kernels(graph, assignment)
        if not beyond:
            return assignment
        narrow |= dict.fromkeys(beyond, SCALE)

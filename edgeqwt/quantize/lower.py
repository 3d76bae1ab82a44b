"""Lowering: a float graph and its scales become a full-integer graph.

Every float32 tensor becomes int8 under the same name; integer and bool tensors
stay as they are. Each op is written in the form that its row of the op table
names (`opset.Form`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import ACTIVATION_LIMITS, RULES, Form, OpRule
from edgeqwt.quantize.activations import QMAX, QMIN, Assignment, affine, assign, constant_range, enlarged
from edgeqwt.quantize.ranges import RangeRule
from edgeqwt.quantize.weights import (
    MULTIPLIER_LIMIT,
    bias_quantization,
    quantize,
    quantize_bias,
    weight_scales,
    widened_for_bias,
)


@dataclass(frozen=True)
class Precision:
    """How many bits weights use; activations use 8.

    Attributes:
        weight_bits: 2 to 8; the integers are stored in int8 whatever their width.
    """

    weight_bits: int = 8


def lower(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    precision: Precision,
    places: Mapping[str, str],
    target: str = "tflite",
) -> Graph:
    """The full-integer graph: int8 activations and weights, int32 biases, int8 inputs and outputs.

    Args:
        graph: float, in canonical form (`prepare`), tensor names unique.
        statistics: of every float activation.
        rule: chooses activation ranges.
        precision: widths.
        places: tensor name to the place in the source model, for messages.
        target: the target's name, for messages.

    Raises:
        UnsupportedError: an op has no integer form; it is named with its place in the source.
    """
    check_lowerable(graph, places, target)
    assignment = _within_multiplier_limit(graph, assign(graph, statistics, rule), precision)
    return _Lowering(graph, assignment, precision, places, target).run()


def check_lowerable(graph: Graph, places: Mapping[str, str], target: str = "tflite") -> None:
    """Raises UnsupportedError for the first op that has no integer form."""
    if graph.others:
        raise UnsupportedError(
            "the model", target, f"it has {len(graph.others) + 1} subgraphs (control flow)", "Export it without loops."
        )
    for i, op in enumerate(graph.ops):
        what = f"{graph.describe(i)}{_place(graph, op, places)}"
        if op.kind not in RULES:
            name = f"custom op {op.custom_code!r}" if op.kind == "CUSTOM" else op.kind
            raise UnsupportedError(what, target, f"{name} is not in the op table", "Replace it in the source model.")
        if op.activation not in ACTIVATION_LIMITS:
            raise UnsupportedError(what, target, f"its fused activation {op.activation} has no integer form")
        rule = RULES[op.kind]
        if rule.linear and not graph.tensors[op.inputs[rule.weight or 0]].is_constant:
            raise UnsupportedError(what, target, "its weights are not constant", "Write it as a matrix product.")


def _place(graph: Graph, op: Op, places: Mapping[str, str]) -> str:
    place = next((places[graph.tensors[t].name] for t in op.outputs if graph.tensors[t].name in places), "")
    return f" (in the source: {place})" if place else ""


def _within_multiplier_limit(graph: Graph, assignment: Assignment, precision: Precision) -> Assignment:
    """Enlarges output scales until no requantization multiplier reaches XNNPACK's limit.

    Only an output that is nearly dead on the calibration data needs it. Each round can
    raise multipliers further down, hence the loop; it ends because scales only grow.
    """
    for _ in range(len(graph.ops) + 1):
        smallest: dict[int, float] = {}
        for op in graph.ops:
            rule = RULES[op.kind]
            if not rule.linear or not graph.tensors[op.outputs[0]].is_float:
                continue
            scale = _linear_weight_scale(graph, op, rule, assignment, precision)
            product = float(assignment.quantization[op.inputs[rule.data]].scale[0]) * float(scale.max())
            if product / float(assignment.quantization[op.outputs[0]].scale[0]) > MULTIPLIER_LIMIT:
                smallest[op.outputs[0]] = 1.01 * product / MULTIPLIER_LIMIT
        if not smallest:
            break
        assignment = enlarged(assignment, smallest)
    return assignment


def _linear_weight_scale(graph: Graph, op: Op, rule: OpRule, assignment: Assignment, precision: Precision) -> Array:
    weights = graph.tensors[op.inputs[rule.weight or 0]].data
    assert weights is not None
    scale = weight_scales(weights, rule.channel_axis, precision.weight_bits)
    input_scale = float(assignment.quantization[op.inputs[rule.data]].scale[0])
    return widened_for_bias(scale, _bias(graph, op, rule), input_scale).astype(np.float32)


def _bias(graph: Graph, op: Op, rule: OpRule) -> Array | None:
    slot = -1 if rule.bias is None else rule.bias
    present = 0 <= slot < len(op.inputs) and op.inputs[slot] >= 0
    return graph.tensors[op.inputs[slot]].data if present else None


class _Lowering:
    """Writes the integer graph op by op."""

    def __init__(
        self, graph: Graph, assignment: Assignment, precision: Precision, places: Mapping[str, str], target: str
    ) -> None:
        self.graph, self.assignment, self.precision = graph, assignment, precision
        self.places, self.target = places, target
        self.editor = Editor(graph)
        self.constants: dict[tuple[int, float, int], int] = {}

    def run(self) -> Graph:
        for t, q in self.assignment.quantization.items():
            self.editor.tensors[t] = replace(self.graph.tensors[t], dtype="int8", quantization=q, extra={})
        forms: Mapping[Form, Callable[[int, Op, OpRule], None]] = {
            Form.DIRECT: self.direct,
            Form.LINEAR: self.linear,
            Form.LOOKUP: self.lookup,
            Form.GUARDED: self.guarded,
            Form.INTEGER: lambda i, op, rule: self.editor.add_op(op),
        }
        for i, op in enumerate(self.graph.ops):
            rule = RULES[op.kind]
            touches_float = any(self.graph.tensors[t].is_float for t in op.tensors)
            form = rule.form if touches_float else Form.INTEGER
            if op.kind == "CAST" and self.graph.tensors[op.inputs[0]].is_float:
                form = Form.LOOKUP
            forms[form](i, op, rule)
        return self.editor.finish()

    # -- the forms ----------------------------------------------------------------

    def direct(self, index: int, op: Op, rule: OpRule) -> None:
        inputs = [self.operand(index, op, rule, slot) for slot in range(len(op.inputs))]
        self.editor.add_op(replace(op, inputs=tuple(inputs), version=max(op.version, rule.version)))

    def linear(self, index: int, op: Op, rule: OpRule) -> None:
        tensors, x = self.graph.tensors, self.assignment.quantization[op.inputs[rule.data]]
        weight_index = op.inputs[rule.weight or 0]
        weights = tensors[weight_index].data
        assert weights is not None
        assert rule.bias is not None
        scale = _linear_weight_scale(self.graph, op, rule, self.assignment, self.precision)
        wq = Quantization.per_channel(scale, rule.channel_axis)
        limit = 2 ** (self.precision.weight_bits - 1) - 1
        bq = bias_quantization(x.scale[0], scale)
        bias = _bias(self.graph, op, rule)
        # Without a bias there would be no place for an offset; zeros cost the file a few bytes, once.
        bias = np.zeros(scale.shape, np.float32) if bias is None else bias
        inputs = [*op.inputs, *[-1] * (rule.bias + 1 - len(op.inputs))]
        bias_index = inputs[rule.bias]
        bias_name = f"{tensors[op.outputs[0]].name}/bias" if bias_index < 0 else tensors[bias_index].name
        inputs[rule.weight or 0] = self.editor.add_tensor(
            Tensor(tensors[weight_index].name, weights.shape, "int8", quantize(weights, wq, -limit, limit), wq)
        )
        inputs[rule.bias] = self.editor.add_tensor(Tensor(bias_name, bias.shape, "int32", quantize_bias(bias, bq), bq))
        self.editor.add_op(replace(op, inputs=tuple(inputs), version=max(op.version, rule.version)))

    def lookup(self, index: int, op: Op, rule: OpRule) -> None:
        """x_q -> CAST int32 -> + 128 -> GATHER of a table with one entry per int8 value."""
        source, target = op.inputs[0], op.outputs[0]
        x = self.assignment.quantization[source]
        values = (np.arange(QMIN, QMAX + 1) - int(x.zero_point[0])) * float(x.scale[0])
        out = self.graph.tensors[target]
        if rule.function is None:  # CAST to an integer type: C truncates
            table = Tensor(f"{out.name}/table", (256,), out.dtype, np.trunc(values).astype(out.dtype))
        else:
            y = self.assignment.quantization[target]
            table = Tensor(f"{out.name}/table", (256,), "int8", tabulate(rule.function, values, y), y)
        name, shape = out.name, self.graph.tensors[source].shape
        add = self.editor.add_tensor
        wide = add(Tensor(f"{name}/int32", shape, "int32"))
        position = add(Tensor(f"{name}/index", shape, "int32"))
        offset = add(Tensor(f"{name}/128", (1,), "int32", np.array([-QMIN], np.int32)))
        self.editor.add_op(Op("CAST", (source,), (wide,), {"inDataType": "INT8", "outDataType": "INT32"}))
        self.editor.add_op(Op("ADD", (wide, offset), (position,), {"fusedActivationFunction": "NONE"}))
        self.editor.add_op(Op("GATHER", (add(table), position), (target,), {"axis": 0, "batchDims": 0}, version=2))

    def guarded(self, index: int, op: Op, rule: OpRule) -> None:
        """DIV: an int8 divisor that rounds to zero stops the kernel, so it is bounded away from it."""
        divisor = self.operand(index, op, rule, 1)
        tensor = self.editor.tensors[divisor]
        q = tensor.quantization
        assert q is not None
        zero = int(q.zero_point[0])
        if QMIN < zero < QMAX:
            raise UnsupportedError(
                f"{self.graph.describe(index)}{_place(self.graph, op, self.places)}",
                self.target,
                "its divisor takes both signs on the calibration data, so it can be zero",
                "Multiply by a reciprocal of a quantity that keeps its sign.",
            )
        kind, bound = ("MAXIMUM", zero + 1) if zero == QMIN else ("MINIMUM", zero - 1)
        name = self.graph.tensors[op.outputs[0]].name
        nearest = self.editor.add_tensor(Tensor(f"{name}/nearest", (), "int8", np.array(bound, np.int8), q))
        safe = self.editor.add_tensor(replace(tensor, name=f"{name}/divisor", data=None))
        self.editor.add_op(Op(kind, (divisor, nearest), (safe,), version=2))
        inputs = (self.operand(index, op, rule, 0), safe)
        self.editor.add_op(replace(op, inputs=inputs, version=max(op.version, rule.version)))

    # -- operands -------------------------------------------------------------------

    def operand(self, index: int, op: Op, rule: OpRule, slot: int) -> int:
        """The integer tensor for one input of an op: an activation, or a constant made integer for this use."""
        t = op.inputs[slot]
        if t < 0 or not self.graph.tensors[t].is_float:
            return t
        tied = slot in rule.tied_inputs(op)
        if (index, slot) in self.assignment.requantize:
            return self.requantized(t, self.assignment.quantization[op.outputs[0]])
        if not self.graph.tensors[t].is_constant:
            return t
        q = self.assignment.quantization[op.outputs[0]] if tied else affine(*constant_range(self.graph, t))
        return self.constant(t, q)

    def constant(self, t: int, q: Quantization) -> int:
        key = (t, float(q.scale[0]), int(q.zero_point[0]))
        if key not in self.constants:
            tensor = self.graph.tensors[t]
            assert tensor.data is not None
            data = quantize(tensor.data, q, QMIN, QMAX)
            self.constants[key] = self.editor.add_tensor(Tensor(tensor.name, tensor.shape, "int8", data, q))
        return self.constants[key]

    def requantized(self, t: int, q: Quantization) -> int:
        tensor = self.graph.tensors[t]
        copy = self.editor.add_tensor(Tensor(f"{tensor.name}/requantized", tensor.shape, "int8", None, q))
        self.editor.add_op(Op("QUANTIZE", (t,), (copy,)))
        return copy


def tabulate(function: Callable[[Array], Array], values: Array, out: Quantization) -> Array:
    """The function at each of 256 dequantized values, as int8 of the output's scale.

    Outside the function's domain (the square root of a negative value) the value at the
    domain's edge stands in; infinities saturate.
    """
    with np.errstate(all="ignore"):
        result = np.asarray(function(values), np.float64)
        edge = float(np.asarray(function(np.zeros(1)), np.float64)[0])
    result = np.where(np.isnan(result), edge, result)
    scaled = np.clip(result / float(out.scale[0]), -1e6, 1e6) + int(out.zero_point[0])
    return np.clip(np.rint(scaled), QMIN, QMAX).astype(np.int8)

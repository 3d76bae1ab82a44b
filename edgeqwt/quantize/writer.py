"""Writes the integer graph op by op: one function per form of the op table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import RULES, Form, OpRule, slots
from edgeqwt.quantize.activations import QMAX, QMIN, Assignment, affine, constant_range, symmetric
from edgeqwt.quantize.forms import form_of, variable_slot
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.tables import function_values, thresholds, to_int8
from edgeqwt.quantize.weights import bias_quantization, quantize, quantize_bias, weight_scales, widened_for_bias

# c < x is x > c.
MIRRORED = {"GREATER": "LESS", "LESS": "GREATER", "GREATER_EQUAL": "LESS_EQUAL", "LESS_EQUAL": "GREATER_EQUAL"}


def linear_weight_scale(graph: Graph, op: Op, rule: OpRule, assignment: Assignment, precision: Precision) -> Array:
    """A linear op's weight scales, float32, shape (channels,): min-max, widened where the bias needs it."""
    s = slots(op)
    weights, bias = graph.tensors[s.weight].data, graph.tensors[s.bias].data if s.bias >= 0 else None
    assert weights is not None
    scale = weight_scales(weights, rule.channel_axis, precision.weight_bits)
    input_scale = float(assignment.quantization[s.data].scale[0])
    return widened_for_bias(scale, bias, input_scale).astype(np.float32)


class Writer:
    """The state of one lowering: the graph that grows, and the integer constants made so far."""

    def __init__(
        self,
        graph: Graph,
        assignment: Assignment,
        precision: Precision,
        missing: Set[str],
    ) -> None:
        self.graph, self.assignment = graph, assignment
        self.precision, self.missing = precision, missing
        self.editor = Editor(graph)
        self.constants: dict[tuple[object, ...], int] = {}
        self.arrays: dict[tuple[object, ...], Array] = {}

    def run(self) -> Graph:
        """The integer graph."""
        for t, q in self.assignment.quantization.items():
            self.editor.tensors[t] = replace(self.graph.tensors[t], dtype="int8", quantization=q, extra={})
        forms: Mapping[Form, Callable[[int, Op], None]] = {
            Form.DIRECT: self.direct,
            Form.LINEAR: self.linear,
            Form.LOOKUP: self.lookup,
            Form.CLAMP: self.clamp,
            Form.COMPARE: self.compare,
            Form.CONVERT: self.convert,
            Form.INTEGER: lambda _, op: self.editor.add_op(op),
        }
        for i, op in enumerate(self.graph.ops):
            forms[self.form(op)](i, op)
        for t in self.graph.outputs:
            if self.graph.tensors[t].is_float and self.graph.tensors[t].is_constant:
                q = affine(*constant_range(self.graph, t))
                self.editor.tensors[t] = self.quantized(t, q)
        return self.editor.finish()

    def form(self, op: Op) -> Form:
        """The op's form, which for some kernels depends on the scale of its input."""
        form, rule = form_of(self.graph, op, self.missing), RULES[op.kind]
        if form is Form.DIRECT and rule.elementwise:
            smallest, largest = rule.table_beyond
            scale = float(self.assignment.quantization[op.inputs[0]].scale[0])
            return form if smallest <= scale <= largest else Form.LOOKUP
        return form

    # -- the forms ----------------------------------------------------------------

    def direct(self, index: int, op: Op) -> None:
        """The same op."""
        inputs = [self.operand(index, op, slot) for slot in range(len(op.inputs))]
        self.editor.add_op(replace(op, inputs=tuple(inputs), version=max(op.version, RULES[op.kind].version)))

    def linear(self, index: int, op: Op) -> None:
        """The same op with quantized weights and bias."""
        tensors, rule = self.graph.tensors, RULES[op.kind]
        assert rule.weight is not None
        assert rule.bias is not None
        scale = linear_weight_scale(self.graph, op, rule, self.assignment, self.precision)
        wq = Quantization.per_channel(scale, rule.channel_axis)
        bq = bias_quantization(self.assignment.quantization[op.inputs[rule.data]].scale[0], scale)
        inputs = [*op.inputs, *[-1] * (rule.bias + 1 - len(op.inputs))]
        if inputs[rule.bias] < 0:
            # Without a bias there would be no place for an offset; zeros cost the file a few bytes, once.
            zeros = np.zeros(scale.shape, np.int32)
            name = f"{tensors[op.outputs[0]].name}/bias"
            inputs[rule.bias] = self.editor.add_tensor(Tensor(name, zeros.shape, "int32", zeros, bq))
        else:
            inputs[rule.bias] = self.constant(inputs[rule.bias], bq, "int32")
        limit = 2 ** (self.precision.weight_bits - 1) - 1
        inputs[rule.weight] = self.constant(inputs[rule.weight], wq, "int8", limit)
        self.editor.add_op(replace(op, inputs=tuple(inputs), version=max(op.version, rule.version)))

    def lookup(self, index: int, op: Op) -> None:
        """A table of the op's values."""
        source, target = op.inputs[variable_slot(self.graph, op)], op.outputs[0]
        values = function_values(self.graph, index, self.assignment.quantization[source])
        y, name = self.assignment.quantization[target], self.graph.tensors[target].name
        self.table(source, target, Tensor(f"{name}/table", (256,), "int8", to_int8(values, y), y))

    def clamp(self, index: int, op: Op) -> None:
        """A stand-alone RELU: x + 0, clamped. RELU itself differs between the runtimes when it changes the scale."""
        x, target = op.inputs[0], op.outputs[0]
        q, name = self.assignment.quantization[x], self.graph.tensors[target].name
        zero = self.editor.add_tensor(Tensor(f"{name}/zero", (), "int8", np.array(q.zero_point[0], np.int8), q))
        self.editor.add_op(Op("ADD", (x, zero), op.outputs, {"fusedActivationFunction": op.kind}, version=2))

    def compare(self, index: int, op: Op) -> None:
        """A comparison: of int32 copies, whose scales are equal, or of one and an equivalent int32 constant."""
        inputs = []
        for slot, t in enumerate(op.inputs):
            tensor = self.graph.tensors[t]
            if tensor.data is None:
                inputs.append(self.widened(self.operand(index, op, slot)))
                continue
            other = self.operand(index, op, 1 - slot)
            q = self.editor.tensors[other].quantization
            assert q is not None
            kind = op.kind if slot == 1 else MIRRORED.get(op.kind, op.kind)
            data = thresholds(kind, tensor.data, q)
            inputs.append(self.editor.add_tensor(Tensor(f"{tensor.name}/int32", tensor.shape, "int32", data)))
        self.editor.add_op(replace(op, inputs=tuple(inputs)))

    def convert(self, index: int, op: Op) -> None:
        """CAST, QUANTIZE and DEQUANTIZE: what was float is int8 now."""
        source, target = op.inputs[0], op.outputs[0]
        out = self.graph.tensors[target]
        if op.kind in ("QUANTIZE", "DEQUANTIZE"):
            self.editor.add_op(Op("QUANTIZE", (source,), (target,)))
        elif out.is_float:
            self.editor.add_op(replace(op.with_options(outDataType="INT8"), version=RULES["CAST"].version))
        elif out.dtype == "bool":
            q = self.assignment.quantization[source]
            zero = Tensor(f"{out.name}/zero", (), "int32", np.array(q.zero_point[0], np.int32))
            self.editor.add_op(Op("NOT_EQUAL", (self.widened(source), self.editor.add_tensor(zero)), (target,)))
        else:
            self.truncate(index, source, target)

    def truncate(self, index: int, source: int, target: int) -> None:
        """CAST to an integer type: a table, in int8 where its values fit (TFLite Micro has no GATHER of int32)."""
        values = function_values(self.graph, index, self.assignment.quantization[source])
        out = self.graph.tensors[target]
        if values.min() < QMIN or values.max() > QMAX or out.dtype == "int8":
            self.table(source, target, Tensor(f"{out.name}/table", (256,), out.dtype, values))
            return
        narrow = self.editor.add_tensor(Tensor(f"{out.name}/int8", out.shape, "int8"))
        self.table(source, narrow, Tensor(f"{out.name}/table", (256,), "int8", values.astype(np.int8)))
        options = {"inDataType": "INT8", "outDataType": out.dtype.upper()}
        self.editor.add_op(Op("CAST", (narrow,), (target,), options, version=RULES["CAST"].version))

    # -- parts of forms -------------------------------------------------------------

    def table(self, source: int, target: int, table: Tensor) -> None:
        """x_q -> CAST int32 -> + 128 -> GATHER of a table with one entry per int8 value."""
        name, shape = self.editor.tensors[target].name, self.graph.tensors[source].shape
        add = self.editor.add_tensor
        position = add(Tensor(f"{name}/index", shape, "int32"))
        offset = add(Tensor(f"{name}/128", (), "int32", np.array(-QMIN, np.int32)))
        options = {"fusedActivationFunction": "NONE"}
        self.editor.add_op(Op("ADD", (self.widened(source), offset), (position,), options))
        gathering = {"axis": 0, "batchDims": 0}
        self.editor.add_op(Op("GATHER", (add(table), position), (target,), gathering, version=2))

    def widened(self, t: int) -> int:
        """An int8 tensor's integers in int32."""
        tensor = self.editor.tensors[t]
        wide = self.editor.add_tensor(Tensor(f"{tensor.name}/int32", tensor.shape, "int32"))
        options = {"inDataType": "INT8", "outDataType": "INT32"}
        self.editor.add_op(Op("CAST", (t,), (wide,), options, version=RULES["CAST"].version))
        return wide

    # -- operands -------------------------------------------------------------------

    def operand(self, index: int, op: Op, slot: int) -> int:
        """The integer tensor for one input of an op: an activation, or a constant made integer for this use."""
        t = op.inputs[slot]
        if t < 0 or not self.graph.tensors[t].is_float:
            return t
        if (index, slot) in self.assignment.requantize:
            return self.requantized(t, self.assignment.requantize[index, slot])
        if not self.graph.tensors[t].is_constant:
            return t
        rule = RULES[op.kind]
        if slot in rule.tied_inputs(op):
            return self.constant(t, self.assignment.quantization[op.outputs[0]])
        parameters = symmetric if slot in rule.symmetric else affine
        return self.constant(t, parameters(*constant_range(self.graph, t)))

    def constant(self, t: int, q: Quantization, dtype: str = "int8", limit: int = QMAX) -> int:
        """A float constant at some scale; asked for twice, it is one tensor."""
        key = (t, dtype, q.scale.tobytes(), q.zero_point.tobytes())
        if key not in self.constants:
            self.constants[key] = self.editor.add_tensor(self.quantized(t, q, dtype, limit))
        return self.constants[key]

    def quantized(self, t: int, q: Quantization, dtype: str = "int8", limit: int = QMAX) -> Tensor:
        """A float constant's integer twin; tensors that share their data go on sharing it."""
        tensor = self.graph.tensors[t]
        assert tensor.data is not None
        key = (id(tensor.data), dtype, q.scale.tobytes(), q.zero_point.tobytes())
        if key not in self.arrays and dtype == "int32":
            self.arrays[key] = quantize_bias(tensor.data, q)
        elif key not in self.arrays:
            self.arrays[key] = quantize(tensor.data, q, QMIN if q.axis is None else -limit, limit)
        return Tensor(tensor.name, tensor.shape, dtype, self.arrays[key], q)

    def requantized(self, t: int, q: Quantization) -> int:
        """A copy of an activation at other parameters."""
        tensor = self.graph.tensors[t]
        copy = self.editor.add_tensor(Tensor(f"{tensor.name}/requantized", tensor.shape, "int8", None, q))
        self.editor.add_op(Op("QUANTIZE", (t,), (copy,)))
        return copy

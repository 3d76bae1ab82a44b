"""Writes the integer graph op by op: one function per form of the op table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgeqwt.graph.graph import DTYPES, Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import Form, OpRule
from edgeqwt.graph.opset16 import DTYPE, rule_at
from edgeqwt.lowering.forms import form_of, variable_slot
from edgeqwt.lowering.lookup_tables import function_values, levels16, thresholds, to_int8
from edgeqwt.lowering.run_time import looked_up, with_integer_weights
from edgeqwt.lowering.table_chains import chains, softpluses
from edgeqwt.lowering.wide_forms import adding, casting, log_softmax, softplus
from edgeqwt.profile import LITERT, Kernels
from edgeqwt.scales.activations import LARGEST, QMAX, QMIN, Assignment, constant_range, spanning, symmetric
from edgeqwt.scales.weights import (
    BIAS_DTYPE,
    bias_quantization,
    quantize,
    quantize_bias,
    weight_scales,
    widened_for_bias,
)
from edgeqwt.widths.precision import FLOAT, Precision

# c < x is x > c.
MIRRORED = {"GREATER": "LESS", "LESS": "GREATER", "GREATER_EQUAL": "LESS_EQUAL", "LESS_EQUAL": "GREATER_EQUAL"}


NO_SCALES: Mapping[int, Array] = MappingProxyType({})


def linear_weight_scale(
    graph: Graph,
    index: int,
    op: Op,
    assignment: Assignment,
    precision: Precision,
    given: Mapping[int, Array],
) -> Array:
    """A linear op's weight scales, float32, shape (channels,): given or min-max, widened where the bias needs it."""
    s = slots(op)
    weights, bias = graph.tensors[s.weight].stored, graph.tensors[s.bias].data if s.bias >= 0 else None
    scale = given.get(s.weight)
    if scale is None:
        scale = weight_scales(weights, s.axis, precision.of(graph.tensors[s.output].name).weights)
    input_scale = float(assignment.read(index, s.data).scale[0])
    return widened_for_bias(scale, bias, input_scale).astype(np.float32)


class Writer:
    """The state of one lowering: the graph that grows, and the integer constants made so far."""

    def __init__(
        self,
        graph: Graph,
        assignment: Assignment,
        precision: Precision,
        kernels: Kernels = LITERT,
        weight_scales: Mapping[int, Array] = NO_SCALES,
    ) -> None:
        self.graph, self.assignment, self.plan = graph, assignment, assignment.plan
        self.precision, self.kernels, self.weight_scales = precision, kernels, weight_scales
        self.editor, self.readers = Editor(graph), graph.consumers()
        self.offset = -1  # the constant that tables' indices are shifted by
        self.chains: Mapping[int, tuple[int, ...]] = {}
        self.constants: dict[tuple[object, ...], int] = {}
        self.copies: dict[tuple[object, ...], int] = {}
        self.arrays: dict[tuple[object, ...], Array] = {}

    def run(self) -> Graph:
        """The integer graph."""
        for t, q in self.assignment.quantization.items():
            dtype = DTYPE[self.plan.computed_bits[t]]
            self.editor.tensors[t] = replace(self.graph.tensors[t], dtype=dtype, quantization=q, extra={})
        forms: Mapping[Form, Callable[[int, Op], None]] = {
            Form.DIRECT: self.direct,
            Form.LINEAR: self.linear,
            Form.LOOKUP: self.lookup,
            Form.CLAMP: self.clamp,
            Form.COMPARE: self.compare,
            Form.CONVERT: self.convert,
            Form.INTEGER: lambda _, op: self.editor.add_op(op),
        }
        chosen = {i: self.form(i, op) for i, op in enumerate(self.graph.ops) if self.plan.ops[i] != FLOAT}
        if "GATHER" not in self.kernels.missing:  # else a table had better be that of one op, which the target may have
            self.chains = chains(self.graph, chosen, self.assignment)
        wide = softpluses(self.graph, self.assignment)
        inner = {i for chain in (*self.chains.values(), *wide.values()) for i in chain[:-1]}
        for i, op in enumerate(self.graph.ops):
            if i not in chosen:
                self.floating(op)
            elif i in wide:
                softplus(self, wide[i])
            elif i not in inner:
                forms[chosen[i]](i, op)
        return self.editor.finish(outputs=[self.output(t) for t in self.graph.outputs])

    def output(self, t: int) -> int:
        """The integer tensor for a graph output."""
        tensor = self.graph.tensors[t]
        if not tensor.is_float:
            return t
        if tensor.is_constant:
            self.editor.tensors[t] = self.quantized(t, spanning(*constant_range(self.graph, t), self.plan.port(t)))
            return t
        return self.at(t, self.plan.port(t))

    def form(self, index: int, op: Op) -> Form:
        """The op's form, which for some kernels depends on the scale of its input."""
        form, bits = form_of(self.graph, op, self.kernels.missing), self.plan.ops[index]
        if bits == 16 and form is not Form.INTEGER:
            return rule_at(op.kind, 16).form
        rule = rule_at(op.kind, 8)
        if form is Form.DIRECT and rule.elementwise:
            smallest, largest = rule.right_scales
            scale = float(self.assignment.read(index, op.inputs[0]).scale[0])
            right = smallest <= scale <= largest and index not in self.assignment.tables
            return form if right else Form.LOOKUP
        return form

    def row(self, index: int) -> OpRule:
        """The op table's row of an op at its width."""
        return rule_at(self.graph.ops[index].kind, self.plan.ops[index])

    # -- the forms ----------------------------------------------------------------

    def floating(self, op: Op) -> None:
        """The op on real values: as it is, but for weights where activations are quantized at run time."""
        if self.precision.dynamic and looked_up(self, op):
            return
        inputs = [self.at(t, FLOAT) if t in self.plan.computed_bits else t for t in op.inputs]
        found = replace(op, inputs=tuple(inputs))
        self.editor.add_op(with_integer_weights(self, found) if self.precision.dynamic else found)

    def direct(self, index: int, op: Op) -> None:
        """The same op."""
        if op.kind == "RSQRT" and self.plan.ops[index] == 16 and "SQRT" not in self.kernels.missing16:
            self.reciprocal_root(index, op)
            return
        if op.kind == "LOG_SOFTMAX" and self.plan.ops[index] == 16:
            log_softmax(self, index, op)
            return
        inputs = [self.operand(index, op, slot) for slot in range(len(op.inputs))]
        self.add(index, op, inputs)

    def reciprocal_root(self, index: int, op: Op) -> None:
        """1 / sqrt(x) as (1 / sqrt(sqrt(x)))^2 in 16 bits.

        RSQRT's kernels interpolate between points that may lie further apart than x is from zero; SQRT's are exact,
        and after it the points lie close enough. Both tensors span what their squares do.
        """
        target, name = op.outputs[0], self.graph.tensors[op.outputs[0]].name
        quantizations = self.assignment.read(index, op.inputs[0]), self.assignment.quantization[target]
        root, fourth = (
            self.editor.add_tensor(
                Tensor(f"{name}/{what}", self.graph.tensors[target].shape, "int16", None, _rooted(q))
            )
            for what, q in zip(("root", "fourth_root"), quantizations, strict=True)
        )
        none = {"fusedActivationFunction": "NONE"}
        self.editor.add_op(Op("SQRT", (self.operand(index, op, 0),), (root,), version=rule_at("SQRT", 16).version))
        self.editor.add_op(replace(op, inputs=(root,), outputs=(fourth,), version=self.row(index).version))
        self.editor.add_op(Op("MUL", (fourth, fourth), (target,), none, version=rule_at("MUL", 16).version))

    def add(self, index: int, op: Op, inputs: Sequence[int]) -> None:
        """The op on integer inputs, at the version and with the options that its integer form has."""
        row = self.row(index)
        changed = op.with_options(**row.options) if row.options else op
        self.editor.add_op(replace(changed, inputs=tuple(inputs), version=max(op.version, row.version)))

    def linear(self, index: int, op: Op) -> None:
        """The same op with quantized weights and bias."""
        tensors, rule, bits = self.graph.tensors, self.row(index), self.plan.ops[index]
        assert rule.weight is not None
        assert rule.bias is not None
        given, s = self.weight_scales, slots(op)
        scale = linear_weight_scale(self.graph, index, op, self.assignment, self.precision, given)
        wq = Quantization.per_channel(scale, s.axis)
        bq = bias_quantization(self.assignment.read(index, s.data).scale[0], scale)
        inputs, name = [*op.inputs, *[-1] * (rule.bias + 1 - len(op.inputs))], tensors[op.outputs[0]].name
        inputs[rule.data] = self.operand(index, op, rule.data)
        if inputs[rule.bias] < 0:
            # Without a bias there would be no tensor for an offset; zeros cost the file a few bytes, once.
            inputs[rule.bias] = self.zeros(inputs[rule.weight], name, bq, BIAS_DTYPE[bits])
        else:
            inputs[rule.bias] = self.constant(inputs[rule.bias], bq, BIAS_DTYPE[bits])
        limit = 2 ** (self.precision.of(name).weights - 1) - 1
        inputs[rule.weight] = self.constant(inputs[rule.weight], wq, "int8", limit)
        self.add(index, op, inputs)

    def lookup(self, index: int, op: Op) -> None:
        """A table of the op's values, and of those before it that are functions of the same variable."""
        chain, target = self.chains.get(index, (index,)), op.outputs[0]
        first = self.graph.ops[chain[0]]
        slot = variable_slot(self.graph, first)
        values = function_values(self.graph, chain, self.assignment.read(chain[0], first.inputs[slot]))
        y, name = self.assignment.quantization[target], self.graph.tensors[target].name
        table = Tensor(f"{name}/table", (256,), "int8", to_int8(values, y), y)
        self.table(self.operand(chain[0], first, slot), target, table)

    def clamp(self, index: int, op: Op) -> None:
        """A stand-alone RELU: x + 0, clamped. RELU itself differs between the runtimes when it changes the scale."""
        x, target, bits = self.operand(index, op, 0), op.outputs[0], self.plan.ops[index]
        q, name = self.assignment.read(index, op.inputs[0]), self.graph.tensors[target].name
        zero = np.array(q.zero_point[0], DTYPE[bits])
        second = self.editor.add_tensor(Tensor(f"{name}/zero", (), DTYPE[bits], zero, q))
        kind = "ADD" if self.kernels.adds_zero else "SUB"
        self.editor.add_op(adding(bits, x, second, target, op.kind, kind))

    def compare(self, index: int, op: Op) -> None:
        """On int32 copies, whose scales are equal, or of one copy and an equivalent int32 constant."""
        inputs = []
        for slot, t in enumerate(op.inputs):
            tensor = self.graph.tensors[t]
            if not tensor.is_float:
                inputs.append(t)
                continue
            if tensor.data is None:
                inputs.append(self.widened(self.operand(index, op, slot)))
                continue
            other = self.editor.tensors[self.operand(index, op, 1 - slot)]
            kind = op.kind if slot == 1 else MIRRORED.get(op.kind, op.kind)
            data = thresholds(kind, tensor.data, other.grid, other.dtype)
            inputs.append(self.editor.add_tensor(Tensor(f"{tensor.name}/int32", tensor.shape, "int32", data)))
        self.editor.add_op(replace(op, inputs=tuple(inputs)))

    def convert(self, index: int, op: Op) -> None:
        """CAST, QUANTIZE and DEQUANTIZE: what was float is an integer now."""
        source, target = self.operand(index, op, 0), op.outputs[0]
        out = self.graph.tensors[target]
        if op.kind in ("QUANTIZE", "DEQUANTIZE"):
            self.editor.add_op(Op("QUANTIZE", (source,), (target,)))
        elif out.is_float:
            dtype = DTYPE[self.plan.ops[index]].upper()
            self.editor.add_op(replace(op.with_options(outDataType=dtype), version=self.row(index).version))
        elif out.dtype == "bool":
            q = self.assignment.read(index, op.inputs[0])
            zero = Tensor(f"{out.name}/zero", (), "int32", np.array(q.zero_point[0], np.int32))
            self.editor.add_op(Op("NOT_EQUAL", (self.widened(source), self.editor.add_tensor(zero)), (target,)))
        else:
            self.truncate(index, source, target)

    def truncate(self, index: int, source: int, target: int) -> None:
        """CAST to an integer type: a table, in int8 where its values fit (TFLite Micro has no GATHER of int32)."""
        values = function_values(self.graph, [index], self.assignment.read(index, self.graph.ops[index].inputs[0]))
        out = self.graph.tensors[target]
        if values.min() < QMIN or values.max() > QMAX or out.dtype == "int8":
            self.table(source, target, Tensor(f"{out.name}/table", (256,), out.dtype, values))
            return
        narrow = self.editor.add_tensor(Tensor(f"{out.name}/int8", out.shape, "int8"))
        self.table(source, narrow, Tensor(f"{out.name}/table", (256,), "int8", values.astype(np.int8)))
        self.editor.add_op(casting(narrow, target, "int8", out.dtype))

    # -- parts of forms -------------------------------------------------------------

    def table(self, source: int, target: int, table: Tensor) -> None:
        """x_q -> CAST int32 -> + 128 -> GATHER of a table with one entry per int8 value."""
        name, shape = self.editor.tensors[target].name, self.editor.tensors[source].shape
        add = self.editor.add_tensor
        position = add(Tensor(f"{name}/index", shape, "int32"))
        if self.offset < 0:
            self.offset = add(Tensor(f"{name}/128", (), "int32", np.array(-QMIN, np.int32)))
        options = {"fusedActivationFunction": "NONE"}
        self.editor.add_op(Op("ADD", (self.widened(source), self.offset), (position,), options))
        gathering, version = {"axis": 0, "batchDims": 0}, 4 if table.dtype == "int16" else 2
        self.editor.add_op(Op("GATHER", (add(table), position), (target,), gathering, version=version))

    def widened(self, t: int) -> int:
        """An integer tensor's integers in int32."""
        tensor = self.editor.tensors[t]
        wide = self.editor.add_tensor(Tensor(f"{tensor.name}/int32", tensor.shape, "int32"))
        self.editor.add_op(casting(t, wide, tensor.dtype, "int32"))
        return wide

    # -- operands -------------------------------------------------------------------

    def operand(self, index: int, op: Op, slot: int) -> int:
        """The integer tensor for one input of an op: an activation, or a constant made integer for this use."""
        t, bits = op.inputs[slot], self.plan.ops[index]
        if t < 0 or not self.graph.tensors[t].is_float:
            return t
        if (index, slot) in self.assignment.requantize:
            return self.copy(t, bits, self.assignment.requantize[index, slot])
        if not self.graph.tensors[t].is_constant:
            return self.at(t, bits)
        rule = self.row(index)
        if slot in rule.tied_inputs(op):
            return self.constant(t, self.assignment.quantization[op.outputs[0]], DTYPE[bits], LARGEST[bits])
        low, high = constant_range(self.graph, t)
        q = symmetric(low, high, bits) if slot in rule.symmetric else spanning(low, high, bits)
        return self.constant(t, q, DTYPE[bits], LARGEST[bits])

    def constant(self, t: int, q: Quantization, dtype: str = "int8", limit: int = QMAX) -> int:
        """A float constant at some scale; asked for twice, it is one tensor."""
        key = (t, dtype, q.scale.tobytes(), q.zero_point.tobytes())
        if key not in self.constants:
            self.constants[key] = self.editor.add_tensor(self.quantized(t, q, dtype, limit))
        return self.constants[key]

    def zeros(self, weight: int, name: str, q: Quantization, dtype: str) -> int:
        """A bias of zeros; layers that share their weights, as the steps of a recurrence do, share it."""
        key = ("zeros", weight, dtype, q.scale.tobytes())
        shared = len(self.readers.get(weight, [])) > 1
        if not shared or key not in self.constants:
            data = np.zeros(q.scale.shape, dtype)
            self.constants[key] = self.editor.add_tensor(Tensor(f"{name}/bias", data.shape, dtype, data, q))
        return self.constants[key]

    def quantized(self, t: int, q: Quantization, dtype: str = "int8", limit: int = QMAX) -> Tensor:
        """A float constant's integer counterpart; tensors that share their data go on sharing it."""
        tensor = self.graph.tensors[t]
        key = (id(tensor.stored), dtype, q.scale.tobytes(), q.zero_point.tobytes())
        if key not in self.arrays and dtype in BIAS_DTYPE.values():
            self.arrays[key] = quantize_bias(tensor.stored, q, dtype)
        elif key not in self.arrays:
            low = QMIN if q.axis is None and dtype == "int8" else -limit
            self.arrays[key] = quantize(tensor.stored, q, low, limit, DTYPES[dtype])
        return Tensor(tensor.name, tensor.shape, dtype, self.arrays[key], q)

    # -- copies at other parameters ---------------------------------------------------

    def at(self, t: int, bits: int) -> int:
        """A float activation's integer tensor of some width: its own, or a copy."""
        if self.plan.computed_bits[t] == bits:
            return t
        return self.real(t) if bits == FLOAT else self.copy(t, bits, self.assignment.at(t, bits))

    def real(self, t: int) -> int:
        """A float32 copy of an integer activation; asked for twice, it is one tensor."""
        if (t, FLOAT) not in self.copies:
            x = self.editor.tensors[t]
            copy = self.editor.add_tensor(Tensor(f"{x.name}/float32", x.shape, "float32"))
            self.editor.add_op(Op("DEQUANTIZE", (t,), (copy,), version=3 if x.dtype == "int16" else 2))
            self.copies[t, FLOAT] = copy
        return self.copies[t, FLOAT]

    def copy(self, t: int, bits: int, q: Quantization) -> int:
        """A copy of an activation at another width or other parameters; asked for twice, it is one tensor."""
        key = (t, bits, q.scale.tobytes(), q.zero_point.tobytes())
        if key not in self.copies:
            tensor = self.graph.tensors[t]
            how = "requantized" if bits == self.plan.computed_bits[t] else DTYPE[bits]
            copy = self.editor.add_tensor(Tensor(f"{tensor.name}/{how}", tensor.shape, DTYPE[bits], None, q))
            if bits == 16 and self.plan.computed_bits[t] == 8:
                self.widen(t, copy)
            else:
                self.editor.add_op(Op("QUANTIZE", (t,), (copy,), version=2 if bits == 16 else 1))
            self.copies[key] = copy
        return self.copies[key]

    def widen(self, t: int, copy: int) -> None:
        """From int8 to int16, which LiteRT's QUANTIZE cannot do: CAST, and ADD for zero point and scale; or a table."""
        x, y = self.editor.tensors[t], self.editor.tensors[copy]
        scale, zero_point = x.grid.scale[0], int(x.grid.zero_point[0])
        shifted = Quantization.per_tensor(float(scale), 0)
        same = y.grid.same_as(shifted) and zero_point == 0
        if not self.kernels.narrow_casts or (self.kernels.quick_tables and not same):
            values = levels16(x.grid, y.grid)
            self.table(t, copy, Tensor(f"{y.name}/table", (256,), "int16", values, y.grid))
            return
        if same:
            self.editor.add_op(casting(t, copy, "int8", "int16"))
            return
        cast = self.editor.add_tensor(Tensor(f"{x.name}/cast", x.shape, "int16", None, shifted))
        shift = np.array(-zero_point, np.int16)
        second = self.editor.add_tensor(Tensor(f"{x.name}/shift", (), "int16", shift, shifted))
        self.editor.add_op(casting(t, cast, "int8", "int16"))
        self.editor.add_op(adding(16, cast, second, copy, "NONE"))


def _rooted(q: Quantization) -> Quantization:
    """Parameters whose largest integer is the square root of what it is at other ones."""
    largest = LARGEST[16]
    return Quantization.per_tensor(float(np.sqrt(float(q.scale[0]) * largest)) / largest, 0)

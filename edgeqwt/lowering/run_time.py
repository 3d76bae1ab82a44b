"""Ops whose activations LiteRT rounds at run time: floats in and out, weights that are integers (ZeroQuant, 2022).

FULLY_CONNECTED finds a range for each row that it reads, which is a token of a language model, CONV_2D one for each
sample. Both run in XNNPACK. What else has weights stays float: DEPTHWISE_CONV_2D has such a kernel, which takes four
times as long as the float one and saves few bytes; others have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.graph.graph import Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import RULES
from edgeqwt.scales.activations import constant_range, symmetric
from edgeqwt.scales.weights import weight_scales

if TYPE_CHECKING:
    from edgeqwt.lowering.op_writer import Writer

VERSIONS: Mapping[str, int] = MappingProxyType({"FULLY_CONNECTED": 12, "CONV_2D": 5})
"""Kinds whose kernels round what they read, and their versions with a scale per channel (op_version.cc of LiteRT)."""

EMBEDDING = 1024
"""Values of a constant of which rows are gathered, from which on it is stored as integers."""


def with_integer_weights(writer: Writer, op: Op) -> Op:
    """The op on floats with integer weights, one scale per output channel; as it is where no kernel takes that.

    Args:
        writer: whose graph gets the integers.
        op: of the float graph, its inputs those of the new one.
    """
    tensors, name = writer.graph.tensors, writer.graph.tensors[op.outputs[0]].name
    if op.kind not in VERSIONS or name in writer.precision.floats or not tensors[slots(op).weight].is_constant:
        return op
    s, rule, bits = slots(op), RULES[op.kind], writer.precision.of(name).weights
    assert rule.weight is not None
    assert rule.bias is not None
    data, scale = tensors[s.weight].stored, writer.weight_scales.get(s.weight)
    scale = weight_scales(data, s.axis, bits) if scale is None else scale
    inputs = [*op.inputs, *[-1] * (rule.bias + 1 - len(op.inputs))]
    q = Quantization.per_channel(scale.astype(np.float32), s.axis)
    inputs[rule.weight] = writer.constant(s.weight, q, "int8", 2 ** (bits - 1) - 1)
    if inputs[rule.bias] < 0:  # an offset has to have a place
        zeros = np.zeros(len(scale), np.float32)
        inputs[rule.bias] = writer.editor.add_tensor(Tensor(f"{name}/bias", zeros.shape, "float32", zeros))
    # A zero point for each row costs no time in XNNPACK, and rows behind GELU and ReLU lie on one side of zero.
    changed = op.with_options(asymmetricQuantizeInputs=True) if op.kind == "FULLY_CONNECTED" else op
    return replace(changed, inputs=tuple(inputs), version=max(op.version, VERSIONS[op.kind]))


def looked_up(writer: Writer, op: Op) -> bool:
    """Writes rows of a large float table as rows of int8 and DEQUANTIZE; whether the op is one that gathers such."""
    graph, t = writer.graph, op.inputs[0]
    table, out = graph.tensors[t], graph.tensors[op.outputs[0]]
    if op.kind != "GATHER" or not table.is_float or not table.is_constant or table.size < EMBEDDING:
        return False
    if out.name in writer.precision.floats:
        return False
    q = symmetric(*constant_range(graph, t))
    rows = writer.editor.add_tensor(Tensor(f"{out.name}/int8", out.shape, "int8", None, q))
    inputs = (writer.constant(t, q), *op.inputs[1:])
    writer.editor.add_op(replace(op, inputs=inputs, outputs=(rows,), version=max(op.version, RULES["GATHER"].version)))
    writer.editor.add_op(Op("DEQUANTIZE", (rows,), op.outputs, version=2))
    return True

"""Ops that 16-bit activations need several ops for, and how those are written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.graph.graph import Op, Quantization, Tensor
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.scales.activations import HEADROOM, LARGEST, affine, symmetric, widened

if TYPE_CHECKING:
    from edgeqwt.lowering.op_writer import Writer


def adding(bits: int, a: int, b: int, target: int, activation: str, kind: str = "ADD") -> Op:
    """An ADD, or SUB, of activations of some width."""
    row = rule_at(kind, bits)
    return Op(kind, (a, b), (target,), {"fusedActivationFunction": activation, **row.options}, version=row.version)


def casting(source: int, target: int, old: str, new: str) -> Op:
    """A CAST between integer types."""
    options = {"inDataType": old.upper(), "outDataType": new.upper()}
    return Op("CAST", (source,), (target,), options, version=rule_at("CAST", 8 if "int8" in (old, new) else 16).version)


def log_softmax(writer: Writer, index: int, op: Op) -> None:
    """x - log(sum(exp(x))) in 16 bits, where the kernels have LOG_SOFTMAX in steps of 1/16 only.

    x - LOG_SOFTMAX(x) is that logarithm for each class of a row, off by the rounding of that class: their mean is
    closer to it, and is subtracted from x.
    """
    source, target = op.inputs[0], writer.editor.tensors[op.outputs[0]]
    x, q = writer.operand(index, op, 0), writer.assignment.read(index, source)
    reach = float(q.scale[0]) * LARGEST[16]
    narrow = (
        source
        if writer.plan.computed_bits[source] == 8
        else writer.copy(source, 8, affine(-reach / HEADROOM, reach / HEADROOM))
    )
    fixed = rule_at(op.kind, 8).fixed_output
    assert fixed is not None
    coarse = Quantization.per_tensor(*fixed)
    span = reach + float(np.log(target.shape[-1])) + float(coarse.scale[0])
    sums = symmetric(-span, span, 16)

    def made(what: str, dtype: str, q: Quantization, shape: tuple[int, ...] = target.shape) -> int:
        return writer.editor.add_tensor(Tensor(f"{target.name}/{what}", shape, dtype, None, q))

    eighth, wide = made("int8", "int8", coarse), made("int16", "int16", widened(coarse))
    rows, mean = made("rows", "int16", sums), made("sum", "int16", sums, (*target.shape[:-1], 1))
    writer.editor.add_op(replace(op, inputs=(narrow,), outputs=(eighth,), version=rule_at(op.kind, 8).version))
    writer.widen(eighth, wide)
    writer.editor.add_op(adding(16, x, wide, rows, "NONE", "SUB"))
    axis = np.array([len(target.shape) - 1], np.int32)
    last = writer.editor.add_tensor(Tensor(f"{target.name}/axis", (1,), "int32", axis))
    writer.editor.add_op(Op("MEAN", (rows, last), (mean,), {"keepDims": True}, version=rule_at("MEAN", 16).version))
    writer.editor.add_op(adding(16, x, mean, op.outputs[0], "NONE", "SUB"))

"""Ops that 16-bit activations need several ops for, and how those are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.graph.graph import Op, Quantization, Tensor
from edgeqwt.graph.opset16 import DTYPE, rule_at
from edgeqwt.scales.activations import HEADROOM, LARGEST, affine, symmetric, widened

if TYPE_CHECKING:
    from edgeqwt.lowering.op_writer import Writer

NEAR = 12.0  # the largest magnitude, headroom included, of which no difference is beyond LOG_SOFTMAX's 8-bit kernel
VANISHED = 12.0  # exp(-12) is a fifth of a step of 2^-15


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
    closer to it, and is subtracted from x. Where differences may be too large for that, `_far` says what is.
    """
    source, target = op.inputs[0], writer.editor.tensors[op.outputs[0]]
    x, q = writer.operand(index, op, 0), writer.assignment.read(index, source)
    reach = float(q.scale[0]) * LARGEST[16]
    coarse = _coarse(op)
    parts = _Parts(writer, target)
    last = writer.editor.add_tensor(
        Tensor(f"{target.name}/axis", (1,), "int32", np.array([len(target.shape) - 1], np.int32))
    )
    if reach > NEAR:
        _far(parts, op, last, x, reach)
        return
    span = reach + float(np.log(target.shape[-1])) + float(coarse.scale[0])
    sums = symmetric(-span, span, 16)
    eighth = parts.narrowed(source, x, affine(-reach / HEADROOM, reach / HEADROOM))
    wide = parts.wide(parts.logarithms(op, eighth))
    rows = parts.adding("rows", x, wide, sums, "SUB")
    mean = parts.reduced("MEAN", "sum", rows, last, 16)
    writer.editor.add_op(adding(16, x, mean, op.outputs[0], "NONE", "SUB"))


def softplus(writer: Writer, chain: Sequence[int]) -> None:
    """log(1 + exp(x)) in 16 bits, as max(x, 0) + log(1 + exp(-|x|)); log(logistic(x)) is min(x, 0) less that logarithm.

    The kernels of EXP and LOG interpolate between 513 points of the range that their inputs have. Of 1 + exp(x) for x
    up to 8 that is six apart, where the logarithm has all its values below 6; of a logistic curve it is 1/128.
    """
    first, last = (writer.graph.ops[chain[k]] for k in (0, -1))
    x, q = writer.operand(chain[0], first, 0), writer.assignment.read(chain[0], first.inputs[0])
    side, joined = ("MAXIMUM", "ADD") if first.kind == "EXP" else ("MINIMUM", "SUB")
    parts, add = _Parts(writer, writer.editor.tensors[last.outputs[0]]), writer.editor.add_op
    zero = parts.number("zero", 0, q)
    size, line = parts.made("size", 16, q), parts.made("line", 16, q)
    add(Op("ABS", (x,), (size,), version=rule_at("ABS", 16).version))
    add(Op(side, (x, zero), (line,), version=rule_at(side, 16).version))
    below = parts.adding("below", zero, size, symmetric(-VANISHED, VANISHED, 16), "SUB")
    power, logarithm = parts.made("power", 16, symmetric(-1, 1, 16)), parts.made("logarithm", 16, symmetric(-1, 1, 16))
    add(Op("EXP", (below,), (power,), version=rule_at("EXP", 16).version))
    wider = symmetric(-2, 2, 16)
    more = parts.adding("more", power, parts.number("one", round(1 / float(wider.scale[0])), wider), wider, "ADD")
    add(replace(last, inputs=(more,), outputs=(logarithm,), version=rule_at("LOG", 16).version))
    add(adding(16, line, logarithm, last.outputs[0], "NONE", joined))


def _far(parts: _Parts, op: Op, last: int, x: int, reach: float) -> None:
    """Of values so far apart that LOG_SOFTMAX in 8 bits, which ends at -16, has not all of them.

    It has those of the largest class. Neither it nor where that class lies changes by a constant that x loses, so that
    8 bits are enough to bring x near zero by: d = x - m, y = d - max(d) + max(LOG_SOFTMAX(d)).
    """
    coarse = _coarse(op)
    bytes_ = affine(-reach, reach)
    step = float(bytes_.scale[0])
    largest = parts.wide(parts.reduced("REDUCE_MAX", "largest", parts.narrowed(op.inputs[0], x, bytes_), last, 8))
    near = parts.adding("near", x, largest, symmetric(-2 * reach, 2 * reach, 16), "SUB")
    eighth = parts.copied("near/bytes", near, affine(-float(coarse.scale[0]) * 256, max(step, float(coarse.scale[0]))))
    highest = parts.wide(parts.reduced("REDUCE_MAX", "highest", eighth, last, 8))
    logarithm = parts.wide(parts.reduced("REDUCE_MAX", "logarithm", parts.logarithms(op, eighth), last, 8))
    below = parts.adding("below", near, highest, symmetric(-2 * reach, 2 * reach, 16), "SUB")
    parts.writer.editor.add_op(adding(16, below, logarithm, op.outputs[0], "NONE"))


def _coarse(op: Op) -> Quantization:
    """The parameters that an op's 8-bit kernels give."""
    fixed = rule_at(op.kind, 8).fixed_output
    assert fixed is not None
    return Quantization.per_tensor(*fixed)


@dataclass(frozen=True)
class _Parts:
    """Writes what a form of several ops consists of, under the name of its result."""

    writer: Writer
    target: Tensor

    def made(self, what: str, bits: int, q: Quantization, rows: bool = False) -> int:
        """A new tensor of the result's shape, or with one element for each of its rows."""
        shape = (*self.target.shape[:-1], 1) if rows else self.target.shape
        return self.writer.editor.add_tensor(Tensor(f"{self.target.name}/{what}", shape, DTYPE[bits], None, q))

    def number(self, what: str, integer: int, q: Quantization) -> int:
        """A constant of one element."""
        data = np.array(integer, np.int16)
        return self.writer.editor.add_tensor(Tensor(f"{self.target.name}/{what}", (), "int16", data, q))

    def narrowed(self, source: int, x: int, q: Quantization) -> int:
        """The op's input in 8 bits: as it is computed, or a copy."""
        if self.writer.plan.computed_bits[source] == 8:
            return source
        return self.writer.copy(source, 8, q)

    def copied(self, what: str, t: int, q: Quantization) -> int:
        """A copy in 8 bits of a tensor that this form has made."""
        copy = self.made(what, 8, q)
        self.writer.editor.add_op(Op("QUANTIZE", (t,), (copy,)))
        return copy

    def logarithms(self, op: Op, narrow: int) -> int:
        """The op in 8 bits."""
        result = self.made("coarse", 8, _coarse(op))
        self.writer.editor.add_op(replace(op, inputs=(narrow,), outputs=(result,), version=rule_at(op.kind, 8).version))
        return result

    def wide(self, t: int) -> int:
        """A tensor of 8 bits in 16, exactly."""
        narrow = self.writer.editor.tensors[t]
        copy = replace(narrow, name=f"{narrow.name}/int16", dtype="int16", quantization=widened(narrow.grid))
        wide = self.writer.editor.add_tensor(copy)
        self.writer.widen(t, wide)
        return wide

    def adding(self, what: str, a: int, b: int, q: Quantization, kind: str) -> int:
        """A sum or difference in 16 bits."""
        result = self.made(what, 16, q)
        self.writer.editor.add_op(adding(16, a, b, result, "NONE", kind))
        return result

    def reduced(self, kind: str, what: str, t: int, axis: int, bits: int) -> int:
        """One value of each row, at the parameters of the rows."""
        result = self.made(what, bits, self.writer.editor.tensors[t].grid, rows=True)
        options, version = {"keepDims": True}, rule_at(kind, bits).version
        self.writer.editor.add_op(Op(kind, (t, axis), (result,), options, version=version))
        return result

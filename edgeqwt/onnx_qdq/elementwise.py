"""Arithmetic, functions of one variable, reductions, and what works on integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeqwt.graph.graph import DTYPES, Op, Quantization, Tensor
from edgeqwt.onnx_qdq.writer import TO_FIRST, Writer, is_quantized

Emit = Callable[[Writer, Op], None]


def in_first(w: Writer, op: Op, inputs: Sequence[int]) -> bool:
    """Whether an op that does not care about the layout had better work on channels first: all is there so."""
    moving = [t for t in inputs if t >= 0 and not w.tensor(t).is_constant]
    ranks = {len(w.tensor(t).shape) for t in (*moving, *op.outputs)}
    constants = all(len(w.tensor(t).shape) <= 4 for t in inputs if t >= 0)
    waiting = any((t, False) not in w.values for t in moving)
    return ranks == {4} and constants and waiting and all((t, True) in w.values for t in moving)


def unary(kind: str, **attributes: Any) -> Emit:
    """A function of one variable that ONNX has."""

    def emit(w: Writer, op: Op) -> None:
        first = in_first(w, op, op.inputs[:1])
        w.give(op.outputs[0], w.node(kind, [w.real(op.inputs[0], first)], **attributes), first)

    return emit


def clamp(w: Writer, op: Op) -> None:
    """RELU and its like, which may change the scale."""
    first = in_first(w, op, op.inputs[:1])
    if op.kind == "RELU":
        found = w.node("Relu", [w.real(op.inputs[0], first)])
    else:
        low, high = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}[op.kind]
        bounds = [w.constant(np.array(bound, np.float32)) for bound in (low, high)]
        found = w.node("Clip", [w.real(op.inputs[0], first), *bounds])
    w.give(op.outputs[0], found, first)


def binary(kind: str, moving: bool = False) -> Emit:
    """An op on two tensors; one that picks integers reads both at its output's scale."""

    def emit(w: Writer, op: Op) -> None:
        first = in_first(w, op, op.inputs)
        sides = [w.moved(t, op, first) if moving else w.real(t, first) for t in op.inputs]
        w.give(op.outputs[0], w.node(kind, sides), first, op.activation)

    return emit


def squared_difference(w: Writer, op: Op) -> None:
    """(a - b)^2; between both parts nothing is rounded."""
    first = in_first(w, op, op.inputs)
    difference = w.node("Sub", [w.real(t, first) for t in op.inputs])
    w.give(op.outputs[0], w.node("Mul", [difference, difference]), first)


def gelu(w: Writer, op: Op) -> None:
    """GELU, exact or by tanh."""
    unary("Gelu", approximate="tanh" if op.options.get("approximate") else "none")(w, op)


def leaky(w: Writer, op: Op) -> None:
    """LEAKY_RELU."""
    unary("LeakyRelu", alpha=float(op.options["alpha"]))(w, op)


def rsqrt(w: Writer, op: Op) -> None:
    """1 / sqrt(x); between both parts nothing is rounded."""
    root = w.node("Sqrt", [w.real(op.inputs[0])])
    w.give(op.outputs[0], w.node("Reciprocal", [root]))


def softmax(w: Writer, op: Op) -> None:
    """SOFTMAX over the last axis; beta is a part of the input's scale."""
    value = w.real(op.inputs[0], factor=float(op.options.get("beta", 1.0)))
    w.give(op.outputs[0], w.node("Softmax", [value], axis=-1))


def reduce(kind: str, moving: bool = False) -> Emit:
    """A reduction over constant axes."""

    def emit(w: Writer, op: Op) -> None:
        x = op.inputs[0]
        rank, keep = len(w.tensor(x).shape), bool(op.options.get("keepDims"))
        axes = sorted({int(a) % max(rank, 1) for a in w.known(op.inputs[1], "axes").reshape(-1)})
        # Without height and width, what is left lies in the same order in both layouts.
        first = rank == 4 and (x, False) not in w.values and (x, True) in w.values and (keep or {1, 2} <= {*axes})
        value = w.moved(x, op, first) if moving else w.real(x, first)
        where = sorted(TO_FIRST.index(a) for a in axes) if first else axes
        found = w.node(kind, [value, w.constant(np.array(where, np.int64))], keepdims=int(keep))
        w.give(op.outputs[0], found, first and keep)

    return emit


def arg(kind: str) -> Emit:
    """The position of the largest or smallest value."""

    def emit(w: Writer, op: Op) -> None:
        axis = int(w.known(op.inputs[1], "axes").reshape(-1)[0])
        found = w.node(kind, [w.real(op.inputs[0])], axis=axis, keepdims=0)
        w.put(op.outputs[0], cast_to(w, found, w.tensor(op.outputs[0]).dtype))

    return emit


def quantize(w: Writer, op: Op) -> None:
    """QUANTIZE and DEQUANTIZE: whatever both ends are."""
    first = in_first(w, op, op.inputs)
    value = w.real(op.inputs[0], first)
    if not (is_quantized(w.tensor(op.inputs[0])) or is_quantized(w.tensor(op.outputs[0]))):
        value = w.node("Identity", [value])
    w.give(op.outputs[0], value, first)


def cast(w: Writer, op: Op) -> None:
    """CAST: of the integers, whatever they stand for."""
    x, source, out = op.inputs[0], w.tensor(op.inputs[0]), w.tensor(op.outputs[0])
    if is_quantized(source) and is_quantized(out):
        w.give(op.outputs[0], w.moved(x, op))
    elif is_quantized(source) and w.real_casts:
        w.put(op.outputs[0], _steps(w, x, out.dtype))
    elif is_quantized(out) and w.real_casts and _counts(out):
        w.give(op.outputs[0], cast_to(w, w.stored(x), "float32"))
    else:
        w.put(op.outputs[0], cast_to(w, w.stored(x), out.dtype))


def _counts(tensor: Tensor) -> bool:
    """Whether a tensor's integers are its real values."""
    q = tensor.quantization
    return q is not None and bool(q.scale[0] == 1) and not q.zero_point.any()


def _steps(w: Writer, x: int, dtype: str) -> str:
    """A tensor's integers by way of real values: x / scale at scale 1, and then the zero point."""
    source = w.tensor(x)
    q = source.grid
    scale, zero = float(q.scale[0]), int(q.zero_point[0])
    factor = Quantization.per_tensor(1 / (127 * scale), 0)
    one = w.dequantized(w.constant(np.array(127, np.int8)), factor, "int8")
    value = w.again(w.node("Mul", [w.real(x), one]), Quantization.per_tensor(1.0, zero), source.dtype)
    counted = cast_to(w, value, dtype)
    return w.node("Add", [counted, w.constant(np.array(zero, DTYPES[dtype]))]) if zero else counted


def cast_to(w: Writer, value: str, dtype: str) -> str:
    """A value in another type."""
    from onnx import helper

    return w.node("Cast", [value], to=helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[dtype])))


def compared(kind: str, negated: bool = False) -> Emit:
    """A comparison; of quantized tensors on their real values."""

    def emit(w: Writer, op: Op) -> None:
        found = w.node(kind, [w.real(t) for t in op.inputs])
        w.put(op.outputs[0], w.node("Not", [found]) if negated else found)

    return emit


def integer(kind: str) -> Emit:
    """An op on integers or truth values as they are."""

    def emit(w: Writer, op: Op) -> None:
        w.put(op.outputs[0], w.node(kind, [w.stored(t) for t in op.inputs]))

    return emit


def reduce_all(w: Writer, op: Op) -> None:
    """REDUCE_ALL: the smallest of 0 and 1."""
    axes = w.constant(w.known(op.inputs[1], "axes").reshape(-1).astype(np.int64))
    numbers = cast_to(w, w.stored(op.inputs[0]), "int32")
    found = w.node("ReduceMin", [numbers, axes], keepdims=int(bool(op.options.get("keepDims"))))
    w.put(op.outputs[0], cast_to(w, found, "bool"))

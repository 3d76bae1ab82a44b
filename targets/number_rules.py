"""Constraints on types, weights, scales and memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeqwt.graph.graph import Op
from edgeqwt.graph.linear import has_constant_weights, is_hybrid, is_linear, slots
from edgeqwt.target import memory
from edgeqwt.target.model import Model
from edgeqwt.target.rule import ERROR, WARNING, Hit, constraint
from edgeqwt.widths.precision import FLOAT


@constraint(WARNING)
def float_tensors(model: Model, _: bool) -> Iterator[Hit]:
    """Float arithmetic is left in the model: it runs on the CPU, slowly where there is no FPU.

    Remedy: Quantize the whole model with `edgeqwt build`.
    """
    if model.is_float:
        return
    for i, op in enumerate(model.graph.ops):
        # Not what recurrent ops keep their ranges in: it is of float type in integer files too, and never computed.
        floats = [
            t
            for t in (*op.inputs, *op.outputs)
            if t >= 0 and model.tensor(t).dtype in ("float32", "float16", "float64")
        ]
        if floats and op.kind not in ("QUANTIZE", "DEQUANTIZE"):
            yield Hit(i, f"{op.kind} on {model.tensor(floats[0]).dtype}", floats[0])


@constraint(ERROR, int)
def activation_bits(model: Model, limit: int) -> Iterator[Hit]:
    """Activations have at most {limit} bits.

    Remedy: Build with a precision whose activations have 8 bits, such as w8a8.
    """
    for use in model.uses:
        if use.dtype == "int16" and limit < 16:
            yield Hit(use.op, use.text)


@constraint(ERROR)
def no_hybrid(model: Model, _: bool) -> Iterator[Hit]:
    """Integer weights on float activations need kernels that round these at run time, which it does not have.

    Remedy: Build with activations that have scales of their own, such as w8a8.
    """
    for i, op in enumerate(model.graph.ops):
        planned = model.is_float and model.bits == FLOAT and has_constant_weights(model.graph, op)
        if planned or is_hybrid(model.graph, op):
            yield Hit(i, f"{op.kind} on float32 with integer weights", slots(op).weight)


@constraint(ERROR)
def no_int4(model: Model, _: bool) -> Iterator[Hit]:
    """Weights stored as int4 are refused; Vela, the NPU's compiler, crashes at them.

    Remedy: Store the same integers as int8.
    """
    for i, t in _int4(model):
        yield Hit(i, f"{model.tensor(t).name!r} is int4", t, fix="unpack-int4")


@constraint(ERROR)
def micro_int4(model: Model, _: bool) -> Iterator[Hit]:
    """TFLite Micro takes int4 weights in convolutions, and in FULLY_CONNECTED with one scale, on int8 activations.

    Remedy: Store the same integers as int8.
    """
    for i, t in _int4(model):
        op, scales = model.graph.ops[i], model.tensor(t).quantization
        dense = op.kind == "FULLY_CONNECTED" and (scales is None or scales.axis is None)
        wide = any(use.op == i and use.dtype != "int8" for use in model.uses)
        if wide or not (dense or op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")):
            yield Hit(i, "the weights are int4", t, fix="unpack-int4")


@constraint(WARNING)
def slow_int4(model: Model, _: bool) -> Iterator[Hit]:
    """Weights stored as int4 save storage, not time, but in FULLY_CONNECTED with an even number of inputs.

    Remedy: Use int8 weights (w8a8) where speed matters more than the size of the file.
    """
    for i, t in _int4(model):
        if model.graph.ops[i].kind != "FULLY_CONNECTED" or model.tensor(t).shape[-1] % 2:
            yield Hit(i, "the weights are int4", t, fix="unpack-int4")


@constraint(ERROR)
def per_tensor_dense(model: Model, _: bool) -> Iterator[Hit]:
    """FULLY_CONNECTED takes weights with one scale only.

    Remedy: Give all channels the largest channel's scale; biases, with the correction's offsets, stay.
    """
    for i, scales in _dense_scales(model):
        yield Hit(i, f"the weights have {scales} scales", model.graph.ops[i].inputs[1], fix="per-tensor")


@constraint(ERROR)
def wide_per_tensor_dense(model: Model, _: bool) -> Iterator[Hit]:
    """CMSIS-NN's FULLY_CONNECTED on 16-bit activations takes weights with one scale only.

    Remedy: Give all channels the largest channel's scale; biases, with the correction's offsets, stay.
    """
    wide = {use.op for use in model.uses if use.kind == "FULLY_CONNECTED" and use.dtype == "int16"}
    for i, scales in _dense_scales(model):
        if i in wide:
            yield Hit(i, f"the weights have {scales} scales", model.graph.ops[i].inputs[1], fix="per-tensor")


@constraint(ERROR, int)
def multiplier(model: Model, limit: int) -> Iterator[Hit]:
    """Input scale times weight scale over output scale must be below {limit}, or XNNPACK refuses the whole file.

    Remedy: Build again with calibration data that shows the op's output at work: it looked dead.
    """
    for i, op in _linear(model):
        s = slots(op)
        x, w, y = (model.tensor(t).quantization for t in (s.data, s.weight, s.output))
        if x is None or w is None or y is None:
            continue
        largest = float(x.scale[0]) * float(w.scale.max()) / float(y.scale[0])
        if not largest < limit:
            yield Hit(i, f"it is {largest:.4g}", s.output)


@constraint(ERROR, int)
def bias_bits(model: Model, limit: int) -> Iterator[Hit]:
    """Biases have at most {limit} bits.

    Remedy: Build with 8-bit activations there, or without compensation of that op.
    """
    for i, op in _linear(model):
        t = slots(op).bias
        data = model.tensor(t).data if t >= 0 else None
        if (
            data is not None
            and data.dtype.kind == "i"
            and np.abs(data.astype(np.float64)).max(initial=0) >= 2.0**limit / 2
        ):
            yield Hit(i, f"{model.tensor(t).name!r} needs more", t)


@constraint(ERROR, int)
def ram(model: Model, limit: int) -> Iterator[Hit]:
    """Activations that must exist at the same time do not fit the RAM.

    Remedy: Make the input or the first layers smaller (they cost most), or name the board's real size with --ram.
    """
    needed, i = memory.peak(model)
    if needed > limit:
        yield Hit(
            i, f"at least {memory.mebibytes(needed)} are needed while this op runs, {memory.mebibytes(limit)} are there"
        )


@constraint(ERROR, int)
def flash(model: Model, limit: int) -> Iterator[Hit]:
    """The model does not fit the flash.

    Remedy: Use 4-bit weights (w4a8), a smaller model, or name the board's real size with --flash.
    """
    needed, i = memory.flash(model)
    if needed > limit:
        yield Hit(
            i, f"it has {memory.mebibytes(needed)}, most of it in this op, and {memory.mebibytes(limit)} are there"
        )


def _dense_scales(model: Model) -> Iterator[tuple[int, int]]:
    """Every FULLY_CONNECTED whose weights have several scales, or, in a float graph, will get one for each channel."""
    for i, op in enumerate(model.graph.ops):
        if op.kind != "FULLY_CONNECTED":
            continue
        weight = model.tensor(op.inputs[1])
        q = weight.quantization
        if model.is_float:
            scales = weight.shape[0] if weight.is_constant else 1
        else:
            scales = len(q.scale) if q is not None and q.axis is not None else 1
        if scales > 1:
            yield i, scales


def _linear(model: Model) -> Iterator[tuple[int, Op]]:
    """The linear ops of an integer graph."""
    for i, op in enumerate(model.graph.ops):
        if is_linear(op) and not model.is_float:
            yield i, op


def _int4(model: Model) -> Iterator[tuple[int, int]]:
    """Every op and tensor of int4."""
    for i, op in enumerate(model.graph.ops):
        yield from ((i, t) for t in dict.fromkeys(op.inputs) if t >= 0 and model.tensor(t).dtype == "int4")

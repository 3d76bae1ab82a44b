"""Linear ops and pooling: what works on channels first in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Op
from edgeqwt.graph.padding import same_padding
from edgeqwt.onnx_qdq.writer import Writer

LARGEST_BIAS = 2**31 - 1


def bias_of(w: Writer, op: Op, slot: int, data: int, weight: int) -> list[str]:
    """The bias as an input of a node, at the scale of the products whatever its own is; none where there is none."""
    t = op.inputs[slot] if slot < len(op.inputs) else -1
    if t < 0:
        return []
    bias, x, k = w.tensor(t), w.tensor(data).quantization, w.tensor(weight).quantization
    if bias.data is None:
        raise w.refuse("its bias is not constant")
    if bias.is_float or x is None or k is None:
        return [w.stored(t)]
    scale = (x.scale[0] * k.scale).astype(np.float32)
    if np.abs(bias.data.astype(np.int64)).max(initial=0) > LARGEST_BIAS:  # ONNX dequantizes at most 32 bits
        return [w.constant((bias.data * scale.astype(np.float64)).astype(np.float32))]
    axis: dict[str, Any] = {} if k.axis is None else {"axis": 0}
    shape = (scale.size,) if axis else ()
    zero = w.constant(np.zeros(shape, np.int32))
    value = w.constant(bias.data.astype(np.int32), bias.name)
    return [w.node("DequantizeLinear", [value, w.constant(scale.reshape(shape)), zero], **axis)]


def window(w: Writer, op: Op, size: tuple[int, int]) -> dict[str, Any]:
    """Attributes of a window that moves over an image: strides, dilations, pads, as TFLite computes them."""
    o = op.options
    strides = int(o.get("strideH", 1)), int(o.get("strideW", 1))
    dilations = int(o.get("dilationHFactor", 1)), int(o.get("dilationWFactor", 1))
    pads = same_padding(op, w.tensor(op.inputs[0]).shape[1:3], size)
    found: dict[str, Any] = {
        "strides": strides,
        "pads": (pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
        "kernel_shape": size,
    }
    return found | ({"dilations": dilations} if dilations != (1, 1) else {})


def conv(w: Writer, op: Op) -> None:
    """CONV_2D, with groups where the weights have fewer channels than the input."""
    x, kernels = (w.tensor(t).shape for t in op.inputs[:2])
    _conv(w, op, (0, 3, 1, 2), x[3] // kernels[3])


def depthwise(w: Writer, op: Op) -> None:
    """DEPTHWISE_CONV_2D: one group per input channel."""
    _conv(w, op, (3, 0, 1, 2), w.tensor(op.inputs[0]).shape[3])


def _conv(w: Writer, op: Op, order: Sequence[int], group: int) -> None:
    x, t = op.inputs[:2]
    weights, (height, width) = w.weights(t, order), w.tensor(t).shape[1:3]
    inputs = [w.real(x, True), weights, *bias_of(w, op, 2, x, t)]
    attributes = window(w, op, (height, width))
    w.give(op.outputs[0], w.node("Conv", inputs, group=group, **attributes), True, op.activation)


def transpose_conv(w: Writer, op: Op) -> None:
    """TRANSPOSE_CONV: its output's size decides about the pads at the end."""
    _, t, x = op.inputs[:3]
    weights = w.weights(t, (3, 0, 1, 2), axis=1)
    strides = int(op.options.get("strideH", 1)), int(op.options.get("strideW", 1))
    image, out, size = (w.tensor(u).shape[1:3] for u in (x, op.outputs[0], t))
    spans = [(i - 1) * s + k for i, s, k in zip(image, strides, size, strict=True)]
    same = str(op.options.get("padding", "SAME")) == "SAME"
    begins = [max(span - n, 0) // 2 if same else 0 for span, n in zip(spans, out, strict=True)]
    ends = [span - n - begin for span, n, begin in zip(spans, out, begins, strict=True)]
    more = [max(-end, 0) for end in ends]
    node = w.node(
        "ConvTranspose",
        [w.real(x, True), weights, *bias_of(w, op, 3, x, t)],
        strides=strides,
        kernel_shape=size,
        pads=(*begins, *(max(end, 0) for end in ends)),
        output_padding=more,
    )
    w.give(op.outputs[0], node, True, op.activation)


def dense(w: Writer, op: Op) -> None:
    """FULLY_CONNECTED: Gemm on rows, reshaped to them and back where the file has another rank."""
    x, t, y = op.inputs[0], op.inputs[1], op.outputs[0]
    source, out, weight = w.tensor(x), w.tensor(y), w.tensor(t)
    terms = weight.shape[-1]
    rows = (source.size // terms, terms)
    value = w.real(x)
    if source.shape != rows:
        value = w.between(reshaped(w, value, rows), x)
    found = w.node("Gemm", [value, w.real(t), *bias_of(w, op, 2, x, t)], transB=1)
    if out.shape == (rows[0], weight.shape[0]):
        w.give(y, found, activation=op.activation)
        return
    w.give(y, reshaped(w, w.between(found, y), out.shape), activation=op.activation)


def matmul(w: Writer, op: Op) -> None:
    """BATCH_MATMUL."""
    sides = []
    for t, flag in zip(op.inputs, ("adjX", "adjY"), strict=True):
        value = w.real(t)
        if op.options.get(flag):
            rank = len(w.tensor(t).shape)
            value = w.between(w.node("Transpose", [value], perm=(*range(rank - 2), rank - 1, rank - 2)), t)
        sides.append(value)
    w.give(op.outputs[0], w.node("MatMul", sides))


def pool(w: Writer, op: Op) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D, on the integers as they are."""
    size = int(op.options["filterHeight"]), int(op.options["filterWidth"])
    kind = "MaxPool" if op.kind == "MAX_POOL_2D" else "AveragePool"
    node = w.node(kind, [w.moved(op.inputs[0], op, True)], **window(w, op, size))
    w.give(op.outputs[0], node, True, op.activation)


def reshaped(w: Writer, value: str, shape: tuple[int, ...]) -> str:
    """A value in another shape."""
    return w.node("Reshape", [value, w.constant(np.array(shape, np.int64))])

"""Fold a correction into a linear op's weight scales and int32 bias: no op, no byte is added.

With accumulator acc[c] = sum((x_q - z_x) * w_q[c]) + b_q[c] the op's real output before its
activation is s_x * s_w[c] * acc[c]. Wanted is g * s_x * s_w * acc + o, so
    s_w' = s_w * |g|
    b_q' = round(sign(g) * b_q + o / (s_x * s_w'))          at bias scale s_x * s_w'
and, where g < 0, the channel's int8 weights change sign, which is exact because they lie
within +-127. The multiplier s_x * s_w' / s_y is all that the kernels see of it.

Legal where (each number is a guard below):
 (1) the op's weights and bias are constants that no other op reads;
 (2) weights are per channel, or every gain is 1;
 (3) the bias, where an offset or a sign needs it, exists and stays within int32;
 (4) the requantization multiplier stays below XNNPACK's limit;
 (5) the sign of a channel changes only if its buffer is not shared, and holds no -128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.compensate.solve import Correction
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import RULES
from edgeqwt.quantize.weights import MULTIPLIER_LIMIT, bias_quantization

BIAS_MAX = 2**31 - 1

SHARED = "weights or bias are shared with another op"
PER_TENSOR = "weights have one scale for all channels"
NO_BIAS = "the op has no bias to hold an offset"
BIAS_OVERFLOW = "the bias would not fit int32"
MULTIPLIER = "the requantization multiplier would reach 256"
SIGN = "the weights cannot change sign"


@dataclass(frozen=True, eq=False)
class Slots:
    """Where one linear op keeps what a correction touches; tensor indices, bias -1 where absent."""

    data: int
    weight: int
    bias: int
    output: int


def slots(op: Op) -> Slots:
    """The slots of a linear op."""
    rule = RULES[op.kind]
    assert rule.weight is not None
    assert rule.bias is not None
    bias = op.inputs[rule.bias] if rule.bias < len(op.inputs) else -1
    return Slots(op.inputs[rule.data], op.inputs[rule.weight], bias, op.outputs[0])


def room(graph: Graph, op_index: int) -> tuple[bool, bool, str]:
    """Whether the op has room for a gain, and for an offset, and what is missing (guards 1 to 3)."""
    s = slots(graph.ops[op_index])
    readers = graph.consumers()
    if any(t >= 0 and len(readers[t]) > 1 for t in (s.weight, s.bias)):
        return False, False, SHARED
    weight_q = graph.tensors[s.weight].quantization
    assert weight_q is not None
    per_channel = weight_q.axis is not None or graph.tensors[s.output].shape[-1] == 1
    missing = PER_TENSOR if not per_channel else NO_BIAS if s.bias < 0 else ""
    return per_channel, s.bias >= 0, missing


def fold(graph: Graph, op_index: int, correction: Correction) -> tuple[Graph, Correction]:
    """The graph with the correction folded in, and what of it was: refused channels are left alone."""
    s = slots(graph.ops[op_index])
    weight, x, y = (graph.tensors[t] for t in (s.weight, s.data, s.output))
    assert weight.quantization is not None
    assert x.quantization is not None
    assert y.quantization is not None
    assert weight.data is not None
    axis = RULES[graph.ops[op_index].kind].channel_axis
    x_scale, y_scale = x.quantization.scale[0], float(y.quantization.scale[0])
    old = np.broadcast_to(weight.quantization.scale, correction.gain.shape)
    bias = graph.tensors[s.bias].data if s.bias >= 0 else np.zeros(correction.gain.shape, np.int32)
    assert bias is not None

    gain, offset, refused = correction.gain.copy(), correction.offset.copy(), dict(correction.refused)

    def refuse(channels: Array, reason: str) -> None:
        hit = channels & ((gain != 1) | (offset != 0))
        if hit.any():
            gain[hit], offset[hit] = 1.0, 0.0
            refused[reason] = refused.get(reason, 0) + int(hit.sum())

    if _shares_buffer(graph, s.weight) or (weight.data.min(initial=0) == -128):
        refuse(gain < 0, SIGN)
    refuse(float(x_scale) * old * np.abs(gain) / y_scale > MULTIPLIER_LIMIT, MULTIPLIER)
    refuse(np.abs(_bias(bias, x_scale, old, gain, offset)) > BIAS_MAX, BIAS_OVERFLOW)

    scale = (old.astype(np.float64) * np.abs(gain)).astype(np.float32)
    changes: dict[int, Tensor] = {}
    if not np.array_equal(scale, old):
        q = Quantization(scale, np.zeros(scale.shape, np.int64), weight.quantization.axis)
        changes[s.weight] = without_range(replace(weight, quantization=q))
    if (gain < 0).any():
        sign = (
            np.where(gain < 0, -1, 1).astype(np.int8).reshape([-1 if i == axis else 1 for i in range(weight.data.ndim)])
        )
        changes[s.weight] = replace(changes.get(s.weight, weight), data=weight.data * sign)
    if s.bias >= 0:
        new = _bias(bias, x_scale, old, gain, offset).astype(bias.dtype)
        changes[s.bias] = requantized_bias(graph.tensors[s.bias], new, x_scale, scale)
    return graph.with_tensors(changes), Correction(gain, offset, refused)


def requantized_bias(bias: Tensor, data: Array, x_scale: np.float32, weight_scale: Array) -> Tensor:
    """The bias tensor with other integers, at the scale that the kernels imply.

    Per-tensor biases (of per-tensor weights) stay per tensor.
    """
    q = bias_quantization(x_scale, weight_scale)
    if bias.quantization is not None and bias.quantization.axis is None and len(set(q.scale.tolist())) == 1:
        q = Quantization(q.scale[: bias.quantization.scale.size], bias.quantization.zero_point, None)
    return without_range(replace(bias, data=data, quantization=q))


def without_range(tensor: Tensor) -> Tensor:
    """The tensor without the file's informative min and max, which a new scale would contradict."""
    return replace(tensor, extra={k: v for k, v in tensor.extra.items() if k not in ("min", "max")})


def _bias(bias: Array, x_scale: np.float32, weight_scale: Array, gain: Array, offset: Array) -> Array:
    # The kernels' bias step is the float32 product, so divide by exactly that.
    step = (np.float32(x_scale) * (weight_scale * np.abs(gain)).astype(np.float32)).astype(np.float64)
    shifted: Array = np.rint(np.sign(gain) * bias.astype(np.float64) + offset / step)
    return shifted


def _shares_buffer(graph: Graph, tensor: int) -> bool:
    data = graph.tensors[tensor].data
    assert data is not None
    others: Mapping[int, Tensor] = {i: t for i, t in enumerate(graph.tensors) if i != tensor}
    return any(t.data is not None and np.shares_memory(t.data, data) for t in others.values())

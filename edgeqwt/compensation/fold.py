"""Fold a correction into a linear op's weight scales and integer bias: no op, no byte is added.

With accumulator acc[c] = sum((x_q - z_x) * w_q[c]) + b_q[c] the op's real output before its
activation is s_x * s_w[c] * acc[c]. Wanted is g * s_x * s_w * acc + o, so
    s_w' = s_w * |g|
    b_q' = round(sign(g) * b_q + o / (s_x * s_w'))          at bias scale s_x * s_w'
and, where g < 0, the channel's int8 weights change sign, which is exact because they lie
within +-127. The multiplier s_x * s_w' / s_y is all that the kernels see of it.

Legal where (each number is a guard below):
 (1) a gain: the weights are per channel, and no other op reads them or the bias;
 (2) an offset, or a sign: the bias, if the op has one, is in nobody else's hands;
 (3) an offset: the op has a bias, and it stays within its type;
 (4) the requantization multiplier stays below the kernels' limit;
 (5) a sign: the weights' buffer is in nobody else's hands, and the lowest integer is not in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.compensation.channel_constants import channel_slots_of, constant_of, fold_constant, is_constant_op
from edgeqwt.compensation.solve import Correction
from edgeqwt.graph.graph import Array, Graph, Quantization, Tensor
from edgeqwt.graph.linear import Slots, along, is_hybrid, slots
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.runtime.boundary import limits, real
from edgeqwt.scales.weights import bias_quantization

SHARED_WEIGHTS = "the weights are shared with another op"
SHARED_BIAS = "the bias is shared with another op"
PER_TENSOR = "the weights have one scale for all channels"
NO_BIAS = "the op has no bias to hold an offset"
BIAS_OVERFLOW = "the bias would not fit its type"
MULTIPLIER = "the requantization multiplier would be more than the kernels take"
SIGN = "the weights cannot change sign"
SHARED_CONSTANT = "the constant is shared with another op"


@dataclass(frozen=True)
class Headroom:
    """Which corrections an op has headroom for, and the reason where it has none."""

    gain: bool
    offset: bool
    missing: tuple[str, ...] = ()


def headroom(graph: Graph, op_index: int) -> Headroom:
    """Which corrections the op has headroom for (guards 1 to 3)."""
    _, readers = graph.links
    if is_constant_op(graph, op_index):
        return _headroom_of_constant(graph, op_index, readers)
    s = slots(graph.ops[op_index])
    if s.bias >= 0 and len(readers[s.bias]) > 1:
        return Headroom(False, False, (SHARED_BIAS,))
    per_channel = graph.tensors[s.output].shape[-1] == len(quantization(graph, s.weight).scale)
    no_gain = PER_TENSOR if not per_channel else SHARED_WEIGHTS if len(readers[s.weight]) > 1 else ""
    no_offset = NO_BIAS if s.bias < 0 else SHARED_BIAS if shares_buffer(graph, s.bias) else ""
    return Headroom(not no_gain, not no_offset, tuple(filter(None, (no_gain, no_offset))))


def _headroom_of_constant(graph: Graph, op_index: int, readers: Mapping[int, Sequence[int]]) -> Headroom:
    s, constant = channel_slots_of(graph, op_index), constant_of(graph, op_index)
    if len(readers[constant]) > 1 or shares_buffer(graph, constant):
        return Headroom(False, False, (SHARED_CONSTANT,))
    return Headroom(s.weight >= 0, s.bias >= 0)


def fold(graph: Graph, op_index: int, correction: Correction) -> tuple[Graph, Correction]:
    """The graph with the correction folded in, and what of it was: refused channels are left alone.

    Args:
        graph: an integer graph.
        op_index: an op that `headroom` allows the correction's parts in.
        correction: for the op's output channels.
    """
    if is_constant_op(graph, op_index):
        return fold_constant(graph, op_index, correction)
    s = slots(graph.ops[op_index])
    weight, bias = graph.tensors[s.weight], graph.tensors[s.bias] if s.bias >= 0 else None
    old = quantization(graph, s.weight).scale
    if is_hybrid(graph, graph.ops[op_index]):
        return _fold_hybrid(graph, s, correction)
    x_scale = quantization(graph, s.data).scale[0]
    largest = rule_at(graph.ops[op_index].kind, bits_of(graph, graph.ops[op_index])).largest_ratio
    correction = _guarded(graph, s, correction, largest)
    folded = _with_gain(weight, s.axis, correction.gain)
    changes: dict[int, Tensor] = {s.weight: folded} if folded is not weight else {}
    if bias is not None:
        scale = old if folded.quantization is None else folded.quantization.scale
        integers = _integers(bias, x_scale, scale, correction)
        changes[s.bias] = with_bias(bias, integers, x_scale, scale)
    return graph.with_tensors(changes), correction


def _fold_hybrid(graph: Graph, s: Slots, correction: Correction) -> tuple[Graph, Correction]:
    """The same where activations are rounded at run time: g goes into the weights' scales, g·b + o is the bias."""
    correction = _guarded(graph, s, correction, np.inf)
    weight, changes = graph.tensors[s.weight], dict[int, Tensor]()
    folded = _with_gain(weight, s.axis, correction.gain)
    if folded is not weight:
        changes[s.weight] = folded
    if s.bias >= 0:
        bias = graph.tensors[s.bias]
        moved = correction.gain * bias.stored.astype(np.float64) + correction.offset
        changes[s.bias] = replace(bias, data=moved.astype(np.float32))
    return graph.with_tensors(changes), correction


def _with_gain(weight: Tensor, axis: int, gain: Array) -> Tensor:
    """The weights with a gain in their scales and its sign in their integers; the same tensor where it changes none."""
    old, found = weight.grid.scale, weight
    # A single scale stays one: then every gain is 1.
    scale = (old * (np.abs(gain) if len(old) == len(gain) else 1)).astype(np.float32)
    if not np.array_equal(scale, old):
        found = with_quantization(weight, replace(weight.grid, scale=scale))
    if (gain < 0).any():
        negated = weight.stored * along(np.sign(gain).astype(np.int8), axis, weight.stored.ndim)
        found = replace(found, data=negated)
    return found


def quantization(graph: Graph, tensor: int) -> Quantization:
    """The quantization of a tensor that has one."""
    q = graph.tensors[tensor].grid
    return q


def with_bias(bias: Tensor, integers: Array, x_scale: np.float32, weight_scale: Array) -> Tensor:
    """The bias tensor with other integers, at the scale that the kernels imply.

    Args:
        bias: a constant.
        integers: its new values; where they are the old ones, the old array stays, so that a
            buffer that tensors share stays shared.
        x_scale: scale of the op's input.
        weight_scale: of the op's weights, shape (channels,) or (1,).
    """
    data = bias.stored if np.array_equal(bias.stored, integers) else integers.astype(bias.stored.dtype)
    if bias.quantization is not None:
        scale = bias_quantization(x_scale, weight_scale).scale
        scale = np.broadcast_to(scale, bias.quantization.scale.shape) if len(scale) == 1 else scale
        q = Quantization(scale, np.zeros(scale.shape, np.int64), 0 if len(weight_scale) > 1 else None)
        bias = with_quantization(bias, q)
    return replace(bias, data=data)


def with_quantization(tensor: Tensor, q: Quantization) -> Tensor:
    """The tensor at another scale, its informative minimum and maximum, if it has them, renewed."""
    extra = dict(tensor.extra)
    low, high = limits(tensor.dtype)
    for key, end in (("min", low), ("max", high)):
        if extra.get(key) is not None and len(extra[key]) == len(q.scale):
            extra[key] = real(np.full(q.scale.shape, end), replace(q, axis=0))
    return replace(tensor, quantization=q, extra=extra)


def shares_buffer(graph: Graph, tensor: int) -> bool:
    """Whether another tensor of the file holds the same array as this constant."""
    data = graph.tensors[tensor].data
    others = [t for i, t in enumerate(graph.tensors) if i != tensor] + [t for g in graph.others for t in g.tensors]
    return data is not None and any(t.data is not None and np.may_share_memory(t.data, data) for t in others)


def _guarded(graph: Graph, s: Slots, correction: Correction, largest_multiplier: float) -> Correction:
    """The correction without the channels that guards 3 to 5 refuse."""
    weight, old = graph.tensors[s.weight], quantization(graph, s.weight).scale.astype(np.float64)
    gain, offset, refused = correction.gain.copy(), correction.offset.copy(), dict(correction.refused)

    def refuse(channels: Array, reason: str) -> None:
        hit = channels & ((gain != 1) | (offset != 0))
        gain[hit], offset[hit] = 1.0, 0.0
        if hit.any():
            refused[reason] = refused.get(reason, 0) + int(hit.sum())

    in_use = weight.stored.min(initial=0) == limits(weight.dtype)[0]
    if in_use or any(shares_buffer(graph, t) for t in (s.weight, s.bias) if t >= 0):
        refuse(gain < 0, SIGN)
    if graph.tensors[s.data].is_float:  # and so is the bias
        return replace(correction, gain=gain, offset=offset, refused=refused)
    x_scale, y_scale = quantization(graph, s.data).scale[0], float(quantization(graph, s.output).scale[0])
    refuse(float(x_scale) * old * np.abs(gain) / y_scale > largest_multiplier, MULTIPLIER)
    if s.bias >= 0:
        bias, scale = graph.tensors[s.bias], (old * np.abs(gain)).astype(np.float32)
        integers = _integers(bias, x_scale, scale, Correction(gain, offset, refused))
        refuse(np.abs(integers) > bias_limit(bias), BIAS_OVERFLOW)
    return replace(correction, gain=gain, offset=offset, refused=refused)


def bias_limit(bias: Tensor) -> int:
    """The largest magnitude of a bias's integers."""
    # Kernels and NPUs keep 40 bits of a 64-bit bias.
    return 2**31 - 1 if bias.dtype == "int32" else 2**39 - 1


def _integers(bias: Tensor, x_scale: np.float32, weight_scale: Array, correction: Correction) -> Array:
    """sign(g) * b_q + o / (s_x * s_w'), rounded, float64."""
    # The kernels' bias step is the float32 product, so divide by exactly that.
    step = bias_quantization(x_scale, weight_scale).scale.astype(np.float64)
    return np.rint(np.sign(correction.gain) * bias.stored.astype(np.float64) + correction.offset / step)

"""Constants per channel that compensation folds into: x * gamma takes a gain, x + beta an offset.

LayerNorm's gamma and beta are such constants; those by which an equalization multiplies channels are others. Their
scale is one for all channels, so a correction changes the integers: gamma' = round(g gamma), beta' = round(beta + o),
and what is fitted is judged as it is after that rounding. With 8 bits few gains survive it, with 16 most do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgeqwt.compensation.solve import Correction
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import Slots, is_linear, slots
from edgeqwt.runtime.boundary import limits

KINDS: Mapping[str, str] = MappingProxyType({"MUL": "gain", "ADD": "offset"})
"""Kinds of ops on a tensor and a constant per channel, and what the constant can take up."""


def channel_slots(graph: Graph, op: Op) -> Slots | None:
    """Where an op keeps what a correction changes: `weight` takes gains, `bias` offsets; -1 where neither goes there.

    Returns:
        A linear op's own slots; of an op in `KINDS` the constant, if it has a value for each channel; else None.
    """
    if is_linear(op):
        return slots(op)
    if op.kind not in KINDS:
        return None
    out = graph.tensors[op.outputs[0]]
    if not out.is_float and out.quantization is None:  # plain integers, such as indices
        return None
    for data, constant in (op.inputs, op.inputs[::-1]):
        x, numbers = graph.tensors[data], graph.tensors[constant]
        by_channel = numbers.is_constant and numbers.shape and numbers.size == numbers.shape[-1] == out.shape[-1] > 1
        if by_channel and not x.is_constant and x.shape == out.shape:
            takes_gain = KINDS[op.kind] == "gain"
            return Slots(data, constant if takes_gain else -1, -1 if takes_gain else constant, op.outputs[0])
    return None


def channel_slots_of(graph: Graph, i: int) -> Slots:
    """The slots of an op that has them."""
    found = channel_slots(graph, graph.ops[i])
    assert found is not None
    return found


def constant_ops(graph: Graph) -> list[int]:
    """Indices of the ops on a tensor and a constant per channel."""
    return [i for i in range(len(graph.ops)) if is_constant_op(graph, i)]


def is_constant_op(graph: Graph, i: int) -> bool:
    """Whether an op is one of those."""
    return graph.ops[i].kind in KINDS and channel_slots(graph, graph.ops[i]) is not None


def constant_of(graph: Graph, i: int) -> int:
    """The constant of one of those, as a tensor's index."""
    found = channel_slots_of(graph, i)
    return max(found.weight, found.bias)


def realized(graph: Graph, i: int, gain: Array, offset: Array) -> tuple[Array, Array]:
    """What is left of gains and offsets per channel when the constant's integers are rounded to them.

    Args:
        graph: integer.
        i: an op on a constant per channel.
        gain: shape (channels,); 1 for an op that adds.
        offset: shape (channels,); 0 for an op that multiplies.
    """
    old, new, step = _integers(graph, i, gain, offset)
    if KINDS[graph.ops[i].kind] == "offset":
        return gain, step * (new - old)
    return np.divide(new, old, out=np.ones_like(new), where=old != 0), offset


def fold_constant(graph: Graph, i: int, correction: Correction) -> tuple[Graph, Correction]:
    """The graph with the correction in the constant's integers; what `realized` gave comes back as it is."""
    _, new, _ = _integers(graph, i, correction.gain, correction.offset)
    t = constant_of(graph, i)
    tensor = graph.tensors[t]
    integers = (new + int(tensor.grid.zero_point[0])).reshape(tensor.shape).astype(tensor.stored.dtype)
    return graph.with_tensors({t: replace(tensor, data=integers)}), correction


def values(graph: Graph, i: int) -> Array:
    """The constant's real values."""
    return graph.tensors[constant_of(graph, i)].real


def _integers(graph: Graph, i: int, gain: Array, offset: Array) -> tuple[Array, Array, float]:
    """The constant's integers less their zero point, before and after, float64, shape (channels,); and their step."""
    tensor = graph.tensors[constant_of(graph, i)]
    step, zero_point = float(tensor.grid.scale[0]), int(tensor.grid.zero_point[0])
    old = tensor.stored.reshape(-1).astype(np.float64) - zero_point
    low, high = limits(tensor.dtype)
    return old, np.clip(np.rint(gain * old + offset / step), low - zero_point, high - zero_point), step

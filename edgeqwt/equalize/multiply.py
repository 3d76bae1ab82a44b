"""Multiply channels of a float graph: rewrite the constants where factors change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeqwt.equalize.channels import table_columns
from edgeqwt.equalize.factors import FIXED, Channels, by_channel, by_element, varying
from edgeqwt.equalize.products import constant_shape, upright
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import along, is_linear, slots
from edgeqwt.graph.opset import RULES


def multiplied(graph: Graph, channels: Channels, factors: Array) -> Graph:
    """The graph with every channel multiplied by its factor; the same function.

    Constants that several ops read become one for each. The tensors of the old graph keep their indices.

    Args:
        graph: float.
        channels: its factors' numbers.
        factors: positive, float64, shape (channels.count,); those of ANY and FIXED are 1.
    """
    tensors, ops, readers = list(graph.tensors), list(graph.ops), graph.consumers()
    for i, op in enumerate(graph.ops):
        for slot, data in _rewritten(graph, op, channels, factors):
            old = tensors[op.inputs[slot]]
            new = replace(old, data=data.astype(np.float32), shape=data.shape, shape_signature=None)
            if readers[op.inputs[slot]] == [i] and op.inputs.count(op.inputs[slot]) == 1:
                tensors[op.inputs[slot]] = new
                continue
            inputs = list(ops[i].inputs)
            inputs[slot] = len(tensors)
            tensors.append(replace(new, name=f"{old.name}/{graph.tensors[op.outputs[0]].name}"))
            ops[i] = replace(ops[i], inputs=tuple(inputs))
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))


def _rewritten(graph: Graph, op: Op, channels: Channels, factors: Array) -> Iterator[tuple[int, Array]]:
    """The op's constants that factors change: input slots and new values, float64."""
    if op.outputs[0] not in channels.of:
        return
    if is_linear(op):
        yield from _linear(graph, op, channels, factors)
    elif table_columns(graph, op):
        yield from _changed(graph, op, 0, factors[by_channel(channels.of[op.outputs[0]])])
    elif op.kind == "CONCATENATION":
        yield from _joined(graph, op, factors[channels.of[op.outputs[0]]])
    elif (met := constant_factors(graph, op, channels)) is not None:
        slot, taken, given = met
        yield from _changed(graph, op, slot, factors[given] / factors[taken])


def constant_factors(graph: Graph, op: Op, channels: Channels) -> tuple[int, Array, Array] | None:
    """Where ADD, SUB, MUL or BATCH_MATMUL has a constant operand, and the factors that each of its elements meets.

    Returns:
        Its input slot; the numbers of the factors that it divides by, and of those that it multiplies by: of shapes
        that the constant can be multiplied by. None where the op has no such operand.
    """
    slot = next((s for s, t in enumerate(op.inputs) if t >= 0 and graph.tensors[t].is_constant), None)
    if op.kind not in ("ADD", "SUB", "MUL", "BATCH_MATMUL") or slot is None or op.inputs[1 - slot] not in channels.of:
        return None
    x, y = channels.of[op.inputs[1 - slot]], channels.of[op.outputs[0]]
    if op.kind == "BATCH_MATMUL":
        return slot, *_matrix(graph, op, slot, x, y)
    x, own = np.broadcast_to(x, y.shape), graph.tensors[op.inputs[slot]].shape
    own = (1,) * (y.ndim - len(own)) + own
    apart = np.any([varying(x), varying(y)], axis=0)
    wide = tuple(n if varies else o for n, o, varies in zip(y.shape, own, apart, strict=True))
    return slot, by_element(x, wide) if op.kind == "MUL" else np.full(wide, FIXED), by_element(y, wide)


def _matrix(graph: Graph, op: Op, slot: int, x: Array, y: Array) -> tuple[Array, Array]:
    """The factors that the elements of a BATCH_MATMUL's constant meet: of what it reads, and of what it gives."""
    *batch, rows, columns = constant_shape(graph, op, slot)
    other = upright(op, 1 - slot, x)
    other = np.broadcast_to(other, (*y.shape[:-2], *other.shape[-2:]))
    if slot == 1:
        taken, given = by_element(other, (*batch, 1, rows)), by_element(y, (*batch, 1, columns))
    else:
        taken, given = by_element(other, (*batch, columns, 1)), by_element(y, (*batch, rows, 1))
    return upright(op, slot, taken.swapaxes(-1, -2)), upright(op, slot, given)


def _changed(graph: Graph, op: Op, slot: int, scale: Array) -> Iterator[tuple[int, Array]]:
    """A constant times some factors, unless they are all 1."""
    data = graph.tensors[op.inputs[slot]].stored
    if (scale != 1).any():
        new = data.astype(np.float64) * scale
        while new.ndim > data.ndim and new.shape[0] == 1:
            new = new[0]
        yield slot, new


def _joined(graph: Graph, op: Op, out: Array) -> Iterator[tuple[int, Array]]:
    """CONCATENATION's constants, given the factors of all elements of its output."""
    axis, start = int(op.options.get("axis", 0)) % out.ndim, 0
    for slot, t in enumerate(op.inputs):
        end = start + graph.tensors[t].shape[axis]
        if graph.tensors[t].is_constant:
            yield from _changed(graph, op, slot, out[(slice(None),) * axis + (slice(start, end),)])
        start = end


def _linear(graph: Graph, op: Op, channels: Channels, factors: Array) -> Iterator[tuple[int, Array]]:
    s, rule = slots(op), RULES[op.kind]
    held, weights = [graph.tensors[t] for t in (s.weight, s.bias) if t >= 0], graph.tensors[s.weight].data
    if weights is None or not all(tensor.is_constant and tensor.is_float for tensor in held):
        return
    out = factors[by_channel(channels.of[s.output])]
    scale = np.broadcast_to(along(out, s.axis, weights.ndim), weights.shape)
    if s.data in channels.of:
        scale = scale / _met(op, weights.shape, factors[input_channels(op, weights.shape, channels.of[s.data])])
    assert rule.weight is not None
    yield from _changed(graph, op, rule.weight, scale)
    if s.bias >= 0 and rule.bias is not None:
        yield from _changed(graph, op, rule.bias, out)


def input_channels(op: Op, weights: tuple[int, ...], factors: Array) -> Array:
    """The factors of a linear op's input channels; FULLY_CONNECTED may read several axes as one."""
    return by_channel(factors.reshape(-1, weights[1]) if op.kind == "FULLY_CONNECTED" else factors)


def _met(op: Op, shape: tuple[int, ...], inputs: Array) -> Array:
    """The factor of the input that each weight meets; broadcasts to the weights' shape."""
    if op.kind == "DEPTHWISE_CONV_2D":
        return np.repeat(inputs, shape[-1] // len(inputs))
    if op.kind == "CONV_2D" and shape[-1] != len(inputs):
        groups = len(inputs) // shape[-1]
        return np.repeat(inputs.reshape(groups, -1), shape[0] // groups, axis=0)[:, None, None, :]
    return inputs

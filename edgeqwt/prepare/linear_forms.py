"""Linear ops: written as one op with weights and bias, so that they are quantized (and compensated) as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.linear import along, is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.prepare.rewriting import DENSE, Site, constant, rewrites, sole_reader, value, without


@rewrites("CONV_2D", "DEPTHWISE_CONV_2D")
def zero_bias(at: Site) -> Op | None:
    """Gives convolutions without a bias one of zeros: LiteRT's float kernels do not run without."""
    if slots(at.op).bias >= 0 or not at.out.is_float:
        return None
    channels = at.shape(at.op.inputs[1])[slots(at.op).axis]
    return replace(at.op, inputs=(*at.op.inputs[:2], at.constant("bias", np.zeros(channels, np.float32))))


@rewrites("BATCH_MATMUL")
def matmul(at: Site) -> Op | None:
    """x @ constant: FULLY_CONNECTED wants the constant as (outputs, inputs)."""
    x, right = at.tensor(at.op.inputs[0]), at.value(at.op.inputs[1])
    if right is None or right.ndim < 2 or right.shape[:-2] != (1,) * (right.ndim - 2):
        return None
    rank_grows = right.ndim > len(x.shape)  # the result would have the constant's rank
    if x.is_constant or not x.is_float or len(x.shape) < 2 or at.op.options.get("adjX") or rank_grows:
        return None
    weights = right.reshape(right.shape[-2:])
    weights = np.ascontiguousarray(weights if at.op.options.get("adjY") else weights.T)
    inputs = (at.op.inputs[0], constant(at.editor, at.tensor(at.op.inputs[1]).name, weights))
    return Op("FULLY_CONNECTED", inputs, at.op.outputs, DENSE, version=6)


def fold_scale(graph: Graph) -> tuple[Graph, list[str]]:
    """Linear ops followed by MUL with one constant per output channel: the factor goes into weights and bias.

    Through RELU as well where no factor is negative: k max(0, x) = max(0, k x).
    """
    return _each_follower(graph, _scaled)


def fold_shift(graph: Graph) -> tuple[Graph, list[str]]:
    """Linear ops followed by ADD or SUB of one constant per output channel: it goes into the bias."""
    return _each_follower(graph, _shifted)


Merge = Callable[[Graph, int], Graph | None]
"""Merges a linear op with what follows it; None if that cannot be."""


def _each_follower(graph: Graph, merge: Merge) -> tuple[Graph, list[str]]:
    names, i = list[str](), 0
    while i < len(graph.ops):
        merged = merge(graph, i)
        if merged is None:
            i += 1
        else:  # the op may have a new follower now
            graph = merged
            names.append(graph.tensors[graph.ops[i].outputs[0]].name)
    return graph, names


def _scaled(graph: Graph, index: int) -> Graph | None:
    found = _follower(graph, index, ("MUL",), ("NONE", "RELU"))
    if found is None:
        return None
    op, (follower, factor) = graph.ops[index], found
    if op.activation == "RELU" and not (factor >= 0).all():
        return None
    weights, bias = graph.tensors[op.inputs[1]].stored, _bias_values(graph, op)
    return _merged(graph, index, follower, weights * along(factor, slots(op).axis, weights.ndim), bias * factor)


def _shifted(graph: Graph, index: int) -> Graph | None:
    found = _follower(graph, index, ("ADD", "SUB"))
    if found is None:
        return None
    follower, shift = found
    if graph.ops[follower].kind == "SUB":
        if value(graph, graph.ops[follower].inputs[1]) is None:
            return None  # constant - y would flip the sign of the weights
        shift = -shift
    return _merged(graph, index, follower, None, _bias_values(graph, graph.ops[index]) + shift)


def _follower(
    graph: Graph, index: int, kinds: tuple[str, ...], activations: tuple[str, ...] = ("NONE",)
) -> tuple[int, Array] | None:
    """The one reader of a linear op's output, if it combines it with a constant per channel; and that constant."""
    op = graph.ops[index]
    if not is_linear(op) or op.activation not in activations or value(graph, op.inputs[1]) is None:
        return None
    reader = sole_reader(graph, op.outputs[0])
    if reader is None or graph.ops[reader].kind not in kinds:
        return None
    other = next((t for t in graph.ops[reader].inputs if t != op.outputs[0]), -1)
    data, out = value(graph, other), graph.tensors[op.outputs[0]]
    bias = slots(op).bias
    if data is None or data.dtype != np.float32 or (bias >= 0 and value(graph, bias) is None):
        return None
    channels = out.shape[-1]
    if data.ndim > len(out.shape) or not (data.size == 1 or data.shape[-1] == data.size == channels):
        return None
    return reader, np.broadcast_to(data.reshape(-1), (channels,))


def _merged(graph: Graph, index: int, follower: int, weights: Array | None, bias: Array) -> Graph:
    """The linear op with new constants, writing what its follower wrote."""
    op, after, editor = graph.ops[index], graph.ops[follower], Editor(graph)
    rule = RULES[op.kind]
    assert rule.bias is not None
    inputs = [*op.inputs, *[-1] * (rule.bias + 1 - len(op.inputs))]
    if weights is not None:
        inputs[1] = constant(editor, graph.tensors[op.inputs[1]].name, np.ascontiguousarray(weights, np.float32))
    inputs[rule.bias] = constant(editor, f"{graph.tensors[after.outputs[0]].name}/bias", bias.astype(np.float32))
    activation = op.activation if after.activation == "NONE" else after.activation
    activated = op.with_options(fusedActivationFunction=activation)
    merged = replace(activated, inputs=tuple(inputs), outputs=after.outputs)
    if op.kind == "TRANSPOSE_CONV":
        merged = replace(merged, version=4 if activation != "NONE" else 3)
    return without(graph, {follower}, {index: merged}, editor)


def _bias_values(graph: Graph, op: Op) -> Array:
    data = value(graph, slots(op).bias)
    return np.zeros(graph.tensors[op.inputs[1]].shape[slots(op).axis], np.float32) if data is None else data

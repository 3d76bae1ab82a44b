"""Pairs the linear ops of an integer graph with those of its float reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.quantize.weights import dequantize

# Cosine of two equally shaped random weight tensors is about 0; of weights and their own
# 2-bit rounding still above 0.8.
SIMILAR = 0.7


@dataclass(frozen=True)
class Pair:
    """One linear op in both graphs, by op index."""

    integer: int
    reference: int


def linear_ops(graph: Graph) -> list[int]:
    """Indices of the linear ops whose weights are constants."""
    return [
        i
        for i, op in enumerate(graph.ops)
        if op.kind in RULES
        and RULES[op.kind].linear
        and graph.tensors[op.inputs[RULES[op.kind].weight or 0]].is_constant
    ]


def match(integer: Graph, reference: Graph) -> tuple[tuple[Pair, ...], dict[int, str]]:
    """Pairs in the integer graph's order, and for each op without a partner the reason.

    Ops of one kind with equally shaped weights and outputs are candidates; a candidate with
    the same output name is taken, else the one whose weights are most similar.
    """
    free = linear_ops(reference)
    pairs, alone = [], {}
    for i in linear_ops(integer):
        q = integer.tensors[integer.ops[i].outputs[0]].quantization
        if q is None or integer.tensors[integer.ops[i].inputs[RULES[integer.ops[i].kind].data]].quantization is None:
            alone[i] = "the op is not quantized"
            continue
        best, likeness = _most_similar(integer, i, reference, free)
        if likeness < SIMILAR:
            alone[i] = "no op with these weights in the reference"
            continue
        free.remove(best)
        pairs.append(Pair(i, best))
    return tuple(pairs), alone


def _most_similar(integer: Graph, i: int, reference: Graph, free: list[int]) -> tuple[int, float]:
    op = integer.ops[i]
    name, shape = integer.tensors[op.outputs[0]].name, integer.tensors[op.outputs[0]].shape
    weights = _weights(integer, i)
    best, likeness = -1, 0.0
    for j in free:
        other = reference.ops[j]
        if other.kind != op.kind or reference.tensors[other.outputs[0]].shape != shape:
            continue
        candidate = _weights(reference, j)
        if candidate.shape != weights.shape:
            continue
        if reference.tensors[other.outputs[0]].name == name:
            return j, 1.0
        norm = float(np.linalg.norm(weights) * np.linalg.norm(candidate))
        cosine = float((weights * candidate).sum()) / norm if norm else 0.0
        if cosine > likeness:
            best, likeness = j, cosine
    return best, likeness


def _weights(graph: Graph, i: int) -> Array:
    tensor = graph.tensors[graph.ops[i].inputs[RULES[graph.ops[i].kind].weight or 0]]
    assert tensor.data is not None
    return (
        tensor.data.astype(np.float64) if tensor.quantization is None else dequantize(tensor.data, tensor.quantization)
    )

"""Quotients of products as attention without softmax has them, in a form that integers can hold.

Linear attention divides ReLU(q) (ReLU(K)' V) by ReLU(q) (ReLU(K)' 1) (Katharopoulos et al. 2020, equation 5; ReLU as in
EfficientViT, Cai et al. 2023). Divisors of tokens differ by factors of hundreds, and so do their reciprocals: a table
of 1 / y has no steps for most of them. 1 / sqrt(y) differs by the square root of that, and so does what has been
divided by the root alone: x / y = (x / sqrt(y)) / sqrt(y), where y is positive.
"""

from __future__ import annotations

import math

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.rewriting import activation_like, each_op, op_like, sole_reader, uses, value

NOT_NEGATIVE = ("RELU", "RELU6", "RELU_0_TO_1", "ABS", "SQUARE", "EXP", "LOGISTIC", "SOFTMAX", "SQRT", "RSQRT")
MOVING = ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "MEAN", "SUM", "REDUCE_MAX")
"""Ops whose results are not below the lowest of what they read first, if that is not below zero."""


def _divided(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """x · (1 / y), both products of activations, as (x · y^-1/2) · y^-1/2."""
    producers = uses(graph).producers
    for x, reciprocal in (op.inputs, op.inputs[::-1]):
        i = producers.get(reciprocal, -1)
        divisor = graph.ops[i].inputs[1] if i >= 0 and graph.ops[i].kind == "DIV" else -1
        if divisor < 0 or graph.ops[i].activation != "NONE" or sole_reader(graph, reciprocal) is None:
            continue
        one = value(graph, graph.ops[i].inputs[0])
        whole = one is not None and one.size == 1 and float(one.reshape(-1)[0]) == 1
        products = x in producers and graph.ops[producers[x]].kind == "BATCH_MATMUL" and _is_product(graph, divisor)
        if not (whole and products and least(graph, divisor) > 0):
            continue
        root = activation_like(editor, graph, divisor, "root", graph.tensors[divisor].shape)
        part = activation_like(editor, graph, op.outputs[0], "by_root", graph.tensors[op.outputs[0]].shape)
        editor.add_op(Op("RSQRT", (divisor,), (root,)))
        editor.add_op(Op("MUL", (x, root), (part,), {"fusedActivationFunction": "NONE"}))
        return op_like(op, "MUL", (part, root), fusedActivationFunction=op.activation)
    return None


def least(graph: Graph, t: int) -> float:
    """A bound that no value of a tensor is below, by the ops that compute it; -infinity where none is known."""
    data, i = value(graph, t), uses(graph).producers.get(t, -1)
    if data is not None:
        return float(data.min(initial=math.inf))
    if i < 0:
        return -math.inf
    op = graph.ops[i]
    if op.kind in NOT_NEGATIVE or op.activation in ("RELU", "RELU6"):
        return 0.0
    bounds = [least(graph, u) for u in op.inputs if u >= 0 and graph.tensors[u].is_float]
    if not bounds or op.activation != "NONE":
        return -math.inf
    if op.kind in ("ADD", "MAXIMUM"):
        return sum(bounds) if op.kind == "ADD" else max(bounds)
    known = (*MOVING, "SPLIT", "CONCATENATION", "MUL", "BATCH_MATMUL")
    return 0.0 if op.kind in known and min(bounds) >= 0 else -math.inf


def _is_product(graph: Graph, t: int) -> bool:
    """Whether a tensor is a matrix product of activations, a constant added or not."""
    i = uses(graph).producers.get(t, -1)
    if i < 0:
        return False
    if graph.ops[i].kind in ("ADD", "MAXIMUM"):
        return any(_is_product(graph, u) for u in graph.ops[i].inputs)
    return graph.ops[i].kind == "BATCH_MATMUL"


divided = each_op("MUL", _divided)

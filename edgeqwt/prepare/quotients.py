"""Quotients of products as attention without softmax has them, in a form that integers can hold.

Linear attention divides ReLU(q) (ReLU(K)' V) by ReLU(q) (ReLU(K)' 1) (Katharopoulos et al. 2020, equation 5; ReLU as in
EfficientViT, Cai et al. 2023). Divisors of tokens differ by factors of hundreds, and so do their reciprocals: a table
of 1 / y has no steps for most of them. 1 / sqrt(y) differs by the square root of that, and so does what has been
divided by the root alone: x / y = (x / sqrt(y)) / sqrt(y), where y is positive.
"""

from __future__ import annotations

import math

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import MOVES
from edgeqwt.prepare.rewriting import Site, activation_like, is_number, rewrites, sole_reader, uses, value

NOT_NEGATIVE = ("RELU", "RELU6", "RELU_0_TO_1", "ABS", "SQUARE", "EXP", "LOGISTIC", "SOFTMAX", "SQRT", "RSQRT")
MOVING = (*MOVES, "MEAN", "SUM", "REDUCE_MAX")
"""Ops whose results are not below the lowest of what they read first, if that is not below zero."""


@rewrites("MUL")
def divided(at: Site) -> Op | None:
    """x · (1 / y), both products of activations, as (x · y^-1/2) · y^-1/2."""
    for x, reciprocal in (at.op.inputs, at.op.inputs[::-1]):
        quotient = at.writer(reciprocal, "DIV")
        if quotient is None or sole_reader(at.graph, reciprocal) is None:
            continue
        one, divisor = quotient.inputs
        product = at.writer(x, "BATCH_MATMUL") is not None and _is_product(at.graph, divisor)
        if not (is_number(at.graph, one, 1) and product and least(at.graph, divisor) > 0):
            continue
        root = activation_like(at.editor, at.graph, divisor, "root", at.shape(divisor))
        part = at.activation("by_root")
        at.put("RSQRT", (divisor,), root)
        return at.end("MUL", (at.put("MUL", (x, root), part), root), fusedActivationFunction=at.op.activation)
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

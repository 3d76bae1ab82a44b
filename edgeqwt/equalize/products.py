"""What a product of two matrices does to factors.

y_mn = sum_k a_mk b_kn is homogeneous in three ways: a factor of a's column k cancels against one of b's row k (Q and K
of attention, K divided by what Q is multiplied by), and factors of a's rows and b's columns (V of attention) pass to
the product.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeqwt.equalize.factors import FIXED, Factors, by_element, varying
from edgeqwt.graph.graph import Array, Graph, Op


def matmul(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """Ties the factors of a BATCH_MATMUL's operands, and gives those of its product."""
    shape = graph.tensors[op.outputs[0]].shape
    if op.inputs[1] not in of:
        return [_with_constant(upright(op, 0, of[op.inputs[0]]), graph, op, 1, factors, shape)]
    if op.inputs[0] not in of:  # b^T a^T
        turned = _with_constant(
            upright(op, 1, of[op.inputs[1]]).swapaxes(-1, -2),
            graph,
            op,
            0,
            factors,
            (*shape[:-2], shape[-1], shape[-2]),
        )
        return [turned.swapaxes(-1, -2)]
    a, b = (upright(op, slot, of[op.inputs[slot]]) for slot in (0, 1))
    if varying(factors.canonical(a))[-1] or varying(factors.canonical(b))[-2]:
        inner = by_element(a, (*a.shape[:-2], 1, a.shape[-1]))
        factors.tie(a, inner)
        factors.tie(b, factors.inverse(inner).swapaxes(-1, -2))
        return [np.full(shape, FIXED)]
    rows, columns = a.max(axis=-1, keepdims=True), b.max(axis=-2, keepdims=True)
    if (factors.canonical(columns) <= FIXED).all():
        return [np.broadcast_to(rows, shape)]
    factors.fix(rows)  # their products would be factors of a third kind
    return [np.broadcast_to(columns, shape)]


def upright(op: Op, slot: int, values: Array) -> Array:
    """An operand of a BATCH_MATMUL as (..., m, k) or (..., k, n)."""
    return values.swapaxes(-1, -2) if op.options.get(("adjX", "adjY")[slot]) else values


def constant_shape(graph: Graph, op: Op, slot: int) -> tuple[int, ...]:
    """The shape of a constant operand as it is multiplied."""
    *batch, rows, columns = graph.tensors[op.inputs[slot]].shape
    return (*batch, columns, rows) if op.options.get(("adjX", "adjY")[slot]) else (*batch, rows, columns)


def _with_constant(x: Array, graph: Graph, op: Op, slot: int, factors: Factors, shape: tuple[int, ...]) -> Array:
    """x @ constant: the constant takes up x's columns, and its own columns give new ones.

    Args:
        x: factors of (..., m, k).
        graph: the op's.
        op: a BATCH_MATMUL.
        slot: where its constant is.
        factors: all of them.
        shape: of the product.
    """
    *batch, first, second = constant_shape(graph, op, slot)
    columns = second if slot == 1 else first
    wide = np.broadcast_to(x, (*shape[:-2], *x.shape[-2:]))
    factors.tie(wide, by_element(wide, (*batch, 1, x.shape[-1])))
    made = (*batch, 1, columns)
    return np.broadcast_to(factors.fresh(int(np.prod(made))).reshape(made), shape)

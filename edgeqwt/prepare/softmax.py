"""Softmax and its logarithm as frameworks write them out, written as the one op.

exp(x - max(x)) / sum(exp(x - max(x))): JAX and numpy-like code spell it so. Whatever is subtracted from a whole row,
its maximum or not, cancels. In integers EXP and the division would each be a table, and the sum a multiple of a mean.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.rewriting import activation_like, each_op, integers, op_like, value, writer

SHIFTS = ("ADD", "SUB")
RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")


def _summed_axis(graph: Graph, total: int, exponential: int) -> int | None:
    """The one axis over which a tensor sums another, of whose shape it is but for that axis; None for anything else."""
    shape = graph.tensors[exponential].shape
    back = writer(graph, total, *RESHAPES)
    sums = writer(graph, total if back is None else back.inputs[0], "SUM")
    axes = value(graph, sums.inputs[1]) if sums is not None and sums.inputs[0] == exponential else None
    if axes is None or not shape:
        return None
    # Over an axis of length 1 nothing is summed.
    real = {int(a) % len(shape) for a in axes.reshape(-1)}
    long = [a for a in real if shape[a] > 1] or sorted(real)[-1:]
    kept = tuple(1 if a in long else n for a, n in enumerate(shape))
    return long[0] if len(long) == 1 and graph.tensors[total].shape == kept else None


def _unshifted(graph: Graph, t: int, axis: int) -> int:
    """What is left of a tensor when all that is the same along an axis is no longer added to it or subtracted."""
    while (op := writer(graph, t, *SHIFTS)) is not None:
        shape = graph.tensors[t].shape
        sides = op.inputs[:1] if op.kind == "SUB" else op.inputs
        kept = [
            (x, y)
            for x, y in zip(sides, op.inputs[::-1], strict=False)
            if graph.tensors[x].shape == shape and _is_flat(graph, y, axis, len(shape)) and value(graph, x) is None
        ]
        if not kept or shape[axis] == 1:
            break
        t = kept[0][0]
    return t


def _is_flat(graph: Graph, t: int, axis: int, rank: int) -> bool:
    """Whether a tensor of an elementwise op is the same along an axis of the result."""
    shape = graph.tensors[t].shape
    at = axis - (rank - len(shape))
    return at < 0 or shape[at] == 1


def _write(editor: Editor, graph: Graph, op: Op, kind: str, x: int, axis: int) -> Op | None:
    """One op along the last axis; along another between two TRANSPOSEs."""
    shape, name = graph.tensors[x].shape, graph.tensors[op.outputs[0]].name
    options = {"beta": 1.0} if kind == "SOFTMAX" else {}
    if axis == len(shape) - 1:
        return op_like(op, kind, (x,), **options)
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    turned, computed = (
        activation_like(editor, graph, op.outputs[0], what, tuple(shape[a] for a in order)) for what in ("rows", kind)
    )
    there = integers(editor, f"{name}/order", order)
    back = integers(editor, f"{name}/order_back", np.argsort(order))
    editor.add_op(Op("TRANSPOSE", (x, there), (turned,)))
    editor.add_op(Op(kind, (turned,), (computed,), options))
    return op_like(op, "TRANSPOSE", (computed, back))


def _divided(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """e / sum(e), e being EXP."""
    return _quotient(editor, graph, op, *op.inputs) if op.activation == "NONE" else None


def _multiplied(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """e * (1 / sum(e))."""
    for exponential, factor in (op.inputs, op.inputs[::-1]) if op.activation == "NONE" else ():
        inverse = writer(graph, factor, "DIV")
        one = value(graph, inverse.inputs[0]) if inverse is not None else None
        if inverse is None or one is None or one.size != 1 or float(one.reshape(-1)[0]) != 1:
            continue
        if (found := _quotient(editor, graph, op, exponential, inverse.inputs[1])) is not None:
            return found
    return None


def _quotient(editor: Editor, graph: Graph, op: Op, exponential: int, total: int) -> Op | None:
    source, shape = writer(graph, exponential, "EXP"), graph.tensors[op.outputs[0]].shape
    axis = _summed_axis(graph, total, exponential) if source is not None else None
    if source is None or axis is None or graph.tensors[exponential].shape != shape:
        return None
    return _write(editor, graph, op, "SOFTMAX", _unshifted(graph, source.inputs[0], axis), axis)


def _logarithm(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """s - log(sum(exp(s)))."""
    x, log = op.inputs[0], writer(graph, op.inputs[1], "LOG")
    total = log.inputs[0] if log is not None else -1
    back = writer(graph, total, *RESHAPES) if total >= 0 else None
    sums = writer(graph, total if back is None else back.inputs[0], "SUM") if total >= 0 else None
    exponential = sums.inputs[0] if sums is not None else -1
    source = writer(graph, exponential, "EXP") if exponential >= 0 else None
    axis = _summed_axis(graph, total, exponential) if source is not None else None
    if source is None or axis is None or source.inputs[0] != x or op.activation != "NONE":
        return None
    return _write(editor, graph, op, "LOG_SOFTMAX", _unshifted(graph, x, axis), axis)


divided = each_op("DIV", _divided)
multiplied = each_op("MUL", _multiplied)
logarithm = each_op("SUB", _logarithm)

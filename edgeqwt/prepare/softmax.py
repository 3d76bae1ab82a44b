"""Softmax and its logarithm as frameworks write them out, written as the one op.

exp(x - max(x)) / sum(exp(x - max(x))): JAX and numpy-like code spell it so. Whatever is subtracted from a whole row,
its maximum or not, cancels. In integers EXP and the division would each be a table, and the sum a multiple of a mean.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RESHAPES
from edgeqwt.prepare.rewriting import Site, is_number, rewrites, value, writer

SHIFTS = ("ADD", "SUB")


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


def _along(at: Site, kind: str, x: int, axis: int) -> Op:
    """One op along the last axis; along another between two TRANSPOSEs."""
    shape = at.shape(x)
    options = {"beta": 1.0} if kind == "SOFTMAX" else {}
    if axis == len(shape) - 1:
        return at.end(kind, (x,), **options)
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    turned, computed = (at.activation(what, tuple(shape[a] for a in order)) for what in ("rows", kind))
    there, back = at.integers("order", order), at.integers("order_back", np.argsort(order))
    at.put("TRANSPOSE", (x, there), turned)
    at.put(kind, (turned,), computed, **options)
    return at.end("TRANSPOSE", (computed, back))


@rewrites("DIV")
def divided(at: Site) -> Op | None:
    """e / sum(e), e being EXP."""
    return _quotient(at, *at.op.inputs) if at.op.activation == "NONE" else None


@rewrites("MUL")
def multiplied(at: Site) -> Op | None:
    """e * (1 / sum(e))."""
    for exponential, factor in (at.op.inputs, at.op.inputs[::-1]) if at.op.activation == "NONE" else ():
        inverse = at.writer(factor, "DIV")
        if inverse is None or not is_number(at.graph, inverse.inputs[0], 1):
            continue
        if (found := _quotient(at, exponential, inverse.inputs[1])) is not None:
            return found
    return None


def _quotient(at: Site, exponential: int, total: int) -> Op | None:
    source = at.writer(exponential, "EXP")
    axis = _summed_axis(at.graph, total, exponential) if source is not None else None
    if source is None or axis is None or at.shape(exponential) != at.out.shape:
        return None
    return _along(at, "SOFTMAX", _unshifted(at.graph, source.inputs[0], axis), axis)


@rewrites("SUB")
def logarithm(at: Site) -> Op | None:
    """s - log(sum(exp(s)))."""
    x, log = at.op.inputs[0], at.writer(at.op.inputs[1], "LOG")
    if log is None or at.op.activation != "NONE":
        return None
    total = log.inputs[0]
    back = at.writer(total, *RESHAPES)
    sums = at.writer(total if back is None else back.inputs[0], "SUM")
    source = at.writer(sums.inputs[0], "EXP") if sums is not None else None
    axis = _summed_axis(at.graph, total, sums.inputs[0]) if sums is not None and source is not None else None
    if source is None or axis is None or source.inputs[0] != x:
        return None
    return _along(at, "LOG_SOFTMAX", _unshifted(at.graph, x, axis), axis)

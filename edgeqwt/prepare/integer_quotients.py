"""Quotients of integers that are computed in float: places in a map, taken from an index into all of it.

`index // width` and `(index / width).int()` arrive as CAST to float, DIV and CAST back. 8 bits do not hold an index
into a map of thousands of places; FLOOR_DIV computes the same of the integers themselves. A CAST takes what is below
zero to the number above, as ONNX's Div does, so that quotients of both signs take two.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import MOVES
from edgeqwt.prepare.rewriting import Site, rewrites, value, writer

INTEGERS = ("int32", "int64")
MOVING = (*MOVES, "CAST", "GATHER")
LARGEST = 2**24  # above, float32 does not hold every integer
INDICES = ("TOPK_V2", "ARG_MAX", "ARG_MIN")


@rewrites("CAST")
def cut_off(at: Site) -> Op | None:
    """CAST to integers of a quotient, whose places behind the point it drops."""
    found = _quotient(at.graph, at.op.inputs[0])
    if found is None or at.out.dtype not in INTEGERS:
        return None
    x, divisor = found
    multiple = _without_rest(at.graph, x, divisor)
    if multiple >= 0 or _not_negative(at.graph, x):
        return _floor(at, multiple if multiple >= 0 else x, divisor)
    zero, minus = (at.constant(what, np.array(k, np.int32)) for what, k in (("zero", 0), ("minus", -1)))
    x = _as_int32(at, x)
    negated, above, below = (at.activation(what, at.shape(x), "int32") for what in ("negated", "above", "below"))
    first, second = (at.activation(what, dtype="int32") for what in ("first", "second"))
    by = at.constant("divisor", divisor)
    at.put("MUL", (x, minus), negated)
    at.put("MAXIMUM", (x, zero), above)
    at.put("MAXIMUM", (negated, zero), below)
    at.put("FLOOR_DIV", (above, by), first)
    at.put("FLOOR_DIV", (below, by), second)
    return _of_int32(at, "SUB", (first, second))


@rewrites("FLOOR")
def rounded_down(at: Site) -> Op | None:
    """FLOOR of a quotient."""
    found = _quotient(at.graph, at.op.inputs[0])
    return None if found is None else _floor(at, *found)


def _quotient(graph: Graph, t: int) -> tuple[int, Array] | None:
    """Of a float tensor that is a quotient of integers: the dividend, and the constant divisor in int32.

    onnx2tf writes a DIV of what was cast before as MUL by the reciprocal.
    """
    op = writer(graph, t, "DIV", "MUL")
    cast = writer(graph, op.inputs[0], "CAST") if op is not None else None
    factor = value(graph, op.inputs[1]) if op is not None else None
    if op is None or cast is None or factor is None or graph.tensors[cast.inputs[0]].dtype not in INTEGERS:
        return None
    if not factor.size or not (factor > 0).all():
        return None
    divisor = factor if op.kind == "DIV" else np.rint(1 / factor.astype(np.float64))
    if not ((divisor >= 1) & (divisor < LARGEST) & (divisor == np.rint(divisor))).all():
        return None
    same = op.kind == "DIV" or np.array_equal((1 / divisor).astype(np.float32), factor)
    return (cast.inputs[0], divisor.astype(np.int32)) if same else None


def _floor(at: Site, x: int, divisor: Array) -> Op:
    by = at.constant("divisor", divisor)
    return _of_int32(at, "FLOOR_DIV", (_as_int32(at, x), by))


def _of_int32(at: Site, kind: str, inputs: tuple[int, ...]) -> Op:
    """An op that computes int32; where the output is of another type it is added, and a CAST is returned."""
    if at.out.dtype == "int32":
        return at.end(kind, inputs)
    narrow = at.add(kind, inputs, "int32", dtype="int32")
    return at.end("CAST", (narrow,), inDataType="INT32", outDataType=at.out.dtype.upper())


def _as_int32(at: Site, x: int) -> int:
    """The tensor itself, what it was cast from, or a CAST of it."""
    while at.tensor(x).dtype != "int32":
        before = at.writer(x, "CAST")
        if before is None or at.tensor(before.inputs[0]).dtype not in INTEGERS:
            return at.add("CAST", (x,), "narrow", at.shape(x), "int32", inDataType="INT64", outDataType="INT32")
        x = before.inputs[0]
    return x


def _without_rest(graph: Graph, x: int, divisor: Array) -> int:
    """Of x - x mod d, which d divides without a rest: x, whose quotient is rounded down the same; else -1."""
    difference = _behind_casts(graph, x)
    if difference is None or difference.kind != "SUB":
        return -1
    rest = _behind_casts(graph, difference.inputs[1])
    same = (
        rest is not None
        and rest.kind == "FLOOR_MOD"
        and _origin(graph, rest.inputs[0]) == _origin(graph, difference.inputs[0])
    )
    by = value(graph, rest.inputs[1]) if rest is not None and same else None
    return difference.inputs[0] if by is not None and np.array_equal(by.reshape(-1), divisor.reshape(-1)) else -1


def _origin(graph: Graph, t: int) -> int:
    """A tensor before CASTs among integers."""
    while (op := writer(graph, t, "CAST")) is not None and graph.tensors[op.inputs[0]].dtype in INTEGERS:
        t = op.inputs[0]
    return t


def _behind_casts(graph: Graph, t: int) -> Op | None:
    return writer(graph, _origin(graph, t))


def _not_negative(graph: Graph, t: int) -> bool:
    """Whether integers are at least 0 by the op that they come from."""
    op = writer(graph, t)
    if op is None:
        data = value(graph, t)
        return data is not None and bool((data >= 0).all())
    if op.kind in ("FLOOR_DIV", "FLOOR_MOD"):
        by = value(graph, op.inputs[1])
        positive = by is not None and bool((by > 0).all())
        return positive and (op.kind == "FLOOR_MOD" or _not_negative(graph, op.inputs[0]))
    return op.kind in INDICES or (op.kind in MOVING and _not_negative(graph, op.inputs[0]))

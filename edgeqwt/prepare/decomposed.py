"""Ops that no runtime, or not every one, has on integers, written with others that compute the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import (
    DENSE,
    Site,
    float32,
    reshape,
    rewrites,
    rewritten,
    sole_reader,
    uses,
    value,
    writer,
)

WINDOW: dict[str, Any] = {"ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
POINTWISE: dict[str, Any] = {"padding": "VALID", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
LONGEST_SUM = 1024  # a running sum of so many elements takes a matrix of a MiB
LONGEST_PRODUCT = 64
INTEGERS = {"int32", "int64"}


@rewrites("REVERSE_V2")
def reverse(at: Site) -> Op | None:
    """REVERSE_V2, which LiteRT's reference kernels lack, as STRIDED_SLICE with steps of -1."""
    x, axes = at.op.inputs
    turned, shape = at.value(axes), at.shape(x)
    if turned is None or not shape:
        return None
    back = {int(a) % len(shape) for a in turned.reshape(-1)}
    begin, end = (at.integers(what, [0] * len(shape)) for what in ("begin", "end"))
    steps = at.integers("steps", [-1 if a in back else 1 for a in range(len(shape))])
    mask = (1 << len(shape)) - 1
    return at.end("STRIDED_SLICE", (x, begin, end, steps), beginMask=mask, endMask=mask, **WINDOW)


@rewrites("CUMSUM")
def running_sum(at: Site) -> Op | None:
    """CUMSUM as a matrix product with a triangle of ones, which adds in the accumulator and rounds once."""
    x, axis = at.op.inputs[0], at.value(at.op.inputs[1])
    shape, rank, last = at.shape(x), len(at.shape(x)), len(at.shape(x)) - 1
    if axis is None or not at.is_float(x) or not shape:
        return None
    summed = int(axis.reshape(())) % rank
    size = shape[summed]
    if size > LONGEST_SUM:
        return None
    ones = np.tri(size, k=-1 if at.op.options.get("exclusive") else 0, dtype=np.float32)
    ones = ones[::-1, ::-1] if at.op.options.get("reverse") else ones
    weights = at.constant("ones", np.ascontiguousarray(ones))

    def summed_up(source: int, target: int) -> Op:
        return Op("FULLY_CONNECTED", (source, weights), (target,), DENSE, version=6)

    if summed == last and rank > 1:
        return summed_up(x, at.op.outputs[0])
    order = [a if a not in (summed, last) else last + summed - a for a in range(rank)]
    turned = (1, size) if rank == 1 else tuple(shape[a] for a in order)
    source, target = (at.activation(what, turned) for what in ("row" if rank == 1 else "turned", "sums"))
    if rank == 1:
        reshape(at.editor, x, source, f"{at.out.name}/row_shape")
        at.editor.add_op(summed_up(source, target))
        return at.end_reshape(target)
    by = at.integers("order", order)
    at.put("TRANSPOSE", (x, by), source)
    at.editor.add_op(summed_up(source, target))
    return at.end("TRANSPOSE", (target, by))


@rewrites("REDUCE_PROD")
def product(at: Site) -> Op | None:
    """REDUCE_PROD as halves multiplied with each other: the kernels multiply one after the other, at one scale."""
    part, axes = at.op.inputs[0], at.value(at.op.inputs[1])
    shape = at.shape(part)
    if axes is None or not at.is_float(part) or not shape:
        return None
    reduced = sorted({int(a) % len(shape) for a in axes.reshape(-1)})
    if not reduced or any(shape[a] > LONGEST_PRODUCT for a in reduced):
        return None
    for axis in reduced:
        parts = [part]
        while (size := at.shape(parts[0])[axis]) > 1:
            half = size // 2
            first, second = (_taken(at, parts[0], axis, begin, half) for begin in (0, half))
            if size % 2:
                parts.append(_taken(at, parts[0], axis, size - 1, 1))
            parts[0] = at.add("MUL", (first, second), "product", at.shape(first))
        while len(parts) > 1:
            parts[0] = at.add("MUL", (parts[0], parts.pop()), "product", at.shape(parts[0]))
        part = parts[0]
    return at.end_reshape(part)


def _taken(at: Site, x: int, axis: int, begin: int, size: int) -> int:
    """Some elements along an axis; the tensor itself where these are all."""
    shape = at.shape(x)
    if size == shape[axis]:
        return x
    sizes = tuple(size if a == axis else n for a, n in enumerate(shape))
    begins = [begin if a == axis else 0 for a in range(len(shape))]
    return at.add("SLICE", (x, at.integers("begin", begins), at.integers("size", sizes)), "part", sizes)


@rewrites("LOCAL_RESPONSE_NORMALIZATION")
def response_norm(at: Site) -> Op | None:
    """x (bias + alpha sum(x^2))^-beta over neighbouring channels, whose sum is a convolution with a band of alphas."""
    x, given = at.op.inputs[0], at.op.options
    shape = at.shape(x)
    channels = shape[-1]
    if not at.is_float(x) or len(shape) != 4 or channels > LONGEST_SUM:
        return None
    apart = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    band = float32(np.where(apart <= given.get("radius", 5), given.get("alpha", 1.0), 0.0))
    weights = at.constant("band", band[:, None, None, :])
    bias = at.constant("bias", np.full(channels, given.get("bias", 1.0), np.float32))
    sums = at.add("CONV_2D", (at.add("MUL", (x, x), "squares", shape), weights, bias), "sums", shape, **POINTWISE)
    factor = at.add("POW", (sums, at.constant("power", float32(-given.get("beta", 0.5)))), "factor", shape)
    return at.end("MUL", (x, factor))


@rewrites("ONE_HOT")
def one_hot(at: Site) -> Op | None:
    """ONE_HOT as a comparison with 0, 1, 2, ...: TFLite Micro does not have it."""
    indices, *rest = at.op.inputs
    depth, on, off = map(at.value, rest)
    if depth is None or on is None or off is None or (float(on.reshape(())), float(off.reshape(()))) != (1.0, 0.0):
        return None
    shape, size, dtype = at.shape(indices), int(depth.reshape(())), at.tensor(indices).dtype
    count, axis = int(np.prod(shape, dtype=np.int64)), int(at.op.options.get("axis", -1)) % (len(shape) + 1)
    column, flag = at.activation("indices", (count, 1), dtype), at.activation("equal", (count, size), "bool")
    rows = at.activation("rows", (count, size))
    reshape(at.editor, indices, column, f"{at.out.name}/indices_shape")
    at.put("EQUAL", (column, at.constant("numbers", np.arange(size, dtype=dtype)[None])), flag)
    at.put("CAST", (flag,), rows, inDataType="BOOL", outDataType=at.out.dtype.upper())
    if axis == len(shape):
        return at.end_reshape(rows)
    last = at.activation("last", (*shape, size))
    reshape(at.editor, rows, last, f"{at.out.name}/rows_shape")
    return at.end("TRANSPOSE", (last, at.integers("order", [*range(axis), len(shape), *range(axis, len(shape))])))


@rewrites("REDUCE_ANY")
def any_of(at: Site) -> Op | None:
    """REDUCE_ANY as NOT all NOT: TFLite Micro has REDUCE_ALL alone."""
    x, axes = at.op.inputs
    opposite, every = at.add("LOGICAL_NOT", (x,), "not", at.shape(x)), at.activation("all")
    at.editor.add_op(replace(at.op, kind="REDUCE_ALL", inputs=(opposite, axes), outputs=(every,), version=1))
    return at.end("LOGICAL_NOT", (every,))


@rewrites("DYNAMIC_UPDATE_SLICE")
def update(at: Site) -> Op | None:
    """DYNAMIC_UPDATE_SLICE at a constant position: what lies around the range is joined to what is written there."""
    x, part, begin = at.op.inputs
    start, shape, size = at.value(begin), at.shape(x), at.shape(part)
    if start is None or not at.is_float(x):
        return None
    first = [min(max(int(s), 0), n - m) for s, n, m in zip(start.reshape(-1), shape, size, strict=True)]
    axes = [a for a, (n, m) in enumerate(zip(shape, size, strict=True)) if n != m]
    for n, axis in enumerate(reversed(axes)):
        around = x
        for outer in axes[: len(axes) - n - 1]:
            around = _taken(at, around, outer, first[outer], size[outer])
        end = first[axis] + size[axis]
        pieces = [_taken(at, around, axis, 0, first[axis])] if first[axis] else []
        pieces.append(part)
        if end < shape[axis]:
            pieces.append(_taken(at, around, axis, end, shape[axis] - end))
        whole = tuple(shape[a] if a >= axis else size[a] for a in range(len(shape)))
        if axis == axes[0]:
            return at.end("CONCATENATION", tuple(pieces), axis=axis)
        part = at.add("CONCATENATION", tuple(pieces), "joined", whole, axis=axis)
    return at.end_reshape(part)


def log_softmax(graph: Graph) -> tuple[Graph, list[str]]:
    """LOG of SOFTMAX: in between, probabilities of less than 1/256 would all be one integer."""
    producers, dropped, changed = uses(graph).producers, set[int](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        before = producers.get(op.inputs[0], -1) if op.kind == "LOG" else -1
        if before < 0 or graph.ops[before].kind != "SOFTMAX" or sole_reader(graph, op.inputs[0]) != i:
            continue
        if float(graph.ops[before].options.get("beta", 1.0)) == 1.0:
            dropped.add(before)
            changed[i] = Op("LOG_SOFTMAX", graph.ops[before].inputs, op.outputs)
    return rewritten(graph, changed, dropped)


@rewrites("ADD")
def chosen(at: Site) -> Op | None:
    """c x + (1 - c) y of a condition c as SELECT_V2, which rounds nothing."""
    choice = _choice(at.graph, at.op)
    return None if choice is None else replace(at.end("SELECT_V2", choice), extra={"optionsType": "SelectV2Options"})


def _choice(graph: Graph, op: Op) -> tuple[int, int, int] | None:
    """The condition and both choices, where a sum is one of two terms; what computed them goes as nobody reads it."""
    terms = [writer(graph, t, "MUL") for t in op.inputs] if op.activation == "NONE" else []
    if len(terms) != 2 or terms[0] is None or terms[1] is None:
        return None
    for term, other in (terms, terms[::-1]):
        assert term is not None
        assert other is not None
        for weight, x in (term.inputs, term.inputs[::-1]):
            cast = writer(graph, weight, "CAST")
            if cast is None or graph.tensors[cast.inputs[0]].dtype != "bool":
                continue
            for opposite, y in (other.inputs, other.inputs[::-1]):
                rest = writer(graph, opposite, "SUB")
                one = value(graph, rest.inputs[0]) if rest is not None else None
                if rest is not None and rest.inputs[1] == weight and one is not None and (one == 1).all():
                    return cast.inputs[0], x, y
    return None


@rewrites("CAST")
def casts(at: Site) -> Op | None:
    """CAST of a CAST as one: of conditions, whose zeros and ones are the same in every type, and of integers."""
    before = at.writer(at.op.inputs[0], "CAST")
    if before is None:
        return None
    dtype, through = at.tensor(before.inputs[0]).dtype, at.is_float(at.op.inputs[0])
    if dtype != "bool" and not (through and {dtype, at.out.dtype} <= INTEGERS):
        return None
    return replace(at.op.with_options(inDataType=dtype.upper()), inputs=before.inputs)

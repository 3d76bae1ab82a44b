"""Ops that no runtime, or not every one, has on integers, written with others that compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.rewriting import (
    DENSE,
    NONE,
    StandIn,
    activation_like,
    constant,
    each_op,
    integers,
    op_like,
    reshape,
    reshaping,
    rewritten,
    sole_reader,
    uses,
    value,
    writer,
)

WINDOW = {"ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
LONGEST_SUM = 1024  # a running sum of so many elements takes a matrix of a MiB
LONGEST_PRODUCT = 64
INTEGERS = {"int32", "int64"}


def _reversed(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """REVERSE_V2, which LiteRT's reference kernels lack, as STRIDED_SLICE with steps of -1."""
    x, axes = op.inputs
    turned, shape = value(graph, axes), graph.tensors[x].shape
    if turned is None or not shape:
        return None
    back = {int(a) % len(shape) for a in turned.reshape(-1)}
    name, mask = graph.tensors[op.outputs[0]].name, (1 << len(shape)) - 1
    ends = [integers(editor, f"{name}/{what}", [0] * len(shape)) for what in ("begin", "end")]
    inputs = (x, *ends, integers(editor, f"{name}/steps", [-1 if a in back else 1 for a in range(len(shape))]))
    return op_like(op, "STRIDED_SLICE", inputs, beginMask=mask, endMask=mask, **WINDOW)


def _running_sum(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """CUMSUM as a matrix product with a triangle of ones, which adds in the accumulator and rounds once."""
    x, axis = op.inputs[0], value(graph, op.inputs[1])
    tensor, out = graph.tensors[x], op.outputs[0]
    if axis is None or not tensor.is_float or not tensor.shape:
        return None
    rank, last = len(tensor.shape), len(tensor.shape) - 1
    summed = int(axis.reshape(())) % rank
    size, name = tensor.shape[summed], graph.tensors[out].name
    if size > LONGEST_SUM:
        return None
    ones = np.tri(size, k=-1 if op.options.get("exclusive") else 0, dtype=np.float32)
    ones = ones[::-1, ::-1] if op.options.get("reverse") else ones
    weights = constant(editor, f"{name}/ones", np.ascontiguousarray(ones))
    order = [a if a not in (summed, last) else last + summed - a for a in range(rank)]
    if summed == last:
        source, target = x, out
        if rank == 1:
            source, target = (activation_like(editor, graph, out, what, (1, size)) for what in ("row", "sums"))
            reshape(editor, x, source, f"{name}/row_shape")
        product = Op("FULLY_CONNECTED", (source, weights), (target,), DENSE, version=6)
        if rank > 1:
            return product
        editor.add_op(product)
        return reshaping(editor, target, out, f"{name}/shape")
    turned = tuple(tensor.shape[a] for a in order)
    source, target = (activation_like(editor, graph, out, what, turned) for what in ("turned", "sums"))
    by = integers(editor, f"{name}/order", order)
    editor.add_op(Op("TRANSPOSE", (x, by), (source,)))
    editor.add_op(Op("FULLY_CONNECTED", (source, weights), (target,), DENSE, version=6))
    return Op("TRANSPOSE", (target, by), (out,))


def _product(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """REDUCE_PROD as halves multiplied with each other: the kernels multiply one after the other, at one scale."""
    x, axes = op.inputs[0], value(graph, op.inputs[1])
    shape, out = graph.tensors[x].shape, op.outputs[0]
    if axes is None or not graph.tensors[x].is_float or not shape:
        return None
    reduced = sorted({int(a) % len(shape) for a in axes.reshape(-1)})
    if not reduced or any(shape[a] > LONGEST_PRODUCT for a in reduced):
        return None
    part = x
    for axis in reduced:
        parts = [part]
        while (size := editor.tensors[parts[0]].shape[axis]) > 1:
            half = size // 2
            first, second = (_taken(editor, graph, op, parts[0], axis, begin, half) for begin in (0, half))
            if size % 2:
                parts.append(_taken(editor, graph, op, parts[0], axis, size - 1, 1))
            parts[0] = _multiplied(editor, graph, op, first, second)
        while len(parts) > 1:
            parts[0] = _multiplied(editor, graph, op, parts[0], parts.pop())
        part = parts[0]
    return reshaping(editor, part, out, f"{graph.tensors[out].name}/shape")


def _taken(editor: Editor, graph: Graph, op: Op, x: int, axis: int, begin: int, size: int) -> int:
    shape, name = editor.tensors[x].shape, graph.tensors[op.outputs[0]].name
    if size == shape[axis]:
        return x
    sizes = tuple(size if a == axis else n for a, n in enumerate(shape))
    begins = [begin if a == axis else 0 for a in range(len(shape))]
    ends = (integers(editor, f"{name}/begin", begins), integers(editor, f"{name}/size", sizes))
    return StandIn(editor, graph, op).add("SLICE", (x, *ends), "part", sizes)


def _multiplied(editor: Editor, graph: Graph, op: Op, x: int, y: int) -> int:
    return StandIn(editor, graph, op).add("MUL", (x, y), "product", editor.tensors[x].shape)


def _one_hot(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """ONE_HOT as a comparison with 0, 1, 2, ...: TFLite Micro does not have it."""
    indices, *rest = op.inputs
    depth, on, off = (value(graph, t) for t in rest)
    out, shape = graph.tensors[op.outputs[0]], graph.tensors[indices].shape
    if depth is None or on is None or off is None or (float(on.reshape(())), float(off.reshape(()))) != (1.0, 0.0):
        return None
    size, count, dtype = int(depth.reshape(())), int(np.prod(shape, dtype=np.int64)), graph.tensors[indices].dtype
    axis = int(op.options.get("axis", -1)) % (len(shape) + 1)
    column = activation_like(editor, graph, op.outputs[0], "indices", (count, 1))
    flag = activation_like(editor, graph, op.outputs[0], "equal", (count, size))
    flat = activation_like(editor, graph, op.outputs[0], "rows", (count, size))
    editor.tensors[column] = replace(editor.tensors[column], dtype=dtype)
    editor.tensors[flag] = replace(editor.tensors[flag], dtype="bool")
    reshape(editor, indices, column, f"{out.name}/indices_shape")
    numbers = constant(editor, f"{out.name}/numbers", np.arange(size, dtype=dtype)[None])
    editor.add_op(Op("EQUAL", (column, numbers), (flag,)))
    editor.add_op(Op("CAST", (flag,), (flat,), {"inDataType": "BOOL", "outDataType": out.dtype.upper()}))
    if axis == len(shape):
        return reshaping(editor, flat, op.outputs[0], f"{out.name}/shape")
    rows = activation_like(editor, graph, op.outputs[0], "last", (*shape, size))
    reshape(editor, flat, rows, f"{out.name}/rows_shape")
    order = [*range(axis), len(shape), *range(axis, len(shape))]
    by = integers(editor, f"{out.name}/order", order)
    return Op("TRANSPOSE", (rows, by), op.outputs)


def _any(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """REDUCE_ANY as NOT all NOT: TFLite Micro has REDUCE_ALL alone."""
    x, axes = op.inputs
    opposite, every = (
        activation_like(editor, graph, op.outputs[0], what, graph.tensors[t].shape)
        for what, t in (("not", x), ("all", op.outputs[0]))
    )
    editor.add_op(Op("LOGICAL_NOT", (x,), (opposite,)))
    editor.add_op(replace(op, kind="REDUCE_ALL", inputs=(opposite, axes), outputs=(every,), version=1))
    return Op("LOGICAL_NOT", (every,), op.outputs)


def _updated(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """DYNAMIC_UPDATE_SLICE at a constant position: what lies around the range is joined to what is written there."""
    x, update, begin = op.inputs
    start, shape, size = value(graph, begin), graph.tensors[x].shape, graph.tensors[update].shape
    if start is None or not graph.tensors[x].is_float:
        return None
    first = [min(max(int(s), 0), n - m) for s, n, m in zip(start.reshape(-1), shape, size, strict=True)]
    axes = [a for a, (n, m) in enumerate(zip(shape, size, strict=True)) if n != m]
    part = update
    for n, axis in enumerate(reversed(axes)):
        around = x
        for outer in axes[: len(axes) - n - 1]:
            around = _taken(editor, graph, op, around, outer, first[outer], size[outer])
        end = first[axis] + size[axis]
        pieces = [_taken(editor, graph, op, around, axis, 0, first[axis])] if first[axis] else []
        pieces.append(part)
        if end < shape[axis]:
            pieces.append(_taken(editor, graph, op, around, axis, end, shape[axis] - end))
        whole = tuple(shape[a] if a >= axis else size[a] for a in range(len(shape)))
        if axis == axes[0]:
            return op_like(op, "CONCATENATION", tuple(pieces), axis=axis, **NONE)
        part = StandIn(editor, graph, op).add("CONCATENATION", tuple(pieces), "joined", whole, axis=axis)
    return reshaping(editor, update, op.outputs[0], f"{graph.tensors[op.outputs[0]].name}/shape")


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


def _chosen(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """c x + (1 - c) y of a condition c as SELECT_V2, which rounds nothing."""
    choice, select = _choice(graph, op), {"optionsType": "SelectV2Options"}
    return None if choice is None else Op("SELECT_V2", choice, op.outputs, extra=select)


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


def _cast(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """CAST of a CAST as one: of conditions, whose zeros and ones are the same in every type, and of integers."""
    before = writer(graph, op.inputs[0], "CAST")
    if before is None:
        return None
    dtype, through = graph.tensors[before.inputs[0]].dtype, graph.tensors[op.inputs[0]].is_float
    if dtype != "bool" and not (through and {dtype, graph.tensors[op.outputs[0]].dtype} <= INTEGERS):
        return None
    return replace(op.with_options(inDataType=dtype.upper()), inputs=before.inputs)


chosen = each_op("ADD", _chosen)
casts = each_op("CAST", _cast)
reverse = each_op("REVERSE_V2", _reversed)
running_sum = each_op("CUMSUM", _running_sum)
product = each_op("REDUCE_PROD", _product)
one_hot = each_op("ONE_HOT", _one_hot)
any_of = each_op("REDUCE_ANY", _any)
update = each_op("DYNAMIC_UPDATE_SLICE", _updated)

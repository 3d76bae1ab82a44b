"""One way to write each function: ops that a runtime lacks or gets wrong, written with others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.rewriting import (
    NONE,
    activation_like,
    constant,
    each_op,
    float32,
    integers,
    op_like,
    reshape,
    reshaping,
    retyped,
    rewritten,
    sole_reader,
    uses,
    value,
    writer,
)


def _embedding(editor: Editor, graph: Graph, op: Op) -> Op | None:
    ids, rows = op.inputs
    return op_like(op, "GATHER", (rows, ids), axis=0, batchDims=0)


def _select(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """SELECT's vector of conditions, one per row, as a column: SELECT_V2 broadcasts from the last axis."""
    condition, *values = op.inputs
    rows, rank = graph.tensors[condition].shape, len(graph.tensors[op.outputs[0]].shape)
    if len(rows) == 1 and rank > 1:
        column = activation_like(editor, graph, op.outputs[0], "condition", (*rows, *[1] * (rank - 1)))
        editor.tensors[column] = replace(editor.tensors[column], dtype="bool")
        reshape(editor, condition, column, f"{graph.tensors[op.outputs[0]].name}/condition_shape")
        condition = column
    select = replace(op, kind="SELECT_V2", inputs=(condition, *values), version=1)
    return replace(select, extra={"optionsType": "SelectV2Options"})


def _wrapped_index(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """Indices of which negative ones count from the end, chosen by SELECT_V2, as i + n * (i < 0).

    TFLite Micro has no SELECT_V2 of integers.
    """
    added, out = writer(graph, op.inputs[1], "ADD"), graph.tensors[op.outputs[0]]
    if added is None or out.dtype != "int32":
        return None
    condition, _, index = op.inputs
    other = added.inputs[1 - added.inputs.index(index)] if index in added.inputs else -1
    same = graph.tensors[condition].shape == out.shape == graph.tensors[index].shape
    if not same or value(graph, other) is None or graph.tensors[other].size != 1:
        return None
    flag, shift = (activation_like(editor, graph, op.outputs[0], what, out.shape) for what in ("flag", "shift"))
    editor.add_op(Op("CAST", (condition,), (flag,), {"inDataType": "BOOL", "outDataType": "INT32"}))
    editor.add_op(Op("MUL", (flag, other), (shift,), NONE))
    return op_like(op, "ADD", (index, shift), **NONE)


def _negation(editor: Editor, graph: Graph, op: Op) -> Op | None:
    if not graph.tensors[op.inputs[0]].is_float:
        return None
    minus = constant(editor, f"{graph.tensors[op.outputs[0]].name}/minus_one", float32(-1))
    return op_like(op, "MUL", (op.inputs[0], minus), **NONE)


def _unit_clamp(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """RELU_0_TO_1, a table in integers, as relu6(6 x) / 6: RELU6 is fused, and most factors go into weights."""
    x, name = op.inputs[0], graph.tensors[op.outputs[0]].name
    if not graph.tensors[x].is_float:
        return None
    shape = graph.tensors[op.outputs[0]].shape
    larger, clamped = (activation_like(editor, graph, op.outputs[0], what, shape) for what in ("times_6", "clamped"))
    editor.add_op(Op("MUL", (x, constant(editor, f"{name}/6", float32(6))), (larger,), NONE))
    editor.add_op(Op("RELU6", (larger,), (clamped,)))
    return op_like(op, "MUL", (clamped, constant(editor, f"{name}/sixth", float32(1 / 6))), **NONE)


def _square(editor: Editor, graph: Graph, op: Op) -> Op | None:
    if not graph.tensors[op.inputs[0]].is_float:
        return None
    return op_like(op, "MUL", (op.inputs[0], op.inputs[0]), **NONE)


def _power(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """x ** 2, x ** 0.5 and x ** -0.5, as norms are spelled."""
    x, exponent = op.inputs[0], value(graph, op.inputs[1])
    same = graph.tensors[x].shape == graph.tensors[op.outputs[0]].shape
    if exponent is None or exponent.size != 1 or not graph.tensors[x].is_float or not same:
        return None
    power = float(exponent.reshape(()))
    if power == 2:
        return op_like(op, "MUL", (x, x), **NONE)
    return op_like(op, "SQRT" if power > 0 else "RSQRT", (x,)) if power in (0.5, -0.5) else None


def _division(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """x / y as x · (1 / y); the reciprocal rounds to float32, so the last bit may differ."""
    x, y = op.inputs
    name = graph.tensors[op.outputs[0]].name
    numerator, divisor = value(graph, x), value(graph, y)
    if not graph.tensors[y].is_float or (numerator is not None and numerator.size == 1):
        return None
    if divisor is None:
        one = constant(editor, f"{name}/one", float32(1))
        factor = activation_like(editor, graph, op.outputs[0], "reciprocal", graph.tensors[y].shape)
        editor.add_op(Op("DIV", (one, y), (factor,), NONE))
    else:
        with np.errstate(all="ignore"):
            reciprocal = np.asarray(1 / divisor.astype(np.float64)).astype(np.float32)
        if not np.isfinite(reciprocal).all():
            return None
        factor = constant(editor, f"{graph.tensors[y].name}/reciprocal", reciprocal)
    return op_like(op, "MUL", (x, factor), fusedActivationFunction=op.activation)


def reciprocal_root(graph: Graph) -> tuple[Graph, list[str]]:
    """1 / SQRT(x): one rounding less as RSQRT, and one table instead of two."""
    producers, roots, changed = uses(graph).producers, set[int](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        root = producers.get(op.inputs[1], -1) if op.kind == "DIV" else -1
        if root < 0 or graph.ops[root].kind != "SQRT" or sole_reader(graph, op.inputs[1]) != i:
            continue
        one = value(graph, op.inputs[0])
        if one is not None and one.size == 1 and float(one.reshape(())) == 1.0 and op.activation == "NONE":
            roots.add(root)
            changed[i] = Op("RSQRT", graph.ops[root].inputs, op.outputs)
    return rewritten(graph, changed, roots)


def _summation(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """The sum as a multiple of the mean: rounds twice instead of once."""
    x, axes = op.inputs
    axis_values, shape = value(graph, axes), graph.tensors[x].shape
    if axis_values is None or not graph.tensors[x].is_float:
        return None
    summed = {int(a) % len(shape) for a in axis_values.reshape(-1)} if shape else set()
    count = int(np.prod([shape[a] for a in summed], dtype=np.int64))
    mean = activation_like(editor, graph, op.outputs[0], "mean", graph.tensors[op.outputs[0]].shape)
    factor = constant(editor, f"{graph.tensors[op.outputs[0]].name}/count", float32(count))
    editor.add_op(replace(retyped(op, "MEAN", (x, axes)), outputs=(mean,)))
    return op_like(op, "MUL", (mean, factor), **NONE)


def _depth_to_space(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """(n·h, w, b, b·c) -> (n·h, b, w, b·c): in memory that is the op's result."""
    x, out, b = op.inputs[0], op.outputs[0], int(op.options["blockSize"])
    n, h, w, depth = graph.tensors[x].shape
    name = graph.tensors[out].name
    parts = activation_like(editor, graph, out, "parts", (n * h, w, b, depth // b))
    turned = activation_like(editor, graph, out, "turned", (n * h, b, w, depth // b))
    reshape(editor, x, parts, f"{name}/parts_shape")
    order = integers(editor, f"{name}/order", [0, 2, 1, 3])
    editor.add_op(Op("TRANSPOSE", (parts, order), (turned,)))
    return reshaping(editor, turned, out, f"{name}/shape")


def _pick(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """Indices in a row, known beforehand, such as a class token's: XNNPACK and Ethos-U take SLICE."""
    x, index, shape = op.inputs[0], value(graph, op.inputs[1]), graph.tensors[op.inputs[0]].shape
    if index is None or not index.size or graph.tensors[x].is_constant or not graph.tensors[x].is_float:
        return None
    axis, first = int(op.options.get("axis", 0)) % len(shape), int(index.reshape(-1)[0])
    sizes = tuple(index.size if i == axis else n for i, n in enumerate(shape))
    in_a_row = index.reshape(-1).tolist() == list(range(first, first + index.size))
    if op.options.get("batchDims") or not in_a_row or first < 0 or graph.tensors[op.outputs[0]].shape != sizes:
        return None
    name, begin = graph.tensors[op.outputs[0]].name, [first if i == axis else 0 for i in range(len(shape))]
    ends = (integers(editor, f"{name}/{what}", v) for what, v in (("begin", begin), ("size", sizes)))
    return op_like(op, "SLICE", (x, *ends))


def _space_to_batch(editor: Editor, graph: Graph, op: Op) -> Op | None:
    x, block, paddings = op.inputs
    amounts = value(graph, paddings)
    if amounts is None or not amounts.any() or not graph.tensors[x].is_float:
        return None
    shape, name = graph.tensors[x].shape, graph.tensors[op.outputs[0]].name
    every = np.zeros((len(shape), 2), np.int32)
    every[1 : 1 + len(amounts)] = amounts
    padded = activation_like(
        editor, graph, op.outputs[0], "padded", tuple(int(n + a + b) for n, (a, b) in zip(shape, every, strict=True))
    )
    editor.add_op(Op("PAD", (x, constant(editor, f"{name}/paddings", every)), (padded,)))
    none = constant(editor, f"{name}/no_paddings", np.zeros_like(amounts))
    return replace(op, inputs=(padded, block, none))


def _whole_map_pool(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """An average over a whole map is small beside what it averages; AVERAGE_POOL_2D must keep its input's scale."""
    x, out, options = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]], op.options
    filters = (options["filterHeight"], options["filterWidth"])
    if filters != x.shape[1:3] or out.shape[1:3] != (1, 1) or op.activation != "NONE" or not out.is_float:
        return None
    axes = integers(editor, f"{out.name}/axes", [1, 2])
    return op_like(op, "MEAN", (op.inputs[0], axes), keepDims=True)


embedding = each_op("EMBEDDING_LOOKUP", _embedding)
pick = each_op("GATHER", _pick)
select = each_op("SELECT", _select)
wrapped_index = each_op("SELECT_V2", _wrapped_index)
negation = each_op("NEG", _negation)
unit_clamp = each_op("RELU_0_TO_1", _unit_clamp)
square = each_op("SQUARE", _square)
power = each_op("POW", _power)
division = each_op("DIV", _division)
summation = each_op("SUM", _summation)
whole_map_pool = each_op("AVERAGE_POOL_2D", _whole_map_pool)
depth_to_space = each_op("DEPTH_TO_SPACE", _depth_to_space)
space_to_batch = each_op("SPACE_TO_BATCH_ND", _space_to_batch)

"""Normalization over the last axis (LayerNorm, RMSNorm), written so that integers survive it.

Exported as 1 / sqrt(mean(c * c) + epsilon), its squares do not fit into integers at the outliers that transformers
have (Dettmers et al. 2022), not even into 16 bits: beside an outlier's square those of ordinary values round to
zero. So no square is stored: a matrix product sums them in its accumulator.
"""

from __future__ import annotations

from math import prod

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.prepare.rewriting import Site, float32, reshape, sole_reader, uses, value


def mean_square(graph: Graph) -> tuple[Graph, list[str]]:
    """MEAN of a * a over the last axis: (rows, 1, n) @ (rows, n, 1) of a and a / n.

    The division makes the right side a tensor with a scale of its own: kernels want zero point 0 there, which
    would cost `a` itself half of its integers.
    """
    editor, names = Editor(graph), list[str]()
    found = {i: _squares(graph, op) for i, op in enumerate(graph.ops) if op.kind == "MEAN"}
    dropped = {squares for squares in found.values() if squares is not None}
    if not dropped:
        return graph, []
    for i, op in enumerate(graph.ops):
        squares = found.get(i)
        if squares is not None:
            _write_mean_square(Site(editor, graph, op), graph.ops[squares])
            names.append(graph.tensors[op.outputs[0]].name)
        elif i not in dropped:
            editor.add_op(op)
    return editor.finish(), names


def _squares(graph: Graph, mean: Op) -> int | None:
    """The op that squares what is averaged over the last axis, if the MEAN alone reads it."""
    squares, axes = mean.inputs
    x, y, at = graph.tensors[squares], graph.tensors[mean.outputs[0]], value(graph, axes)
    fixed = all(-1 not in (t.shape_signature or ()) for t in (x, y))
    if not x.is_float or not fixed or at is None or len(x.shape) < 2 or sole_reader(graph, squares) is None:
        return None
    if long_axes(x.shape, at) != {len(x.shape) - 1}:
        return None
    index = uses(graph).producers.get(squares, -1)
    op = graph.ops[index] if index >= 0 else None
    if op is None or op.activation != "NONE":
        return None
    product = op.kind == "MUL" and len(set(op.inputs)) == 1
    return index if product or (op.kind == "SQUARED_DIFFERENCE" and len(set(op.inputs)) == 2) else None


def long_axes(shape: tuple[int, ...], axes: Array) -> set[int]:
    """The axes over which a reduction does something: those of length 1 are left out, if there are others."""
    every = {int(a) % len(shape) for a in axes.reshape(-1)}
    return {a for a in every if shape[a] > 1} or every


def _write_mean_square(at: Site, squares: Op) -> None:
    a, shape = squares.inputs[0], at.shape(squares.outputs[0])
    count = prod(shape[:-1])
    if squares.kind == "SQUARED_DIFFERENCE":
        a = at.add("SUB", squares.inputs, "difference", shape)
    share, total = at.activation("share", shape), at.activation("total", (count, 1, 1))
    at.put("MUL", (a, at.constant("one_of", float32([1 / shape[-1]]))), share)
    left, right = (at.reshape(t, how, (count, 1, shape[-1])) for t, how in ((a, "rows"), (share, "columns")))
    at.put("BATCH_MATMUL", (left, right), total, adjX=False, adjY=True)
    reshape(at.editor, total, at.op.outputs[0], f"{at.out.name}_shape")

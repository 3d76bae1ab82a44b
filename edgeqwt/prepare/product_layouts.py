"""Matrix products that read both sides as they lie in memory."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.moved import order_of
from edgeqwt.prepare.moves import Move, cost, moves_before, moves_of, plan, write
from edgeqwt.prepare.rewriting import StandIn, activation_like, each_op, reshape, reshaping, sole_reader


def _left(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """x^T @ y with x a row or a column: its transpose is a RESHAPE, and XNNPACK takes no transposed left side."""
    shape = graph.tensors[op.inputs[0]].shape
    if not op.options.get("adjX") or len(shape) < 2 or 1 not in shape[-2:] or not graph.tensors[op.inputs[0]].is_float:
        return None
    turned = activation_like(editor, graph, op.outputs[0], "left", (*shape[:-2], shape[-1], shape[-2]))
    write(editor, (Move(editor.tensors[turned].shape),), op.inputs[0], turned)
    return replace(op, inputs=(turned, *op.inputs[1:])).with_options(adjX=False)


def _layer(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """x @ w^T with computed w: a product of two activations, each with its own scale, and no layer with weights."""
    x, w = op.inputs[:2]
    tensors, out = graph.tensors, op.outputs[0]
    if tensors[w].is_constant or not (tensors[x].is_float and tensors[w].is_float):
        return None
    count, length = tensors[w].shape
    rows = tensors[x].size // length

    name = tensors[out].name
    left, right = (  # XNNPACK wants three axes
        reshape(editor, t, activation_like(editor, graph, out, what, (1, n, length)), f"{name}/{what}/shape")
        for t, what, n in ((x, "left", rows), (w, "right", count))
    )
    ops, shape = StandIn(editor, graph, op), (1, rows, count)
    last = ops.add("BATCH_MATMUL", (left, right), "product", shape, adjX=False, adjY=True)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        last = ops.add("ADD", (last, op.inputs[2]), "total", shape, fusedActivationFunction=op.activation)
    elif op.activation != "NONE":
        last = ops.add(op.activation, (last,), "clipped", shape)
    return reshaping(editor, last, out, f"{name}/shape")


computed_weights = each_op("FULLY_CONNECTED", _layer)
lying_left = each_op("BATCH_MATMUL", _left)


def lying_right(graph: Graph) -> tuple[Graph, list[str]]:
    """x @ y where y is moved about first: the product reads y's rows (adjY) unless that takes more moves.

    Kernels read both sides row by row. With adjY they need not turn the right side themselves, for which TFLite Micro
    keeps as much memory as that side takes.
    """
    names: list[str] = []
    while (found := _turnable(graph)) is not None:
        index, chain, moves = found
        names.append(graph.tensors[graph.ops[index].outputs[0]].name)
        graph = _turned(graph, index, chain, moves)
    return graph, names


def _turnable(graph: Graph) -> tuple[int, list[int], tuple[Move, ...]] | None:
    """The first product that had better read its right side the other way round, and the moves before it."""
    for i, op in enumerate(graph.ops):
        if op.kind != "BATCH_MATMUL" or sole_reader(graph, op.inputs[1]) != i or op.inputs[0] == op.inputs[1]:
            continue
        chain, rows = moves_before(graph, op.inputs[1]), bool(op.options.get("adjY"))
        if not chain:
            continue
        source = graph.ops[chain[0]].inputs[0]
        moves = plan(graph.tensors[source].shape, order_of(graph, source, chain).swapaxes(-1, -2))
        if moves is not None and (cost(moves), rows) < (cost(moves_of(graph, chain)), not rows):
            return i, chain, moves
    return None


def _turned(graph: Graph, index: int, chain: list[int], moves: tuple[Move, ...]) -> Graph:
    """A product that reads its right side the other way round."""
    editor, op = Editor(graph), graph.ops[index]
    right = graph.ops[chain[0]].inputs[0]
    if moves:
        right = activation_like(editor, graph, op.inputs[1], "turned", moves[-1].shape)
    for i, kept in enumerate(graph.ops):
        if i == chain[-1] and moves:
            write(editor, moves, graph.ops[chain[0]].inputs[0], right)
        elif i == index:
            read = replace(op, inputs=(op.inputs[0], right))
            editor.add_op(read.with_options(adjY=not op.options.get("adjY")))
        elif i not in chain:
            editor.add_op(kept)
    return editor.finish()

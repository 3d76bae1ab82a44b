"""Matrix products that read both sides as they lie in memory."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.element_order import order_of
from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.moves import Move, cost, moves_before, moves_of, moving, plan
from edgeqwt.prepare.rewriting import Site, activation_like, reshape, rewrites, sole_reader, without


@rewrites("BATCH_MATMUL")
def lying_left(at: Site) -> Op | None:
    """x^T @ y with x a row or a column: its transpose is a RESHAPE, and XNNPACK takes no transposed left side."""
    shape = at.shape(at.op.inputs[0])
    if not at.op.options.get("adjX") or len(shape) < 2 or 1 not in shape[-2:] or not at.is_float(at.op.inputs[0]):
        return None
    turned = at.activation("left", (*shape[:-2], shape[-1], shape[-2]))
    reshape(at.editor, at.op.inputs[0], turned, f"{at.tensor(turned).name}/shape")
    return replace(at.op, inputs=(turned, *at.op.inputs[1:])).with_options(adjX=False)


@rewrites("FULLY_CONNECTED")
def computed_weights(at: Site) -> Op | None:
    """x @ w^T with computed w: a product of two activations, each with its own scale, and no layer with weights."""
    x, w = at.op.inputs[:2]
    if at.tensor(w).is_constant or not at.is_float(x, w):
        return None
    count, length = at.shape(w)
    rows = at.tensor(x).size // length
    left, right = (  # XNNPACK wants three axes
        reshape(at.editor, t, at.activation(what, (1, n, length)), f"{at.out.name}/{what}/shape")
        for t, what, n in ((x, "left", rows), (w, "right", count))
    )
    shape, activation = (1, rows, count), at.op.activation
    last = at.add("BATCH_MATMUL", (left, right), "product", shape, adjX=False, adjY=True)
    if len(at.op.inputs) > 2 and at.op.inputs[2] >= 0:
        last = at.add("ADD", (last, at.op.inputs[2]), "total", shape, fusedActivationFunction=activation)
    elif activation != "NONE":
        last = at.add(activation, (last,), "clipped", shape)
    return at.end_reshape(last)


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
    editor, op, source = Editor(graph), graph.ops[index], graph.ops[chain[0]].inputs[0]
    right = activation_like(editor, graph, op.inputs[1], "turned", moves[-1].shape) if moves else source
    read = replace(op, inputs=(op.inputs[0], right)).with_options(adjY=not op.options.get("adjY"))
    made = moving(editor, moves, source, right) if moves else []
    return without(graph, {*chain[:-1]}, {chain[-1]: made, index: read}, editor)

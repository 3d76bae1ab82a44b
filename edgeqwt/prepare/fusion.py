"""Stand-alone activations go into the op before them, which then needs no scale for what would be cut off."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.opset import RESHAPES
from edgeqwt.prepare.rewriting import activation_like, rewritten, sole_reader, uses, without

FUSED = ("RELU", "RELU6", "RELU_N1_TO_1")
HOSTS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
)


def past_moves(graph: Graph) -> tuple[Graph, list[str]]:
    """Computes activations before the RESHAPEs that they read, behind which an op can do them."""
    editor, producers = Editor(graph), uses(graph).producers
    swapped, changed = dict[int, int](), dict[int, list[Op]]()
    for i, op in enumerate(graph.ops):
        move = producers.get(op.inputs[0], -1) if op.kind in FUSED else -1
        if move < 0 or graph.ops[move].kind not in RESHAPES or sole_reader(graph, op.inputs[0]) != i:
            continue
        host = producers.get(graph.ops[move].inputs[0], -1)
        if host >= 0 and sole_reader(graph, graph.ops[move].inputs[0]) == move and _can(graph, host):
            swapped[move] = i
    for move, i in sorted(swapped.items()):
        op, (x, *shape), after = graph.ops[move], graph.ops[move].inputs, graph.ops[i]
        y = activation_like(editor, graph, after.outputs[0], "moved", graph.tensors[x].shape)
        first = replace(after, inputs=(x,), outputs=(y,))
        changed[move] = [first, replace(op, inputs=(y, *shape), outputs=after.outputs)]
    names = [graph.tensors[graph.ops[i].outputs[0]].name for i in swapped.values()]
    return (without(graph, {*swapped.values()}, changed, editor), names) if swapped else (graph, [])


def _can(graph: Graph, host: int) -> bool:
    """Whether an op can do an activation itself."""
    return graph.ops[host].kind in HOSTS and graph.ops[host].activation == "NONE"


def activation(graph: Graph) -> tuple[Graph, list[str]]:
    """Fuses each activation whose input has no other use and comes from an op that can do it."""
    producers, dropped, changed = uses(graph).producers, set[int](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        host = producers.get(op.inputs[0], -1) if op.kind in FUSED else -1
        if host < 0 or host in changed or sole_reader(graph, op.inputs[0]) != i:
            continue
        before = graph.ops[host]
        if not _can(graph, host) or not graph.tensors[op.outputs[0]].is_float:
            continue
        version = max(before.version, 4) if before.kind == "TRANSPOSE_CONV" else before.version
        fused = before.with_options(fusedActivationFunction=op.kind)
        changed[host] = replace(fused, outputs=op.outputs, version=version)
        dropped.add(i)
    return rewritten(graph, changed, dropped)

"""Stand-alone activations go into the op before them, which then needs no scale for what would be cut off."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph
from edgeqwt.prepare.rewriting import sole_reader, uses, without

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


def activation(graph: Graph) -> tuple[Graph, list[str]]:
    """Fuses each activation whose input has no other use and comes from an op that can do it."""
    producers, dropped, changed, names = uses(graph).producers, set(), {}, []
    for i, op in enumerate(graph.ops):
        host = producers.get(op.inputs[0], -1) if op.kind in FUSED else -1
        if host < 0 or host in changed or sole_reader(graph, op.inputs[0]) != i:
            continue
        before = graph.ops[host]
        if before.kind not in HOSTS or before.activation != "NONE" or not graph.tensors[op.outputs[0]].is_float:
            continue
        version = max(before.version, 4) if before.kind == "TRANSPOSE_CONV" else before.version
        fused = before.with_options(fusedActivationFunction=op.kind)
        changed[host] = replace(fused, outputs=op.outputs, version=version)
        dropped.add(i)
        names.append(graph.tensors[op.outputs[0]].name)
    return (without(graph, dropped, changed, Editor(graph)), names) if dropped else (graph, [])

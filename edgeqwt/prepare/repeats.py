"""Values that are repeated along an axis, which few kernels need to be: most repeat their inputs themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import Site, ports, rewrites, uses, without

REPEATING = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
"""Ops that repeat either input as the other's shape asks for, in every runtime and at every width."""


@rewrites("MUL")
def by_ones(at: Site) -> Op | None:
    """x * 1 is x, repeated: exporters write Expand so."""
    held = [at.value(t) for t in at.op.inputs]
    slot = next((k for k, data in enumerate(held) if data is not None and data.size and np.all(data == 1)), None)
    if slot is None or at.op.activation != "NONE" or held[1 - slot] is not None:
        return None
    repeat = at.end("BROADCAST_TO", (at.op.inputs[1 - slot], at.integers("shape", at.out.shape)))
    return replace(repeat, version=2)  # LiteRT has no version 1


def needless(graph: Graph) -> tuple[Graph, list[str]]:
    """BROADCAST_TO in front of ops that repeat what they read: they read what was repeated."""
    source, dropped, names = dict[int, int](), set[int](), list[str]()
    for i, op in enumerate(graph.ops):
        if op.kind == "BROADCAST_TO" and op.outputs[0] not in ports(graph) and _needless(graph, op, source):
            source[op.outputs[0]] = source.get(op.inputs[0], op.inputs[0])
            dropped.add(i)
            names.append(graph.tensors[op.outputs[0]].name)
    if not dropped:
        return graph, []
    changed = {
        i: replace(op, inputs=tuple(source.get(t, t) for t in op.inputs))
        for i, op in enumerate(graph.ops)
        if not source.keys().isdisjoint(op.inputs)
    }
    return without(graph, dropped, changed), names


def _needless(graph: Graph, op: Op, source: dict[int, int]) -> bool:
    """Whether all who read it get the same from what it repeats."""
    y, tensors = op.outputs[0], graph.tensors
    x = source.get(op.inputs[0], op.inputs[0])
    readers = [graph.ops[i] for i in uses(graph).readers.get(y, ())]
    if not readers or tensors[x].is_constant:
        return False
    for reader in readers:
        read = [tensors[x if t == y else source.get(t, t)].shape for t in reader.inputs]
        if reader.kind not in REPEATING or np.broadcast_shapes(*read) != tensors[reader.outputs[0]].shape:
            return False
    return True

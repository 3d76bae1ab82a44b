"""Splits at the boundaries of 16-bit regions: a factor per channel costs one multiplication per element, and may pay.

A product computes 8 bits with one step for all channels, and so does what it reads. Where a region of 16 bits lies
on the other side, the tensor between may have a step per channel: a product's output is multiplied back on the
region, its input before it leaves. (RepQ-ViT, Li et al. 2023, section 3.2, does so for free where gamma and beta
take the factors; behind the residual stream of a post-norm network nothing does.) The MULs are written with factors
of 1; `equalize` then finds better ones.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.prepare.rewriting import NONE

WIDE, NARROW = "wide", "narrow"
"""How the new tensors' names end: what a product computes, in the region; what it reads, as it leaves."""


def split(graph: Graph, region: Set[int]) -> tuple[Graph, tuple[str, ...]]:
    """The same function with a MUL by ones at the boundary of a region, and the names of what the MULs compute.

    Args:
        graph: float.
        region: indices of ops with 16-bit activations.

    Returns:
        The graph, in which tensors keep their indices, and names; none where nothing was split.
    """
    landing, leaving = _landing(graph, region), _leaving(graph, region)
    editor = Editor(graph)
    names: list[str] = []
    narrowed: dict[int, int] = {}

    def multiply(source: int, target: int) -> None:
        name, channels = editor.tensors[target].name, editor.tensors[target].shape[-1]
        ones = editor.add_tensor(Tensor(f"{name}/factors", (channels,), "float32", np.ones(channels, np.float32)))
        editor.add_op(Op("MUL", (source, ones), (target,), NONE))
        names.append(name)

    for i, op in enumerate(graph.ops):
        if i in landing:
            t = op.outputs[0]
            old = graph.tensors[t]
            raw = editor.add_tensor(replace(old, name=f"{old.name}/{NARROW}"))
            editor.add_op(replace(op, outputs=(raw,)))
            multiply(raw, t)
            continue
        data = slots(op).data if _linear(op) else -1
        if data in leaving:
            if data not in narrowed:
                old = graph.tensors[data]
                narrowed[data] = editor.add_tensor(replace(old, name=f"{old.name}/{NARROW}"))
                multiply(data, narrowed[data])
            op = op.remapped({t: narrowed[data] if t == data else t for t in op.tensors})
        editor.add_op(op)
    return (editor.finish(), tuple(names)) if names else (graph, ())


def _linear(op: Op) -> bool:
    return is_linear(op) if op.kind in RULES else False


def _landing(graph: Graph, region: Set[int]) -> set[int]:
    """Linear ops outside the region whose output is read inside it alone."""
    readers = graph.consumers()
    return {
        i
        for i, op in enumerate(graph.ops)
        if _linear(op)
        and i not in region
        and op.activation == "NONE"
        and op.outputs[0] not in graph.outputs
        and readers.get(op.outputs[0])
        and all(reader in region for reader in readers[op.outputs[0]])
    }


def _leaving(graph: Graph, region: Set[int]) -> set[int]:
    """What the region computes, reads itself, and linear ops outside it read too.

    What it does not read itself needs no MUL of its own: it can have its factors where it is computed.
    """
    readers, found = graph.consumers(), set[int]()
    for i in region:
        for t in graph.ops[i].outputs:
            reading = readers.get(t, [])
            off = [r for r in reading if r not in region and _linear(graph.ops[r]) and slots(graph.ops[r]).data == t]
            if off and len(off) < len(reading):
                found.add(t)
    return found

"""What steps of a recurrent layer have in common, and what is joined only to be taken apart again.

A layer that is applied step by step reads the same weights each time; converters write them as often as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.graph.whole_numbers import MOVING
from edgeqwt.prepare.layer_splits import LARGEST, PICKING
from edgeqwt.prepare.moves import Move, moving, plan
from edgeqwt.prepare.rewriting import integers, uses, value, without
from edgeqwt.runtime.runners import reference

FEWEST = 3  # parts that a tensor is divided into by SLICEs before one SPLIT is written for them


def share_weights(graph: Graph) -> tuple[Graph, list[str]]:
    """FULLY_CONNECTED layers with equal weights read one tensor, which the file then holds once; so do biases.

    Weights that are all alike take a mean: they are no layer's.
    """
    first: dict[tuple[object, ...], int] = {}
    changed: dict[int, Op] = {}
    names = list[str]()
    for i, op in enumerate(graph.ops):
        if op.kind != "FULLY_CONNECTED":
            continue
        s = slots(op)
        weights, bias = value(graph, s.weight), value(graph, s.bias)
        if weights is None or weights.dtype != np.float32 or (weights == weights.flat[0]).all():
            continue
        key = weights.shape, weights.tobytes()
        kept = {s.weight: first.setdefault(key, s.weight)}
        if bias is not None:
            kept[s.bias] = first.setdefault((*key, bias.tobytes()), s.bias)
        shared = replace(op, inputs=tuple(kept.get(t, t) for t in op.inputs))
        if shared.inputs != op.inputs:
            changed[i] = shared
            names.append(graph.tensors[op.outputs[0]].name)
    return (graph.with_ops(changed), names) if changed else (graph, [])


def divide(graph: Graph) -> tuple[Graph, list[str]]:
    """SLICEs that together divide a tensor into equal parts become one SPLIT."""
    editor, dropped, splits, names = Editor(graph), set[int](), dict[int, Op](), list[str]()
    for t, readers in uses(graph).readers.items():
        slices = [i for i in readers if graph.ops[i].kind == "SLICE" and graph.ops[i].inputs[0] == t]
        found = _division(graph, t, slices) if len(slices) >= FEWEST else None
        if found is None:
            continue
        axis, parts = found
        position = integers(editor, f"{graph.tensors[t].name}/axis", axis)
        outputs = tuple(graph.ops[i].outputs[0] for i in parts)
        splits[min(parts)] = Op("SPLIT", (position, t), outputs, {"numSplits": len(parts)})
        dropped |= {*parts} - {min(parts)}
        names.append(graph.tensors[t].name)
    return (without(graph, dropped, splits, editor), names) if splits else (graph, [])


def _division(graph: Graph, t: int, slices: list[int]) -> tuple[int, list[int]] | None:
    """The axis along which slices divide a tensor into equal parts, and the slices in order; None if they do not."""
    whole, begins = graph.tensors[t].shape, dict[tuple[int, ...], int]()
    shapes = {graph.tensors[graph.ops[i].outputs[0]].shape for i in slices}
    if len(shapes) != 1:
        return None
    part = shapes.pop()
    axes = [axis for axis, (n, m) in enumerate(zip(whole, part, strict=True)) if n != m]
    if len(axes) != 1 or part[axes[0]] * len(slices) != whole[axes[0]]:
        return None
    for i in slices:
        begin = value(graph, graph.ops[i].inputs[1])
        if begin is None:
            return None
        begins[tuple(int(b) for b in begin)] = i
    wanted = [tuple(k * part[a] if a == axes[0] else 0 for a in range(len(whole))) for k in range(len(slices))]
    return (axes[0], [begins[b] for b in wanted]) if set(begins) == set(wanted) else None


def pick_joined(graph: Graph) -> tuple[Graph, list[str]]:
    """What picks one whole part out of a CONCATENATION reads that part, as the last step's output of all steps'."""
    editor, changed = Editor(graph), dict[int, list[Op]]()
    for last, source, chain in _picks(graph):
        part = _part(graph, source, chain)
        if part is not None:
            (t, moves), out = part, graph.ops[last].outputs[0]
            changed[last] = moving(editor, moves or (Move(graph.tensors[out].shape),), t, out)
    names = [graph.tensors[graph.ops[i].outputs[0]].name for i in changed]
    return (without(graph, set(), changed, editor), names) if changed else (graph, [])


def _picks(graph: Graph) -> Iterator[tuple[int, int, list[int]]]:
    """Ops that pick from what only moves have touched since a CONCATENATION made it: op, CONCATENATION, ops between."""
    producers = uses(graph).producers
    for i, op in enumerate(graph.ops):
        if op.kind not in PICKING or len(op.outputs) != 1 or sum(value(graph, t) is None for t in op.inputs) != 1:
            continue
        chain, t = [i], _only(graph, op)
        while (before := producers.get(t, -1)) >= 0 and graph.ops[before].kind in MOVING:
            chain.append(before)
            t = _only(graph, graph.ops[before])
        fits = before >= 0 and graph.ops[before].kind == "CONCATENATION" and graph.ops[before].activation == "NONE"
        if fits and graph.tensors[t].is_float and graph.tensors[t].size <= LARGEST:
            yield i, before, chain[::-1]


def _only(graph: Graph, op: Op) -> int:
    """The activation that an op reads."""
    return next((t for t in op.inputs if value(graph, t) is None), -1)


def _part(graph: Graph, source: int, chain: list[int]) -> tuple[int, tuple[Move, ...]] | None:
    """The part of a CONCATENATION that a chain of ops takes whole, and the moves from it; None if there is none."""
    op, joined, out = graph.ops[source], graph.ops[source].outputs[0], graph.ops[chain[-1]].outputs[0]
    axis = int(op.options["axis"]) % len(graph.tensors[joined].shape)
    if not all(graph.tensors[t].size < prod(graph.tensors[joined].shape) for t in op.inputs):
        return None
    if graph.tensors[out].size not in {graph.tensors[t].size for t in op.inputs}:
        return None
    alone = graph.slice(chain, [joined], [out])
    numbers = np.arange(graph.tensors[joined].size, dtype=np.float32).reshape(graph.tensors[joined].shape)
    taken = np.rint(reference(alone).run({alone.inputs[0]: numbers})[alone.outputs[0]]).astype(np.int64)
    owners = np.concatenate([np.full(graph.tensors[t].shape, k) for k, t in enumerate(op.inputs)], axis)
    positions = np.concatenate([_numbers(graph, t) for t in op.inputs], axis)
    owner = np.unique(owners.reshape(-1)[taken])
    if owner.size != 1 or graph.tensors[t := op.inputs[int(owner[0])]].size != taken.size:
        return None
    moves = plan(graph.tensors[t].shape, positions.reshape(-1)[taken])
    return None if moves is None or graph.tensors[t].is_constant else (t, moves)


def _numbers(graph: Graph, t: int) -> Array:
    return np.arange(graph.tensors[t].size).reshape(graph.tensors[t].shape)

"""Linear layers that are several, or that stand between RESHAPEs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import CUTS, SPLITS
from edgeqwt.graph.whole_numbers import MOVING
from edgeqwt.prepare.moves import Move, Shape, moving, plan
from edgeqwt.prepare.rewriting import activation_like, constant, is_single_use, sole_reader, uses, value, without
from edgeqwt.runtime.runners import reference

PICKING = (*CUTS, *SPLITS, "GATHER")
LARGEST = 1 << 24  # elements that float32 can number


def join_reshapes(graph: Graph) -> tuple[Graph, list[str]]:
    """RESHAPE, FULLY_CONNECTED, RESHAPE: a layer takes rows of any shape, so one RESHAPE is enough."""
    names: list[str] = []
    while (found := _joinable(graph)) is not None:
        index, before, after, shape = found
        names.append(graph.tensors[graph.ops[index].outputs[0]].name)
        graph = _joined(graph, index, before, after, shape)
    return graph, names


def _joinable(graph: Graph) -> tuple[int, int, int, Shape] | None:
    """The first layer between two RESHAPEs of which one can go: the three ops, and the shape of its rows then."""
    producers = uses(graph).producers
    for i, op in enumerate(graph.ops):
        before, after = producers.get(op.inputs[0], -1), sole_reader(graph, op.outputs[0])
        if op.kind != "FULLY_CONNECTED" or op.options.get("weightsFormat", "DEFAULT") != "DEFAULT" or after is None:
            continue
        if before < 0 or graph.ops[before].kind != "RESHAPE" or graph.ops[after].kind != "RESHAPE":
            continue
        first, last = graph.tensors[graph.ops[before].inputs[0]].shape, graph.tensors[graph.ops[after].outputs[0]].shape
        if first[-1:] == graph.tensors[op.inputs[0]].shape[-1:]:
            return i, before, after, first[:-1]  # the layer reads what the RESHAPE before it reads
        if last[-1:] == graph.tensors[op.outputs[0]].shape[-1:] and sole_reader(graph, op.inputs[0]) is not None:
            return i, before, after, last[:-1]  # it writes what the RESHAPE behind it writes
    return None


def _joined(graph: Graph, index: int, before: int, after: int, rows: Shape) -> Graph:
    editor, op = Editor(graph), graph.ops[index]
    source, made, wanted = graph.ops[before].inputs[0], op.outputs[0], graph.ops[after].outputs[0]
    x, shape = source, (*rows, graph.tensors[op.inputs[0]].shape[-1])
    if graph.tensors[source].shape != shape:
        x = activation_like(editor, graph, op.inputs[0], "rows", shape)
    fits = graph.tensors[wanted].shape == (*rows, graph.tensors[made].shape[-1])
    if not fits:
        editor.tensors[made] = replace(
            graph.tensors[made], shape=(*rows, graph.tensors[made].shape[-1]), shape_signature=None
        )
    layer = replace(op, inputs=(x, *op.inputs[1:]), outputs=(wanted if fits else made,), version=max(op.version, 5))
    moves = moving(editor, (Move(shape),), source, x) if x != source else []
    gone = {after} if fits else set[int]()
    gone |= {before} if sole_reader(graph, op.inputs[0]) is not None else set()
    return without(graph, gone, {index: [*moves, layer.with_options(keepNumDims=True)]}, editor)


@dataclass(frozen=True, eq=False)
class _Part:
    """What one of several readers takes of a layer.

    Attributes:
        output: the tensor that holds it.
        channels: the layer's output channels that it is made of, ascending.
        moves: from a layer of those channels to the tensor.
    """

    output: int
    channels: Array
    moves: tuple[Move, ...]


def split_layers(graph: Graph) -> tuple[Graph, list[str]]:
    """A linear layer whose channels are taken apart, as queries, keys and values are: a layer for each part.

    Each then has a scale of its own, and what moved all of them about and took them apart goes.
    """
    names, index = list[str](), 0
    while (found := _splittable(graph, index)) is not None:  # what comes before stays as it is
        index, inside, parts = found
        names.append(graph.tensors[graph.ops[index].outputs[0]].name)
        graph = _split(graph, index, inside, parts)
    return graph, names


def _splittable(graph: Graph, start: int) -> tuple[int, list[int], tuple[_Part, ...]] | None:
    """The first layer from an op on that is taken apart, with the ops that do it and what they make."""
    for i, op in enumerate(graph.ops[start:], start):
        inside = _taken_apart(graph, i) if op.kind == "FULLY_CONNECTED" else []
        parts = _parts(graph, i, inside) if inside else None
        if parts is not None:
            return i, inside, parts
    return None


def _taken_apart(graph: Graph, index: int) -> list[int]:
    """The ops between a layer and the tensors that are parts of it; none if it is not taken apart."""
    s = slots(graph.ops[index])
    held = [value(graph, t) for t in (s.weight, s.bias) if t >= 0]
    t, between = graph.ops[index].outputs[0], list[int]()
    fits = all(data is not None and data.dtype == np.float32 for data in held) and is_single_use(graph, s.weight)
    if not fits or graph.tensors[t].size > LARGEST:
        return []
    while (after := sole_reader(graph, t)) is not None and graph.ops[after].kind in MOVING:
        between.append(after)
        t = graph.ops[after].outputs[0]
    picks = uses(graph).readers.get(t, [])
    apart = all(
        graph.ops[i].kind in PICKING and [u for u in graph.ops[i].inputs if value(graph, u) is None] == [t]
        for i in picks
    )
    return [*between, *picks] if picks and apart and t not in uses(graph).named else []


def _parts(graph: Graph, index: int, inside: list[int]) -> tuple[_Part, ...] | None:
    """What each pick takes; None if one takes something else than whole channels, or all take more than there are."""
    source = graph.tensors[graph.ops[index].outputs[0]]
    outputs = [t for i in inside for t in graph.ops[i].outputs if graph.ops[i].kind in PICKING]
    alone = graph.slice(inside, [graph.ops[index].outputs[0]], outputs)
    numbers = np.arange(source.size, dtype=np.float32).reshape(source.shape)
    found = reference(alone).run({alone.inputs[0]: numbers})
    parts, count = list[_Part](), source.shape[-1]
    for t, new in zip(outputs, alone.outputs, strict=True):
        taken = np.rint(found[new]).astype(np.int64)
        channels = np.unique(taken % count)
        before = (*source.shape[:-1], len(channels))
        moves = plan(before, taken // count * len(channels) + np.searchsorted(channels, taken % count))
        if moves is None or taken.size != np.prod(before):
            return None
        parts.append(_Part(t, channels, moves))
    whole = len(parts) < 2 or sum(len(part.channels) for part in parts) > count
    return None if whole else tuple(parts)


def _split(graph: Graph, index: int, inside: list[int], parts: tuple[_Part, ...]) -> Graph:
    editor, ops = Editor(graph), list[Op]()
    for part in parts:
        ops += _part_ops(editor, graph, graph.ops[index], part)
    return without(graph, {*inside}, {index: ops}, editor)


def _part_ops(editor: Editor, graph: Graph, op: Op, part: _Part) -> list[Op]:
    s = slots(op)
    made, shape = part.output, (*graph.tensors[s.output].shape[:-1], len(part.channels))
    if part.moves:
        made = activation_like(editor, graph, part.output, "layer", shape)
    constants = {}
    for t in (s.weight, s.bias):
        data = value(graph, t)
        if data is not None:
            constants[t] = constant(editor, f"{graph.tensors[t].name}/part", np.ascontiguousarray(data[part.channels]))
    layer = replace(op, inputs=tuple(constants.get(t, t) for t in op.inputs), outputs=(made,))
    return [layer, *(moving(editor, part.moves, made, part.output) if part.moves else ())]

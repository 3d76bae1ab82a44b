"""Ops that do not care for the order of axes are computed before a TRANSPOSE, where that saves one.

f(transposed x) = transposed f(x) for ops on elements; reductions, joining and splitting have their axes renamed.
Converters put the axes of a picture in their source's order before such ops and often never back: SiLU, then a mean
over height and width, is TRANSPOSE, LOGISTIC, MUL, MEAN, of which the TRANSPOSE goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.prepare.rewriting import activation_like, constant, integers, reshape, uses, value

PAIRED = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
ALONE = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "SQUARE", "NEG")
REDUCING = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
ALONG = ("CONCATENATION", "SPLIT")
"""They join or split along an axis."""


@dataclass(frozen=True)
class Region:
    """Ops that can be computed on the other side of a TRANSPOSE.

    Attributes:
        order: of the TRANSPOSE.
        entries: the TRANSPOSEs whose inputs it can read, by the tensor that each writes.
        members: ops that compute tensors in the order of before.
        closing: reductions behind which the order is the same as it was.
    """

    order: tuple[int, ...]
    entries: dict[int, int]
    members: frozenset[int]
    closing: frozenset[int]


def before_transposes(graph: Graph) -> tuple[Graph, list[str]]:
    """Computes regions before their TRANSPOSEs, one after the other, where fewer elements are moved then."""
    names, i = list[str](), 0
    while i < len(graph.ops):
        region = next((found for found in _regions(graph, i) if _pays(graph, found)), None)
        if region is None:
            i += 1
            continue
        names.append(graph.tensors[graph.ops[i].outputs[0]].name)
        graph, i = _rewritten(graph, region), 0
    return graph, names


def _order(graph: Graph, i: int) -> tuple[int, ...] | None:
    """The order of a TRANSPOSE of real values; None for other ops."""
    op = graph.ops[i]
    if op.kind != "TRANSPOSE" or not graph.tensors[op.inputs[0]].is_float or graph.tensors[op.inputs[0]].is_constant:
        return None
    order = value(graph, op.inputs[1])
    return None if order is None else tuple(int(a) for a in order.reshape(-1))


def _acts_as(graph: Graph, i: int, order: Sequence[int]) -> bool:
    """Whether an op is the TRANSPOSE of an order, or a RESHAPE that does what it would: only axes of 1 change places.

    Maps of one position, as gates are computed on, change their layout so.
    """
    op = graph.ops[i]
    if op.kind != "RESHAPE":
        return _order(graph, i) == tuple(order)
    x, y = (graph.tensors[t] for t in (op.inputs[0], op.outputs[0]))
    if not x.is_float or x.is_constant or len(x.shape) != len(order) or _shape(x.shape, order) != y.shape:
        return False
    long = [a for a in order if x.shape[a] != 1]
    return long == sorted(long)


def _regions(graph: Graph, seed: int) -> Iterator[Region]:
    """What can be computed before a TRANSPOSE: with what others of its order lead to, then without."""
    order = _order(graph, seed)
    if order is None:
        return
    alike = [i for i in range(len(graph.ops)) if i != seed and _acts_as(graph, i, order)]
    for others in (alike, []) if alike else ([],):
        region = _region(graph, order, [seed, *others])
        if region is not None:
            yield region


def _region(graph: Graph, order: tuple[int, ...], first: Sequence[int]) -> Region | None:
    """The ops behind TRANSPOSEs that can be computed before them, as far as they are connected with the first one."""
    producers = uses(graph).producers
    entries = {graph.ops[i].outputs[0]: i for i in first}
    inside, members, closing = {*entries}, set[int](), set[int]()
    for i in range(min(first) + 1, len(graph.ops)):
        op = graph.ops[i]
        if not inside.intersection(op.inputs):
            continue
        turned = {t: producers[t] for t in op.inputs if t in producers and _acts_as(graph, producers[t], order)}
        if not all(t in inside or t in turned or _fits(graph, op, t, len(order)) for t in _operands(op)):
            continue
        if op.kind in REDUCING and _axes(graph, op, len(order)) is not None and not op.options.get("keepDims"):
            if _in_order(graph, op, order):
                closing.add(i)
        elif _is_elementwise(op) or (op.kind in (*REDUCING, *ALONG) and _axes(graph, op, len(order)) is not None):
            members.add(i)
            entries |= turned
            inside |= {*turned, *op.outputs}
    near, reached = _connected(graph, graph.ops[first[0]].outputs[0], members | closing, inside)
    entries = {t: i for t, i in entries.items() if t in reached}
    return Region(order, entries, frozenset(members & near), frozenset(closing & near)) if near else None


def _connected(graph: Graph, t: int, ops: Set[int], inside: Set[int]) -> tuple[set[int], set[int]]:
    """Those of some ops that a tensor leads to, over tensors of a region in any direction, and these tensors."""
    near, reached, before = set[int](), {t}, -1
    while len(near) > before:
        before = len(near)
        for i in sorted(ops - near):
            touched = {t for t in (*graph.ops[i].inputs, *graph.ops[i].outputs) if t in inside}
            if reached & touched:
                near.add(i)
                reached |= touched
    return near, reached


def _operands(op: Op) -> tuple[int, ...]:
    if op.kind == "SPLIT":
        return op.inputs[1:]
    return op.inputs[:1] if op.kind in REDUCING else op.inputs


def _is_elementwise(op: Op) -> bool:
    return op.kind in PAIRED or op.kind in ALONE or (op.kind in RULES and RULES[op.kind].elementwise)


def _fits(graph: Graph, op: Op, t: int, rank: int) -> bool:
    """Whether a constant is a number, or has an axis for each of the others' and can be transposed."""
    data = value(graph, t)
    return data is not None and (data.ndim == rank or (data.size == 1 and op.kind not in ALONG))


def _in_order(graph: Graph, op: Op, order: tuple[int, ...]) -> bool:
    """Whether the axes that a reduction leaves are in the same order on both sides of a TRANSPOSE."""
    gone = _axes(graph, op, len(order))
    left = [a for i, a in enumerate(order) if gone is None or i not in gone]
    return left == sorted(left)


def _axes(graph: Graph, op: Op, rank: int) -> list[int] | None:
    """The axes that an op reduces, joins or splits along; None where they are computed."""
    if op.kind == "CONCATENATION":
        return [int(op.options["axis"]) % rank]
    axes = value(graph, op.inputs[0 if op.kind == "SPLIT" else 1])
    return None if axes is None else [int(a) % rank for a in axes.reshape(-1)]


def _pays(graph: Graph, region: Region) -> bool:
    """Whether fewer elements are transposed than before."""
    moved = [t for t, i in region.entries.items() if graph.ops[i].kind == "TRANSPOSE"]
    saved = sum(graph.tensors[t].size for t in moved if not _stays(graph, region, t))
    return sum(graph.tensors[t].size for t in _exits(graph, region)) < saved


def _exits(graph: Graph, region: Region) -> list[int]:
    """Tensors of members that something else wants as they were; behind another TRANSPOSE back they are not."""
    return [t for i in sorted(region.members) for t in graph.ops[i].outputs if _stays(graph, region, t)]


def _stays(graph: Graph, region: Region, t: int) -> bool:
    readers = (i for i in uses(graph).readers.get(t, []) if i not in region.members | region.closing)
    return t in uses(graph).named or any(not _goes_back(graph, region, i) for i in readers)


def _goes_back(graph: Graph, region: Region, i: int) -> bool:
    return _acts_as(graph, i, [int(a) for a in np.argsort(region.order)])


def _rewritten(graph: Graph, region: Region) -> Graph:
    editor, order = Editor(graph), region.order
    back = tuple(int(a) for a in np.argsort(order))
    now = {t: graph.ops[i].inputs[0] for t, i in region.entries.items()}
    stays = {*_exits(graph, region)}

    def turned(op: Op) -> Op:
        """An op with its inputs and its axes as they are before the TRANSPOSE."""
        inputs = tuple(now[t] if t in now else turned_constant(t) for t in _operands(op))
        if op.kind not in (*REDUCING, *ALONG):
            return replace(op, inputs=inputs)
        axes = _axes(graph, op, len(order))
        assert axes is not None
        renamed = sorted(order[a] for a in axes)
        if op.kind == "CONCATENATION":
            return replace(op, inputs=inputs).with_options(axis=renamed[0])
        along = integers(editor, f"{graph.tensors[op.outputs[0]].name}/axes", renamed)
        return replace(op, inputs=(along, *inputs) if op.kind == "SPLIT" else (*inputs, along))

    def turned_constant(t: int) -> int:
        data = graph.tensors[t].stored
        if data.size == 1:
            return t
        return constant(editor, graph.tensors[t].name, np.ascontiguousarray(data.transpose(back)))

    dropped = {i for t, i in region.entries.items() if not _stays(graph, region, t)}
    for i, op in enumerate(graph.ops):
        if i in region.members:
            before = turned(op)
            for out in op.outputs:
                now[out] = activation_like(editor, graph, out, "turned", _shape(graph.tensors[out].shape, back))
            editor.add_op(replace(before, outputs=tuple(now[out] for out in op.outputs)))
            for out in (out for out in op.outputs if out in stays):
                by = integers(editor, f"{graph.tensors[out].name}/order", order)
                editor.add_op(Op("TRANSPOSE", (now[out], by), (out,)))
        elif i in region.closing:
            editor.add_op(turned(op))
        elif op.inputs and op.inputs[0] in now and _goes_back(graph, region, i):
            # The same order as before: nothing moves, and the next pass drops it.
            reshape(editor, now[op.inputs[0]], op.outputs[0], f"{graph.tensors[op.outputs[0]].name}/shape")
        elif i not in dropped:
            editor.add_op(op)
    return editor.finish()


def _shape(shape: tuple[int, ...], order: Iterable[int]) -> tuple[int, ...]:
    return tuple(shape[a] for a in order)

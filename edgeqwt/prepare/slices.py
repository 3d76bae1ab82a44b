"""SLICE reads what it takes a part of where that was computed, not what was joined with it on the way.

An assignment to a slice, x[..., :2] = y, is a CONCATENATION of y with the rest of x, from which the next assignment
slices again. In integers all that is joined has one scale: what goes into an EXP would have that of pixel positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.prepare.rewriting import NONE, activation_like, each_op, integers, op_like, ports, uses, value, writer


@dataclass(frozen=True)
class _Box:
    """What a SLICE takes: for each axis the first index, and how many."""

    begin: tuple[int, ...]
    size: tuple[int, ...]


def _box(graph: Graph, op: Op) -> _Box | None:
    """Of a SLICE of real values with constant ends."""
    begin, size = (value(graph, t) for t in op.inputs[1:3])
    shape = graph.tensors[op.inputs[0]].shape
    if begin is None or size is None or not graph.tensors[op.inputs[0]].is_float:
        return None
    first = tuple(int(b) for b in begin.reshape(-1))
    return _Box(
        first, tuple(n - b if s < 0 else int(s) for n, b, s in zip(shape, first, size.reshape(-1), strict=True))
    )


def _slice(editor: Editor, op: Op, name: str, source: int, box: _Box) -> Op:
    ends = (integers(editor, f"{name}/{what}", data) for what, data in (("begin", box.begin), ("size", box.size)))
    return op_like(op, "SLICE", (source, *ends))


def _of_slice(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """SLICE of a SLICE."""
    box, before = _box(graph, op), writer(graph, op.inputs[0], "SLICE")
    first = None if before is None else _box(graph, before)
    if box is None or before is None or first is None:
        return None
    begin = tuple(a + b for a, b in zip(first.begin, box.begin, strict=True))
    return _slice(editor, op, graph.tensors[op.outputs[0]].name, before.inputs[0], _Box(begin, box.size))


def _of_joined(editor: Editor, graph: Graph, op: Op) -> Op | None:
    """SLICE of a CONCATENATION: of one of its inputs, or of fewer of them where nothing but SLICEs reads it."""
    box, joining = _box(graph, op), writer(graph, op.inputs[0], "CONCATENATION")
    if box is None or joining is None:
        return None
    axis = int(joining.options["axis"]) % len(box.begin)
    pieces, at = list[tuple[int, _Box]](), 0
    for t in joining.inputs:
        n = graph.tensors[t].shape[axis]
        start, stop = max(box.begin[axis] - at, 0), min(box.begin[axis] + box.size[axis] - at, n)
        if start < stop:
            taken = tuple(start if k == axis else b for k, b in enumerate(box.begin))
            pieces.append((t, _Box(taken, tuple(stop - start if k == axis else s for k, s in enumerate(box.size)))))
        at += n
    if not pieces or len(pieces) == len(joining.inputs) or any(graph.tensors[t].is_constant for t, _ in pieces):
        return None
    name = graph.tensors[op.outputs[0]].name
    if len(pieces) == 1:
        return _slice(editor, op, name, *pieces[0])
    joined = op.inputs[0]
    if joined in ports(graph) or any(graph.ops[i].kind != "SLICE" for i in uses(graph).readers[joined]):
        return None
    parts = list[int]()
    for k, (t, inner) in enumerate(pieces):
        if inner.size != graph.tensors[t].shape:
            made = activation_like(editor, graph, op.outputs[0], f"part{k}", inner.size)
            editor.add_op(_slice(editor, Op("SLICE", (), (made,)), editor.tensors[made].name, t, inner))
            t = made
        parts.append(t)
    return op_like(op, "CONCATENATION", tuple(parts), axis=axis, **NONE)


of_slices = each_op("SLICE", _of_slice)
of_joined = each_op("SLICE", _of_joined)

"""SLICE reads what it takes a part of where that was computed, not what was joined with it on the way.

An assignment to a slice, x[..., :2] = y, is a CONCATENATION of y with the rest of x, from which the next assignment
slices again. In integers all that is joined has one scale: what goes into an EXP would have that of pixel positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import Site, integers, ports, rewrites, uses, value


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


def _slice(at: Site, name: str, source: int, box: _Box, output: int) -> Op:
    ends = (integers(at.editor, f"{name}/{what}", data) for what, data in (("begin", box.begin), ("size", box.size)))
    return Op("SLICE", (source, *ends), (output,))


@rewrites("SLICE")
def of_slices(at: Site) -> Op | None:
    """SLICE of a SLICE."""
    box, before = _box(at.graph, at.op), at.writer(at.op.inputs[0], "SLICE")
    first = None if before is None else _box(at.graph, before)
    if box is None or before is None or first is None:
        return None
    begin = tuple(a + b for a, b in zip(first.begin, box.begin, strict=True))
    return _slice(at, at.out.name, before.inputs[0], _Box(begin, box.size), at.op.outputs[0])


@rewrites("SLICE")
def of_joined(at: Site) -> Op | None:
    """SLICE of a CONCATENATION: of one of its inputs, or of fewer of them where nothing but SLICEs reads it."""
    joined, box = at.op.inputs[0], _box(at.graph, at.op)
    joining = at.writer(joined, "CONCATENATION")
    if box is None or joining is None:
        return None
    axis = int(joining.options["axis"]) % len(box.begin)
    pieces, begin = list[tuple[int, _Box]](), 0
    for t in joining.inputs:
        n = at.shape(t)[axis]
        start, stop = max(box.begin[axis] - begin, 0), min(box.begin[axis] + box.size[axis] - begin, n)
        if start < stop:
            taken = tuple(start if k == axis else b for k, b in enumerate(box.begin))
            pieces.append((t, _Box(taken, tuple(stop - start if k == axis else s for k, s in enumerate(box.size)))))
        begin += n
    if not pieces or len(pieces) == len(joining.inputs) or any(at.tensor(t).is_constant for t, _ in pieces):
        return None
    if len(pieces) == 1:
        return _slice(at, at.out.name, *pieces[0], at.op.outputs[0])
    if joined in ports(at.graph) or any(at.graph.ops[i].kind != "SLICE" for i in uses(at.graph).readers[joined]):
        return None
    parts = list[int]()
    for k, (t, inner) in enumerate(pieces):
        part = t
        if inner.size != at.shape(t):
            part = at.activation(f"part{k}", inner.size)
            at.editor.add_op(_slice(at, at.tensor(part).name, t, inner, part))
        parts.append(part)
    return at.end("CONCATENATION", tuple(parts), axis=axis)

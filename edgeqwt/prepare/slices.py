"""SLICE reads what it takes a part of where that was computed, not what was joined with it on the way.

An assignment to a slice, x[..., :2] = y, is a CONCATENATION of y with the rest of x, from which the next assignment
slices again. In integers all that is joined has one scale: what goes into an EXP would have that of pixel positions.
Linear attention joins a column of ones to its values, so that one product has numerators and divisors (EfficientViT).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import Site, float32, integers, ports, rewrites, uses, value, writer

PADS = ("PAD", "PADV2")


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
    if not pieces or len(pieces) == len(joining.inputs):
        return None
    if len(pieces) == 1:
        return _slice(at, at.out.name, *pieces[0], at.op.outputs[0])
    if any(at.tensor(t).is_constant for t, _ in pieces):
        return None
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


@rewrites("SLICE")
def of_padded(at: Site) -> Op | None:
    """SLICE of a padded tensor: of what was padded alone, or of the padding alone."""
    box, padding = _box(at.graph, at.op), at.writer(at.op.inputs[0], *PADS)
    before = None if padding is None else _before(at.graph, padding)
    if box is None or padding is None or before is None:
        return None
    inner, fill = at.shape(padding.inputs[0]), _fill(at.graph, padding)
    starts = [b - p for b, p in zip(box.begin, before, strict=True)]
    stops = [s + n for s, n in zip(starts, box.size, strict=True)]
    if all(s >= 0 and e <= n for s, e, n in zip(starts, stops, inner, strict=True)):
        return _slice(at, at.out.name, padding.inputs[0], _Box(tuple(starts), box.size), at.op.outputs[0])
    if fill is None or not any(e <= 0 or n <= s for s, e, n in zip(starts, stops, inner, strict=True)):
        return None
    filled = at.constant("padding", np.full(box.size, fill, np.float32))
    return _slice(at, at.out.name, filled, _Box((0,) * len(box.size), box.size), at.op.outputs[0])


@rewrites("SLICE")
def of_products(at: Site) -> Op | None:
    """SLICE of a product's columns that come of one of the tensors joined for it: a product of that alone."""
    source, box = at.op.inputs[0], _box(at.graph, at.op)
    product = at.writer(source, "BATCH_MATMUL")
    if box is None or product is None or not _divided(at.graph, source):
        return None
    left, right = product.inputs
    shape = at.shape(right)
    axis = _columns(at.graph, product)
    begin = tuple(box.begin[-1] if a == axis else 0 for a in range(len(shape)))
    size = tuple(box.size[-1] if a == axis else n for a, n in enumerate(shape))
    part = at.activation("columns", size)
    at.editor.add_op(_slice(at, at.tensor(part).name, right, _Box(begin, size), part))
    return replace(product, inputs=(left, part), outputs=at.op.outputs)


@rewrites("BATCH_MATMUL")
def by_equal(at: Site) -> Op | None:
    """The product with a column of equal numbers: a SUM, times that number."""
    left, right = at.op.inputs
    data, shape = at.value(right), at.shape(left)
    if data is None or not data.size or at.out.shape[-1] != 1 or not (data == data.flat[0]).all():
        return None
    axis = len(shape) - (2 if at.op.options.get("adjX") else 1)
    rows = [n for a, n in enumerate(shape) if a != axis]
    if at.tensor(left).is_constant or at.out.shape != (*rows, 1):
        return None
    total = at.add("SUM", (left, at.integers("axis", [axis])), "sum", tuple(rows), keepDims=False)
    column = at.reshaped(total, *at.out.shape)
    return at.end("MUL", (column, at.constant("factor", float32(data.flat[0]))))


def _before(graph: Graph, op: Op) -> tuple[int, ...] | None:
    """How much a pad puts before its input along each axis; None if that is not known."""
    paddings = value(graph, op.inputs[1])
    return None if paddings is None else tuple(int(n) for n in paddings.reshape(-1, 2)[:, 0])


def _fill(graph: Graph, op: Op) -> float | None:
    """What a pad fills with; None if that is not known."""
    if op.kind == "PAD":
        return 0.0
    data = value(graph, op.inputs[2])
    return None if data is None else float(data.reshape(-1)[0])


def _columns(graph: Graph, product: Op) -> int:
    """The axis of a product's right side along which its output's columns lie."""
    return len(graph.tensors[product.inputs[1]].shape) - (2 if product.options.get("adjY") else 1)


def _divided(graph: Graph, product: int) -> bool:
    """Whether nothing but SLICEs reads a product, each of columns that come of one of the tensors joined for it."""
    ends, columns = _joins(graph, product), graph.tensors[product].shape[-1]
    boxes = [_box(graph, graph.ops[i]) for i in uses(graph).readers[product] if graph.ops[i].kind == "SLICE"]
    if len(ends) < 3 or product in ports(graph) or len(boxes) < len(uses(graph).readers[product]):
        return False
    taken = 0
    for box in boxes:
        if box is None or box.size[:-1] != graph.tensors[product].shape[:-1]:
            return False
        first, stop = box.begin[-1], box.begin[-1] + box.size[-1]
        if not any(a <= first and stop <= b for a, b in pairwise(ends)):
            return False
        taken += box.size[-1]
    return taken <= columns


def _joins(graph: Graph, t: int, axis: int = -1) -> list[int]:
    """Where the tensors that are joined along an axis begin, and where the last ends; products keep columns apart."""
    shape = graph.tensors[t].shape
    axis, op = axis % len(shape), writer(graph, t, "BATCH_MATMUL", "CONCATENATION", *PADS)
    if op is None:
        return [0, shape[axis]]
    if op.kind == "BATCH_MATMUL" and axis == len(shape) - 1:
        return _joins(graph, op.inputs[1], _columns(graph, op))
    if op.kind == "CONCATENATION" and int(op.options["axis"]) % len(shape) == axis:
        return [0, *np.cumsum([graph.tensors[u].shape[axis] for u in op.inputs]).tolist()]
    if op.kind in PADS and (before := _before(graph, op)) is not None:
        return sorted({0, before[axis], before[axis] + graph.tensors[op.inputs[0]].shape[axis], shape[axis]})
    return [0, shape[axis]]

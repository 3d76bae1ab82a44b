"""What the last concatenations join becomes outputs of their own, each with a scale of its own.

A part of an output is made by the ops that make the whole, restricted to it: a joining op passes on what it joins, ops
that move values or compute element by element do the same with less, and a linear layer keeps the rows of its
channels. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converted import Binding, ConvertedModel, Joined
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import RESHAPES, RULES
from edgeqwt.prepare.rewriting import integers, reshape
from edgeqwt.prepare.tidy import drop_dead
from edgeqwt.verify.parts import Part, element_wise, parts_of


@dataclass(frozen=True, eq=False)
class _Box:
    """A tensor restricted along one axis."""

    tensor: int
    axis: int
    start: int
    stop: int


def split_outputs(model: ConvertedModel) -> ConvertedModel:
    """The model with every output that joins several kinds in parts along the last axis that has some.

    Raises:
        InputError: no output joins anything.
    """
    graph = model.graph
    chosen = {t: _along(parts_of(graph, t)) for t in dict.fromkeys(graph.outputs) if graph.tensors[t].is_float}
    chosen = {t: parts for t, parts in chosen.items() if parts}
    if not chosen:
        raise InputError("no output joins several kinds of values", "Leave --split-outputs out.")
    editor = Editor(graph)
    for op in graph.ops:
        editor.add_op(op)
    made = {t: [_restricted(editor, graph, _Box(t, p.axis, p.start, p.stop)) for p in ps] for t, ps in chosen.items()}
    outputs = tuple(u for t in graph.outputs for u in made.get(t, [t]))
    split = replace(graph, tensors=tuple(editor.tensors), ops=tuple(editor.ops), outputs=outputs, signatures=())
    changed = drop_dead(split)[0].pruned()
    new = dict(zip(outputs, changed.outputs, strict=True)) | dict(zip(graph.inputs, changed.inputs, strict=True))
    inputs = tuple(replace(b, tensor=new[b.tensor]) for b in model.inputs)
    bindings, joined = list[Binding](), list[Joined]()
    for b in model.outputs:
        if b.tensor not in chosen:
            bindings.append(replace(b, tensor=new[b.tensor]))
            continue
        axis = chosen[b.tensor][0].axis
        source = axis if b.permutation is None else b.permutation[axis]
        names = tuple(f"{b.spec.name}_{k}" for k in range(len(chosen[b.tensor])))
        for name, part, u in zip(names, chosen[b.tensor], made[b.tensor], strict=True):
            shape = tuple(part.stop - part.start if k == source else n for k, n in enumerate(b.spec.shape))
            bindings.append(Binding(InputSpec(name, shape, b.spec.dtype), new[u], b.permutation))
        joined.append(Joined(b.spec.name, source, names))
    wholes = {b.spec.name: (j, chosen[b.tensor]) for b in model.outputs for j in joined if j.name == b.spec.name}
    run = model.run_source

    def run_source(sample: Sample) -> Mapping[str, Array]:
        found: dict[str, Array] = {}
        for name, array in run(sample).items():
            if name not in wholes:
                found[name] = array
                continue
            how, parts = wholes[name]
            for own, part in zip(how.parts, parts, strict=True):
                found[own] = np.ascontiguousarray(array.take(range(part.start, part.stop), how.axis))
        return found

    notes = tuple(
        f"Output {j.name!r} is {len(j.parts)} outputs, {', '.join(map(repr, j.parts))}, which axis {j.axis} joined."
        for j in joined
    )
    return replace(
        model, graph=changed, inputs=inputs, outputs=tuple(bindings), run_source=run_source,
        notes=(*model.notes, *notes), joined=tuple(joined),
    )  # fmt: skip


def _along(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts along the axis that has least of an index: columns rather than maps of several sizes."""
    axes = {part.axis for part in parts}
    if not axes:
        return ()
    sizes = {axis: max(p.stop for p in parts if p.axis == axis) for axis in axes}
    axis = min(sorted(axes, reverse=True), key=lambda a: sizes[a])
    return tuple(part for part in parts if part.axis == axis)


def _restricted(editor: Editor, graph: Graph, box: _Box) -> int:
    """A tensor with a part of another one; ops that make it are added behind all others."""
    shape = graph.tensors[box.tensor].shape
    if (box.start, box.stop) == (0, shape[box.axis]):
        return box.tensor
    producers = graph.producers()
    op = graph.ops[producers[box.tensor]] if box.tensor in producers else None
    if op is not None and op.activation == "NONE" and op.kind == "CONCATENATION":
        return _of_joined(editor, graph, op, box)
    before = None if op is None else _before(graph, op, box)
    if op is None or before is None:
        layer = None if op is None else _of_layer(editor, graph, op, box)
        return layer if layer is not None else _sliced(editor, graph, box)
    source = _restricted(editor, graph, before)
    out = _new(editor, graph, box)
    slot = next(k for k, t in enumerate(op.inputs) if t == before.tensor)
    inputs = [_constant(editor, graph, t, op, box) if k != slot else source for k, t in enumerate(op.inputs)]
    if op.kind in RESHAPES:
        reshape(editor, source, out, f"{editor.tensors[out].name}/shape")
    else:
        editor.add_op(replace(op, inputs=tuple(inputs), outputs=(out,)))
    return out


def _before(graph: Graph, op: Op, box: _Box) -> _Box | None:
    """Which part of its input an op makes a part of its output of; None where it is no such op."""
    after = graph.tensors[box.tensor].shape
    if op.kind == "TRANSPOSE" and graph.tensors[op.inputs[1]].data is not None:
        order = graph.tensors[op.inputs[1]].stored
        return _Box(op.inputs[0], int(order[box.axis]) % len(after), box.start, box.stop)
    if op.kind in RESHAPES:
        shape = graph.tensors[op.inputs[0]].shape
        outer, inner = prod(after[: box.axis]), prod(after[box.axis + 1 :])
        for axis, n in enumerate(shape):
            behind = prod(shape[axis + 1 :])
            if prod(shape[:axis]) == outer and n * behind == after[box.axis] * inner and n > 1:
                start, stop = box.start * inner, box.stop * inner
                if start % behind == stop % behind == 0:
                    return _Box(op.inputs[0], axis, start // behind, stop // behind)
        return None
    source = element_wise(graph, op)
    return None if source is None else _Box(source, box.axis, box.start, box.stop)


def _of_joined(editor: Editor, graph: Graph, op: Op, box: _Box) -> int:
    axis = int(op.options.get("axis", 0)) % len(graph.tensors[box.tensor].shape)
    if axis != box.axis:
        pieces = [_restricted(editor, graph, _Box(t, box.axis, box.start, box.stop)) for t in op.inputs]
    else:
        pieces, at = [], 0
        for t in op.inputs:
            n = graph.tensors[t].shape[axis]
            start, stop = max(box.start - at, 0), min(box.stop - at, n)
            if start < stop:
                pieces.append(_restricted(editor, graph, _Box(t, axis, start, stop)))
            at += n
    if len(pieces) == 1:
        return pieces[0]
    out = _new(editor, graph, box)
    editor.add_op(replace(op, inputs=tuple(pieces), outputs=(out,)))
    return out


def _of_layer(editor: Editor, graph: Graph, op: Op, box: _Box) -> int | None:
    """A linear layer with some of its channels; None where that is not what is asked for."""
    if op.kind not in ("CONV_2D", "FULLY_CONNECTED") or box.axis != len(graph.tensors[box.tensor].shape) - 1:
        return None
    s = slots(op)
    held = {t: graph.tensors[t].data for t in (s.weight, s.bias) if t >= 0}
    if any(data is None or data.shape[0] != graph.tensors[box.tensor].shape[-1] for data in held.values()):
        return None
    new = {}
    for t, data in held.items():
        assert data is not None
        part = np.ascontiguousarray(data[box.start : box.stop])
        name = f"{graph.tensors[t].name}/{box.start}"
        new[t] = editor.add_tensor(replace(graph.tensors[t], name=name, shape=part.shape, data=part))
    out = _new(editor, graph, box)
    editor.add_op(replace(op, inputs=tuple(new.get(t, t) for t in op.inputs), outputs=(out,)))
    return out


def _constant(editor: Editor, graph: Graph, t: int, op: Op, box: _Box) -> int:
    """What an op reads beside the tensor that it moves or computes from, restricted where it varies along the axis."""
    if t < 0 or op.kind not in RULES or RULES[op.kind].tied_inputs(op) == (0,):
        return t
    tensor, rank = graph.tensors[t], len(graph.tensors[box.tensor].shape)
    axis = box.axis - rank + len(tensor.shape)
    if tensor.data is None or axis < 0 or tensor.shape[axis] == 1:
        return t
    part = np.ascontiguousarray(tensor.data.take(range(box.start, box.stop), axis))
    return editor.add_tensor(replace(tensor, name=f"{tensor.name}/{box.start}", shape=part.shape, data=part))


def _sliced(editor: Editor, graph: Graph, box: _Box) -> int:
    out = _new(editor, graph, box)
    name, size = editor.tensors[out].name, editor.tensors[out].shape
    begin = [box.start if k == box.axis else 0 for k in range(len(size))]
    constants = [integers(editor, f"{name}/{what}", values) for what, values in (("begin", begin), ("size", size))]
    editor.add_op(Op("SLICE", (box.tensor, *constants), (out,)))
    return out


def _new(editor: Editor, graph: Graph, box: _Box) -> int:
    tensor = graph.tensors[box.tensor]
    shape = tuple(box.stop - box.start if k == box.axis else n for k, n in enumerate(tensor.shape))
    return editor.add_tensor(Tensor(f"{tensor.name}/{box.start}:{box.stop}", shape, "float32"))

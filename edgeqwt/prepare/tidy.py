"""What has no effect: shared names, dead ops, ops that change nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import is_linear
from edgeqwt.prepare.constants import NEVER
from edgeqwt.prepare.rewriting import ports, sole_reader, uses, value, without

SMALL = 64  # elements of a constant that is compared by its values


def unique_names(graph: Graph) -> tuple[Graph, list[str]]:
    """Gives tensors that share a name, or have none, names of their own; the first one keeps it."""
    counts = Counter(t.name for t in graph.tensors)
    if max(counts.values(), default=0) <= 1 and "" not in counts:
        return graph, []
    taken, changes = set(counts), {}
    seen: set[str] = set()
    for i, tensor in enumerate(graph.tensors):
        name, k = tensor.name, 1
        while name in seen or not name or (name in taken and name != tensor.name):
            name, k = f"{tensor.name or 'tensor'}_{k}", k + 1
        seen.add(name)
        if name != tensor.name:
            changes[i] = replace(tensor, name=name)
    return graph.with_tensors(changes), [t.name for t in changes.values()]


# Their results' shapes depend on values, so a static input says nothing about what follows.
SHAPED_BY_VALUES = ("WHERE", "UNIQUE", "RANGE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "CUSTOM", "WHILE")


def static_shapes(graph: Graph) -> tuple[Graph, list[str]]:
    """Closes shapes that the converter left open although the inputs' shapes are fixed."""
    if any(_open(graph.tensors[t]) for t in graph.inputs) or any(op.kind in SHAPED_BY_VALUES for op in graph.ops):
        return graph, []
    closed = {i: replace(t, shape_signature=t.shape) for i, t in enumerate(graph.tensors) if _open(t)}
    return (graph.with_tensors(closed), [t.name for t in closed.values()]) if closed else (graph, [])


def _open(tensor: Tensor) -> bool:
    return tensor.shape_signature is not None and -1 in tensor.shape_signature


def drop_dead(graph: Graph) -> tuple[Graph, list[str]]:
    """Drops ops of which no output is used."""
    needed = set(ports(graph))
    dead = set()
    for i in reversed(range(len(graph.ops))):
        op = graph.ops[i]
        if needed.isdisjoint(op.outputs) and op.outputs:
            dead.add(i)
        else:
            needed.update(op.inputs)
    if not dead:
        return graph, []
    names = [graph.tensors[graph.ops[i].outputs[0]].name for i in sorted(dead)]
    return without(graph, dead, {}), names


def merge_equal(graph: Graph) -> tuple[Graph, list[str]]:
    """Computes once what several ops compute alike."""
    first: dict[tuple[object, ...], Op] = {}
    new, dropped, names = {t: t for t in range(-1, len(graph.tensors))}, set[int](), list[str]()
    for i, op in enumerate(graph.ops):
        if _is_apart(graph, op):
            continue
        inputs = tuple(_constant_key(graph, new[t]) for t in op.inputs)
        outputs = tuple((graph.tensors[t].shape, graph.tensors[t].dtype) for t in op.outputs)
        same = first.setdefault((op.kind, inputs, outputs, repr(sorted(op.options.items()))), op)
        if same is not op:
            new.update(zip(op.outputs, same.outputs, strict=True))
            dropped.add(i)
            names.append(graph.tensors[op.outputs[0]].name)
    changed = {i: op.remapped(new) for i, op in enumerate(graph.ops) if i not in dropped}
    return (without(graph, dropped, changed), names) if dropped else (graph, [])


def _is_apart(graph: Graph, op: Op) -> bool:
    """Whether an op does more than computing what only ops read; layers with weights are never equal by chance."""
    state = any(graph.tensors[t].is_variable for t in op.inputs if t >= 0) or "VARIABLE" in op.kind or op.intermediates
    layer = is_linear(op)
    return layer or op.kind in NEVER or bool(state) or not op.outputs or not ports(graph).isdisjoint(op.outputs)


def _constant_key(graph: Graph, t: int) -> object:
    """What makes two inputs equal: that they are one tensor, or small constants of the same values."""
    data = value(graph, t)
    if data is None or data.size > SMALL or graph.tensors[t].quantization is not None:
        return t
    return data.dtype.name, data.shape, data.tobytes()


def share_constants(graph: Graph) -> tuple[Graph, list[str]]:
    """Makes equal small integers (shapes, axes, orders) one tensor; real-valued ones may still differ."""
    first: dict[tuple[object, ...], int] = {}
    new: dict[int, int] = {}
    read = {t for op in graph.ops for t in op.inputs if t >= 0} - ports(graph)
    for t in sorted(read):
        tensor = graph.tensors[t]
        if tensor.data is None or tensor.is_float or tensor.quantization is not None or tensor.data.size > SMALL:
            continue
        kept = first.setdefault((tensor.dtype, tensor.shape, tensor.data.tobytes()), t)
        if kept != t:
            new[t] = kept
    if not new:
        return graph, []
    everything = {t: new.get(t, t) for t in range(-1, len(graph.tensors))}
    return replace(graph, ops=tuple(op.remapped(everything) for op in graph.ops)), [graph.tensors[t].name for t in new]


def drop_identities(graph: Graph) -> tuple[Graph, list[str]]:
    """Drops RESHAPE, TRANSPOSE, SLICE and their like that leave shape and order as they are."""
    editor, dropped, names = Editor(graph), set(), []
    producers = uses(graph).producers
    renamed: dict[int, int] = {}
    written: dict[int, int] = {}
    for i, op in enumerate(graph.ops):
        if not _is_identity(graph, op):
            continue
        x, y = renamed.get(op.inputs[0], op.inputs[0]), op.outputs[0]
        if y in ports(graph):
            # The output's name must stay: let the op before write it, where x has no other use.
            if sole_reader(graph, op.inputs[0]) != i or x not in producers or x != op.inputs[0]:
                continue
            written[x] = y
        else:
            renamed[y] = x
        dropped.add(i)
        names.append(graph.tensors[y].name)
    if not dropped:
        return graph, []
    new = {t: written.get(renamed.get(t, t), renamed.get(t, t)) for t in range(len(graph.tensors))} | {-1: -1}
    changed = {i: op.remapped(new) for i, op in enumerate(graph.ops) if i not in dropped}
    return without(graph, dropped, changed, editor), names


def _is_identity(graph: Graph, op: Op) -> bool:
    if op.kind not in ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "BROADCAST_TO"):
        return False
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.shape != y.shape or (x.shape_signature or x.shape) != (y.shape_signature or y.shape) or x.is_constant:
        return False
    if op.kind != "TRANSPOSE":
        return True
    order = value(graph, op.inputs[1])
    return order is not None and order.reshape(-1).tolist() == list(range(len(x.shape)))

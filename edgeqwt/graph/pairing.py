"""Which tensor of one graph stands for which of another: by name, else by weights and position.

A graph that was lowered from another keeps its names: `counterparts`. Files of two tools may have other ones
(`partners`): layers are then recognized by their weights, and what lies between them by what it reads: the same op on
partners gives a partner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import channel_rows, linear_ops, slots
from edgeqwt.graph.tensor import HANDLES

# Least cosine between an op's weights and its partner's. That of unrelated weights is about 0; that of
# weights and their own rounding is 0.99 at 4 bits, and at 2 bits 0.9 to 0.5, the less the larger the layer.
SIMILAR = 0.7
SIMILAR_AND_NAMED_ALIKE = 0.3
# Typical norm of a channel's weights against its partner's. Rounding hardly changes it; a batch norm that
# only one of the graphs has folded in does, and then the two outputs are different quantities.
SAME_SIZE = (0.5, 2.0)
CONVERTING = ("QUANTIZE", "DEQUANTIZE")


def counterparts(reference: Graph, graph: Graph) -> dict[int, int]:
    """For each activation of a graph the one of another that was made of it, where it has one.

    Inputs and outputs correspond by position, everything else by name.

    Args:
        reference: usually float.
        graph: usually lowered from it.
    """
    names = {graph.tensors[t].name: t for op in graph.ops for t in op.outputs}
    computed = [t for op in reference.ops for t in op.outputs]
    found = {t: names[name] for t in computed if (name := reference.tensors[t].name) in names}
    return {**found, **dict(zip((*reference.outputs, *reference.inputs), (*graph.outputs, *graph.inputs), strict=True))}


def op_counterparts(reference: Graph, graph: Graph) -> dict[int, int]:
    """For each op of a graph the one of another that writes the tensor of the same name, where there is one."""
    names = {graph.tensors[t].name: i for i, op in enumerate(graph.ops) for t in op.outputs}
    first = ((i, reference.tensors[op.outputs[0]].name) for i, op in enumerate(reference.ops) if op.outputs)
    return {i: names[name] for i, name in first if name in names}


def partners(first: Graph, second: Graph) -> dict[int, int]:
    """The first graph's tensor for each activation of the second that has one; several may have the same.

    Inputs and outputs correspond by position where their shapes agree.

    Args:
        first: usually float.
        second: of the same network.
    """
    found = {t: a for t, a in zip(second.inputs, first.inputs, strict=False) if _alike(first, a, second, t)}
    names = {first.tensors[t].name: t for op in first.ops for t in op.outputs}
    for op in second.ops:
        for t in op.outputs:
            a = names.get(second.tensors[t].name)
            if a is not None and _alike(first, a, second, t):
                found[t] = a
    output_pairs = {t: a for t, a in zip(second.outputs, first.outputs, strict=False) if _alike(first, a, second, t)}
    _by_weights(first, second, found, {*output_pairs})
    _by_position(first, second, found, {*output_pairs})
    return {**found, **{t: a for t, a in output_pairs.items() if t not in second.inputs}}


def most_alike(first: Graph, free: Sequence[int], second: Graph, i: int) -> int | None:
    """The linear op of the first graph that has the most similar weights to one of the second; None without any.

    Partners compute one kind of sum (a 1x1 convolution is a FULLY_CONNECTED), have equally shaped outputs, both a bias
    or both none, and similar weights; an op with the same output name goes first, then the most similar one.

    Args:
        first: usually float.
        free: the linear ops to choose among, by index.
        second: of the same network.
        i: a linear op of it.
    """
    name = second.tensors[second.ops[i].outputs[0]].name
    named = [j for j in free if first.tensors[first.ops[j].outputs[0]].name == name]
    for some in (named, free):  # steps of a recurrent layer have one and the same weights, and are thousands
        if likeness := {j: value for j in some if (value := _likeness(second, i, first, j))}:
            return max(likeness, key=likeness.__getitem__)
    return None


def activated(graph: Graph, i: int, activation: str) -> int | None:
    """The tensor behind an op and an activation, which may be fused or an op of its own; None without it."""
    op = graph.ops[i]
    if op.activation == activation:
        return op.outputs[0]
    readers = [graph.ops[k] for k in graph.consumers().get(op.outputs[0], []) if graph.ops[k].kind == activation]
    return readers[0].outputs[0] if readers and op.activation == "NONE" else None


def _by_weights(first: Graph, second: Graph, found: dict[int, int], output_pairs: set[int]) -> None:
    """Adds the outputs of layers whose weights are alike."""
    taken = set(found.values())
    free = [j for j in linear_ops(first) if first.ops[j].outputs[0] not in taken]
    for i in linear_ops(second):
        op = second.ops[i]
        t = op.outputs[0]
        best = None if t in found or t in output_pairs else most_alike(first, free, second, i)
        if best is None:
            continue
        free.remove(best)
        a = activated(first, best, op.activation)
        if a is not None and _alike(first, a, second, t):
            found[t] = a


def _by_position(first: Graph, second: Graph, found: dict[int, int], output_pairs: set[int]) -> None:
    """Adds outputs of ops that read partners of what an op of the same kind reads, in the order of the ops."""
    waiting: dict[tuple[str, tuple[int, ...]], list[Op]] = {}
    for op in first.ops:
        waiting.setdefault((op.kind, _activations(first, op)), []).append(op)
    for op in second.ops:
        reads = tuple(found.get(t, -1) for t in _activations(second, op))
        if not reads or -1 in reads:
            continue
        if op.kind in CONVERTING:
            if op.outputs[0] not in found and op.outputs[0] not in output_pairs:
                found[op.outputs[0]] = reads[0]
            continue
        candidates = waiting.get((op.kind, reads), [])
        counterpart = candidates.pop(0) if candidates else None
        for t, a in zip(op.outputs, counterpart.outputs if counterpart is not None else (), strict=False):
            same = counterpart is not None and counterpart.activation == op.activation
            if same and t not in found and t not in output_pairs and _alike(first, a, second, t):
                found[t] = a


def _alike(first: Graph, a: int, second: Graph, b: int) -> bool:
    """Whether two tensors can hold the same real values: equal shapes, and both real numbers or both of one type."""
    x, y = first.tensors[a], second.tensors[b]
    reals = [t.is_float or t.quantization is not None for t in (x, y)]
    return x.dtype not in HANDLES and x.shape == y.shape and reals[0] == reals[1] and (reals[0] or x.dtype == y.dtype)


def _activations(graph: Graph, op: Op) -> tuple[int, ...]:
    return tuple(t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant)


def _likeness(graph: Graph, i: int, reference: Graph, j: int) -> float:
    """The cosine of two ops' weights, more where they have one name, 0 where they cannot be partners."""
    op, other = graph.ops[i], reference.ops[j]
    out, wanted = graph.tensors[op.outputs[0]], reference.tensors[other.outputs[0]]
    if out.shape != wanted.shape:
        return 0.0
    if _has_bias(graph, op) != _has_bias(reference, other) and not _rounded_away(graph, op):
        return 0.0
    if _summed(graph, op) != _summed(reference, other):
        return 0.0
    ours, theirs = (
        channel_rows(g.tensors[slots(o).weight].real, slots(o).axis) for g, o in ((graph, op), (reference, other))
    )
    named_alike = out.name == wanted.name
    norms = [np.linalg.norm(rows, axis=1) for rows in (ours, theirs)]
    used = (norms[0] > 0) & (norms[1] > 0)
    if not used.any():  # nothing but zeros: only the name can tell
        return 2.0 if named_alike and not norms[0].any() and not norms[1].any() else 0.0
    cosine = float((ours * theirs).sum() / np.prod([np.linalg.norm(n) for n in norms]))
    size = float(np.median(norms[0][used] / norms[1][used]))
    if cosine < (SIMILAR_AND_NAMED_ALIKE if named_alike else SIMILAR) or not SAME_SIZE[0] < size < SAME_SIZE[1]:
        return 0.0
    return 1 + cosine if named_alike else cosine


def _summed(graph: Graph, op: Op) -> tuple[str, tuple[int, ...]]:
    """An op's kind and the shape of its weights: those of a FULLY_CONNECTED for a 1x1 convolution."""
    shape = graph.tensors[slots(op).weight].shape
    if op.kind == "CONV_2D" and shape[1:3] == (1, 1):
        return "FULLY_CONNECTED", (shape[0], shape[3])
    return op.kind, shape


def _has_bias(graph: Graph, op: Op) -> bool:
    bias = slots(op).bias
    data = None if bias < 0 else graph.tensors[bias].data
    return data is not None and bool(data.any())


def _rounded_away(graph: Graph, op: Op) -> bool:
    """Whether an op has a bias of zeros, which one that is small beside a step may have become."""
    return slots(op).bias >= 0 and not _has_bias(graph, op)

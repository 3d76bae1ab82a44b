"""Which tensor of one graph stands for which of another: by name, else by weights and position.

Converters keep names or make their own. Where names differ, layers are recognized by their weights, and what lies
between them by what it reads: the same op on partners gives a partner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.runtime.boundary import real

# Least cosine between a layer's weights and its partner's: that of unrelated weights is about 0, that of weights and
# their own rounding 0.99 at 4 bits.
SIMILAR = 0.9
CONVERTING = ("QUANTIZE", "DEQUANTIZE")


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


def _by_weights(first: Graph, second: Graph, found: dict[int, int], output_pairs: set[int]) -> None:
    """Adds the outputs of layers whose weights are alike."""
    taken = set(found.values())
    free = [op for op in _layers(first) if op.outputs[0] not in taken]
    for op in _layers(second):
        t = op.outputs[0]
        if t in found or t in output_pairs:
            continue
        weights = _weights(second, op)
        likeness = [(_cosine(_weights(first, o), weights) if o.kind == op.kind else 0.0, k) for k, o in enumerate(free)]
        best, k = max(likeness, default=(0.0, -1), key=lambda pair: (pair[0], -pair[1]))
        if best < SIMILAR:
            continue
        a = _activated(first, free.pop(k), op.activation)
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
    return x.shape == y.shape and reals[0] == reals[1] and (reals[0] or x.dtype == y.dtype)


def _activations(graph: Graph, op: Op) -> tuple[int, ...]:
    return tuple(t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant)


def _layers(graph: Graph) -> Iterator[Op]:
    for op in graph.ops:
        if op.kind in RULES and RULES[op.kind].linear and graph.tensors[slots(op).weight].is_constant:
            yield op


def _weights(graph: Graph, op: Op) -> Array:
    tensor = graph.tensors[slots(op).weight]
    assert tensor.data is not None
    return tensor.data if tensor.quantization is None else real(tensor.data, tensor.quantization)


def _cosine(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return 0.0
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / norm if norm > 0 else 0.0


def _activated(graph: Graph, op: Op, activation: str) -> int | None:
    """The tensor behind a layer and an activation, which may be fused or an op of its own; None without it."""
    if op.activation == activation:
        return op.outputs[0]
    readers: Mapping[int, list[int]] = graph.consumers()
    found = [graph.ops[i] for i in readers.get(op.outputs[0], []) if graph.ops[i].kind == activation]
    return found[0].outputs[0] if found and op.activation == "NONE" else None

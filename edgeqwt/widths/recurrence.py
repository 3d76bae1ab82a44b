"""Which activations are the same one at different steps of a recurrent layer.

A recurrent layer that is written out step by step applies the same weights again and again, each time to what it made
of the step before. The range of each step's small tensors is known from few values, and a sample that is a little
unusual at one of many steps would be clipped there, and wrong at all that follow. So what has the same part in every
step has one range, from all steps' values; layers of equal scales then share their weights and biases in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_linear, slots

FEWEST = 3  # steps; two layers that share their weights are no recurrence yet
MOST_VALUES = 4096
"""Values of a tensor, per sample, from which on its range is known well enough without those of other steps.

Transformers that apply one layer again and again (ALBERT) have more of them, and other ranges in every layer.
"""


def steps(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """FULLY_CONNECTED ops that apply the same weights, each to what depends on the one before; their indices, in order.

    Args:
        graph: float, or integer.
    """
    by_weights: dict[int, list[int]] = {}
    for i, op in enumerate(graph.ops):
        if op.kind == "FULLY_CONNECTED" and graph.tensors[slots(op).weight].is_constant:
            by_weights.setdefault(slots(op).weight, []).append(i)
    found = []
    for ops in by_weights.values():
        small = all(
            graph.tensors[t].size <= MOST_VALUES for i in ops for t in (graph.ops[i].inputs[0], *graph.ops[i].outputs)
        )
        if len(ops) >= FEWEST and small and _follow(graph, ops):
            found.append(tuple(ops))
    return tuple(found)


def same_in_every_step(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Sets of activations that have the same part in every step of a recurrent layer, ascending; none without one.

    From the layers that apply the same weights, two steps are followed forward side by side: what reads the one in the
    same way as something else reads the other has the same part, with all that it reads and makes.
    """
    readers, group, kinds = graph.consumers(), dict[int, int](), dict[int, tuple[object, ...]]()

    def find(t: int) -> int:
        while group.setdefault(t, t) != t:
            t = group[t]
        return t

    seen = set[tuple[int, int]]()  # of all steps: what follows two ops is the same, whatever led to them
    for layer in steps(graph):
        for pair in pairwise(layer):
            todo = [pair]
            while todo:
                one, other = todo.pop()
                if (one, other) in seen or one == other:
                    continue
                seen.add((one, other))
                for a, b in _paired(graph, graph.ops[one], graph.ops[other]):
                    kept, gone = sorted((find(a), find(b)))
                    group[gone] = kept
                for a, b in zip(graph.ops[one].outputs, graph.ops[other].outputs, strict=True):
                    todo += _alike(graph, readers, kinds, a, b)
    sets: dict[int, list[int]] = {}
    for t in sorted(group):
        sets.setdefault(find(t), []).append(t)
    return tuple(tuple(members) for members in sets.values() if len(members) > 1)


def recurrent_ops(graph: Graph) -> frozenset[int]:
    """The ops of recurrent layers: what has a part in every step, and what that is made of since the last product.

    Args:
        graph: float.
    """
    producers = graph.producers()
    todo = [producers[t] for members in same_in_every_step(graph) for t in members if t in producers]
    found = set[int]()
    while todo:
        i = todo.pop()
        op = graph.ops[i]
        if i not in found and any(_real(graph, t) for t in op.outputs):
            found.add(i)
            linear = is_linear(op)
            todo += [] if linear else [producers[t] for t in op.inputs if t in producers]
    return frozenset(found)


def _follow(graph: Graph, ops: list[int]) -> bool:
    """Whether each of some ops depends on the one before it."""
    reached: dict[int, int] = {}  # tensor -> the last of the ops that it depends on
    for i, op in enumerate(graph.ops):
        latest = max((reached.get(t, -1) for t in op.inputs), default=-1)
        if i in ops:
            position = ops.index(i)
            if position > 0 and latest < position - 1:
                return False
            latest = position
        reached |= dict.fromkeys(op.outputs, latest)
    return True


def _paired(graph: Graph, one: Op, other: Op) -> list[tuple[int, int]]:
    """The activations that two ops read and make in the same slots."""
    pairs = [*zip(one.inputs, other.inputs, strict=True), *zip(one.outputs, other.outputs, strict=True)]
    return [(a, b) for a, b in pairs if a != b and _real(graph, a) and _real(graph, b)]


def _real(graph: Graph, t: int) -> bool:
    return t >= 0 and not graph.tensors[t].is_constant and graph.tensors[t].is_float


def _alike(
    graph: Graph, readers: Mapping[int, list[int]], kinds: dict[int, tuple[object, ...]], a: int, b: int
) -> list[tuple[int, int]]:
    """Ops that read two tensors in the same way: of the same kind, in the same slot, of equal shapes.

    `kinds` remembers what an op is like, whatever it reads.
    """

    def ways(t: int) -> dict[tuple[object, ...], list[int]]:
        found: dict[tuple[object, ...], list[int]] = {}
        for i in readers.get(t, []):
            if i not in kinds:
                kinds[i] = _kind(graph, graph.ops[i])
            found.setdefault((graph.ops[i].inputs.index(t), *kinds[i]), []).append(i)
        return found

    ours, theirs = ways(a), ways(b)
    pairs = []
    for way, ops in ours.items():
        others = theirs.get(way, [])
        if len(ops) == len(others):
            pairs += list(zip(ops, others, strict=True))
    return pairs


def _kind(graph: Graph, op: Op) -> tuple[object, ...]:
    """What two ops have in common that do the same with other activations."""
    shapes = tuple(graph.tensors[u].shape for u in op.outputs)
    constants = tuple(u for u in op.inputs if u >= 0 and graph.tensors[u].is_constant)
    return op.kind, len(op.inputs), shapes, repr(sorted(op.options.items())), constants

"""Where activations lie in one arena, from their sizes and lifetimes alone.

As TFLite Micro's planner does it (tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc): the largest first,
each at the lowest place that no tensor has which exists at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.graph.graph import Graph

ALIGNMENT = 16


@dataclass(frozen=True)
class Slot:
    """One tensor's place.

    Attributes:
        tensor: its index.
        offset, bytes: in the arena.
        first, last: the ops during which it exists; -1 is before the first one, for inputs.
    """

    tensor: int
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class ArenaPlan:
    """A plan of all activations; kernels' scratch memory and the interpreter's records are not in it.

    Attributes:
        bytes: from the lowest to the highest place.
        slots: in the order of their tensors.
    """

    bytes: int
    slots: tuple[Slot, ...]


def plan_arena(graph: Graph) -> ArenaPlan:
    """The plan of a graph's activations."""
    lives = _lifetimes(graph)
    sizes = {t: -(-graph.tensors[t].bytes // ALIGNMENT) * ALIGNMENT for t in lives}
    placed: list[Slot] = []
    for t in sorted(lives, key=lambda t: (-sizes[t], lives[t])):
        first, last = lives[t]
        offset = 0
        for other in placed:  # in the order of their offsets
            if other.first <= last and first <= other.last:
                if offset + sizes[t] <= other.offset:
                    break
                offset = max(offset, other.offset + other.bytes)
        placed.append(Slot(t, offset, sizes[t], first, last))
        placed.sort(key=lambda slot: slot.offset)
    whole = max((slot.offset + slot.bytes for slot in placed), default=0)
    return ArenaPlan(whole, tuple(sorted(placed, key=lambda slot: slot.tensor)))


def _lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """First and last op of every activation; those of variables are all."""
    end = len(graph.ops) - 1
    lives = dict.fromkeys(graph.inputs, (-1, -1))
    lives |= {t: (-1, end) for t, tensor in enumerate(graph.tensors) if tensor.is_variable}
    for i, op in enumerate(graph.ops):
        lives |= {t: (i, i) for t in op.outputs if t not in lives}
        lives |= {t: (lives[t][0], max(i, lives[t][1])) for t in op.inputs if t in lives}
    return lives | {t: (lives[t][0], end) for t in graph.outputs if t in lives}

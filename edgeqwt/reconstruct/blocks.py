"""Blocks of a graph: the segments between tensors that everything flows through.

A tensor is a cut when, once it is computed, nothing else that was computed before is read later:
the output of a residual block, not what lies inside one. A tensor of this kind comes after all of
what leads to it and before all that follows, in whatever order the file lists its ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.saturation import before_saturation


@dataclass(frozen=True)
class Block:
    """Consecutive ops and the tensors at their ends.

    Attributes:
        given: activations that it reads and does not compute, sorted.
        outputs: the activations that it is judged at.
        linear: its linear ops with constant weights, in order.
        taps: further activations inside it that are to stay close to the reference's.
    """

    given: tuple[int, ...]
    outputs: tuple[int, ...]
    linear: tuple[int, ...]
    taps: tuple[int, ...] = ()


def layers(graph: Graph, linear: Sequence[int]) -> tuple[Block, ...]:
    """Each linear op by itself: the blocks of AdaRound.

    Args:
        graph: float.
        linear: indices of the linear ops that count.
    """
    found = []
    for i in linear:
        op = graph.ops[i]
        given = tuple(sorted({t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant}))
        found.append(Block(given, op.outputs, (i,)))
    return tuple(found)


def blocks(graph: Graph, linear: Sequence[int], largest: int = 1) -> tuple[Block, ...]:
    """The graph cut wherever one tensor carries everything, small neighbours put together.

    Every linear op that the outputs depend on is in exactly one block. What lies between two cuts
    stays together, however many linear ops it holds.

    Args:
        graph: float.
        linear: indices of the linear ops that count.
        largest: neighbours are put together while they hold at most so many linear ops.
    """
    counted, start = set(linear), 0
    merged: list[tuple[int, int, tuple[int, ...]]] = []
    for last in _cuts(graph):
        first, inside = start, tuple(i for i in range(start, last + 1) if i in counted)
        start = last + 1
        if merged and (not merged[-1][2] or len(merged[-1][2]) + len(inside) <= largest):
            before = merged.pop()
            first, inside = before[0], (*before[2], *inside)
        merged.append((first, last, inside))
    return tuple(_block(graph, first, last, inside) for first, last, inside in merged if inside)


def _cuts(graph: Graph) -> list[int]:
    """Ops after which one activation is all that later ops read, and the last op."""
    last = {t: i for i, op in enumerate(graph.ops) for t in op.inputs if t >= 0}
    live = {t for t in graph.inputs if t in last}
    found = []
    for i, op in enumerate(graph.ops):
        live |= {t for t in op.outputs if t in last}
        live = {t for t in live if last[t] > i}
        if len(live) == 1 and live <= set(op.outputs):
            found.append(i)
    end = len(graph.ops) - 1
    return found if end in found else [*found, end]


def _block(graph: Graph, first: int, last: int, linear: tuple[int, ...]) -> Block:
    ops = [graph.ops[i] for i in range(first, last + 1)]
    made = dict.fromkeys(t for op in ops for t in op.outputs)
    given = {t for op in ops for t in op.inputs if t >= 0 and t not in made and not graph.tensors[t].is_constant}
    read_later = {t for op in graph.ops[last + 1 :] for t in op.inputs}
    leaving = (before_saturation(graph, t)[0] if t in graph.outputs else t for t in made)
    kept = {*read_later, *graph.outputs}
    return Block(
        tuple(sorted(given)),
        tuple(dict.fromkeys(u for t, u in zip(made, leaving, strict=True) if t in kept and u in made)),
        linear,
    )


def network(graph: Graph, linear: Sequence[int]) -> Block:
    """The whole graph as one block, with the cuts between its blocks as taps.

    Args:
        graph: float.
        linear: indices of the linear ops that count.
    """
    outputs = tuple(dict.fromkeys(before_saturation(graph, t)[0] for t in graph.outputs))
    inside = [t for block in blocks(graph, linear) for t in block.outputs if t not in outputs]
    return Block(tuple(sorted(graph.inputs)), outputs, tuple(linear), tuple(inside))

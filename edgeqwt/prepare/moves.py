"""RESHAPE and TRANSPOSE that follow one another, in as few ops as their result needs.

What a chain of them does is one permutation of elements. It is written as RESHAPE, TRANSPOSE, RESHAPE over as few
axes as it has, each left out where it would change nothing: also for targets that have no tensors of five axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from edgeqwt.graph.element_order import order_of
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.opset import RESHAPES
from edgeqwt.prepare.rewriting import integers, reshaping, sole_reader, uses, value, without

LARGEST_RANK = 6
"""Of what LiteRT's TRANSPOSE and XNNPACK take; what a longer chain permutes may need more axes than each of its ops."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """One op: a TRANSPOSE with an order of axes, a RESHAPE without; and the shape of its result."""

    shape: Shape
    order: tuple[int, ...] | None = None


def shorten(graph: Graph) -> tuple[Graph, list[str]]:
    """Writes every chain of moves with fewer ops, or fewer TRANSPOSEs, if there is a way."""
    editor, shorter, dropped, names = Editor(graph), dict[int, tuple[int, tuple[Move, ...]]](), set[int](), list[str]()
    for chain, moves in _planned(graph):
        last = graph.tensors[graph.ops[chain[-1]].outputs[0]]
        moves = moves or (Move(last.shape),)  # a RESHAPE that changes nothing goes later
        now = moves_of(graph, chain)
        if (cost(moves), _turned_axes(moves)) < (cost(now), _turned_axes(now)):
            shorter[chain[-1]] = graph.ops[chain[0]].inputs[0], moves
            dropped.update(chain[:-1])
            names.append(last.name)
    changed = {i: moving(editor, moves, x, graph.ops[i].outputs[0]) for i, (x, moves) in sorted(shorter.items())}
    return (without(graph, dropped, changed, editor), names) if shorter else (graph, [])


def _planned(graph: Graph) -> Iterator[tuple[list[int], tuple[Move, ...]]]:
    """Chains with the moves that do the same: each as long as tensors of `LARGEST_RANK` axes do for it."""
    for chain in _chains(graph):
        rest = chain
        while rest:
            for n in range(len(rest), 0, -1):
                source = graph.ops[rest[0]].inputs[0]
                moves = plan(graph.tensors[source].shape, order_of(graph, source, rest[:n]))
                if moves is not None and all(len(move.shape) <= LARGEST_RANK for move in moves[:-1]):
                    yield rest[:n], moves
                    break
            rest = rest[n:]


def cost(moves: Sequence[Move]) -> tuple[int, int]:
    """Ops, and TRANSPOSEs among them: RESHAPE copies memory at most, and TRANSPOSE goes through it in leaps."""
    return len(moves), sum(move.order is not None for move in moves)


def moves_of(graph: Graph, chain: Sequence[int]) -> tuple[Move, ...]:
    """What some ops do."""
    found = list[Move]()
    for op in (graph.ops[i] for i in chain):
        order = value(graph, op.inputs[1]) if op.kind == "TRANSPOSE" else None
        axes = None if order is None else tuple(int(axis) for axis in order.reshape(-1))
        found.append(Move(graph.tensors[op.outputs[0]].shape, axes))
    return tuple(found)


def _turned_axes(moves: Sequence[Move]) -> int:
    """Axes of TRANSPOSEs: those of length 1 are no work, but one without them goes with others like it (`turned`)."""
    return sum(len(move.shape) for move in moves if move.order is not None)


def plan(before: Shape, order: Array) -> tuple[Move, ...] | None:
    """The moves that permute elements; none if there is nothing to do, None if no TRANSPOSE does it.

    Args:
        before: shape of the tensor.
        order: of the result's shape: the flat index of each element in the tensor.
    """
    after, axes = order.shape, _axes(order)
    if axes is None:
        return None
    source = sorted(axes, key=lambda axis: -axis[1])
    turn = tuple(source.index(axis) for axis in axes)
    if turn == tuple(range(len(turn))):
        return () if before == after else (Move(after),)
    dims, turned = tuple(n for n, _ in source), tuple(n for n, _ in axes)
    fits_before, fits_after = _longer(before) == dims, _longer(after) == turned
    if fits_before and fits_after and len(before) == len(after):
        whole, ones = _positions(before), iter(_ones(before))
        positions = iter(turn)
        return (Move(after, tuple(next(ones) if n == 1 else whole[next(positions)] for n in after)),)
    if fits_after and not (fits_before and len(before) < len(after)):
        count, positions = len(after) - len(dims), iter(turn)
        ones = iter(range(count))
        middle = (*[1] * count, *dims)
        swap = Move(after, tuple(next(ones) if n == 1 else count + next(positions) for n in after))
        return (swap,) if middle == before else (Move(middle), swap)
    if fits_before:
        whole = _positions(before)
        swapped = (*_ones(before), *(whole[axis] for axis in turn))
        return Move(tuple(before[axis] for axis in swapped), swapped), Move(after)
    return Move(dims), Move(turned, turn), Move(after)


def _axes(order: Array) -> list[tuple[int, int]] | None:
    """Length and stride of the result's axes, merged where they can be, outermost first; None if there are no such."""
    flat: Array = order.reshape(-1)
    axes = list[tuple[int, int]]()
    while flat.size > 1:
        stride = int(flat[1] - flat[0])
        breaks = np.flatnonzero(flat != flat[0] + stride * np.arange(flat.size))
        n = int(breaks[0]) if breaks.size else flat.size
        if stride <= 0 or flat.size % n:
            return None
        rows = flat.reshape(-1, n)
        if (rows - rows[:, :1] != stride * np.arange(n)).any():
            return None
        axes.insert(0, (n, stride))
        flat = rows[:, 0]
    steps = [1, *(n * stride for n, stride in sorted(axes, key=lambda axis: axis[1]))]
    contiguous = all(step == stride for step, (_, stride) in zip(steps, sorted(axes, key=lambda a: a[1]), strict=False))
    return axes if contiguous and flat.tolist() == [0] and steps[-1] == order.size else None


def _longer(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _positions(shape: Shape) -> list[int]:
    return [axis for axis, n in enumerate(shape) if n != 1]


def _ones(shape: Shape) -> list[int]:
    return [axis for axis, n in enumerate(shape) if n == 1]


def moving(editor: Editor, moves: tuple[Move, ...], source: int, target: int) -> list[Op]:
    """The ops of some moves, at least one, between two tensors of an editor; they are not added."""
    end, ops = editor.tensors[target], list[Op]()
    made = [editor.add_tensor(Tensor(f"{end.name}/moved", move.shape, end.dtype)) for move in moves[:-1]]
    for (x, y), move in zip(pairwise((source, *made, target)), moves, strict=True):
        if move.order is None:
            ops.append(reshaping(editor, x, y, f"{end.name}/shape"))
        else:
            ops.append(Op("TRANSPOSE", (x, integers(editor, f"{end.name}/order", move.order)), (y,)))
    return ops


def _chains(graph: Graph) -> list[list[int]]:
    """Moves that follow one another, as long as nothing else reads what is between them."""
    chains, seen = list[list[int]](), set[int]()
    for i, op in enumerate(graph.ops):
        if i in seen or not _moves(graph, op):
            continue
        chain = [i]
        while (after := sole_reader(graph, graph.ops[chain[-1]].outputs[0])) is not None:
            if not _moves(graph, graph.ops[after]):
                break
            chain.append(after)
        seen.update(chain)
        chains.append(chain)
    return chains


def moves_before(graph: Graph, t: int) -> list[int]:
    """The moves that make a tensor, in order, as long as nothing else reads what is between them."""
    chain, producers = list[int](), uses(graph).producers
    while t in producers and _moves(graph, graph.ops[producers[t]]):
        if chain and sole_reader(graph, t) is None:
            break
        chain.insert(0, producers[t])
        t = graph.ops[producers[t]].inputs[0]
    return chain


def _moves(graph: Graph, op: Op) -> bool:
    if op.kind not in (*RESHAPES, "TRANSPOSE") or (op.kind == "TRANSPOSE" and value(graph, op.inputs[1]) is None):
        return False
    ends = [graph.tensors[t] for t in (op.inputs[0], *op.outputs)]
    static = all(-1 not in (t.shape_signature or ()) and t.quantization is None for t in ends)
    return static and not ends[0].is_constant and prod(ends[0].shape) == prod(ends[1].shape) > 0

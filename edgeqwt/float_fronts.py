"""Fronts of a network: all that leads to one tensor, through which everything behind a place passes.

What a spectrum loses in steps of one size, no width behind it brings back: the front that computes it can stay float,
and the network behind it be integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import multiplications
from edgeqwt.recipe.layers import upto
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.thresholds import FINE_DB

MOST = 0.5
"""Share of the multiplications that a front may have: of a network that is mostly float little is gained."""
TRIED = 8
"""Fronts that are looked at, spread evenly over those that there are: three trials find the smallest that is enough."""


def lost_from(graph: Graph, own: OwnErrors, min_db: float) -> int | None:
    """The tensor from which on what comes out poor is no longer fine; None where nothing is lost.

    Behind a spectrum too little may be left only after layers that are most of the network: a front that ends before
    them is enough where they only pass on what it lost.

    Args:
        graph: the float graph.
        own: errors of the ops of the integer one.
        min_db: below this all is lost.
    """
    index = {tensor.name: t for t, tensor in enumerate(graph.tensors)}
    lost = own.collapsed(min_db) or own.collapsed(FINE_DB)
    if lost is None or lost.reference not in index:
        return None
    way = upto(graph, [lost.reference])
    poor = (op for op in own.ops if op.accumulated_db is not None and op.accumulated_db < FINE_DB)
    return index[next((op.reference for op in poor if op.reference in way), lost.reference)]


def fronts(graph: Graph, start: int) -> tuple[str, ...]:
    """The names of tensors that fronts lead to, the smallest front first.

    Args:
        graph: the float graph.
        start: the tensor from which on too little is left.
    """
    producers = graph.producers()
    places = (t for t in bottlenecks(graph, start) if t in producers and graph.tensors[t].is_float)
    names = [graph.tensors[t].name for t in places]
    kept = [name for name in names if share(graph, upto(graph, [name])) <= MOST]
    if len(kept) <= TRIED:
        return tuple(kept)
    return tuple(kept[round(k * (len(kept) - 1) / (TRIED - 1))] for k in range(TRIED))


def bottlenecks(graph: Graph, start: int) -> Iterator[int]:
    """The tensors through which all that is computed from one passes, itself first, in the graph's order."""
    left = Counter(t for op in graph.ops for t in {*op.inputs})
    reached, waiting = {start}, {start}
    yield start
    for op in graph.ops:
        if reached.isdisjoint(op.inputs):
            continue
        reached.update(op.outputs)
        waiting.update(t for t in op.outputs if left[t] or t in graph.outputs)
        for t in {*op.inputs} & waiting:
            left[t] -= 1
            if not left[t] and t not in graph.outputs:
                waiting.remove(t)
        if len(waiting) == 1 and not waiting.isdisjoint(op.outputs):
            yield next(iter(waiting))


def share(graph: Graph, names: Collection[str]) -> float:
    """The share of the multiplications of layers that ops have whose outputs are named."""
    counts = [
        (multiplications(graph, op), graph.tensors[op.outputs[0]].name in names) for op in graph.ops if op.outputs
    ]
    return sum(n for n, named in counts if named) / max(1, sum(n for n, _ in counts))


def entrances(graph: Graph, names: Collection[str]) -> tuple[int, ...]:
    """The positions of the float inputs that a front reads, among the graph's inputs.

    Args:
        graph: the float graph.
        names: of the tensors that the front leads to.
    """
    inside = upto(graph, [*names])
    read = {
        t for op in graph.ops if not inside.isdisjoint(graph.tensors[o].name for o in op.outputs) for t in op.inputs
    }
    return tuple(k for k, t in enumerate(graph.inputs) if t in read and graph.tensors[t].is_float)

"""Cut a graph at some tensors into parts that run one after the other.

Each op lies in exactly one part, so a walk over all parts costs one run of the graph,
whatever is done at the cuts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.tensor import HANDLES


@dataclass(frozen=True)
class Segment:
    """One part of a graph; all tensors and ops by their indices in the whole graph.

    Attributes:
        ops: in the order of the graph; empty when the cut is a graph input or an earlier part computes it.
        inputs: activations that it reads and does not compute: graph inputs, or outputs of earlier parts.
        outputs: tensors that it computes and that are a cut, a graph output, or read by a later part.
    """

    ops: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def segments(graph: Graph, cuts: Sequence[int]) -> tuple[Segment, ...]:
    """The graph cut at some tensors: one segment per cut, in order, and one for what is left, if anything is.

    Segment k holds the ops that cuts[k] depends on and no earlier segment holds. Running the
    segments in order, each on the outputs of those before it, computes what the graph computes.

    Args:
        graph: any graph without state that several ops share.
        cuts: indices of activations; none may come before a cut that it needs, if each segment
            is to hold the ops between two cuts.

    Raises:
        InvariantError: a cut is a constant, or nothing computes it.
        InputError: ops share state, so they cannot run in separate interpreters.
    """
    _check_stateless(graph)
    producers = graph.producers()
    for cut in cuts:
        if cut not in producers and cut not in graph.inputs:
            raise InvariantError(f"cut at tensor {cut}, which is no activation of the graph")
    parts: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for cut in cuts:
        part = _needed(graph, producers, cut, taken)
        taken |= part
        parts.append(tuple(sorted(part)))
    rest = tuple(i for i in range(len(graph.ops)) if i not in taken)
    return _linked(graph, [*parts, rest] if rest else parts, cuts)


def segment_graph(graph: Graph, segment: Segment) -> tuple[Graph, dict[int, int]]:
    """A segment as a graph that can run by itself, and where its tensors are in it: old index to new index."""
    return graph.slice_with_index(segment.ops, segment.inputs, segment.outputs)


def _needed(graph: Graph, producers: Mapping[int, int], tensor: int, taken: set[int]) -> set[int]:
    """The ops that a tensor depends on, without those that are taken and what they depend on."""
    found: set[int] = set()
    open_tensors = [tensor]
    while open_tensors:
        op = producers.get(open_tensors.pop())
        if op is not None and op not in taken and op not in found:
            found.add(op)
            open_tensors.extend(graph.ops[op].inputs)
    return found


def _linked(graph: Graph, parts: Sequence[tuple[int, ...]], cuts: Sequence[int]) -> tuple[Segment, ...]:
    """Segments of the given ops, with the activations that pass between them."""
    part_of = {t: k for k, part in enumerate(parts) for i in part for t in graph.ops[i].outputs}
    reads = [
        list(dict.fromkeys(t for i in part for t in graph.ops[i].inputs if t in part_of or t in graph.inputs))
        for part in parts
    ]
    kept = {*cuts, *graph.outputs}
    crossing = {t for k, tensors in enumerate(reads) for t in tensors if part_of.get(t, k) != k}
    made = [[t for i in part for t in graph.ops[i].outputs if t in kept or t in crossing] for part in parts]
    return tuple(
        Segment(ops=part, inputs=tuple(t for t in reads[k] if part_of.get(t) != k), outputs=tuple(made[k]))
        for k, part in enumerate(parts)
    )


def _check_stateless(graph: Graph) -> None:
    """Refuses graphs where separate interpreters would not see each other's state."""
    users: dict[int, int] = {}
    for i, op in enumerate(graph.ops):
        shared = [t for t in op.tensors if graph.tensors[t].is_variable and users.setdefault(t, i) != i]
        handles = [t for t in op.tensors if graph.tensors[t].dtype in HANDLES]
        if shared or handles or not op.outputs:
            raise InputError(
                f"{graph.describe(i)} shares state with other ops, so the model cannot be run in parts",
                "Export it without state that outlives an inference.",
            )

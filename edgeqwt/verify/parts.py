"""Parts of an output that mean different things, such as boxes and class scores in one tensor.

One figure for the whole of such an output is that of its largest part. What a graph joins is found by its
structure; judges and reports look at each part beside the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.opset import JOINS, MOVES, RULES, SPLITS
from edgeqwt.runtime.runners import InterpreterError, reference

MOVING = frozenset({
    *MOVES, *SPLITS, *JOINS, "GATHER", "GATHER_ND", "PAD", "TILE", "BROADCAST_TO", "SPACE_TO_DEPTH",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2",
})  # fmt: skip
ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV"})
CONVERTING = frozenset({"QUANTIZE", "DEQUANTIZE"})
MOST = 16  # what is joined of more is a sequence, whose members mean the same


@dataclass(frozen=True)
class Part:
    """Elements of a tensor that lie side by side along one axis.

    Attributes:
        name: for people: the tensor that was joined in, or the columns.
        axis: of the tensor as the file has it, batch dimension included.
        start, stop: first index along it, and the one behind the last.
    """

    name: str
    axis: int
    start: int
    stop: int

    @property
    def place(self) -> str:
        """Where it is, such as "3 of axis 1"; an axis of the tensor as the file has it."""
        return f"{self.start}{f':{self.stop}' * (self.stop > self.start + 1)} of axis {self.axis}"

    def of(self, values: Array) -> Array:
        """The part's elements; `values` has the tensor's shape."""
        index = [slice(None)] * values.ndim
        index[self.axis] = slice(self.start, self.stop)
        part: Array = values[tuple(index)]
        return part


def parts_of(graph: Graph, tensor: int) -> tuple[Part, ...]:
    """The parts of an output of a float graph; none where it is of one kind.

    An axis has parts where tensors were joined (CONCATENATION, PACK) so that all elements on one side of some index
    come from others than those on the other side. Ops that move values about may follow, as may ops that
    compute element by element from one activation. Each axis has parts of its own: a detector that joins boxes and
    scores along one axis and maps of three sizes along another has parts along both.

    Args:
        graph: float; static shapes.
        tensor: an activation of it.

    Returns:
        Axis by axis, in order; those of one axis cover it.
    """
    found = _sources(graph, tensor)
    if found is None:
        return ()
    origin, leaves = found
    parts = list[Part]()
    for axis, length in enumerate(origin.shape):
        if length < 2 or not origin.size:
            continue
        others = tuple(k for k in range(origin.ndim) if k != axis)
        cuts = np.flatnonzero((np.diff(origin, axis=axis) != 0).all(axis=others)) + 1
        if 0 < len(cuts) < MOST:
            bounds = zip([0, *cuts.tolist()], [*cuts.tolist(), length], strict=True)
            parts += [_named(graph, origin, leaves, Part("", axis, *pair)) for pair in bounds]
    return tuple(parts)


def _named(graph: Graph, origin: Array, leaves: Sequence[int], part: Part) -> Part:
    """The part with the name of the tensor that it is, or of its position where it is one of several."""
    inside = {int(n) for n in np.unique(part.of(origin) % (len(leaves) + 1)) if n > 0}
    if len(inside) == 1:
        return replace(part, name=graph.tensors[leaves[inside.pop() - 1]].name)
    return replace(part, name=f"{part.start}:{part.stop} of axis {part.axis}")


def element_wise(graph: Graph, op: Op) -> int | None:
    """The activation from which an op computes its output element by element; None where it does something else."""
    if len(op.outputs) != 1:
        return None
    rule, active = RULES.get(op.kind), [t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant]
    known = op.kind in ARITHMETIC | CONVERTING or (rule is not None and rule.elementwise) or op.kind.startswith("RELU")
    if not known or len(active) != 1 or graph.tensors[active[0]].shape != graph.tensors[op.outputs[0]].shape:
        return None
    return active[0]


def _sources(graph: Graph, tensor: int) -> tuple[Array, list[int]] | None:
    """For each element a number of where it comes from, and the leaves; None if nothing is joined.

    A number is leaf + 1 (0: padding) modulo len(leaves) + 1; each op that computes adds another multiple of that.
    """
    leaves, inside = _walk(graph, tensor)
    if not any(graph.ops[i].kind in JOINS for i in inside):
        return None
    counted, base = list(graph.tensors), len(leaves) + 1
    changes: dict[int, Op] = {}
    for k, i in enumerate(inside):
        op, source = graph.ops[i], element_wise(graph, graph.ops[i])
        if source is not None:
            counted.append(Tensor(f"parts/{k}", (), "float32", np.array((k + 1) * base, np.float32)))
            options = {"fusedActivationFunction": "NONE"}
            changes[i] = Op("ADD", (source, len(counted) - 1), op.outputs, options)
    for t in {*leaves, *(t for i in inside for t in graph.ops[i].outputs)}:
        counted[t] = replace(graph.tensors[t], dtype="float32", quantization=None)
    plain = replace(graph, tensors=tuple(counted)).with_ops(changes)
    alone, new = _without_constants(graph, plain).slice_with_index(inside, leaves, [tensor])
    if any(-1 in tensor.shape for tensor in alone.tensors):
        return None
    feeds = {new[t]: np.full(graph.tensors[t].shape, number, np.float32) for number, t in enumerate(leaves, 1)}
    try:
        origin = reference(alone).run(feeds)[new[tensor]]
    except InterpreterError:  # an op that LiteRT does not run on floats: nothing can be said of what it moves
        return None
    return np.rint(origin).astype(np.int64), leaves


def _without_constants(graph: Graph, counted: Graph) -> Graph:
    """The graph whose real constants that are joined in are zeros: they come from no leaf."""
    zeros = {
        i: replace(t, data=np.zeros_like(t.data)) for i, t in enumerate(graph.tensors) if t.is_float and t.is_constant
    }
    return counted.with_tensors(zeros)


def _walk(graph: Graph, tensor: int) -> tuple[list[int], list[int]]:
    """Where the values of a tensor come from: tensors that other ops compute, and the ops between, in order.

    Ops that compute element by element are between where something is joined before them.
    """
    producers, leaves, inside = graph.producers(), set[int](), set[int]()
    joins: dict[int, bool] = {}

    def before(t: int) -> list[int] | None:
        """The tensors that one is made of; None for a leaf."""
        op = graph.ops[producers[t]] if t in producers else None
        if op is None:
            return None
        source = element_wise(graph, op)
        if source is not None:
            return [source]
        moved = op.kind in MOVING and op.activation == "NONE" and _static(graph, op)
        return [u for u in op.inputs if is_value(graph, u)] if moved else None

    seen, todo = {tensor}, [tensor]
    while todo:
        further = [u for u in before(todo.pop()) or [] if u not in seen]
        seen.update(further)
        todo += further
    # What is read before who reads it: ops are in order.
    for t in sorted(seen, key=lambda t: producers.get(t, -1)):
        joins[t] = any(joins[u] for u in before(t) or []) or (
            t in producers and before(t) is not None and graph.ops[producers[t]].kind in JOINS
        )
    todo = [tensor]
    while todo:
        t = todo.pop()
        sources = before(t)
        if sources is None or not joins[t]:
            leaves.add(t)
        elif producers[t] not in inside:
            inside.add(producers[t])
            todo += sources
    # Not both: what an op with several outputs computes is a leaf where one of them is none.
    made = {t for i in inside for t in graph.ops[i].outputs}
    return sorted(leaves - made), sorted(inside)


def is_value(graph: Graph, t: int) -> bool:
    """Whether a tensor that an op reads is one of values, not a constant, indices or a mask."""
    return t >= 0 and not graph.tensors[t].is_constant and graph.tensors[t].dtype not in ("int32", "int64", "bool")


def _static(graph: Graph, op: Op) -> bool:
    """Whether shapes, indices and orders that an op reads are constants."""
    return all(t < 0 or graph.tensors[t].is_constant or is_value(graph, t) for t in op.inputs)

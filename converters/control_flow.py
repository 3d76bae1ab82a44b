"""IF and WHILE whose conditions are known before any sample is: the branch taken, the body as often as it runs.

Their subgraphs' ops take the places of the op. What depends on the input's values stays, for others to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.prepare.constants import ROUNDING, fold

FLOW = ("IF", "WHILE")
LARGEST_UNROLLED = 4096  # ops that a loop may become


def resolved(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph without the IF and WHILE ops whose conditions are constant, and a sentence on each.

    What the conditions are computed from must be constants already; see `constants.fold`.
    """
    notes = []
    for i, op in enumerate(graph.ops):
        found = _branch(graph, op) if op.kind == "IF" else _loop(graph, op) if op.kind == "WHILE" else None
        if found is not None:
            notes.append(f"{graph.describe(i)} {found.what}")
            rest, more = resolved(_in_place(graph, i, found))
            return rest, (*notes, *more)
    return graph, ()


def settled(graph: Graph) -> Graph:
    """The graph without the control flow that is known beforehand, constants folded as that needs."""
    while any(op.kind in FLOW for op in graph.ops):
        folded, _ = fold(graph, ROUNDING)
        folded, found = resolved(folded)
        if not found:
            break
        graph = folded
    return graph


def check_resolved(graph: Graph) -> None:
    """Refuses control flow.

    Raises:
        UnsupportedError: naming the first op, and what would do instead of it.
    """
    for i, op in enumerate(graph.ops):
        if op.kind == "IF":
            rule = "which branch it takes depends on the values of the inputs"
            hint = "Compute both branches and choose with tf.where, or build a model of each branch."
            raise UnsupportedError(graph.describe(i), "tflite", rule, hint)
        if op.kind == "WHILE":
            rule = f"how often it runs depends on the values of the inputs, or it becomes over {LARGEST_UNROLLED} ops"
            hint = "Give the loop a fixed number of steps, or build a model of one step, with its states in and out."
            raise UnsupportedError(graph.describe(i), "tflite", rule, hint)


@dataclass(frozen=True, eq=False)
class _Found:
    """What stands for an op.

    Attributes:
        body: its outputs are the op's.
        what: a sentence on it, without its subject.
        feeds: which of the op's inputs the body's inputs are.
    """

    body: Graph
    what: str
    feeds: tuple[int, ...]


def _branch(graph: Graph, op: Op) -> _Found | None:
    condition = graph.tensors[op.inputs[0]].data
    if condition is None:
        return None
    name = "then" if condition.any() else "else"
    body = graph.others[op.options[f"{name}SubgraphIndex"] - 1]
    return _Found(body, f"always takes its {name} branch, which was put in its place", op.inputs[1:])


def _loop(graph: Graph, op: Op) -> _Found | None:
    """The loop's body as often as it runs, in a row; None where that is not known, or too often."""
    condition, body = (graph.others[op.options[f"{name}SubgraphIndex"] - 1] for name in ("cond", "body"))
    given = [graph.tensors[t] for t in op.inputs]
    tensors = [replace(t, name=f"{t.name}/before", extra={}, shape_signature=None) for t in given]
    inputs = tuple(k for k, t in enumerate(tensors) if not t.is_constant)
    unrolled = Graph(tuple(tensors), (), inputs, tuple(range(len(tensors))), others=graph.others)
    times = 0
    while (goes_on := _known(unrolled, condition)) is not None:
        if not goes_on:
            feeds = tuple(op.inputs[k] for k in inputs)
            return _Found(unrolled, f"always runs {times} times: it was unrolled", feeds)
        unrolled = _then(unrolled, body, f"step{times}")
        times += 1
        if len(unrolled.ops) > LARGEST_UNROLLED or times > LARGEST_UNROLLED:
            return None
    return None


def _known(before: Graph, condition: Graph) -> bool | None:
    """The value of a condition on a graph's outputs, where it is constant."""
    tensors = [replace(before.tensors[t]) for t in before.outputs]
    inputs = tuple(k for k, t in enumerate(tensors) if not t.is_constant)
    state = Graph(tuple(tensors), (), inputs, tuple(range(len(tensors))), others=before.others)
    (result,) = (found := _then(state, condition, "condition")).outputs
    value = found.tensors[result].data
    return None if value is None else bool(value.any())


def _then(first: Graph, after: Graph, label: str) -> Graph:
    """Two graphs in a row, the second's inputs being the first's outputs; what is constant is computed."""
    tensors, ops = list(first.tensors), list(first.ops)
    outputs = _spliced(tensors, ops, after, first.outputs, label)
    joined = replace(first, tensors=tuple(tensors), ops=tuple(ops), outputs=tuple(outputs))
    inner, _ = resolved(joined) if any(op.kind in FLOW for op in after.ops) else (joined, ())
    return replace(fold(inner, ROUNDING)[0], others=first.others)


def _spliced(tensors: list[Tensor], ops: list[Op], sub: Graph, feeds: Sequence[int], label: str) -> list[int]:
    """Appends a subgraph's tensors and ops; returns where its outputs are."""
    new = {-1: -1, **dict(zip(sub.inputs, feeds, strict=True))}
    for t, tensor in enumerate(sub.tensors):
        if t not in new:
            new[t] = len(tensors)
            tensors.append(replace(tensor, name=f"{label}/{tensor.name}"))
    ops.extend(op.remapped(new) for op in sub.ops)
    return [new[t] for t in sub.outputs]


def _in_place(graph: Graph, i: int, found: _Found) -> Graph:
    """The graph with the body of what was found instead of an op."""
    op = graph.ops[i]
    tensors, ops = list(graph.tensors), list(graph.ops[:i])
    made = _spliced(tensors, ops, found.body, found.feeds, graph.tensors[op.outputs[0]].name)
    seen = {*graph.outputs, *(t for s in graph.signatures for _, t in s.outputs)}
    new = {t: t for t in range(-1, len(tensors))}
    for t, source in zip(op.outputs, made, strict=True):
        if t in seen:  # it keeps its name; what need not be copied goes when the graph is prepared
            ops.extend(_copy(tensors, source, t))
        else:
            new[t] = source
    ops.extend(later.remapped(new) for later in graph.ops[i + 1 :])
    changed = replace(graph, tensors=tuple(tensors), ops=tuple(ops))
    kept = any(o.kind in FLOW or any("ubgraphIndex" in key for key in o.options) for o in ops)
    return (changed if kept else replace(changed, others=())).pruned()


def _copy(tensors: list[Tensor], source: int, target: int) -> list[Op]:
    rank = len(tensors[source].shape)
    shape = len(tensors)
    tensors.append(Tensor(f"{tensors[target].name}/shape", (rank,), "int32"))
    options = {"optionsType": "ShapeOptions"}
    measure = Op("SHAPE", (source,), (shape,), {"outType": "INT32"}, extra=options)
    return [measure, Op("RESHAPE", (source, shape), (target,), {}, extra={"optionsType": "NONE"})]

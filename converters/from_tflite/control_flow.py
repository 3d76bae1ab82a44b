"""IF and WHILE as ops in a row: the branch taken, both where the inputs decide, the body as often as it runs.

Their subgraphs' ops take the places of the op. How often a loop runs has to be known before any sample is: those of
which it is not stay, for others to refuse, and so do branches that keep something for the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.prepare.constants import ROUNDING, fold

FLOW = ("IF", "WHILE")
KEEPING = ("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "WHILE", "CUSTOM")
"""What a branch that is not taken must not do, and what may never end there."""
LARGEST_UNROLLED = 4096  # ops that a loop may become


def resolved(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph without the IF and WHILE ops whose conditions are constant, and a sentence on each.

    What the conditions are computed from must be constants already; see `constants.fold`.
    """
    return _first(graph, lambda op: _branch(graph, op) if op.kind == "IF" else _loop(graph, op), resolved)


def chosen(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph with both branches of every IF whose condition the inputs decide, and a sentence on each.

    SELECT_V2 takes the outputs of one. What `resolved` finds is simpler, so it comes first.
    """
    return _first(graph, lambda op: _both(graph, op) if op.kind == "IF" else None, chosen)


def _first(
    graph: Graph, find: Callable[[Op], _Found | None], rest: Callable[[Graph], tuple[Graph, tuple[str, ...]]]
) -> tuple[Graph, tuple[str, ...]]:
    """The graph with what stands for its first op of control flow that something does, and for those of the rest."""
    for i, op in enumerate(graph.ops):
        if op.kind in FLOW and (found := find(op)) is not None:
            changed, more = rest(_in_place(graph, i, found))
            return changed, (f"{graph.describe(i)} {found.what}", *more)
    return graph, ()


def settled(graph: Graph) -> Graph:
    """The graph without the control flow that is known beforehand, constants folded as that needs."""
    while any(op.kind in FLOW for op in graph.ops):
        folded, _ = fold(graph, ROUNDING)
        for written_out in (resolved, chosen):
            folded, found = written_out(folded)
            if found:
                break
        else:
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
            rule = "which branch it takes depends on the values of the inputs, and both cannot be computed: they keep "
            rule += "something for the next run, have a loop, or differ in the shape or type of what they give"
            hint = "Build a model of each branch, and let the application decide."
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


def _both(graph: Graph, op: Op) -> _Found | None:
    """Both branches and a choice of each output; None where that would not be the same."""
    then, other = (graph.others[op.options[f"{name}SubgraphIndex"] - 1] for name in ("then", "else"))
    if any(o.kind in KEEPING for branch in (then, other) for o in branch.ops):
        return None
    pairs = [
        (then.tensors[a], other.tensors[b], graph.tensors[t])
        for a, b, t in zip(then.outputs, other.outputs, op.outputs, strict=True)
    ]
    if any(len({(t.shape, t.dtype) for t in each}) > 1 for each in pairs):
        return None
    tensors = [replace(graph.tensors[t], data=None, extra={}) for t in op.inputs]
    ops: list[Op] = []
    fed = range(1, len(tensors))
    left, right = (_spliced(tensors, ops, branch, fed, label) for branch, label in ((then, "then"), (other, "else")))
    outputs = range(len(tensors), len(tensors) + len(pairs))
    tensors += [replace(t, extra={}, shape_signature=None) for _, _, t in pairs]
    for a, b, t in zip(left, right, outputs, strict=True):
        ops.append(Op("SELECT_V2", (0, a, b), (t,), {}, extra={"optionsType": "SelectV2Options"}))
    body = Graph(tuple(tensors), tuple(ops), tuple(range(len(op.inputs))), tuple(outputs), others=graph.others)
    what = "takes the branch that the inputs decide: both are computed, and one is chosen"
    return _Found(body, what, op.inputs)


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

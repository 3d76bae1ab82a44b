"""What runs a file's subgraphs and must fit them: ops (IF, WHILE, CALL_ONCE), and signatures.

Source: the Prepare functions of tensorflow/lite/kernels/if.cc, while.cc and call_once.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edgeqwt.graph.graph import Graph, Op

CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
        "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
        "CALL_ONCE": ("initSubgraphIndex",),
    }
)
"""The options that say which subgraphs an op runs."""


def wrong_call(subgraphs: Sequence[Graph]) -> str:
    """What is wrong about the first op that runs subgraphs which it cannot run; empty where there is none.

    Args:
        subgraphs: of a file, in its order.
    """
    for graph in subgraphs:
        for i, op in enumerate(graph.ops):
            if wrong := _wrong(op, subgraphs):
                return f"{graph.describe(i)} contradicts its subgraphs: {wrong}"
    return _endless(subgraphs)


def _wrong(op: Op, subgraphs: Sequence[Graph]) -> str:
    for option in CALLS.get(op.kind, ()):
        index = op.options.get(option)
        if index is None or not 1 <= index < len(subgraphs):
            return f"its option {option} is {index}, the file has subgraphs 0 to {len(subgraphs) - 1}"
        inputs, outputs = _ends(op, option)
        for count, found, what in ((inputs, subgraphs[index].inputs, "in"), (outputs, subgraphs[index].outputs, "out")):
            if count != len(found):
                return f"subgraph {index} has {len(found)} {what}puts, where it needs {count}"
    return ""


def _ends(op: Op, option: str) -> tuple[int, int]:
    """How many inputs and outputs the subgraph of an option must have."""
    if op.kind == "CALL_ONCE":
        return 0, 0
    if op.kind == "IF":
        return len(op.inputs) - 1, len(op.outputs)
    return len(op.inputs), 1 if option == "condSubgraphIndex" else len(op.inputs)


def _endless(subgraphs: Sequence[Graph]) -> str:
    """Whether a subgraph runs itself, by whatever way, in words."""
    runs = [{op.options[option] for op in g.ops for option in CALLS.get(op.kind, ())} for g in subgraphs]
    for start, reached in enumerate(runs):
        seen, todo = set(reached), list(reached)
        while todo:
            more = runs[todo.pop()] - seen
            seen |= more
            todo.extend(more)
        if start in seen:
            return f"subgraph {start} runs itself"
    return ""


def unfit_signature(subgraphs: Sequence[Graph]) -> str:
    """Which signature names something that its subgraph does not take or give, in words; empty where none does.

    Args:
        subgraphs: of a file, in its order.
    """
    for graph in subgraphs:
        for signature in graph.signatures:
            for named, there, what in (
                (signature.inputs, graph.inputs, "input"),
                (signature.outputs, graph.outputs, "output"),
            ):
                for name, t in named:
                    if t not in there:
                        return f"{name!r} of signature {signature.key!r} is no {what} of its subgraph"
    return ""

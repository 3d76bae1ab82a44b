"""Whether the inputs and outputs of two graphs correspond, by position."""

from __future__ import annotations

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Graph


def check_interfaces(first: Graph, second: Graph, hint: str, *, inputs_alone: bool = False) -> None:
    """Whether two files' graphs take and give tensors of the same shapes in the same order; types may differ.

    Args:
        first: of one file.
        second: of another one.
        hint: what to do where they do not.
        inputs_alone: whether outputs may differ.

    Raises:
        InputError: they do not.
    """
    for what, ours, theirs in (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs)):
        found = [g.tensors[t].shape for g, ts in ((first, ours), (second, theirs)) for t in ts]
        if found[: len(ours)] != found[len(ours) :] and not (inputs_alone and what == "outputs"):
            listed = (
                ", ".join(f"{g.tensors[t].name!r} {g.tensors[t].shape}" for t in ts)
                for g, ts in ((first, ours), (second, theirs))
            )
            raise InputError(f"the models' {what} differ: {' and '.join(listed)}", hint)


def require_interface(graph: Graph, reference: Graph) -> None:
    """Asserts that a graph has as many inputs and outputs as the one that it was made from.

    Raises:
        InvariantError: it has others.
    """
    if (len(graph.inputs), len(graph.outputs)) != (len(reference.inputs), len(reference.outputs)):
        raise InvariantError("a rewrite changed the number of the graph's inputs or outputs")

"""What a package says about a model besides its graph: names, the source model's layouts, where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeqwt.converted import Affine, Binding, Constant, Joined
from edgeqwt.errors import printable
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult

NAME = "edgeqwt_model"


@dataclass(frozen=True)
class Port:
    """An input or output as the source model has it.

    Attributes:
        name: in the source model.
        shape: in the source model; None for a free dimension.
        permutation: graph array = source array transposed by it; None where the layouts agree.
        state: of an input, the output that is fed back to it; of an output, the input that it is fed back to; empty
            where there is none. Both have the same bytes for the same values.
        affine: where the file takes other values than the source model, such as pixels.
    """

    name: str
    shape: tuple[int | None, ...]
    permutation: tuple[int, ...] | None = None
    state: str = ""
    affine: Affine | None = None


@dataclass(frozen=True)
class Selection:
    """The values of an input that a signature of the file serves.

    Attributes:
        signature: its key.
        input: the input's name in the source model.
        lowest: the smallest value; None: all below `below`.
        below: the smallest value that the next signature serves; None: all from `lowest` on.
    """

    signature: str
    input: str
    lowest: float | None
    below: float | None


@dataclass(frozen=True)
class Details:
    """What the files say about the model.

    Attributes:
        inputs, outputs: one Port for each of the graph's, in the graph's order.
        name: what C++ files and the namespace are called; an identifier.
        joined: outputs of the source model that the file has in parts.
        constants: inputs of the source model that the file has as constants.
        origin: what the model was made from and how, a sentence; empty where that is not known.
        selections: which signature serves which values; empty where the file has one for all.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    name: str = NAME
    origin: str = ""
    joined: tuple[Joined, ...] = ()
    constants: tuple[Constant, ...] = ()
    selections: tuple[Selection, ...] = ()


def of_graph(graph: Graph) -> Details:
    """Details of a .tflite file of unknown origin: names from its signature, or of its tensors."""
    signature = graph.signatures[0] if graph.signatures else None
    named = {} if signature is None else {t: n for n, t in (*signature.inputs, *signature.outputs)}

    def port(t: int) -> Port:
        tensor = graph.tensors[t]
        return Port(named.get(t) or tensor.name, tensor.shape)

    return Details(tuple(map(port, graph.inputs)), tuple(map(port, graph.outputs)))


def of_build(result: BuildResult) -> Details:
    """Details of a build: names and layouts of its source model."""
    model = result.model
    # The name alone: the package is for others, and where the file lay is nobody's business.
    name_of = printable(Path(result.sources.model).name) or "a model in memory"
    origin = f"Made by edgeqwt from {name_of} with the recipe {result.recipe.name}."
    names = {b.tensor: b.spec.name for b in (*model.inputs, *model.outputs)}
    states = {t: names[u] for pair in model.graph.state_tensors() for t, u in (pair, pair[::-1])}
    inputs = _ports(model.graph.inputs, model.inputs, states)
    outputs = _ports(model.graph.outputs, model.outputs, states)
    return Details(
        inputs, outputs, origin=origin, joined=model.joined, constants=model.constants,
        selections=tuple(_selections(result)),
    )  # fmt: skip


def _selections(result: BuildResult) -> Iterator[Selection]:
    groups = result.groups
    for group in () if groups is None else groups.found:
        ends = (end if math.isfinite(end) else None for end in (group.lowest, group.below))
        yield Selection(group.key, groups.input if groups is not None else "", *ends)


def _ports(tensors: tuple[int, ...], bindings: tuple[Binding, ...], states: Mapping[int, str]) -> tuple[Port, ...]:
    by_tensor = {binding.tensor: binding for binding in bindings}
    found = [by_tensor[t] for t in tensors]
    return tuple(
        Port(b.spec.name, tuple(b.spec.shape), b.permutation, states.get(b.tensor, ""), b.affine) for b in found
    )

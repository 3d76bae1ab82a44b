"""Outputs that an application feeds back as inputs at the next run: the states of a streaming model.

Both must have the same integers for the same values, and hold them in the same order, so that the output's bytes
can be fed back as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Editor, Graph
from edgeqwt.prepare.moves import Move, moving, plan

STATES = frozenset(
    (
        "h", "c", "hx", "cx", "state", "states", "hidden", "cell", "cache", "caches", "memory", "mem", "memories",
        "carry", "past", "present", "rnn", "gru", "lstm",
    )
)  # fmt: skip
"""Words of which one is in a state's name."""
DIRECTIONS = frozenset(
    (
        "in", "input", "old", "prev", "previous", "last", "init", "initial", "out", "output", "new", "next", "cur",
        "current", "updated", "past", "present", "n", "t",
    )
)  # fmt: skip
"""Words that tell a state before a run from the same one after it."""
UNNAMED = re.compile(r"output(_\d+)*")

State = tuple[str, str]
"""Names of an input and of an output, as the source model has them."""


def with_states(model: ConvertedModel, given: Sequence[State] | None = None) -> ConvertedModel:
    """The model with its states known: its graph says which input and output are one.

    Args:
        model: from a converter.
        given: pairs of an input and an output; None: those that names and shapes tell.

    Raises:
        InputError: a pair names what the model does not have, or what differs in shape or type.
    """
    pairs = found(model) if given is None else tuple(_checked(model, pair) for pair in given)
    notes = []
    for source, target in pairs:
        model = _in_one_layout(model, source, target)
        how = "" if given is not None else " (--state none if they are not)"
        notes.append(
            f"input {source!r} and output {target!r} are one state: they have one scale and layout, "
            f"so that the output's bytes can be fed back{how}"
        )
    if not pairs:
        return model
    names = tuple((_tensor(model, s, model.inputs), _tensor(model, t, model.outputs)) for s, t in pairs)
    return replace(model, graph=replace(model.graph, states=names), notes=(*model.notes, *notes))


def found(model: ConvertedModel) -> tuple[State, ...]:
    """The pairs that names tell, or, where outputs have no names, names of inputs and shapes."""
    inputs = [b for b in model.inputs if _is_real(model.graph, b) and words(b.spec.name) & STATES]
    outputs = [b for b in model.outputs if _is_real(model.graph, b)]
    pairs = []
    for b in inputs:
        same = [o for o in outputs if _stem(o.spec.name) == _stem(b.spec.name) and o.spec.shape == b.spec.shape]
        if len(same) == 1:
            pairs.append((b.spec.name, same[0].spec.name))
    if pairs or not all(UNNAMED.fullmatch(o.spec.name) for o in outputs):
        return tuple(pairs)
    for shape in dict.fromkeys(b.spec.shape for b in inputs):
        ours = [b.spec.name for b in inputs if b.spec.shape == shape]
        theirs = [o.spec.name for o in outputs if o.spec.shape == shape]
        pairs += list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else []
    return tuple(pairs)


def _parts(name: str) -> Iterator[str]:
    for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name):
        word = part.lower()
        # torch's own names: hn and cn come out of what h0 and c0 went into.
        yield from word if word in ("hn", "cn") else (word,)


def words(name: str) -> set[str]:
    """The words that a name is made of, in lower case."""
    return {*_parts(name)}


def _stem(name: str) -> tuple[str, ...]:
    """What a state's name has before a run as after it; () where there is nothing."""
    parts = [part for part in _parts(name) if part not in DIRECTIONS]
    if len(parts) == 2 and parts[0] in ("h", "c") and parts[1] == "0":
        parts = parts[:1]
    return tuple(parts) or ("state",)


def _is_real(graph: Graph, binding: Binding) -> bool:
    tensor = graph.tensors[binding.tensor]
    return tensor.is_float and not tensor.is_constant


def _checked(model: ConvertedModel, pair: object) -> State:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError("a state is no pair of an input and an output", 'Give pairs of names: ("h_in", "h_out").')
    ends = []
    for what, name, bindings in (("input", pair[0], model.inputs), ("output", pair[1], model.outputs)):
        binding = next((b for b in bindings if b.spec.name == name), None)
        if binding is None:
            names = ", ".join(b.spec.name for b in bindings)
            raise InputError(f"state {'='.join(pair)}: there is no {what} {name!r}", f"The {what}s are: {names}.")
        if not _is_real(model.graph, binding):
            raise InputError(f"state {'='.join(pair)}: {what} {name!r} holds no real numbers", "It needs no scale.")
        ends.append(binding)
    if ends[0].spec.shape != ends[1].spec.shape:
        shapes = " and ".join(str(end.spec.shape) for end in ends)
        raise InputError(f"state {'='.join(pair)}: the shapes are {shapes}", "Only what has one shape can be fed back.")
    return pair[0], pair[1]


def _tensor(model: ConvertedModel, name: str, bindings: tuple[Binding, ...]) -> str:
    return model.graph.tensors[next(b for b in bindings if b.spec.name == name).tensor].name


def _order(model: ConvertedModel, binding: Binding) -> Array:
    """The graph tensor's elements as numbers of the source array's."""
    shape = [size or 1 for size in binding.spec.shape]
    numbers = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    moved = numbers if binding.permutation is None else numbers.transpose(binding.permutation)
    return moved.reshape(model.graph.tensors[binding.tensor].shape)


def _in_one_layout(model: ConvertedModel, source: str, target: str) -> ConvertedModel:
    """The model whose output holds a state in the order in which the input takes it."""
    graph = model.graph
    before = next(b for b in model.inputs if b.spec.name == source)
    after = next(b for b in model.outputs if b.spec.name == target)
    wanted, held = _order(model, before), _order(model, after)
    if np.array_equal(wanted.reshape(-1), held.reshape(-1)):
        return model
    position = np.empty(held.size, int)
    position[held.reshape(-1)] = np.arange(held.size)
    moves = plan(graph.tensors[after.tensor].shape, position[wanted])
    if moves is None:  # no permutation of axes: it cannot be, both are one of the same array
        return model
    editor, tensor = Editor(graph), graph.tensors[after.tensor]
    editor.tensors[after.tensor] = replace(tensor, name=f"{tensor.name}/before")
    moved = editor.add_tensor(replace(tensor, shape=wanted.shape, shape_signature=None))
    editor.tensors[moved] = replace(editor.tensors[moved], name=tensor.name)  # which is free now
    for op in (*graph.ops, *moving(editor, moves or (Move(wanted.shape),), after.tensor, moved)):
        editor.add_op(op)
    outputs = [moved if t == after.tensor else t for t in graph.outputs]
    renewed = editor.finish(outputs=outputs)
    index = {tensor.name: t for t, tensor in enumerate(renewed.tensors)}

    def rebound(b: Binding) -> Binding:
        if b is after:
            return replace(b, tensor=index[tensor.name], permutation=before.permutation)
        return replace(b, tensor=index[graph.tensors[b.tensor].name])

    inputs, bound = (tuple(rebound(b) for b in bindings) for bindings in (model.inputs, model.outputs))
    return replace(model, graph=renewed, inputs=inputs, outputs=bound)

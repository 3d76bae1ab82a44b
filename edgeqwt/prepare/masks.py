"""Attention masks: what is added to scores to hide them need not be as large as exporters make it.

-1e4 ... -3.4e38 and -infinity leave a score tensor of 8 or 16 bits no integers for the scores themselves, and the
larger ones abort the kernels. A hidden score must only be so far below the row's largest that its exponential
vanishes in float32's sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.opset import MOVES
from edgeqwt.graph.whole_numbers import is_whole
from edgeqwt.prepare.rewriting import Site, constant, float32, ports, rewrites, sole_reader, uses, value, without

LARGE = -1e3
"""Below this a constant can only be meant as a mask: scores that far apart are hidden from each other anyway. What is
subtracted is one above the same of the other sign."""

HIDDEN = -40.0
"""What hides a score: exp(-40) is 2^-58, so that a hidden score may lie 23 above the row's largest visible one, and
1024 of them be in the row, before a sum in float32 shows them. The parity check sees to it on real samples."""

DEEPER = (-80.0, -160.0)
"""What hides scores where samples show that hidden ones lie more than 23 above the row's largest visible one, as they
do in causal decoders; the first that passes the parity check."""

ABSORBS = -1e8
"""A sum with what lies below this keeps nothing of a score: float32 has steps of 8 there and more."""

NEVER_WHOLE = -1.5
"""Added to a whole number it makes none."""

MOVING = (*MOVES, "BROADCAST_TO", "TILE", "GATHER")

SUMS: Mapping[str, tuple[int, int]] = MappingProxyType({"ADD": (1, 1), "SUB": (1, -1)})
"""Ops that add, and the sign of each input."""

Hides = Callable[[Array | None, int], bool]
"""Whether a constant times a sign is a mask's."""

Slot = tuple[int, int, int]
"""An op's index, the number of one of its inputs, and the sign, 1 or -1, with which that goes into the scores."""


def soften(graph: Graph) -> tuple[Graph, list[str]]:
    """Replaces the large negative constants in what is added to scores before softmax."""
    return _replaced(graph, _is_large, lambda data: np.maximum(data, np.float32(HIDDEN)))


def deepened(graph: Graph, hidden: float) -> tuple[Graph, list[str]]:
    """The graph with lower constants in place of those that `soften` wrote.

    Args:
        graph: prepared.
        hidden: in place of `HIDDEN`.
    """
    return _replaced(graph, _is_hidden, lambda data: np.where(data == HIDDEN, np.float32(hidden), data))


def _replaced(graph: Graph, hides: Hides, change: Callable[[Array], Array]) -> tuple[Graph, list[str]]:
    """The graph with masks' constants changed, those of the other sign likewise; and their names."""
    found: set[Slot] = set()
    for op in graph.ops:
        if op.kind == "SOFTMAX":
            found.update(_in_scores(graph, op.inputs[0], hides))
    if not found:
        return graph, []
    editor, changed = Editor(graph), {index: graph.ops[index] for index, *_ in found}
    made: dict[tuple[int, int], int] = {}
    for index, slot, sign in sorted(found):
        t = graph.ops[index].inputs[slot]
        if (t, sign) not in made:  # a new constant: the old one may be used elsewhere
            data = graph.tensors[t].stored
            softer = sign * change(sign * data)
            made[t, sign] = constant(editor, f"{graph.tensors[t].name}/hidden", softer.astype(np.float32))
        inputs = list(changed[index].inputs)
        inputs[slot] = made[t, sign]
        changed[index] = replace(changed[index], inputs=tuple(inputs))
    return without(graph, set(), changed, editor), [graph.tensors[t].name for t, _ in made]


@rewrites("SELECT_V2")
def filled(at: Site) -> Op | None:
    """Scores replaced by a large negative constant where a condition holds: the constant is added instead.

    In place of a score a constant must be below all others, whatever they are; added to one it is relative to it.
    But in a row that is hidden altogether, as those of padding are, softmax of equal constants gives equal shares, and
    not those of the scores: where there may be such rows the constant stays in the scores' place.
    """
    condition, *choices = at.op.inputs
    masks = [t for t in choices if _hides(at.value(t))]
    scores = [t for t in choices if at.value(t) is None]
    if not _only_softmax(at.graph, at.op.outputs[0]) or not masks or not scores:
        return None
    if at.shape(scores[0]) != at.out.shape:
        return None
    if _may_hide_rows(at.graph, condition, hides=masks[0] == choices[0]):
        fill = at.constant("hidden", float32([HIDDEN]))
        return replace(at.op, inputs=(condition, *(fill if t in masks else t for t in choices)))
    mask = at.activation("mask", at.shape(condition))
    added = [at.constant(f"added_{i}", float32([HIDDEN * (t in masks)])) for i, t in enumerate(choices)]
    at.editor.add_op(replace(at.op, inputs=(condition, *added), outputs=(mask,)))
    return at.end("ADD", (scores[0], mask))


@rewrites("ADD")
def chosen(at: Site) -> Op | None:
    """Scores to which a mask is added that may hide a whole row: a constant stands in place of those that it hides.

    What is so large absorbs the scores of such a row, and softmax gives equal shares; `soften` would leave it those of
    the scores. It costs a comparison and a choice, so it is for masks of which samples show that they do that.
    """
    if at.op.activation != "NONE" or not _only_softmax(at.graph, at.op.outputs[0]):
        return None
    for mask, scores in (at.op.inputs, at.op.inputs[::-1]):
        if at.value(scores) is not None or at.shape(scores) != at.out.shape:
            continue
        condition = _hidden_where(at.editor, at.graph, mask)
        if condition is not None:
            return at.end("SELECT_V2", (condition, at.constant("hidden", float32([HIDDEN])), scores))
    return None


def _hidden_where(editor: Editor, graph: Graph, mask: int) -> int | None:
    """Adds the condition under which a summand hides scores; None where it is no mask, or hides no rows."""
    name, data = graph.tensors[mask].name, value(graph, mask)
    if data is not None:
        hidden = data < ABSORBS
        whole = data.ndim > 1 and bool((hidden | (data == 0)).all()) and bool(hidden.all(-1).any())
        return constant(editor, f"{name}/where", hidden) if whole else None
    producers, moves, t = uses(graph).producers, list[Op](), mask
    while t in producers and graph.ops[producers[t]].kind in MOVING:
        moves.append(graph.ops[producers[t]])
        t = moves[-1].inputs[0]
    op = graph.ops[producers[t]] if t in producers else None
    slots = [] if op is None else [k for k, u in enumerate(op.inputs) if _absorbs(value(graph, u))]
    if op is None or len(slots) != 1 or op.activation != "NONE" or not _has_rows(graph.tensors[t].shape):
        return None
    others = [u for k, u in enumerate(op.inputs) if k != slots[0]]
    zero = value(graph, others[-1])
    chosen = op.kind == "SELECT_V2" and zero is not None and not zero.any()
    if not chosen and not (op.kind == "MUL" and is_whole(graph, others[0])):
        return None
    large, last = constant(editor, f"{name}/large", float32([HIDDEN])), -1
    inputs = tuple(large if k == slots[0] else u for k, u in enumerate(op.inputs))
    for k, made in enumerate([replace(op, inputs=inputs), *reversed(moves)]):
        out = Site(editor, graph, made).activation(f"soft{k}")
        editor.add_op(replace(made, inputs=(last, *made.inputs[1:]) if k else made.inputs, outputs=(out,)))
        last = out
    condition = editor.add_tensor(Tensor(f"{name}/where", graph.tensors[mask].shape, "bool"))
    editor.add_op(Op("LESS", (last, constant(editor, f"{name}/half", float32([HIDDEN / 2]))), (condition,)))
    return condition


def _absorbs(data: Array | None) -> bool:
    return data is not None and data.dtype == np.float32 and bool(data.size and (data < ABSORBS).all())


def _has_rows(shape: tuple[int, ...]) -> bool:
    """Whether a mask of this shape has several rows; samples of a batch are none."""
    return any(n != 1 for n in (shape[1:-1] if len(shape) > 2 else shape[:-1]))


def _may_hide_rows(graph: Graph, condition: int, hides: bool) -> bool:
    """Whether a condition may hide all scores of one row and not those of another; `hides`: where it is true."""
    data = value(graph, condition)
    if data is not None:
        return bool(data.ndim and (data == hides).all(-1).any())
    return _has_rows(graph.tensors[condition].shape)


@rewrites("ADD")
def compared(at: Site) -> Op | None:
    """Whole numbers plus a mask of which only is asked whether they equal a whole number: where it hides, they do not.

    Decoders ask `(causal + attention_mask) == 0`, to hide padding. The mask's large constants need a scale that leaves
    nothing of the rest; with -1.5 in their place no sum is whole, and so none is equal.
    """
    total = at.op.outputs[0]
    readers = [at.graph.ops[i] for i in uses(at.graph).readers.get(total, [])]
    if at.op.activation != "NONE" or total in ports(at.graph) or not readers:
        return None
    asked = [at.value(next((t for t in r.inputs if t != total), -1)) for r in readers]
    compares = all(r.kind in ("EQUAL", "NOT_EQUAL") for r in readers)
    if not compares or not all(map(_is_small_and_whole, asked)):
        return None
    for x, mask in (at.op.inputs, at.op.inputs[::-1]):
        data = at.value(mask)
        if data is None or data.dtype != np.float32 or not (data < ABSORBS).any() or not is_whole(at.graph, x):
            continue
        if _is_small_and_whole(np.where(data < ABSORBS, 0, data)):
            other = np.where(data < ABSORBS, np.float32(NEVER_WHOLE), data)
            return replace(at.op, inputs=(x, constant(at.editor, f"{at.tensor(mask).name}/apart", other)))
    return None


def _is_small_and_whole(data: Array | None) -> bool:
    return data is not None and bool((np.abs(data) < -LARGE).all() and (data == np.rint(data)).all())


def _in_scores(graph: Graph, scores: int, hides: Hides, sign: int = 1) -> Iterator[Slot]:
    """Where the masks' constants are in the sums, differences and moves that make a softmax's input."""
    index = uses(graph).producers.get(scores, -1)
    if index < 0 or sole_reader(graph, scores) is None or graph.ops[index].activation != "NONE":
        return
    op = graph.ops[index]
    if op.kind in MOVING:
        yield from _in_scores(graph, op.inputs[0], hides, sign)
    elif op.kind in SUMS:
        for slot, t in enumerate(op.inputs):
            yield from _in_summand(graph, index, slot, hides, sign * SUMS[op.kind][slot])
            yield from _in_scores(graph, t, hides, sign * SUMS[op.kind][slot])


def _in_summand(graph: Graph, reader: int, slot: int, hides: Hides, sign: int) -> Iterator[Slot]:
    """Where the constant is that makes a summand a mask: the summand itself, one of its own, a factor, a choice."""
    t = graph.ops[reader].inputs[slot]
    if hides(value(graph, t), sign):
        yield reader, slot, sign
    index = uses(graph).producers.get(t, -1)
    if index < 0 or graph.ops[index].activation != "NONE" or not _only_added(graph, t, sign):
        return
    op = graph.ops[index]
    if op.kind in MOVING:
        yield from _in_summand(graph, index, 0, hides, sign)
    elif op.kind in SUMS:  # masks that were added to each other once, for several layers
        for part, times in enumerate(SUMS[op.kind]):
            yield from _in_summand(graph, index, part, hides, sign * times)
    elif op.kind == "SELECT_V2":
        for choice in (1, 2):
            yield from _in_summand(graph, index, choice, hides, sign)
    elif op.kind == "MUL":
        for factor in (0, 1):
            if hides(value(graph, op.inputs[factor]), sign) and is_whole(graph, op.inputs[1 - factor]):
                yield index, factor, sign


def _hides(data: Array | None) -> bool:
    """Whether a constant, all of it, stands in place of scores that are hidden."""
    return _is_large(data) and data is not None and bool((data < LARGE).all())


def _only_added(graph: Graph, t: int, sign: int) -> bool:
    """Whether a tensor is used for nothing but sums that go into softmax, with a sign; moved and selected from at most.

    A mask that is added here and subtracted there hides scores in one of both only.
    """
    if t in ports(graph):
        return False
    readers = [graph.ops[i] for i in uses(graph).readers.get(t, [])]
    return all(
        _sign(op, t) != 0 and _goes_in(graph, op.outputs[0], sign * _sign(op, t))
        if op.kind in SUMS and op.activation == "NONE"
        else op.kind in (*MOVING, "SELECT_V2") and _only_added(graph, op.outputs[0], sign)
        for op in readers
    )


def _goes_in(graph: Graph, t: int, sign: int) -> bool:
    """Whether a sum is used for one softmax alone, or for sums that are."""
    return _only_softmax(graph, t, sign) or (bool(uses(graph).readers.get(t)) and _only_added(graph, t, sign))


def _only_softmax(graph: Graph, t: int, sign: int = 1) -> bool:
    """Whether a tensor is used for one softmax alone, and goes into its input with its own sign if that is 1."""
    reader = sole_reader(graph, t)
    op = graph.ops[reader] if reader is not None else None
    if op is None or op.activation != "NONE":
        return False
    if op.kind == "SOFTMAX":
        return sign == 1
    return op.kind in (*MOVING, *SUMS) and _only_softmax(graph, op.outputs[0], sign * _sign(op, t))


def _sign(op: Op, t: int) -> int:
    """The sign with which a tensor goes into what an op makes of it; 0 where it goes in with both."""
    signs = {s for s, u in zip(SUMS[op.kind], op.inputs, strict=True) if u == t} if op.kind in SUMS else {1}
    return signs.pop() if len(signs) == 1 else 0


def _is_large(data: Array | None, sign: int = 1) -> bool:
    """Whether a constant times a sign hides scores: as far below zero as none is, and never as far above."""
    if data is None or data.dtype != np.float32 or not data.size:
        return False
    return float((sign * data).min()) < LARGE and float((sign * data).max()) < -LARGE


def _is_hidden(data: Array | None, sign: int = 1) -> bool:
    """Whether a constant times a sign is one that `soften` wrote."""
    return data is not None and data.dtype == np.float32 and bool(data.size and (sign * data).min() == HIDDEN)

"""Constant factors go into constants that are there anyway: one op and one rounding less each.

Attention's 1 / sqrt(d) is a factor of the scores, which are products of queries and keys, which are moved about after
the linear layers that make them: so it is a factor of the queries' weights. In the same way two factors become one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import MOVES
from edgeqwt.prepare.constants import LARGEST_GROWTH
from edgeqwt.prepare.rewriting import constant, is_single_use, sole_reader, uses, value, without

MOVING = (*MOVES, "MEAN")
PRODUCTS = ("MUL", "BATCH_MATMUL")

Scaled = Mapping[tuple[int, int], float]
"""Constants to be multiplied: (op index, input slot) -> factor."""


def fold_factors(graph: Graph) -> tuple[Graph, list[str]]:
    """MUL by one number: the factor goes into a constant before or behind it."""
    names: list[str] = []
    while (found := _foldable(graph)) is not None:
        index, scaled, behind = found
        names.append(graph.tensors[graph.ops[index].outputs[0]].name)
        graph = _folded(graph, index, scaled, behind)
    return graph, names


def _foldable(graph: Graph) -> tuple[int, Scaled, bool] | None:
    """The first MUL whose factor can go elsewhere, where to, and whether that is behind it."""
    for i, op in enumerate(graph.ops):
        x, factor = _factor(graph, op)
        if factor is None or graph.tensors[x].shape != graph.tensors[op.outputs[0]].shape:
            continue
        sites, behind = _before(graph, x, factor), False
        if sites is None:
            sites, behind = _behind(graph, op.outputs[0], factor), True
        if sites is not None and all(_fits(graph, *site, k) for site, k in sites.items()):
            return i, sites, behind
    return None


def _factor(graph: Graph, op: Op) -> tuple[int, float | None]:
    """The activation that an op multiplies by one number, and that number."""
    if op.kind == "MUL" and op.activation == "NONE":
        for x, c in (op.inputs, op.inputs[::-1]):
            data = value(graph, c)
            if data is not None and data.size == 1 and data.dtype == np.float32 and value(graph, x) is None:
                number = float(data.reshape(()))
                return x, number if np.isfinite(number) and number != 0 else None
    return -1, None


def _before(graph: Graph, t: int, factor: float) -> Scaled | None:
    """The constants that make a tensor `factor` times as large and change nothing else; None if there are none."""
    index = uses(graph).producers.get(t, -1)
    op = graph.ops[index] if index >= 0 else None
    if op is None or op.activation != "NONE" or sole_reader(graph, t) is None or len(op.outputs) != 1:
        return None
    if is_linear(op):
        s = slots(op)
        held = {slot: u for slot, u in enumerate(op.inputs) if u in (s.weight, s.bias) and u >= 0}
        return {(index, slot): factor for slot in held} if all(_is_float(graph, u) for u in held.values()) else None
    if op.kind in MOVING:
        return _before(graph, op.inputs[0], factor)
    if op.kind == "GATHER":
        return {(index, 0): factor} if is_single_use(graph, op.inputs[0]) and _is_float(graph, op.inputs[0]) else None
    if op.kind == "DIV" and _is_float(graph, op.inputs[0]):
        return {(index, 0): factor}
    if op.kind in PRODUCTS and len(set(op.inputs)) == 2:
        constants = [slot for slot, u in enumerate(op.inputs) if _is_float(graph, u)]
        if constants:
            return {(index, constants[0]): factor}
        sides = (_before(graph, u, factor) for u in op.inputs)
        return next((sites for sites in sides if sites is not None), None)
    return None


def _behind(graph: Graph, t: int, factor: float) -> Scaled | None:
    """The constants that make up for a tensor that is 1 / `factor` times as large; None if there are none."""
    index = sole_reader(graph, t)
    op = graph.ops[index] if index is not None else None
    if op is None or index is None or len(op.outputs) != 1:
        return None
    if is_linear(op):
        s = slots(op)
        return {(index, op.inputs.index(s.weight)): factor} if s.data == t and _is_float(graph, s.weight) else None
    if op.kind in MOVING and op.inputs[0] == t and op.activation == "NONE":
        return _behind(graph, op.outputs[0], factor)
    if op.kind == "DIV" and op.inputs[1] == t and _is_float(graph, op.inputs[0]):
        return {(index, 0): 1 / factor}
    if op.kind in PRODUCTS and len(set(op.inputs)) == 2:
        slot = 1 - op.inputs.index(t)
        if _is_float(graph, op.inputs[slot]):
            return {(index, slot): factor}
        other = _before(graph, op.inputs[slot], factor)
        if other is None and op.activation == "NONE":
            other = _behind(graph, op.outputs[0], factor)
        return other
    return None


def _is_float(graph: Graph, t: int) -> bool:
    data = value(graph, t)
    return data is not None and data.dtype == np.float32


def _fits(graph: Graph, index: int, slot: int, factor: float) -> bool:
    """Whether a constant times a factor is as exact in float32 as it was, and no large constant gets a copy."""
    t = graph.ops[index].inputs[slot]
    data, limits = graph.tensors[t].stored, np.finfo(np.float32)
    product, lost = np.abs(data.astype(np.float64) * factor), np.abs(data) >= limits.tiny
    exact = bool((product <= limits.max).all() and not ((product < limits.tiny) & lost).any())
    return exact and (data.nbytes <= LARGEST_GROWTH or is_single_use(graph, t))


def _folded(graph: Graph, index: int, scaled: Scaled, behind: bool) -> Graph:
    """The graph without one MUL, with constants multiplied."""
    editor, changed = Editor(graph), dict[int, Op]()
    for (i, slot), factor in scaled.items():
        op = changed.get(i, graph.ops[i])
        factored = graph.tensors[op.inputs[slot]]
        product = constant(editor, factored.name, (factored.stored.astype(np.float64) * factor).astype(np.float32))
        changed[i] = replace(op, inputs=tuple(product if k == slot else t for k, t in enumerate(op.inputs)))
    x, out = _factor(graph, graph.ops[index])[0], graph.ops[index].outputs[0]
    # A name stays with its values: that of x where the factor goes behind. Where it goes before and x has no other
    # use, out keeps its name, and may be an output.
    alone = x in uses(graph).producers and sole_reader(graph, x) is not None
    old, kept = (x, out) if alone and not behind else (out, x)
    new = {t: t for t in range(-1, len(editor.tensors))} | {old: kept}
    moved = {i: changed.get(i, op).remapped(new) for i, op in enumerate(graph.ops)}
    return without(graph, {index}, moved, editor)

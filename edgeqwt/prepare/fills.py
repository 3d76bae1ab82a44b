"""Fill values in all spellings: what hides a value from a maximum becomes one choice with one constant.

-1e4, -1e9, -3.4e38 and -infinity stand for "nothing" where a maximum, a max pool or a comparison follows. Exporters
choose them (SELECT), add them (x + mask), or compute the choice: c x + (1 - c) fill. In integers the end of the
tensor's own range does, if nothing is added to it, and its float value does not count as data (`graph.fills`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from edgeqwt.graph.fills import FILL, HUGE, LARGE, MOVING, chosen_from
from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.whole_numbers import is_whole
from edgeqwt.prepare.fusion import FUSED
from edgeqwt.prepare.rewriting import Site, constant, float32, is_number, rewrites, uses, value, without, writer

UNMISTAKABLE = 1e6  # of a constant that is no data, even where it is one of the model's outputs

HIGHEST = ("MAX_POOL_2D", "REDUCE_MAX", "MAXIMUM", "ARG_MAX", "TOPK_V2", "RELU", "RELU6")
"""What makes nothing of values that are lower than all others."""
LOWEST = ("REDUCE_MIN", "MINIMUM", "ARG_MIN")
COMPARES = ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
HANDED_ON = ("SELECT_V2", "CONCATENATION", "PADV2", "PACK", *MOVING)
WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D")
"""What XNNPACK lets compute a limit that follows."""
CONSTANTS_IN = ("PADV2", "SELECT_V2", "CONCATENATION", "PACK", "MAXIMUM", "MINIMUM", "FILL")


def vanishes(graph: Graph, t: int, sign: float, size: float) -> bool:
    """Whether all that reads an activation lets other values win over what is far below (above) zero in it.

    Args:
        graph: float.
        t: an activation.
        sign: of the fill.
        size: of the smallest fill; callers may see unmistakable ones, for which the end of the range stands.
    """
    if t in uses(graph).named and size < UNMISTAKABLE:
        return False
    readers = [graph.ops[i] for i in uses(graph).readers.get(t, [])]
    ends = (*(HIGHEST if sign < 0 else LOWEST), *COMPARES)
    return all(
        op.kind in ends or (op.kind in HANDED_ON and all(vanishes(graph, out, sign, size) for out in op.outputs))
        for op in readers
    )


def _fills(data: Array, least: float) -> Array:
    """Which of a constant's elements are as large as fills."""
    return np.abs(data) >= least


def _sign(data: Array, least: float) -> tuple[float, float] | None:
    """The one sign of a constant's fills, and the smallest of their sizes; None for none, both signs, or NaN."""
    found = data[_fills(data, least)] if data.dtype == np.float32 else data.reshape(-1)[:0]
    if not found.size or np.isnan(data).any() or (found.min() < 0 < found.max()):
        return None
    return float(np.sign(found.reshape(-1)[0])), float(np.abs(found).min())


def _with_fills(data: Array, least: float) -> Array:
    return float32(np.where(_fills(data, least), np.copysign(FILL, data), data))


def canonical(graph: Graph) -> tuple[Graph, list[str]]:
    """Constants that are chosen where others win over them become fills of one size."""
    editor, made, changed = Editor(graph), dict[int, int](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        for slot in chosen_from(op.kind, len(op.inputs)) if op.kind in CONSTANTS_IN else ():
            t = op.inputs[slot] if slot < len(op.inputs) else -1
            new = _canonical(graph, op, t)
            if new is None:
                continue
            if t not in made:
                made[t] = constant(editor, f"{graph.tensors[t].name}/fill", new)
            inputs = list(changed.get(i, op).inputs)
            inputs[slot] = made[t]
            changed[i] = replace(op, inputs=tuple(inputs))
    names = [graph.tensors[t].name for t in made]
    return (without(graph, set(), changed, editor), names) if changed else (graph, [])


def _canonical(graph: Graph, op: Op, t: int) -> Array | None:
    """A constant operand with its fills at their one size, if it has others."""
    data = value(graph, t)
    sign = _sign(data, LARGE) if data is not None else None
    if data is None or sign is None or not all(vanishes(graph, out, *sign) for out in op.outputs):
        return None
    # MAXIMUM and MINIMUM have limits of the other operand, not fills, unless they are out of reach.
    new = _with_fills(data, HUGE if op.kind in ("MAXIMUM", "MINIMUM") else LARGE)
    return None if np.array_equal(new, data) else new


@rewrites("MAXIMUM")
def maximum(at: Site) -> Op | None:
    """MAXIMUM(x, -infinity) is x."""
    return _limit(at, lambda data: data <= -HUGE)


@rewrites("MINIMUM")
def minimum(at: Site) -> Op | None:
    """MINIMUM(x, infinity) is x."""
    return _limit(at, lambda data: data >= HUGE)


@rewrites("MAXIMUM", "MINIMUM")
def per_channel(at: Site) -> Op | None:
    """A limit beyond 0 behind windows, as `clamp(min=1e-6)` of feature maps, once for each channel: the same values.

    XNNPACK lets ops with windows compute a single limit, and refuses the whole graph where 0 lies beyond it. Measured
    with LiteRT 2.1 (tests/prepare/test_fills.py).
    """
    sign = 1 if at.op.kind == "MAXIMUM" else -1
    for x, limit in (at.op.inputs, at.op.inputs[::-1]):
        data, channels = at.value(limit), at.out.shape[-1] if at.out.shape else 1
        if data is None or data.dtype != np.float32 or data.size != 1 or channels == 1 or not sign * data.item() > 0:
            continue
        if _behind_windows(at.graph, x):
            each = at.constant("limits", np.full(channels, data.item(), np.float32))
            return replace(at.op, inputs=tuple(each if t == limit else t for t in at.op.inputs))
    return None


def _behind_windows(graph: Graph, t: int) -> bool:
    """Whether a tensor comes from an op with windows, other limits between them at most."""
    i = uses(graph).producers.get(t, -1)
    if i < 0 or graph.ops[i].kind not in (*WINDOWS, "MAXIMUM", "MINIMUM", *FUSED):
        return False
    return graph.ops[i].kind in WINDOWS or any(_behind_windows(graph, source) for source in graph.ops[i].inputs)


def _limit(at: Site, out_of_reach: Callable[[Array], Array]) -> Op | None:
    for x, limit in (at.op.inputs, at.op.inputs[::-1]):
        data = at.value(limit)
        if data is None or data.dtype != np.float32 or at.shape(x) != at.out.shape:
            continue
        if at.value(x) is None and out_of_reach(data).all():
            return at.end("RESHAPE", (x, at.integers("shape", at.shape(x))), newShape=at.shape(x))
    return None


@rewrites("ADD")
def added(at: Site) -> Op | None:
    """x + constant with fills: what the fills hide is the fill, by MINIMUM or MAXIMUM; the rest is added."""
    for x, mask in (at.op.inputs, at.op.inputs[::-1]):
        data = at.value(mask)
        found = _sign(data, LARGE) if data is not None and at.value(x) is None else None
        if data is None or found is None or at.op.activation != "NONE" or not _vanishes(at, found):
            continue
        sign, hidden = found[0], _fills(data, LARGE)
        kept = float32(np.where(hidden, 0, data))
        if kept.any() or at.shape(x) != at.out.shape:
            total = at.activation("shown")
            at.editor.add_op(replace(at.op, inputs=(x, at.constant("added", kept)), outputs=(total,)))
            x = total
        limit = at.constant("limit", float32(np.where(hidden, sign * FILL, -sign * FILL)))
        return at.end("MINIMUM" if sign < 0 else "MAXIMUM", (x, limit))
    return None


@rewrites("ADD")
def computed(at: Site) -> Op | None:
    """c x + (1 - c) fill, and x + m fill, with c and m 0 or 1: a choice."""
    for shown, hidden in (at.op.inputs, at.op.inputs[::-1]):
        for flag, found in _products(at.graph, hidden):
            x = _shown(at.graph, shown, flag)
            if x is None or at.op.activation != "NONE" or not _vanishes(at, found):
                continue
            fill = at.constant("fill", float32([found[0] * FILL]))
            condition, hides = _condition(at, flag)
            select = at.end("SELECT_V2", (condition, fill, x) if hides else (condition, x, fill))
            return replace(select, extra={"optionsType": "SelectV2Options"})
    return None


def _vanishes(at: Site, fill: tuple[float, float]) -> bool:
    return vanishes(at.graph, at.op.outputs[0], *fill)


def _condition(at: Site, flag: int) -> tuple[int, bool]:
    """A bool tensor that says whether a flag is not 0 (True), or whether it is 0 (False)."""
    made, positive = at.writer(flag), True
    if made is not None and made.kind == "SUB" and is_number(at.graph, made.inputs[0], 1):
        made, positive = at.writer(made.inputs[1]), False
    if made is not None and made.kind == "CAST" and at.tensor(made.inputs[0]).dtype == "bool":
        return made.inputs[0], positive
    condition = at.activation("hidden", at.shape(flag), "bool")
    return at.put("NOT_EQUAL", (flag, at.constant("zero", float32(0))), condition), True


def _products(graph: Graph, t: int) -> Iterator[tuple[int, tuple[float, float]]]:
    """The ways to read a tensor as flag times fill: the flag, and the fill's sign and size."""
    op = writer(graph, t, "MUL")
    if op is None:
        return
    for flag, fill in (op.inputs, op.inputs[::-1]):
        data = value(graph, fill)
        if data is not None and data.dtype == np.float32 and (np.abs(data) >= LARGE).all() and is_whole(graph, flag):
            sign = _sign(data, LARGE)
            if sign is not None and value(graph, flag) is None:
                yield flag, sign


def _shown(graph: Graph, t: int, flag: int) -> int | None:
    """What is to be seen where the flag is 0: t itself, or x of c x, where the flag is 1 - c."""
    op, minus = writer(graph, t, "MUL"), writer(graph, flag)
    for c, x in (op.inputs, op.inputs[::-1]) if op is not None else ():
        if _is_complement(graph, minus, c) or _is_complement(graph, writer(graph, c), flag):
            return x
    return t if value(graph, t) is None else None


def _is_complement(graph: Graph, op: Op | None, t: int) -> bool:
    """Whether an op computes 1 - t."""
    return op is not None and op.kind == "SUB" and op.inputs[1] == t and is_number(graph, op.inputs[0], 1)

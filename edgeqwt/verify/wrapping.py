"""Outputs that wrap, as angles do: an error that is as small as any makes a value jump from one end to the other.

Such jumps are rare and as large as the whole range, so that they decide the SQNR of fresh samples, and few held-out
ones may have none. How many there will be follows from how many values lie near the ends: where their density there is
d, and an error has the mean size e, a share d e of all values jumps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.quality import Quality

NEAR = 0.05  # of a period: as wide as this is what counts as near an end
CLOSE = 1e-3  # to pi, relative
EVEN = ("ADD", "SUB", "MUL", "DIV", "NEG")


@dataclass(frozen=True)
class Wrapping:
    """An output that wraps.

    Attributes:
        output: its position among the outputs.
        period: by how much it jumps.
        middle: of its ends.
    """

    output: int
    period: float
    middle: float


def wrapping(graph: Graph) -> Iterator[Wrapping]:
    """The outputs that wrap, by the ops that compute them: angles of ATAN2, pi added in a branch, remainders."""
    for position, t in enumerate(graph.outputs):
        if graph.tensors[t].is_float and (found := _found(graph, t, 1.0, False, set())) is not None:
            factor, remainder = found
            period = factor * (2 * math.pi if remainder is None else remainder)
            yield Wrapping(position, period, 0.0 if remainder is None else period / 2)


def _found(
    graph: Graph, t: int, factor: float, chosen: bool, seen: set[tuple[int, bool]]
) -> tuple[float, float | None] | None:
    """What an angle or a remainder is multiplied by on its way to a tensor, and what the latter is of."""
    i = graph.links[0].get(t)
    if i is None or (t, chosen) in seen:
        return None
    seen.add((t, chosen))
    op = graph.ops[i]
    active = [u for u in op.inputs if u >= 0 and graph.tensors[u].is_float and not graph.tensors[u].is_constant]
    constant = _number(graph, op)
    if op.kind == "ATAN2" and len(active) == 2:
        return factor, None
    if op.kind == "FLOOR_MOD" and constant and len(active) == 1:
        return factor, abs(constant)
    if op.kind == "SUB" and len(active) == 2 and (of := _floored(graph, active[1])):  # x - floor(x / of) of
        return factor, of
    if chosen and op.kind in ("ADD", "SUB") and constant and abs(abs(constant) / math.pi - 1) < CLOSE:
        return factor, None
    if op.kind in EVEN and len(active) == 1:
        times = abs(constant) if op.kind == "MUL" and constant else 1.0
        return _found(graph, active[0], factor * times, chosen, seen)
    if op.kind in ("SELECT", "SELECT_V2", "WHERE"):
        active, chosen = [u for u in active if u in op.inputs[1:]], True
    elif not (op.kind in RULES and RULES[op.kind].tied_inputs(op)):
        return None
    ways = (_found(graph, u, factor, chosen, seen) for u in active)
    return next((way for way in ways if way is not None), None)


def _floored(graph: Graph, t: int) -> float | None:
    """What a number that was rounded down is multiplied by; 1 where by nothing."""
    (producers, _), times = graph.links, 1.0
    while (i := producers.get(t)) is not None:
        op, constant = graph.ops[i], _number(graph, graph.ops[i])
        if op.kind == "FLOOR":
            return times
        if op.kind != "MUL" or not constant:
            return None
        t, times = next(u for u in op.inputs if not graph.tensors[u].is_constant), times * abs(constant)
    return None


def _number(graph: Graph, op: Op) -> float | None:
    """The constant that an op has beside its input, where that is one number."""
    data = [graph.tensors[u].data for u in op.inputs if u >= 0 and graph.tensors[u].is_constant]
    found = next((d for d in data if d is not None and d.size), None)
    return float(found.flat[0]) if found is not None and np.unique(found).size == 1 else None


def expected_db(wraps: Wrapping, values: Array, found: Array) -> float:
    """SQNR of what varies that fresh samples have with as many jumps as are to be expected.

    Args:
        wraps: the output.
        values: of the float graph, shape (samples, elements).
        found: of the integer graph; jumps among them do not count, as most samples have none.

    Returns:
        dB; inf where nothing varies or errs, or no value lies near an end.
    """
    half = wraps.period / 2
    error = (found - values + half) % wraps.period - half
    near = np.abs(values - wraps.middle) > (0.5 - NEAR) * wraps.period
    density = float(near.mean()) / (2 * NEAR * wraps.period)
    jumping = density * float(np.abs(error).mean())
    noise, varying = float(np.square(error).mean()) + jumping * wraps.period**2, float(values.var(axis=0).mean())
    return 10 * math.log10(varying / noise) if noise > 0 and jumping > 0 and varying > 0 else math.inf


def jumping(
    graph: Graph, integer: Graph, quality: Quality, feeds: Iterable[Mapping[int, Array]]
) -> Iterator[tuple[float, str]]:
    """What fresh samples are expected to have of each output that wraps, in dB, and a sentence on it.

    Args:
        graph: float.
        integer: made from it.
        quality: of that.
        feeds: the samples that said so, by the float graph's input tensors; read where some output wraps.
    """
    if not (wraps := [*wrapping(graph)]):
        return
    runs = list[list[list[Array]]]()
    runners = [(g, xnnpack(g, g.outputs)) for g in (graph, integer)]
    for sample in feeds:
        values = [runner.run(feed_as(g, graph, sample)) for g, runner in runners]
        runs.append(
            [[to_real(g, t, v[t]).reshape(-1) for t in g.outputs] for (g, _), v in zip(runners, values, strict=True)]
        )
    for each in wraps:
        true, found = (np.stack([run[k][each.output] for run in runs]) for k in (0, 1))
        output = quality.outputs[each.output]
        if (db := expected_db(each, true, found)) < output.closeness.judged_db:
            yield (
                db,
                f"output {output.name!r} wraps, as angles do: near its ends an error as small as any makes it jump "
                f"by {each.period:.3g}, and by how many values lie there fresh samples may have {db:.1f} dB. Let the "
                "model return its sine and cosine instead (of atan2(y, x) y and x, divided by their length), and "
                "compute the angle of them behind it",
            )

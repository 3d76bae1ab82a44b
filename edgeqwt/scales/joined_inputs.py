"""Which inputs of ops that join tensors had better keep a scale of their own.

CONCATENATION, PACK, MAXIMUM, MINIMUM and SELECT_V2 oblige all they read to share one scale. A tensor of small values
that is joined with one of large values then has few integers left, and so has everything else that reads it: the state
of a recurrent cell, which goes into [x, h] and on to the next step as well. A QUANTIZE op before the joining op lets
it keep its own scale. The joined tensor is hardly worse by it: the finer rounding is added to the coarser one.

Where a value is rounded at step s its squared error is s^2 / 12. A tensor is a candidate if it would be rounded at
twice the step or more (6 dB), and if something reads it that is not obliged to have the coarser one: otherwise nothing
is gained. Whether the op is worth it is not guessed: both ways are lowered, and held-out samples decide.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.scales.ranges import RangeRule, rule_for
from edgeqwt.widths.plan import Plan
from edgeqwt.widths.recurrence import same_in_every_step

FINER = 2.0  # how many times smaller the tensor's own range is


def finer_inputs(
    graph: Graph, statistics: Mapping[int, Statistics], rule: RangeRule, plan: Plan
) -> frozenset[tuple[int, int]]:
    """The inputs, as op index and slot, that would lose 6 dB by the scale of what they are joined to.

    Args:
        graph: float, lowerable.
        statistics: of its activations.
        rule: chooses ranges.
        plan: widths; 16 bits need no finer scale.
    """
    joining = {i: slots for i, op in enumerate(graph.ops) if plan.ops[i] == 8 and len(slots := _tied(graph, op)) > 1}
    if not joining:
        return frozenset()
    groups = _Sets()
    for a, b in graph.state_tensors():
        groups.join(a, b)
    for members in same_in_every_step(graph):
        for t in members[1:]:
            groups.join(members[0], t)
    for i, op in enumerate(graph.ops):
        if i not in joining:
            for slot in _tied(graph, op):
                for t in op.outputs:
                    groups.join(op.inputs[slot], t)
    apart, readers = set[tuple[int, int]](), graph.consumers()
    for i, slots in joining.items():
        op = graph.ops[i]
        spans = {s: _span(graph, groups.members(op.inputs[s]), statistics, rule) for s in slots}
        for s, span in spans.items():
            elsewhere = any(_is_read_elsewhere(graph, t, readers, joining) for t in groups.members(op.inputs[s]))
            if elsewhere and FINER * span <= max(spans.values()) and plan.computed_bits[op.inputs[s]] == 8:
                apart.add((i, s))
    return frozenset(apart)


def _tied(graph: Graph, op: Op) -> list[int]:
    """The slots of an op whose activations must have the scale of its output."""
    if op.kind not in RULES or not any(graph.tensors[t].is_float for t in op.outputs):
        return []
    slots = [s for s in RULES[op.kind].tied_inputs(op) if s < len(op.inputs) and op.inputs[s] >= 0]
    return [s for s in slots if graph.tensors[op.inputs[s]].is_float and not graph.tensors[op.inputs[s]].is_constant]


def _span(graph: Graph, members: list[int], statistics: Mapping[int, Statistics], rule: RangeRule) -> float:
    merged = Statistics()
    for t in members:
        if t in statistics:
            merged.merge(statistics[t])
    low, high = rule_for(rule, [graph.tensors[t].name for t in sorted(members)]).choose(merged, 256)
    return high - low


def _is_read_elsewhere(
    graph: Graph, t: int, readers: Mapping[int, list[int]], joining: Mapping[int, list[int]]
) -> bool:
    """Whether a tensor's own rounding matters to somebody: the caller, or an op that computes something."""
    ops = [i for i in readers.get(t, []) if i not in joining and not _tied(graph, graph.ops[i])]
    return t in graph.outputs or bool(ops)


class _Sets:
    """Union-find over tensors."""

    def __init__(self) -> None:
        self.sets: dict[int, list[int]] = {}

    def members(self, t: int) -> list[int]:
        return self.sets.setdefault(t, [t])

    def join(self, a: int, b: int) -> None:
        ours, theirs = self.members(a), self.members(b)
        if ours is not theirs:
            ours += theirs
            for t in theirs:
                self.sets[t] = ours

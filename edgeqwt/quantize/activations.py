"""Which scale and zero point each activation gets.

Tensors that an op obliges to share one scale form a group; a group has one
range, chosen by the recipe's rule from the merged statistics of its members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph, Quantization
from edgeqwt.graph.opset import RULES, OpRule
from edgeqwt.quantize.ranges import Range, RangeRule

QMIN, QMAX = -128, 127


@dataclass(frozen=True)
class Assignment:
    """Scales for a float graph.

    Attributes:
        quantization: by float activation tensor index.
        group: float activation tensor index to its group's representative.
        requantize: (op index, input slot) where a tensor with a fixed scale meets others
            that must share a different one: a QUANTIZE op goes there.
    """

    quantization: Mapping[int, Quantization]
    group: Mapping[int, int]
    requantize: frozenset[tuple[int, int]]


class _Groups:
    """Union-find over tensor indices."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, t: int) -> int:
        root = t
        while (up := self.parent.setdefault(root, root)) != root:
            root = up
        self.parent[t] = root
        return root

    def union(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)


def affine(low: float, high: float) -> Quantization:
    """Asymmetric int8 parameters whose integers span [low, high] and hold zero exactly.

    low <= 0 <= high. A tensor that is always zero gets the span [0, 1]: any scale is
    exact for it, and this one keeps the requantization multipliers moderate.
    """
    if high - low < np.finfo(np.float32).tiny * 1e6:
        low, high = 0.0, 1.0
    scale = np.float32((high - low) / (QMAX - QMIN))
    zero_point = int(np.clip(round(QMIN - low / float(scale)), QMIN, QMAX))
    return Quantization.per_tensor(float(scale), zero_point)


def assign(graph: Graph, statistics: Mapping[int, Statistics], rule: RangeRule) -> Assignment:
    """Scales and zero points for every float activation of the graph.

    Args:
        statistics: by tensor index, from `observe`.
        rule: chooses each group's range.
    """
    groups, fixed = _Groups(), _fixed_outputs(graph)
    single = [(i, r, s) for i, r, s in _tied_ops(graph) if len(s) == 1]
    several = [(i, r, s) for i, r, s in _tied_ops(graph) if len(s) > 1]
    for i, _, slots in single:
        _tie(groups, graph, i, slots)
    for t, value in list(fixed.items()):
        fixed[groups.find(t)] = value
    requantize = set()
    for i, _, slots in several:
        # A tensor of fixed scale (a softmax, say) must not force it on the others: requantize it.
        kinds = {fixed.get(groups.find(graph.ops[i].inputs[s])) for s in slots}
        apart = [s for s in slots if len(kinds) > 1 and groups.find(graph.ops[i].inputs[s]) in fixed]
        requantize |= {(i, s) for s in apart}
        _tie(groups, graph, i, [s for s in slots if s not in apart])
    merged = _merged(groups, graph, statistics)
    chosen = {
        root: Quantization.per_tensor(*fixed[root]) if root in fixed else affine(*rule.choose(s, 256))
        for root, s in merged.items()
    }
    group = {t: groups.find(t) for t in statistics}
    return Assignment({t: chosen[root] for t, root in group.items()}, group, frozenset(requantize))


def enlarged(assignment: Assignment, smallest: Mapping[int, float]) -> Assignment:
    """The assignment with the groups of some tensors given at least a certain scale."""
    wanted: dict[int, float] = {}
    for t, scale in smallest.items():
        wanted[assignment.group[t]] = max(scale, wanted.get(assignment.group[t], 0.0))
    quantization = dict(assignment.quantization)
    for t, root in assignment.group.items():
        if root in wanted and float(quantization[t].scale[0]) < wanted[root]:
            quantization[t] = Quantization.per_tensor(wanted[root], int(quantization[t].zero_point[0]))
    return replace(assignment, quantization=quantization)


def constant_range(graph: Graph, tensor: int) -> Range:
    """The range of a constant, widened to hold zero."""
    data = graph.tensors[tensor].data
    assert data is not None
    return min(float(data.min(initial=0.0)), 0.0), max(float(data.max(initial=0.0)), 0.0)


def _tied_ops(graph: Graph) -> list[tuple[int, OpRule, list[int]]]:
    """Ops whose outputs share a scale with some inputs, and those input slots (activations only)."""
    found = []
    for i, op in enumerate(graph.ops):
        rule = RULES[op.kind]
        slots = [
            s
            for s in rule.tied_inputs(op)
            if s < len(op.inputs)
            and op.inputs[s] >= 0
            and graph.tensors[op.inputs[s]].is_float
            and not graph.tensors[op.inputs[s]].is_constant
        ]
        if slots:
            found.append((i, rule, slots))
    return found


def _tie(groups: _Groups, graph: Graph, op_index: int, slots: list[int]) -> None:
    op = graph.ops[op_index]
    members = [op.inputs[s] for s in slots] + [t for t in op.outputs if graph.tensors[t].is_float]
    for t in members[1:]:
        groups.union(members[0], t)


def _fixed_outputs(graph: Graph) -> dict[int, tuple[float, int]]:
    fixed = {}
    for op in graph.ops:
        value = RULES[op.kind].fixed_output
        if value is not None:
            fixed |= {t: value for t in op.outputs if graph.tensors[t].is_float}
    return fixed


def _merged(groups: _Groups, graph: Graph, statistics: Mapping[int, Statistics]) -> dict[int, Statistics]:
    """Per group, the statistics of all members and of the constants tied to them."""
    merged: dict[int, Statistics] = {}
    for t, s in statistics.items():
        merged.setdefault(groups.find(t), Statistics()).merge(replace(s))
    for op in graph.ops:
        for slot in RULES[op.kind].tied_inputs(op):
            t = op.inputs[slot] if slot < len(op.inputs) else -1
            if t >= 0 and graph.tensors[t].is_float and graph.tensors[t].is_constant:
                data = graph.tensors[t].data
                assert data is not None
                merged.setdefault(groups.find(op.outputs[0]), Statistics()).add(data)
    return merged

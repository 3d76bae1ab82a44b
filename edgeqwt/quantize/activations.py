"""Which scale and zero point each activation gets.

Tensors that an op obliges to share one scale form a group; a group has one
range, chosen by the recipe's rule from the merged statistics of its members,
or the parameters that an op demands (softmax: 1/256, -128).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph, Op, Quantization
from edgeqwt.graph.opset import RULES
from edgeqwt.quantize.ranges import Range, RangeRule

QMIN, QMAX = -128, 127


@dataclass(frozen=True)
class Assignment:
    """Scales for a float graph.

    Attributes:
        quantization: by float activation tensor index.
        group: float activation tensor index to its group's representative.
        requantize: (op index, input slot) to the parameters that the op needs there, where a
            tensor cannot have them itself: a QUANTIZE op goes there.
    """

    quantization: Mapping[int, Quantization]
    group: Mapping[int, int]
    requantize: Mapping[tuple[int, int], Quantization]


class _Groups:
    """Union-find over tensor indices; a group may have parameters that are not up for choice."""

    def __init__(self, fixed: Mapping[int, tuple[float, int]]) -> None:
        self.parent: dict[int, int] = {}
        self.fixed = dict(fixed)
        self.symmetric: set[int] = set()

    def find(self, t: int) -> int:
        root = t
        while (up := self.parent.setdefault(root, root)) != root:
            root = up
        self.parent[t] = root
        return root

    def fixed_of(self, t: int) -> tuple[float, int] | None:
        return self.fixed.get(self.find(t))

    def tie(self, members: list[int]) -> None:
        for t in members[1:]:
            kept, gone = sorted((self.find(members[0]), self.find(t)))
            self.parent[gone] = kept
            if gone in self.fixed:
                self.fixed.setdefault(kept, self.fixed.pop(gone))


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


def symmetric(low: float, high: float) -> Quantization:
    """Int8 parameters with zero point 0 whose integers -127..127 span [low, high]."""
    reach = max(-low, high)
    reach = reach if reach >= np.finfo(np.float32).tiny * 1e6 else 1.0
    return Quantization.per_tensor(float(np.float32(reach / QMAX)), 0)


def assign(graph: Graph, statistics: Mapping[int, Statistics], rule: RangeRule) -> Assignment:
    """Scales and zero points for every float activation of the graph.

    Args:
        graph: float, lowerable.
        statistics: by tensor index, from `observe`.
        rule: chooses each group's range.
    """
    groups = _Groups(_fixed_outputs(graph))
    apart = _grouped(graph, groups)
    uneven = _made_symmetric(graph, groups)
    merged = _merged(groups, graph, statistics)
    chosen: dict[int, Quantization] = {}
    for root, s in merged.items():
        low, high = (0.0, 0.0) if root in groups.fixed else rule.choose(s, 256)
        if root in groups.fixed:
            chosen[root] = Quantization.per_tensor(*groups.fixed[root])
        else:
            chosen[root] = symmetric(low, high) if root in groups.symmetric else affine(low, high)
    group = {t: groups.find(t) for t in statistics}
    requantize = {key: chosen[groups.find(t)] for key, t in apart.items()}
    requantize |= {key: symmetric(*rule.choose(merged[groups.find(t)], 256)) for key, t in uneven.items()}
    return Assignment({t: chosen[root] for t, root in group.items()}, group, requantize)


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


def _is_activation(graph: Graph, t: int) -> bool:
    return t >= 0 and graph.tensors[t].is_float and not graph.tensors[t].is_constant


def _tied_slots(graph: Graph, op: Op) -> list[int]:
    """Input slots with activations that must share one scale."""
    slots = RULES[op.kind].tied_inputs(op)
    return [s for s in slots if s < len(op.inputs) and _is_activation(graph, op.inputs[s])]


def _grouped(graph: Graph, groups: _Groups) -> dict[tuple[int, int], int]:
    """Forms the groups; returns (op, slot) -> tensor whose parameters the slot must be requantized to."""
    apart: dict[tuple[int, int], int] = {}
    ops = [(i, op, slots) for i, op in enumerate(graph.ops) if (slots := _tied_slots(graph, op))]
    # Ops with one input first: they carry a fixed scale along, and have no choice.
    for i, op, slots in sorted(ops, key=lambda entry: (len(entry[2]) > 1, entry[0])):
        outputs = [t for t in op.outputs if graph.tensors[t].is_float]
        fixed = {s: groups.fixed_of(op.inputs[s]) for s in slots}
        together = slots
        if len(set(fixed.values())) > 1:
            # A tensor of fixed scale (a softmax, say) must not force it on the others.
            together = [s for s in slots if fixed[s] is None]
            if not outputs and not together:  # a comparison of two fixed ones
                together = slots[:1]
        members = [op.inputs[s] for s in together] + outputs
        groups.tie(members)
        apart |= {(i, s): members[0] for s in slots if s not in together}
    return apart


def _made_symmetric(graph: Graph, groups: _Groups) -> dict[tuple[int, int], int]:
    """Marks the groups that need zero point 0; returns (op, slot) -> tensor where a fixed scale forbids it."""
    uneven: dict[tuple[int, int], int] = {}
    for i, op in enumerate(graph.ops):
        for slot in RULES[op.kind].symmetric:
            t = op.inputs[slot]
            if not _is_activation(graph, t):
                continue
            fixed = groups.fixed_of(t)
            if fixed is None:
                groups.symmetric.add(groups.find(t))
            elif fixed[1] != 0:
                uneven[i, slot] = t
    return uneven


def _fixed_outputs(graph: Graph) -> dict[int, tuple[float, int]]:
    fixed: dict[int, tuple[float, int]] = {}
    for op in graph.ops:
        value = RULES[op.kind].fixed_output
        if value is not None:
            fixed |= {t: value for t in op.outputs if graph.tensors[t].is_float}
    return fixed


def _merged(groups: _Groups, graph: Graph, statistics: Mapping[int, Statistics]) -> dict[int, Statistics]:
    """Per group, the statistics of all members and of the constants tied to their outputs."""
    merged: dict[int, Statistics] = {}
    for t, s in statistics.items():
        merged.setdefault(groups.find(t), Statistics()).merge(replace(s))
    for op in graph.ops:
        if not graph.tensors[op.outputs[0]].is_float:
            continue
        for slot in RULES[op.kind].tied_inputs(op):
            t = op.inputs[slot] if slot < len(op.inputs) else -1
            if t >= 0 and graph.tensors[t].is_float and graph.tensors[t].is_constant:
                data = graph.tensors[t].data
                assert data is not None
                merged.setdefault(groups.find(op.outputs[0]), Statistics()).add(data)
    return merged

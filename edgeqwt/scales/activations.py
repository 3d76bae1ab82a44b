"""Which scale and zero point each activation gets, at each width at which ops read it.

Tensors that an op obliges to share one scale form a group; a group has one width and one range,
chosen by the recipe's rule from the merged statistics of its members, or the parameters that an op
demands (softmax: 1/256, -128). A tensor that is computed at one width and read at the other has a
copy, which belongs to the groups of its readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.fills import without_fills
from edgeqwt.graph.graph import Array, Graph, Op, Quantization
from edgeqwt.graph.opset import RULES
from edgeqwt.scales.activation_roles import at_layers, curves, exponentials, tied_slots, unsaturated
from edgeqwt.scales.before_curves import BeforeCurves
from edgeqwt.scales.curves import finer_curves
from edgeqwt.scales.fixed_outputs import fixed_outputs
from edgeqwt.scales.groups import Activation, Groups
from edgeqwt.scales.joined_inputs import finer_inputs
from edgeqwt.scales.ranges import Range, RangeRule, marginless, rule_for, saturated, tailless
from edgeqwt.widths.plan import Plan, copies, planned
from edgeqwt.widths.precision import FLOAT, Precision
from edgeqwt.widths.recurrence import same_in_every_step

QMIN, QMAX = -128, 127
LARGEST = {8: QMAX, 16: 32767}
"""The largest integer by width."""

HEADROOM, EXPONENTIAL_HEADROOM = 2.0, 8.0
LIMITING = ("MAXIMUM", "MINIMUM")

NO_RANGES: Mapping[int, Range] = MappingProxyType({})


@dataclass(frozen=True)
class Assignment:
    """Scales for a float graph.

    Attributes:
        plan: the width of each op.
        quantization: by float activation tensor index, at the width at which it is computed; none where that is float.
        copies: of the copies that share a scale with other tensors, or are narrower than their original.
        group: each tensor and each such copy to its group's representative.
        requantize: (op index, input slot) to the parameters that the op needs there, where a
            tensor cannot have them itself: a QUANTIZE op goes there.
        follows: of those, which have the parameters of another tensor or copy, and of which.
        tables: indices of the ops that are tables so that their outputs can have these scales.
    """

    plan: Plan
    quantization: Mapping[int, Quantization]
    copies: Mapping[Activation, Quantization]
    group: Mapping[Activation, Activation]
    requantize: Mapping[tuple[int, int], Quantization]
    follows: Mapping[tuple[int, int], Activation] = MappingProxyType({})
    tables: Set[int] = frozenset()

    def at(self, tensor: int, bits: int) -> Quantization:
        """The parameters of a float activation at some width."""
        if bits == self.plan.computed_bits[tensor]:
            return self.quantization[tensor]
        return self.copies.get((tensor, bits)) or widened(self.quantization[tensor])

    def read(self, op_index: int, tensor: int) -> Quantization:
        """The parameters of a float activation where an op reads or computes it."""
        return self.at(tensor, self.plan.ops[op_index])


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


def symmetric(low: float, high: float, bits: int = 8) -> Quantization:
    """Parameters with zero point 0 whose integers -127..127 (-32767..32767 at 16 bits) span [low, high]."""
    reach = max(-low, high)
    reach = reach if reach >= np.finfo(np.float32).tiny * 1e6 else 1.0
    return Quantization.per_tensor(float(np.float32(reach / LARGEST[bits])), 0)


def widened(q: Quantization) -> Quantization:
    """Int16 parameters at which a copy of an int8 tensor is exact.

    With zero point 0 the integers stay. Otherwise they are shifted, by one ADD, which may as well
    scale them by 128, so that they use 16 bits: int16 kernels expect scales of that size.
    """
    return q if int(q.zero_point[0]) == 0 else Quantization.per_tensor(float(q.scale[0]) / 128, 0)


def spanning(low: float, high: float, bits: int) -> Quantization:
    """The parameters of a tensor of some width whose integers are to span [low, high]."""
    return symmetric(low, high, bits) if bits == 16 else affine(low, high)


def levels(bits: int, even: bool = False) -> int:
    """How many integers a tensor of some width has, as range rules count them; `even`: with zero in the middle."""
    return 2 * LARGEST[bits] + 1 if bits == 16 or even else QMAX - QMIN + 1


def parameters(
    statistics: Statistics, rule: RangeRule, bits: int, even: bool = False, headroom: float = HEADROOM
) -> Quantization:
    """The parameters of a tensor of some width as a range rule chooses them; `even`: with zero point 0.

    At 16 bits the range is doubled. Its resolution is beyond need, and values that calibration did
    not see are clipped otherwise: on ResNet-20 that costs 2 dB at the output.
    """
    if bits == 16:
        low, high = marginless(rule).choose(statistics, levels(bits, even))
        return symmetric(headroom * low, headroom * high, bits)
    low, high = rule.choose(statistics, levels(bits, even))
    return symmetric(low, high) if even else affine(low, high)


@dataclass(frozen=True, eq=False)
class _Rules:
    """Which range rule each group of activations gets.

    Attributes:
        rule: what chooses ranges as a whole.
        names: of the tensors of each group.
        usual: groups that others than softmax and its like read, or the caller does.
        curves: the kinds of those that read other groups.
        tailed: groups that linear layers compute or read.
        far: groups that are read as exponents.
    """

    rule: RangeRule
    names: Mapping[Activation, list[str]]
    usual: Set[Activation]
    curves: Mapping[Activation, Set[str]]
    tailed: Set[Activation]
    far: Set[Activation]

    @classmethod
    def of(cls, rule: RangeRule, graph: Graph, plan: Plan, groups: Groups, activations: Set[Activation]) -> _Rules:
        summed, layers, powers, readers = unsaturated(graph), at_layers(graph), exponentials(graph), curves(graph)
        names: dict[Activation, list[str]] = {}
        for t, bits in sorted(activations):
            names.setdefault(groups.find((t, bits)), []).append(graph.tensors[t].name)
        read: dict[Activation, frozenset[str]] = {}
        for activation in sorted(activations):
            root = groups.find(activation)
            read[root] = read.get(root, frozenset()) | readers.get(activation[0], frozenset())
        usual, tailed = ({groups.find((t, b)) for t, b in activations if t in some} for some in (summed, layers))
        far = {groups.find((t, plan.computed_bits[t])) for t in powers if t in plan.computed_bits}
        return cls(rule, names, usual, read, tailed, far)

    def named(self, root: Activation) -> RangeRule:
        """The rule that the names of a group's tensors ask for."""
        return rule_for(self.rule, self.names.get(root, ()))

    def at(self, root: Activation) -> RangeRule:
        """The same, without margins or tails where they do not pay."""
        own = self.named(root) if root in self.tailed else tailless(self.named(root))
        if root in self.usual:
            return own
        return saturated(own) if root[1] == 16 else BeforeCurves(own, self.curves.get(root, frozenset()))

    def headroom(self, root: Activation) -> float:
        """What a 16-bit range is larger than what was seen."""
        return EXPONENTIAL_HEADROOM if root in self.far else HEADROOM


def assign(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    plan: Plan | None = None,
    ranges: Mapping[int, Range] = NO_RANGES,
) -> Assignment:
    """Scales and zero points for every float activation of the graph.

    Args:
        graph: float, lowerable.
        statistics: by tensor index, from `observe`.
        rule: chooses each group's range.
        plan: the width of each op; 8 bits everywhere without one.
        ranges: what the integers of some activations, and of their groups, are to span instead; an op that
            demands a scale of its own gets that nevertheless.
    """
    plan = plan or planned(graph, Precision())
    tables = finer_curves(graph, statistics, rule, plan) if plan.finer_curves else frozenset()
    groups = Groups(fixed_outputs(graph, plan, tables))
    for before, after in graph.state_tensors():
        held = _is_activation(graph, before) and _is_activation(graph, after)
        if held and plan.computed_bits[before] != FLOAT:
            groups.tie([(before, plan.computed_bits[before]), (after, plan.computed_bits[before])])
    finer = finer_inputs(graph, statistics, rule, plan) if plan.finer_joins else frozenset()
    apart = _grouped(graph, plan, groups, finer)
    for members in same_in_every_step(graph):
        groups.tie_alike([(t, plan.computed_bits[t]) for t in members if t in plan.computed_bits])
    uneven = _made_symmetric(graph, plan, groups)
    everything = {(t, plan.computed_bits[t]) for t in statistics} | copies(graph, plan)
    activations = {(t, bits) for t, bits in everything if bits != FLOAT}
    lone = _lone(groups, plan, activations)
    merged = _merged(groups, graph, plan, statistics, activations - lone)
    given = {groups.find((t, plan.computed_bits[t])): limits for t, limits in ranges.items()}
    rules = _Rules.of(rule, graph, plan, groups, activations)
    chosen: dict[Activation, Quantization] = {}
    for root, s in merged.items():
        even = root in groups.symmetric
        if root in groups.fixed:
            chosen[root] = Quantization.per_tensor(*groups.fixed[root])
        elif root in given:
            chosen[root] = symmetric(*given[root]) if even else spanning(*given[root], root[1])
        else:
            chosen[root] = parameters(s, rules.at(root), root[1], even, rules.headroom(root))
    group = {activation: groups.find(activation) for activation in sorted(activations - lone)}
    requantize = {key: chosen[groups.find(activation)] for key, activation in apart.items()}
    requantize |= {
        key: parameters(merged[root], rules.named(root), 8, True)
        for key, root in ((key, groups.find(activation)) for key, activation in uneven.items())
    }
    natural = {t: chosen[groups.find((t, plan.computed_bits[t]))] for t in statistics if plan.computed_bits[t] != FLOAT}
    copied = {(t, bits): chosen[root] for (t, bits), root in group.items() if bits != plan.computed_bits[t]}
    return Assignment(plan, natural, copied, group, requantize, apart, tables)


def enlarged(assignment: Assignment, smallest: Mapping[Activation, float]) -> Assignment:
    """The assignment with the groups of some tensors and copies given at least a certain scale."""
    wanted: dict[Activation, float] = {}
    for (t, bits), scale in smallest.items():
        activation, least = (t, bits), scale
        if activation not in assignment.group:  # an exact copy, whose scale follows its original's
            activation = t, assignment.plan.computed_bits[t]
            least = scale * float(assignment.at(*activation).scale[0]) / float(assignment.at(t, bits).scale[0])
        root = assignment.group[activation]
        wanted[root] = max(least, wanted.get(root, 0.0))
    quantization, copied = dict(assignment.quantization), dict(assignment.copies)
    for (t, bits), root in assignment.group.items():
        old = assignment.at(t, bits)
        if root in wanted and float(old.scale[0]) < wanted[root]:
            new = Quantization.per_tensor(wanted[root], int(old.zero_point[0]))
            if bits == assignment.plan.computed_bits[t]:
                quantization[t] = new
            else:
                copied[t, bits] = new
    moved = replace(assignment, quantization=quantization, copies=copied)
    return replace(moved, requantize={**moved.requantize, **{key: moved.at(*p) for key, p in moved.follows.items()}})


def constant_range(graph: Graph, tensor: int) -> Range:
    """The range of a constant, widened to hold zero."""
    data = graph.tensors[tensor].stored
    return min(float(data.min(initial=0.0)), 0.0), max(float(data.max(initial=0.0)), 0.0)


def _is_activation(graph: Graph, t: int) -> bool:
    return t >= 0 and graph.tensors[t].is_float and not graph.tensors[t].is_constant


def _grouped(
    graph: Graph, plan: Plan, groups: Groups, finer: Set[tuple[int, int]] = frozenset()
) -> dict[tuple[int, int], Activation]:
    """Forms the groups; returns (op, slot) -> the activation whose parameters the slot must be requantized to.

    Slots in `finer` keep scales of their own.
    """
    apart: dict[tuple[int, int], Activation] = {}
    ops = [
        (i, op, slots) for i, op in enumerate(graph.ops) if plan.ops[i] != FLOAT and (slots := tied_slots(graph, op))
    ]
    # Ops with one input first: they carry a fixed scale along, and have no choice.
    for i, op, slots in sorted(ops, key=lambda entry: (len(entry[2]) > 1, entry[0])):
        bits = plan.ops[i]
        outputs = [(t, bits) for t in op.outputs if graph.tensors[t].is_float]
        fixed = {s: groups.fixed_of((op.inputs[s], bits)) for s in slots}
        together = [s for s in slots if (i, s) not in finer]
        if len({fixed[s] for s in together}) > 1:
            # A tensor of fixed scale (a softmax, say) must not force it on the others.
            together = [s for s in together if fixed[s] is None]
            if not outputs and not together:  # a comparison of two fixed ones
                together = slots[:1]
        members = [(op.inputs[s], bits) for s in together] + outputs
        groups.tie(members)
        apart |= {(i, s): members[0] for s in slots if s not in together}
    return apart


def _made_symmetric(graph: Graph, plan: Plan, groups: Groups) -> dict[tuple[int, int], Activation]:
    """Marks the groups that need zero point 0; returns (op, slot) -> activation for which a fixed scale forbids it."""
    uneven: dict[tuple[int, int], Activation] = {}
    for i, op in enumerate(graph.ops):
        bits = plan.ops[i]
        for slot in RULES[op.kind].symmetric if bits == 8 else ():
            t = op.inputs[slot]
            if not _is_activation(graph, t):
                continue
            fixed = groups.fixed_of((t, bits))
            if fixed is None:
                groups.symmetric.add(groups.find((t, bits)))
            elif fixed[1] != 0:
                uneven[i, slot] = t, bits
    return uneven


def _lone(groups: Groups, plan: Plan, activations: set[Activation]) -> set[Activation]:
    """The wider copies that share their scale with nothing: they can be exact."""
    sizes: dict[Activation, int] = {}
    for activation in activations:
        sizes[groups.find(activation)] = sizes.get(groups.find(activation), 0) + 1
    return {
        (t, bits)
        for t, bits in activations
        if bits == 16
        and plan.computed_bits[t] == 8
        and sizes[groups.find((t, bits))] == 1
        and groups.fixed_of((t, bits)) is None
    }


def _merged(
    groups: Groups, graph: Graph, plan: Plan, statistics: Mapping[int, Statistics], activations: set[Activation]
) -> dict[Activation, Statistics]:
    """Per group, the statistics of all members and of the constants tied to their outputs."""
    merged: dict[Activation, Statistics] = {}
    for t, bits in sorted(activations):
        merged.setdefault(groups.find((t, bits)), Statistics()).merge(statistics[t])
    for i, op in enumerate(graph.ops):
        if not graph.tensors[op.outputs[0]].is_float or plan.ops[i] == FLOAT:
            continue
        root = groups.find((op.outputs[0], plan.ops[i]))
        for slot in RULES[op.kind].tied_inputs(op):
            t = op.inputs[slot] if slot < len(op.inputs) else -1
            data = graph.tensors[t].data if t >= 0 and graph.tensors[t].is_float else None
            if data is not None:
                seen = merged.setdefault(root, Statistics())
                seen.add(_counted(op, data, seen))
    for seen in merged.values():
        if seen.folds is None:  # nothing but fills, for which every scale is right
            seen.add(np.zeros(1, np.float32))
    return merged


def _counted(op: Op, data: Array, seen: Statistics) -> Array:
    """A tied constant's values that its group's range has to span: those that may be chosen.

    Fills are chosen where nothing else can be, and limits beyond all values never are, or always: the nearest
    integer there is does for them.
    """
    data = without_fills(data)
    if op.kind in LIMITING and seen.folds is not None:
        data = data[(data >= seen.low) & (data <= seen.high)]
    return data

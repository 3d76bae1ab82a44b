"""Which bounded functions had better be tables, whose outputs have scales of their own.

The kernels of TANH and LOGISTIC demand outputs of one scale, 1/128 and 1/256, whatever the values that occur. Where
these take up a small part of -1..1 or 0..1, most integers stay unused: a tanh of small values within +-0.1 has 26 of
256 left. A table (`Form.LOOKUP`) has an output scale that follows the values, at the price of two more ops. Whether
that is worth it is not guessed: both ways are lowered, and held-out samples decide.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.scales.ranges import RangeRule, rule_for
from edgeqwt.widths.plan import Plan
from edgeqwt.widths.recurrence import same_in_every_step

FINER = 2.0  # how many times smaller the values' own range is
LEVELS = 256


def finer_curves(graph: Graph, statistics: Mapping[int, Statistics], rule: RangeRule, plan: Plan) -> frozenset[int]:
    """The ops, by index, whose outputs would be rounded half as coarsely or finer at scales of their own.

    What has the same part in every step of a recurrent layer is judged as one. Probabilities that are outputs of the
    graph keep their scale: rare events are what calibration samples may lack, and must not be clipped.

    Args:
        graph: float, lowerable.
        statistics: of its activations.
        rule: chooses ranges.
        plan: widths; 16 bits need no finer scale.
    """
    alike = {t: members for members in same_in_every_step(graph) for t in members}
    bounded = {
        op.outputs[0]: i
        for i, op in enumerate(graph.ops)
        if op.kind in RULES and RULES[op.kind].elementwise and RULES[op.kind].fixed_output and plan.ops[i] == 8
    }
    probabilities = _delivered(graph)
    found = set[int]()
    for t, i in bounded.items():
        members, fixed = alike.get(t, (t,)), RULES[graph.ops[i].kind].fixed_output
        assert fixed is not None
        if (t in probabilities and graph.ops[i].kind == "LOGISTIC") or not bounded.keys() >= {*members}:
            continue
        seen = Statistics()
        for member in members:
            seen.merge(statistics[member])
        low, high = rule_for(rule, [graph.tensors[member].name for member in members]).choose(seen, LEVELS)
        if FINER * (high - low) <= LEVELS * fixed[0]:
            found.add(i)
    return frozenset(found)


def _delivered(graph: Graph) -> set[int]:
    """The activations that reach an output of the graph through nothing but ops that move values."""
    found = {*graph.outputs}
    for op in reversed(graph.ops):
        if op.kind in RULES and found & {*op.outputs}:
            found |= {op.inputs[slot] for slot in RULES[op.kind].tied_inputs(op) if slot < len(op.inputs)}
    return found

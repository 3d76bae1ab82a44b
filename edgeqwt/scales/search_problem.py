"""The problem that a build hands to a search for scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.scales.activations import Assignment
from edgeqwt.scales.scales import Problem, Sample, Scales
from edgeqwt.scales.search_gradients import output_gradients
from edgeqwt.widths.precision import Precision


def problem(
    graph: Graph,
    statistics: Mapping[int, Statistics],
    precision: Precision,
    lower: Callable[[Scales], Graph],
    assignment: Assignment,
    fit: Iterable[Sample],
) -> Problem:
    """The search's starting point, judged before a softmax, with gradients where there is torch.

    Args:
        graph: float, lowerable.
        statistics: of its activations.
        precision: widths.
        lower: see Problem.
        assignment: says which activations share a scale.
        fit: samples to search on; can be read again and again.
    """
    groups: dict[object, list[int]] = {}
    for (t, bits), root in assignment.group.items():
        if bits == assignment.plan.computed_bits[t]:
            groups.setdefault(root, []).append(t)
    decisive = decision_tensors(graph)
    together = tuple(tuple(group) for group in groups.values())
    gradients = output_gradients(graph, decisive) if decisive else None
    return Problem(graph, statistics, precision, lower, together, fit, decisive, gradients)

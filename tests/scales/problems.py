"""Search problems made of a float graph and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import assigned, lower
from edgeqwt.scales import search_problem
from edgeqwt.scales.ranges import RangeRule
from edgeqwt.scales.scales import Problem
from edgeqwt.scales.search import Against
from edgeqwt.verify.comparator import Comparator
from edgeqwt.widths.precision import Precision


def problem(
    graph: Graph, samples: Sequence[Mapping[int, Array]], rule: RangeRule, precision: Precision | None = None
) -> Problem:
    """One sample in four is left out for `against`; judged at the outputs themselves, without gradients."""
    precision = precision or Precision()
    statistics, _ = observe(graph, samples)
    found = search_problem.problem(
        graph,
        statistics,
        precision,
        lambda scales: lower(graph, statistics, rule, precision, scales=scales),
        assigned(graph, statistics, rule, precision),
        [sample for i, sample in enumerate(samples) if i % 4 != 1],
    )
    return replace(found, outputs=(), gradients=None)


def against(samples: Sequence[Mapping[int, Array]]) -> Against:
    """Judges by the samples that a problem leaves out."""
    return lambda graph, outputs: Comparator(graph, samples[1::4], outputs)

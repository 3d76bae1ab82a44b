"""Search problems made of a float graph and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.quantize import search_problem
from edgeqwt.quantize.judge import Judge
from edgeqwt.quantize.lower import assigned, lower
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.ranges import RangeRule
from edgeqwt.quantize.scales import Problem
from edgeqwt.quantize.search import Against


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
        lambda scales: lower(graph, statistics, rule, precision, {}, scales=scales),
        assigned(graph, statistics, rule, precision),
        [sample for i, sample in enumerate(samples) if i % 4 != 1],
    )
    return replace(found, outputs=(), gradients=None)


def against(samples: Sequence[Mapping[int, Array]]) -> Against:
    """Judges by the samples that a problem leaves out."""
    return lambda graph, outputs: Judge(graph, samples[1::4], outputs)

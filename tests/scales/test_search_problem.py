"""What a search knows of a graph."""

from __future__ import annotations

from edgeqwt.calibration.observe import observe
from edgeqwt.lowering.lower import assigned, lower
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.search_problem import problem
from edgeqwt.widths.precision import Precision
from tests import small
from tests.chain import samples


def test_groups_and_outputs() -> None:
    graph = small.graph()
    data = samples(graph, 4)
    statistics, _ = observe(graph, data)
    for precision in (Precision(), Precision(activation_bits=16)):
        found = problem(
            graph,
            statistics,
            precision,
            lambda scales: lower(graph, statistics, MinMax(), Precision(), scales=scales),
            assigned(graph, statistics, MinMax(), precision),
            data[:3],
        )
        assert sorted(t for group in found.groups for t in group) == sorted(statistics)
        # Judged at the logits; the softmax's scale is not up for choice.
        assert [graph.tensors[t].name for t in found.outputs] == ["logits"]
        assert graph.outputs[0] not in {t for group in found.free_groups() for t in group}

"""Equalization in a build: what it takes over of what was observed before."""

from __future__ import annotations

from edgeqwt.prepare.prepare import prepare
from edgeqwt.techniques.equalization import _split
from edgeqwt.techniques.regions16 import with_regions
from edgeqwt.widths.regions import regions
from tests.chain import noise
from tests.equalize.test_splits import post_norm
from tests.prepare import toy
from tests.techniques.test_regions16 import begin, work_on


def test_what_muls_by_ones_compute_has_the_statistics_of_what_they_read() -> None:
    graph = prepare(post_norm()).graph
    work = work_on(post_norm(), noise(12, toy.TOKENS, toy.WIDTH, seed=3))
    state = with_regions(begin(work), regions(graph))
    found = _split(state, work)
    assert len(found.graph.ops) == len(graph.ops) + 3
    expected = work.observed(found.graph)
    assert found.statistics.keys() == expected.keys()
    for t, statistics in found.statistics.items():
        assert (statistics.low, statistics.high) == (expected[t].low, expected[t].high)
        assert statistics.counts is not None
        assert expected[t].counts is not None
        assert (statistics.counts == expected[t].counts).all()

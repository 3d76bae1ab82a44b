"""Copies that are placed when a finished graph is seen to lose values."""

from __future__ import annotations

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.overwritten import overwritten
from edgeqwt.verify.bitexact import BitExactness, compare_runtimes
from edgeqwt.verify.overwrites import without_overwrites
from tests.chain import samples
from tests.runtime.test_overwritten import direct, lowered, shortcut

pytestmark = pytest.mark.requires("tflite_micro")


def compared(graph: Graph) -> BitExactness:
    return compare_runtimes(graph, samples(graph, 2), threads=1)


def test_a_graph_that_loses_values_gets_copies_and_so_do_its_variants() -> None:
    graph = lowered(shortcut(), 16)  # which XNNPACK does not take
    assert compared(graph).overwritten
    variants, runtimes, sentences = without_overwrites({"a": graph, "b": graph}, "b", compared)
    assert not runtimes.overwritten
    assert [overwritten(g) for g in variants.values()] == [(), ()]
    assert [op.kind for op in variants["a"].ops] == [op.kind for op in variants["b"].ops]
    assert sentences[0].endswith("still needs: 1 copies prevent it.")


def test_a_graph_that_loses_nothing_stays_as_it_is() -> None:
    graph = lowered(direct(), 16)
    variants, runtimes, sentences = without_overwrites({"a": graph}, "a", compared)
    assert (variants["a"], runtimes.overwritten, sentences) == (graph, (), ())

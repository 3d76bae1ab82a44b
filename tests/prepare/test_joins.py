"""CONCATENATIONs of many tensors."""

from __future__ import annotations

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.joins import in_trees
from edgeqwt.prepare.prepare import prepare
from edgeqwt.proved import for_target
from edgeqwt.target.load import load
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function


def joined(count: int) -> Graph:
    chain = Chain()
    rows = [chain.op("TANH", chain.input((1, 2)), shape=(1, 2)) for _ in range(count)]
    return chain.graph(chain.op("CONCATENATION", *rows, shape=(count, 2), axis=0, **NONE))


def widths(graph: Graph) -> list[int]:
    return [len(op.inputs) for op in graph.ops if op.kind == "CONCATENATION"]


@pytest.mark.parametrize(
    ("count", "wanted"), [(4, [4]), (5, [4, 2]), (9, [4, 4, 3]), (17, [4, 4, 4, 4, 4, 2]), (6, [4, 2, 2])]
)
def test_a_tree_joins_the_same(count: int, wanted: list[int]) -> None:
    graph = joined(count)
    found, names = in_trees(graph, 4)
    assert widths(found) == wanted
    assert bool(names) == (count > 4)
    assert_same_function(graph, found)


def test_builds_write_trees_where_the_target_needs_them() -> None:
    prepared = prepare(joined(12))
    assert for_target(prepared, load("tflite")) is prepared
    found = for_target(prepared, load("tflm"))
    assert max(widths(found.graph)) <= 10
    assert "CONCATENATION of more than 10 tensors became a tree" in found.changes[-1]

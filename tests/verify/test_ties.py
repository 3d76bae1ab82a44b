"""What rounding decides where a graph chooses among equal values: found, with all that follows, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.verify.rounding import Bounded, Rounding
from tests.chain import Chain
from tests.one_op import options_type

CODES = np.array([[1, 0], [0, 1], [2, 3], [4, 5]], np.float32)


def _of_rows(kind: str) -> tuple[Graph, Mapping[str, int]]:
    """Rows of three codes that are chosen among four scores, the first or the last two of which may be equal."""
    chain = Chain()
    scores = chain.input((3, 4))
    index = chain.op(kind, scores, chain.constant([1]), dtype="int32", outputType="INT32")
    rows = chain.op("GATHER", chain.constant(CODES), index)
    return chain.graph(index, rows), {"index": index, "rows": rows}


def _run(graph: Graph, scores: object) -> Mapping[int, Bounded]:
    return Rounding(graph).run({graph.inputs[0]: np.array(scores, np.float32)})


@pytest.mark.parametrize(("kind", "sign"), [("ARG_MAX", 1), ("ARG_MIN", -1)])
@pytest.mark.parametrize("gap", [0.0, 2e-7])
def test_equal_values_may_be_chosen_in_any_order(kind: str, sign: int, gap: float) -> None:
    graph, at = _of_rows(kind)
    scores = sign * np.array([[1, 1 - gap, 0, 0], [0, 2, 0, 1], [3, 2, 1, 0]])
    found = _run(graph, scores)
    index, rows = found[at["index"]], found[at["rows"]]
    assert index.value.tolist() == [0, 1, 0]
    assert index.judge(np.array([1, 1, 0], np.int32)).ties == 1
    assert rows.judge(CODES[[1, 1, 0]]).ok
    for other in ([0, 1, 2], [0, 3, 0]):  # what is not equal
        assert not index.judge(np.array(other, np.int32)).ok
        assert not rows.judge(CODES[other]).ok
    assert not rows.judge(CODES[[0, 1, 0]] + [[100, 0], [0, 0], [0, 0]]).ok  # no code is that


def test_what_differs_by_more_than_rounding_is_decided() -> None:
    graph, at = _of_rows("ARG_MAX")
    index = _run(graph, [[1, 1 - 1e-4, 0, 0]] * 3)[at["index"]]
    assert not index.judge(np.array([1, 0, 0], np.int32)).ok


def test_the_largest_of_many_equal_values_come_in_any_order() -> None:
    """Behind a ReLU most scores are 0: torch gives any of them, and in any order."""
    chain = Chain()
    scored, count = chain.input((1, 64)), chain.constant(np.array(8))
    largest, index = len(chain.tensors), len(chain.tensors) + 1
    chain.tensors += [Tensor("largest", (1, 8), "float32"), Tensor("index", (1, 8), "int32")]
    chain.ops.append(Op("TOPK_V2", (scored, count), (largest, index), extra={"optionsType": options_type("TOPK_V2")}))
    rest = chain.op("FLOOR_MOD", index, chain.constant([8]), dtype="int32")
    graph = chain.graph(largest, index, rest)
    scores: Array = np.zeros((1, 64), np.float32)
    scores[0, [5, 9]] = 2, 1
    found = _run(graph, scores)
    other = np.array([[5, 9, 60, 31, 7, 22, 40, 11]], np.int32)
    assert found[index].judge(other).ok
    assert found[rest].judge(other % 8).ok
    assert found[largest].judge(np.array([[2, 1, 0, 0, 0, 0, 0, 0]], np.float32)).ok
    assert not found[largest].judge(np.array([[2, 1, 1, 0, 0, 0, 0, 0]], np.float32)).ok
    other[0, 0] = 6
    assert not found[index].judge(other).ok


def test_what_is_never_to_be_chosen_may_be_infinite() -> None:
    """A mask's infinities, beside values that are equal: warnings are errors here."""
    graph, at = _of_rows("ARG_MAX")
    found = _run(graph, [[1, 1, -np.inf, -np.inf]] * 3)
    assert found[at["index"]].judge(np.array([1, 0, 1], np.int32)).ok

"""Outputs are judged before what saturates and what chooses an index."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.saturation import before_saturation, decision_tensors
from tests.chain import Chain


def classes() -> tuple[Graph, int]:
    """The index of the largest probability, its probability's comparison with 0.5, and the logits."""
    chain = Chain()
    logits = chain.op("ABS", chain.input((1, 4), "x"))
    chances = chain.op("SOFTMAX", logits, beta=1.0)
    at = chain.constant(np.array(1, np.int32))
    best = chain.op("ARG_MAX", chances, at, shape=(1,), dtype="int32", outputType="INT32")
    sure = chain.op("GREATER", chances, chain.constant(np.full((1, 4), 0.5, np.float32)), dtype="bool")
    return chain.graph(best, sure), logits


def test_an_index_is_judged_before_it_is_chosen() -> None:
    graph, logits = classes()
    best, sure = graph.outputs
    assert before_saturation(graph, best) == (logits, ["ARG_MAX", "SOFTMAX"])
    assert before_saturation(graph, sure) == (sure, [])
    assert decision_tensors(graph) == decision_tensors(graph, deciding=(0,)) == (logits,)


def cells(*, spread: bool) -> tuple[Graph, int]:
    """A softmax over 5 classes of each cell, of which the last is dropped and the others are 2x2 places, or classes."""
    chain = Chain()
    logits = chain.op("ABS", chain.input((1, 3, 3, 5), "x"), shape=(1, 3, 3, 5))
    y = chain.op("SOFTMAX", logits, shape=(1, 3, 3, 5), beta=1.0)
    begin, size = (chain.constant(np.array(v, np.int32)) for v in ([0, 0, 0, 0], [1, 3, 3, 4]))
    y = chain.op("SLICE", y, begin, size, shape=(1, 3, 3, 4))
    if not spread:
        order = chain.constant(np.array([0, 3, 1, 2], np.int32))
        y = chain.op("TRANSPOSE", y, order, shape=(1, 4, 3, 3))
        shape = chain.constant(np.array([4, 9], np.int32))
        return chain.graph(chain.op("RESHAPE", y, shape, shape=(4, 9), newShape=[4, 9])), logits
    for kind, given, after in (
        ("RESHAPE", [1, 3, 3, 2, 2], (1, 3, 3, 2, 2)),
        ("TRANSPOSE", [0, 1, 3, 2, 4], (1, 3, 2, 3, 2)),
        ("RESHAPE", [1, 6, 6], (1, 6, 6)),
    ):
        y = chain.op(kind, y, chain.constant(np.array(given, np.int32)), shape=after)
    return chain.graph(y), logits


def test_shares_that_become_places_are_judged_themselves() -> None:
    """A heat map of key points whose cells' classes are its pixels: values are read, wherever they lie."""
    graph, _ = cells(spread=True)
    assert before_saturation(graph, graph.outputs[0]) == (graph.outputs[0], [])
    graph, logits = cells(spread=False)
    assert before_saturation(graph, graph.outputs[0]) == (logits, ["RESHAPE", "TRANSPOSE", "SLICE", "SOFTMAX"])

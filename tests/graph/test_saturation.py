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

"""Repeated values: ones that are multiplied by, and BROADCAST_TO that nobody needs."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.prepare.repeats import by_ones, needless
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function, kinds


def hidden(ones: bool, read: bool = False) -> Graph:
    """Scores of two heads with a mask that is expanded to both, as torch writes key_padding_mask."""
    chain = Chain()
    scores, mask = chain.input((1, 2, 3, 4)), chain.op("TANH", chain.input((1, 1, 1, 4)))
    if ones:
        mask = chain.op("MUL", mask, chain.constant(np.ones((1, 2, 1, 4), np.float32)), shape=(1, 2, 1, 4), **NONE)
    else:
        mask = chain.op("BROADCAST_TO", mask, chain.constant(np.array([1, 2, 1, 4], np.int32)), shape=(1, 2, 1, 4))
    total = chain.op("ADD", scores, mask, shape=(1, 2, 3, 4), **NONE)
    return chain.graph(total, chain.op("EXP", mask, shape=(1, 2, 1, 4))) if read else chain.graph(total)


def test_ones_and_expansions_go_before_sums() -> None:
    for graph in (hidden(ones=True), hidden(ones=False)):
        found = prepare(graph).graph
        assert kinds(found) == ["TANH", "ADD"]
        assert_same_function(hidden(ones=True), found)


def test_what_others_read_stays() -> None:
    graph = hidden(ones=False, read=True)
    assert needless(graph) == (graph, [])
    found, _ = by_ones(hidden(ones=True, read=True))
    assert kinds(found) == ["TANH", "BROADCAST_TO", "ADD", "EXP"]


def test_a_sum_that_grows_by_the_expansion_keeps_it() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    wide = chain.op("BROADCAST_TO", x, chain.constant(np.array([3, 4], np.int32)), shape=(3, 4))
    graph = chain.graph(chain.op("ADD", wide, chain.input((1, 4)), shape=(3, 4), **NONE))
    assert needless(graph) == (graph, [])


def test_one_as_a_factor_is_dropped() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((2, 4)))
    graph = chain.graph(chain.op("EXP", chain.op("MUL", x, chain.constant(np.float32(1)), shape=(2, 4), **NONE)))
    found = prepare(graph).graph
    assert kinds(found) == ["TANH", "EXP"]
    assert_same_function(graph, found)

"""Reductions over all axes whose shape a file states as (1,)."""

from __future__ import annotations

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function

SHAPE = (2, 6)


def from_the_largest(with_number: bool) -> Graph:
    """max(x, max(x) / 2), the scalar stated as (1,)."""
    chain = Chain()
    x = chain.op("TANH", chain.input(SHAPE))
    largest = chain.op("REDUCE_MAX", x, chain.constant([0, 1]), shape=(1,))
    if with_number:
        lower_end = chain.op("MUL", largest, chain.constant([0.5]), shape=(1,), **NONE)
    else:
        lower_end = chain.op("ABS", largest, shape=(1,))
    return chain.graph(chain.op("MAXIMUM", x, lower_end, shape=SHAPE))


@pytest.mark.parametrize("with_number", [False, True])
def test_scalars_get_their_rank(with_number: bool) -> None:
    graph = from_the_largest(with_number)
    prepared = prepare(graph).graph
    assert_same_function(graph, prepared)
    shapes = {t.name: t.shape for t in prepared.tensors}
    assert shapes["reduce_max1"] == ()
    if not with_number:
        assert shapes["abs2"] == ()
    assert prepare(prepared).graph is prepared


def test_scalars_go_through_all_passes() -> None:
    """maximum(y, y.max() - 8), as litert-torch writes it: rank 0 in all ops on the way."""
    chain = Chain()
    x = chain.op("TANH", chain.input(SHAPE))
    largest = chain.op("REDUCE_MAX", x, chain.constant([0, 1]))
    less = chain.op("SUB", largest, chain.constant(8.0), name="less", **NONE)
    lower_end = chain.op("ADD", less, largest, **NONE)
    graph = chain.graph(chain.op("MAXIMUM", x, lower_end, shape=SHAPE))
    assert_same_function(graph, prepare(graph).graph)

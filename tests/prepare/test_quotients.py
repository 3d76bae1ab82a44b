"""Linear attention's quotients keep their values, and become what 16 bits can hold."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.prepare.quotients import least
from edgeqwt.scales.ranges import MinMax
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.precision import Precision
from edgeqwt.widths.regions import QUOTIENT, regions, widened
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds

TOKENS, WIDTH = 24, 8


def attention(activation: str = "RELU", epsilon: float = 1e-6) -> Graph:
    """f(Q) (f(K)' V) / (f(Q) (f(K)' 1) + epsilon), with Q, K and V dense layers of one input."""
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    query, key, val = (
        chain.op("FULLY_CONNECTED", x, chain.constant(noise(WIDTH, WIDTH, seed=k)), keepNumDims=True, **NONE)
        for k in range(3)
    )
    query, key = (chain.op(activation, t) for t in (query, key))
    mixed = chain.op("BATCH_MATMUL", chain.op("TRANSPOSE", key, chain.constant([0, 2, 1])), val)
    numerator = chain.op("BATCH_MATMUL", query, mixed)
    summed = chain.op("SUM", key, chain.constant([1]), keepDims=True)
    divisor = chain.op("BATCH_MATMUL", query, chain.op("TRANSPOSE", summed, chain.constant([0, 2, 1])))
    total = chain.op("ADD", divisor, chain.constant(np.array([epsilon])), **NONE)
    return chain.graph(chain.op("DIV", numerator, total, **NONE))


def feeds(graph: Graph, count: int = 6) -> list[dict[int, Array]]:
    """Tokens of which some are thirty times as large as others."""
    rng = np.random.default_rng(4)
    sizes = np.exp(rng.uniform(-2, 1.4, size=(count, 1, TOKENS, 1)))
    return [{graph.inputs[0]: (s * rng.normal(size=(1, TOKENS, WIDTH))).astype(np.float32)} for s in sizes]


def test_the_function_stays() -> None:
    graph = attention()
    prepared = prepare(graph).graph
    assert "DIV" not in kinds(prepared)
    assert kinds(prepared).count("RSQRT") == 1
    assert_same_function(graph, prepared, feeds(graph))
    assert prepare(prepared).graph is prepared


@pytest.mark.parametrize(("activation", "epsilon"), [("TANH", 1e-6), ("RELU", 0.0), ("RELU", -1e-3)])
def test_what_may_be_zero_or_below_is_divided_by_as_it_is(activation: str, epsilon: float) -> None:
    assert "RSQRT" not in kinds(prepare(attention(activation, epsilon)).graph)


def test_bounds_follow_from_ops() -> None:
    graph = attention()
    names = {op.kind: op.outputs[0] for op in graph.ops}
    assert least(graph, names["RELU"]) == 0
    assert least(graph, names["ADD"]) == pytest.approx(1e-6)
    assert least(graph, names["DIV"]) == -np.inf
    assert least(graph, names["FULLY_CONNECTED"]) == -np.inf


def test_the_quotient_is_a_region_of_16_bits_that_pays() -> None:
    graph = attention()
    prepared = prepare(graph).graph
    (region,) = [found for found in regions(prepared) if found.role == QUOTIENT]
    assert {prepared.ops[i].kind for i in region.ops} >= {"RSQRT", "MUL", "BATCH_MATMUL", "ADD"}
    assert [prepared.ops[i].kind for i in region.ops].count("BATCH_MATMUL") == 3
    data = [{prepared.inputs[0]: f[graph.inputs[0]]} for f in feeds(graph, 16)]
    statistics = observe(prepared, data)[0]

    def decibels(precision: Precision) -> float:
        found = lower(prepared, statistics, MinMax(), precision)
        return layer_quality(prepared, {"": found}, data)[""].worst_db

    assert decibels(widened(prepared, Precision(), [region])) > decibels(Precision()) + 6

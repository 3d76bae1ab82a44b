"""Factors that go into other constants: the same function with fewer ops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.constant_factors import fold_factors
from edgeqwt.prepare.prepare import prepare
from tests.chain import DEPTHWISE, NONE, Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds


def times(chain: Chain, x: int, factor: float) -> int:
    """MUL by one number."""
    return chain.op("MUL", x, chain.constant([factor]), shape=chain.tensors[x].shape, **NONE)


def assert_folded(graph: Graph, left: list[str]) -> None:
    """The graph has only certain ops left, computes the same, and stays so."""
    folded, names = fold_factors(graph)
    assert names
    assert kinds(folded) == left
    assert_same_function(graph, folded)
    assert fold_factors(folded) == (folded, [])


def test_attention_divides_in_the_queries_weights() -> None:
    chain = Chain()
    graph = chain.graph(toy.attention(chain, chain.input((1, 6, 16)), 1))
    assert kinds(graph).count("MUL") == 1
    prepared = prepare(graph).graph
    assert "MUL" not in kinds(prepared)
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


@pytest.mark.parametrize("side", [0, 1])
def test_products_pass_factors_to_the_side_that_takes_them(side: int) -> None:
    chain = Chain()
    linear = toy.reshape(chain, toy.dense(chain, chain.input((1, 6, 16)), 16, 1), 1, 16, 6)
    other = chain.op("TANH", chain.input((1, 6, 16)))
    sides = (other, linear) if side else (linear, other)
    shape = (1, 6, 6) if side else (1, 16, 16)
    y = chain.op("BATCH_MATMUL", *sides, shape=shape, adjX=False, adjY=False)
    graph = chain.graph(times(chain, y, 0.25))
    folded, names = fold_factors(graph)
    assert len(names) == 1
    assert "MUL" not in kinds(folded)
    assert_same_function(graph, folded)


def test_consecutive_factors_are_one() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((1, 6)))
    y = toy.reshape(chain, times(chain, times(chain, x, 0.3), -5.0), 6, 1)
    graph = chain.graph(chain.op("EXP", times(chain, y, 0.7)))
    assert_folded(graph, ["TANH", "RESHAPE", "MUL", "EXP"])


def test_a_factor_per_channel_takes_the_others() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((1, 6)))
    y = chain.op("MUL", times(chain, x, 0.3), chain.constant(noise(6)), **NONE)
    assert_folded(chain.graph(times(chain, y, 4.0)), ["TANH", "MUL"])


@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "DEPTHWISE_CONV_2D"])
def test_the_layer_behind_takes_what_nothing_before_can(kind: str) -> None:
    """With its activation, and with other readers of what was multiplied."""
    chain = Chain()
    x = chain.op("TANH", chain.input((1, 4, 4, 6)))
    y = times(chain, x, 0.2)
    if kind == "FULLY_CONNECTED":
        z = toy.dense(chain, toy.reshape(chain, y, 1, 16, 6), 5, 1, fusedActivationFunction="RELU6")
        left = ["TANH", "RESHAPE", kind, "EXP"]
    else:
        options = {**DEPTHWISE, "fusedActivationFunction": "RELU"}
        z = chain.op(kind, y, chain.constant(noise(1, 3, 3, 6)), chain.constant(noise(6)), **options)
        left = ["TANH", kind, "EXP"]
    assert_folded(chain.graph(z, chain.op("EXP", x)), left)


def test_graph_inputs_keep_their_names() -> None:
    chain = Chain()
    x = chain.input((1, 6), name="image")
    assert_folded(chain.graph(toy.dense(chain, times(chain, x, 1 / 255), 5, 1)), ["FULLY_CONNECTED"])


def test_sums_over_sums_need_no_counts() -> None:
    """Mean pooling as sentence encoders have it: sum(x * mask) / sum(mask)."""
    chain = Chain()
    x, mask = chain.input((1, 6, 16)), chain.op("EXP", chain.input((1, 6, 1)))
    axes = chain.constant([1])
    y = chain.op("SUM", chain.op("MUL", x, mask, **NONE), axes, shape=(1, 16), keepDims=False)
    y = chain.op("DIV", y, chain.op("SUM", mask, axes, shape=(1, 1), keepDims=False), **NONE)
    graph = chain.graph(y)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["EXP", "MUL", "MEAN", "MEAN", "DIV", "MUL"]
    assert_same_function(graph, prepared)


def test_tables_of_words_are_multiplied_if_only_looked_up() -> None:
    """Embeddings times the root of their width."""

    def network(shared: bool) -> Graph:
        chain = Chain()
        ids, table = chain.input((1, 3), dtype="int32"), chain.constant(noise(9, 16))
        y = times(chain, chain.op("GATHER", table, ids, shape=(1, 3, 16), axis=0, batchDims=0), 4.0)
        weights = table if shared else chain.constant(noise(9, 16, seed=1))
        y = chain.op("TANH", y, shape=(1, 3, 16))
        return chain.graph(chain.op("FULLY_CONNECTED", y, weights, shape=(1, 3, 9), version=6, keepNumDims=True,
                                    weightsFormat="DEFAULT", **NONE))  # fmt: skip

    assert_folded(network(False), ["GATHER", "TANH", "FULLY_CONNECTED"])
    assert fold_factors(network(True))[1] == []


STAYING: dict[str, Callable[[Chain, int], int]] = {
    "a square": lambda chain, x: times(chain, chain.op("MUL", x, x, **NONE), 2.0),
    "zero": lambda chain, x: times(chain, toy.dense(chain, x, 4, 1), 0.0),
    "what would be infinite": lambda chain, x: times(chain, chain.op("MUL", x, chain.constant([3e38]), **NONE), 3e38),
    "what would be nothing": lambda chain, x: times(chain, chain.op("MUL", x, chain.constant([1e-30]), **NONE), 1e-20),
    "an activation": lambda chain, x: times(chain, toy.dense(chain, x, 4, 1, fusedActivationFunction="RELU6"), 2.0),
    "a sum": lambda chain, x: times(chain, chain.op("ADD", toy.dense(chain, x, 16, 1), x, **NONE), 2.0),
}


@pytest.mark.parametrize("staying", STAYING)
def test_factors_that_have_no_place_stay(staying: str) -> None:
    chain = Chain()
    graph = chain.graph(STAYING[staying](chain, chain.op("TANH", chain.input((1, 6, 16)))))
    assert fold_factors(graph) == (graph, [])


def test_layers_that_others_read_stay() -> None:
    chain = Chain()
    y = toy.dense(chain, chain.input((1, 6, 16)), 4, 1)
    graph = chain.graph(times(chain, y, 2.0), chain.op("TANH", y))
    assert fold_factors(graph) == (graph, [])
    graph = chain.graph(times(chain, y, 3.0), y)
    assert fold_factors(graph) == (graph, [])


def test_large_weights_that_layers_share_get_no_copies() -> None:
    chain = Chain()
    x = chain.input((1, 2, 600))
    w = chain.constant(np.tile(noise(600), (600, 1)))
    options = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}
    y = times(chain, chain.op("FULLY_CONNECTED", x, w, shape=(1, 2, 600), version=6, **options), 0.5)
    z = chain.op("FULLY_CONNECTED", chain.op("TANH", y), w, shape=(1, 2, 600), version=6, **options)
    assert fold_factors(chain.graph(z))[1] == []

"""Matrix products and layers in their simplest form."""

from __future__ import annotations

import pytest
from numpy.testing import assert_array_equal

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.flatbuffer import to_bytes
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.prepare.product_layouts import computed_weights, lying_left, lying_right
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import TFLiteMicro, reference
from edgeqwt.scales.ranges import Mse
from edgeqwt.widths.precision import parse
from tests.chain import Chain, noise, samples
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

ROWS, WIDTH = 6, 8


def scores() -> Graph:
    """Queries times keys, which are turned as exporters do it."""
    chain = Chain()
    left, keys = chain.input((1, 2, 16, 32)), toy.reshape(chain, chain.input((1, 16, 64)), 1, 16, 2, 32)
    right = toy.transpose(chain, keys, 0, 2, 3, 1)
    return chain.graph(chain.op("BATCH_MATMUL", left, right, shape=(1, 2, 16, 16), adjX=False, adjY=False))


def test_linear_layers_on_columns_are_linear_layers() -> None:
    """torch's MultiheadAttention by onnx2tf: (rows, n, 1)^T @ (n, m)."""
    chain = Chain()
    x = toy.reshape(chain, chain.input((1, ROWS, WIDTH)), ROWS, WIDTH, 1)
    y = chain.op("BATCH_MATMUL", x, chain.constant(noise(WIDTH, 5)), shape=(ROWS, 1, 5), adjX=True, adjY=False)
    graph = chain.graph(toy.add(chain, y, chain.constant(noise(5))))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["RESHAPE", "FULLY_CONNECTED"]
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


def test_matrices_on_the_left_stay_transposed() -> None:
    chain = Chain()
    y = chain.op("BATCH_MATMUL", chain.input((1, 3, 4)), chain.input((1, 3, 5)), shape=(1, 4, 5), adjX=True, adjY=False)
    graph = chain.graph(y)
    assert lying_left(graph) == (graph, [])


@pytest.mark.parametrize("transposed", [False, True])
def test_a_transposed_right_side_is_read_as_it_lies(transposed: bool) -> None:
    chain = Chain()
    left = chain.input((2, 3, 4))
    right = toy.transpose(chain, chain.input((2, 4, 5) if transposed else (2, 5, 4)), 0, 2, 1)
    graph = chain.graph(chain.op("BATCH_MATMUL", left, right, shape=(2, 3, 5), adjX=False, adjY=transposed))
    read, names = lying_right(graph)
    assert len(names) == 1
    assert kinds(read) == ["BATCH_MATMUL"]
    assert read.ops[0].options["adjY"] is not transposed
    assert_same_function(graph, read)


@pytest.mark.parametrize("what", ["read elsewhere", "read on both sides", "not moved"])
def test_right_sides_that_stay(what: str) -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 4))
    right = x if what == "not moved" else toy.transpose(chain, x, 0, 1, 3, 2)
    left = right if what == "read on both sides" else chain.input((1, 4, 4, 4))
    y = chain.op("BATCH_MATMUL", left, right, adjX=False, adjY=False)
    graph = chain.graph(y, chain.op("TANH", right)) if what == "read elsewhere" else chain.graph(y)
    assert lying_right(graph) == (graph, [])


@pytest.mark.parametrize("heads_first", [False, True])
def test_values_are_moved_so_that_products_read_rows(heads_first: bool) -> None:
    """Right sides that are moved about anyway; where a TRANSPOSE would have to come, nothing is gained."""
    chain, x = Chain(), (1, 2, 6, 4) if heads_first else (1, 6, 2, 4)
    right = toy.reshape(chain, chain.input((1, 6, 8)), *x)
    if not heads_first:
        right = toy.transpose(chain, right, 0, 2, 1, 3)
    y = chain.op("BATCH_MATMUL", chain.input((1, 2, 3, 6)), right, shape=(1, 2, 3, 4), adjX=False, adjY=False)
    graph = chain.graph(y)
    read, names = lying_right(graph)
    assert len(names) == (not heads_first)
    assert sorted(kinds(read)) == sorted(kinds(graph))
    assert read.ops[-1].options["adjY"] is not heads_first
    assert_same_function(graph, read)
    assert lying_right(read) == (read, [])


def test_micro_needs_less_memory_for_products_that_read_rows() -> None:
    graph = scores()
    read, _ = lying_right(graph)
    before, after = (lower(g, observe(g, samples(g))[0], Mse(), parse("w8a8")) for g in (graph, read))
    feed = list(samples(graph, 1, seed=5)[0].values())
    for make in (reference, TFLiteMicro):
        runs = ((g, make(g).run(graph_feed(g, dict(zip(g.inputs, feed, strict=True))))) for g in (before, after))
        assert_array_equal(*(found[g.outputs[0]] for g, found in runs))
    keys = 16 * 64
    assert measure_arena(to_bytes(before)).bytes - measure_arena(to_bytes(after)).bytes >= keys


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["NONE", "RELU"])
def test_layers_with_computed_weights_are_products(bias: bool, activation: str) -> None:
    """torch's matmul of two matrices, one of them transposed, is such a layer for some converters."""
    chain = Chain()
    x, weights = chain.input((2, ROWS, WIDTH)), chain.op("TANH", chain.input((5, WIDTH)))
    inputs = (x, weights, chain.constant(noise(5)) if bias else -1)
    options = {"fusedActivationFunction": activation, "keepNumDims": True, "weightsFormat": "DEFAULT"}
    graph = chain.graph(chain.op("FULLY_CONNECTED", *inputs, shape=(2, ROWS, 5), **options))
    found, _ = computed_weights(graph)
    assert "FULLY_CONNECTED" not in kinds(found)
    assert_same_function(graph, found)
    prepared = prepare(graph).graph
    integer = lower(prepared, observe(prepared, samples(prepared, 4))[0], Mse(), parse("w8a8"))
    assert [integer.tensors[t].dtype for t in integer.outputs] == ["int8"]

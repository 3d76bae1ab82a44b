"""Weights looked up in codebooks: fewer bytes, the same integers, the same outputs in LiteRT's reference kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Tensor
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.lowering.codebooks import looked_up, with_codebooks
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import RUNNERS
from tests.chain import Chain, noise, samples
from tests.one_op import lowered

DENSE = {
    "fusedActivationFunction": "NONE", "weightsFormat": "DEFAULT", "keepNumDims": True,
    "asymmetricQuantizeInputs": False,
}  # fmt: skip


def network(length: int, count: int = 256) -> tuple[Graph, dict[int, Array]]:
    """Two dense layers of few sub-vectors, and an input."""
    chain = Chain()
    x = chain.op(
        "FULLY_CONNECTED", chain.input((1, 4, 64)), chain.constant(noise(128, 64)), chain.constant(noise(128)), **DENSE
    )
    x = chain.op("FULLY_CONNECTED", x, chain.constant(noise(80, 128)), chain.constant(noise(80)), **DENSE)
    graph = lowered(chain.graph(x), samples(chain.graph(x))).graph
    feed = graph_feed(graph, {graph.inputs[0]: samples(chain.graph(x))[0][chain.graph(x).inputs[0]]})
    rng, changes = np.random.default_rng(0), {}
    for t in (slots(op).weight for op in graph.ops if has_constant_weights(graph, op)):
        rows, terms = graph.tensors[t].shape
        codes = rng.integers(-127, 128, (count, length)).astype(np.int8)
        data = codes[rng.integers(0, count, (rows, -(-terms // length)))].reshape(rows, -1)[:, :terms]
        changes[t] = replace(graph.tensors[t], data=np.ascontiguousarray(data))
    return graph.with_tensors(changes), feed


@pytest.mark.parametrize("length", [3, 4, 5, 8])
def test_outputs_stay_and_bytes_fall(length: int) -> None:
    graph, feed = network(length, 64)
    after, count = with_codebooks(graph, length)
    assert count == 2
    before_bytes, after_bytes = (flatbuffer.to_bytes(g) for g in (graph, after))
    weights = 128 * 64 + 80 * 128
    assert len(after_bytes) < len(before_bytes) - weights * (1 - 1.2 / length) + 2 * (64 * length + 700)
    expected, found = (
        RUNNERS["reference"](g, g.outputs).run(feed) for g in (graph, flatbuffer.from_bytes(after_bytes))
    )
    np.testing.assert_array_equal(expected[graph.outputs[0]], found[after.outputs[0]])


@pytest.mark.parametrize("length", [3, 4, 7])
def test_what_is_looked_up_is_the_weight(length: int) -> None:
    graph, _ = network(length, 200)
    weight = next(graph.tensors[slots(op).weight] for op in graph.ops if has_constant_weights(graph, op))
    found = looked_up(weight, length)
    assert found is not None
    assert len(found.codes) <= 256
    rows, terms = weight.shape
    np.testing.assert_array_equal(found.codes[found.indices].reshape(rows, -1)[:, :terms], weight.data)


def test_too_many_sub_vectors_stay() -> None:
    data = np.random.default_rng(0).integers(-127, 128, (64, 64)).astype(np.int8)
    assert looked_up(Tensor("w", data.shape, "int8", data), 4) is None


def test_where_it_saves_nothing_nothing_changes() -> None:
    graph, _ = network(1)  # a byte for each weight, as before
    after, count = with_codebooks(graph, 1)
    assert count == 0
    assert after.ops == graph.ops

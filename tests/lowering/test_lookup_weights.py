"""Weights behind lookup tables: fewer bytes, the same integers, in TFLite Micro's own kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.lowering.int4 import with_packed_weights
from edgeqwt.lowering.lookup_weights import DECODE, packed, with_lookup_tables
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.precision import parse
from tests.chain import CONV, DEPTHWISE, Chain, noise, samples
from tests.one_op import lowered


def network(precision: str = "w4a8") -> tuple[Graph, dict[int, Array]]:
    """Two convolutions, a depthwise one and a dense layer with integers of 4 or 8 bits, and an input."""
    chain = Chain()
    x = chain.op(
        "CONV_2D", chain.input((1, 6, 6, 8)), chain.constant(noise(32, 3, 3, 8)), chain.constant(noise(32)), **CONV
    )
    x = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 32)), chain.constant(noise(32)), **DEPTHWISE)
    x = chain.op("CONV_2D", x, chain.constant(noise(48, 1, 1, 32)), chain.constant(noise(48)), **CONV)
    found = lowered(chain.graph(x), samples(chain.graph(x)), precision=parse(precision))
    feed = {found.graph.inputs[0]: samples(chain.graph(x))[0][chain.graph(x).inputs[0]]}
    return found.graph, graph_feed(found.graph, feed)


def weights(graph: Graph) -> list[int]:
    return [slots(op).weight for op in graph.ops if has_constant_weights(graph, op)]


def clustered(graph: Graph, each: bool) -> Graph:
    """Weights of 16 values of 8 bits: the same for all channels, or others for each."""
    rng = np.random.default_rng(3)
    changes = {}
    for t in weights(graph):
        tensor = graph.tensors[t]
        assert tensor.data is not None
        assert tensor.quantization is not None
        axis = tensor.quantization.axis or 0
        rows = np.moveaxis(tensor.data, axis, 0)
        books = np.stack([rng.choice(np.arange(-127, 128), 16, replace=False) for _ in range(len(rows) if each else 1)])
        chosen = np.stack([rng.choice(books[i % len(books)], rows.shape[1:]) for i in range(len(rows))])
        changes[t] = replace(tensor, data=np.moveaxis(chosen, 0, axis).astype(np.int8))
    return graph.with_tensors(changes)


def same_in_micro(before: Graph, after: Graph, feed: dict[int, Array]) -> None:
    """Both give the same bytes, and every op in between."""
    taps = [op.outputs[0] for op in before.ops]
    expected, found = (RUNNERS["tflm"](graph, taps).run(feed) for graph in (before, after))
    assert all(np.array_equal(expected[t], found[t]) for t in expected)


def saved(before: Graph, after: Graph) -> int:
    return len(flatbuffer.to_bytes(before)) - len(flatbuffer.to_bytes(after))


@pytest.mark.requires("tflite_micro")
@pytest.mark.parametrize("packed_before", [False, True])
def test_four_bits(packed_before: bool) -> None:
    graph, feed = network()
    after, count = with_lookup_tables(with_packed_weights(graph) if packed_before else graph)
    # Half of 32 * 72 and of 48 * 32 is worth two tensors and an op; half of 288, and int4 storage again, are not.
    assert count == (0 if packed_before else 2)
    assert [op.custom_code for op in after.ops].count(DECODE) == count
    if count:
        assert saved(graph, after) > 1100
        same_in_micro(graph, after, feed)


@pytest.mark.requires("tflite_micro")
@pytest.mark.parametrize("each", [False, True])
def test_clusters(each: bool) -> None:
    graph, feed = network("w8a8")
    graph = clustered(graph, each)
    after, count = with_lookup_tables(graph)
    strides = [int(after.tensors[op.inputs[1]].data[6]) for op in after.ops if op.kind == "CUSTOM"]  # type: ignore[index]
    # A table of 16 values for each of 32 channels is worth it beside 72 weights a channel, not beside 32.
    assert (count, strides) == ((1, [16]) if each else (2, [0, 0]))
    assert saved(graph, after) > (300 if each else 1100)
    same_in_micro(graph, after, feed)


def test_eight_bits_stay() -> None:
    graph, _ = network("w8a8")
    after, count = with_lookup_tables(graph)
    assert count == 0
    assert flatbuffer.to_bytes(after) == flatbuffer.to_bytes(graph)


def test_a_weight_that_two_ops_read_stays() -> None:
    graph, _ = network()
    first = weights(graph)[0]
    i = next(i for i, op in enumerate(graph.ops) if has_constant_weights(graph, op))
    again = replace(graph.ops[i], outputs=(len(graph.tensors),))
    tensors = (*graph.tensors, replace(graph.tensors[graph.ops[i].outputs[0]], name="again"))
    twice = replace(graph, ops=(*graph.ops[: i + 1], again, *graph.ops[i + 1 :]), tensors=tensors)
    after, count = with_lookup_tables(twice)
    assert count == 1
    assert after.tensors[first].data is not None


def test_indices_are_packed_with_the_most_significant_bit_first() -> None:
    assert packed(np.array([1, 2, 3]), 3).tolist() == [0b00101001, 0b10000000]
    assert packed(np.array([127]), 7).tolist() == [0b11111110]

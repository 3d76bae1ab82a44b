"""Fronts of networks: what everything behind a place passes through."""

from __future__ import annotations

import numpy as np

from edgeqwt.float_fronts import TRIED, bottlenecks, fronts, share
from edgeqwt.graph.graph import Graph
from tests.chain import NONE, Chain, noise

DENSE = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}


def network(layers: int = 2) -> Graph:
    """A layer whose result takes two ways, which a sum joins, and layers behind it."""
    chain = Chain()

    def dense(x: int, name: str) -> int:
        return chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 4)), -1, shape=(1, 4), name=name, **DENSE)

    x = dense(chain.input((1, 4), "x"), "first")
    ways = [chain.op(kind, x, shape=(1, 4), name=kind) for kind in ("TANH", "RELU")]
    x = chain.op("ADD", *ways, shape=(1, 4), name="sum", **NONE)
    for k in range(layers):
        x = dense(x, f"layer{k}")
    return chain.graph(x)


def named(graph: Graph, name: str) -> int:
    return next(t for t, tensor in enumerate(graph.tensors) if tensor.name == name)


def test_everything_behind_a_place_passes_bottlenecks() -> None:
    graph = network()
    found = [graph.tensors[t].name for t in bottlenecks(graph, named(graph, "first"))]
    assert found == ["first", "sum", "layer0", "layer1"]
    one_way = [graph.tensors[t].name for t in bottlenecks(graph, named(graph, "TANH"))]
    assert one_way == ["TANH", "sum", "layer0", "layer1"]


def test_an_output_on_the_way_ends_them() -> None:
    """What it errs, no front behind it mends."""
    graph = network()
    both = Graph(graph.tensors, graph.ops, graph.inputs, (named(graph, "TANH"), *graph.outputs))
    assert [graph.tensors[t].name for t in bottlenecks(both, named(graph, "first"))] == ["first"]


def test_of_many_fronts_a_few_that_leave_layers_behind_them() -> None:
    graph = network(23)
    found = fronts(graph, named(graph, "first"))
    assert len(found) == TRIED
    assert (found[0], found[-1]) == ("first", "layer10")  # 12 of 24 layers
    assert np.isclose(share(graph, {"first", "layer0"}), 2 / 24)
    assert fronts(network(0), named(network(0), "first")) == ()

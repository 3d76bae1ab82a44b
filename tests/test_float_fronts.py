"""Fronts of networks: what everything behind a place passes through."""

from __future__ import annotations

import numpy as np

from edgeqwt.float_fronts import TRIED, bottlenecks, entrances, fronts, lost_from, share
from edgeqwt.graph.graph import Graph
from edgeqwt.verify.op_errors import OpError, OwnErrors
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


def errors(**accumulated: float) -> OwnErrors:
    ops = (
        OpError(k, "ADD", name, name, db, db, 0.0, 0.0, 1.0, moves=False, median_used=None)
        for k, (name, db) in enumerate(accumulated.items())
    )
    return OwnErrors(8, tuple(ops), 0)


def test_fronts_begin_where_what_is_lost_later_is_no_longer_fine() -> None:
    """A spectrum of speech had 20 dB, and 8 only behind the layer that made most of the network float."""
    graph = network()
    found = lost_from(graph, errors(first=40.0, RELU=40.0, TANH=20.0, sum=15.0, layer0=8.0), 10.0)
    assert found == named(graph, "TANH")
    assert lost_from(graph, errors(first=40.0, TANH=24.0, sum=24.0), 10.0) == named(graph, "TANH")
    assert lost_from(graph, errors(first=40.0, layer1=30.0), 10.0) is None


def test_what_does_not_lead_to_the_loss_begins_no_front() -> None:
    """Here one way's error is not on the way to the other's."""
    graph = network()
    assert lost_from(graph, errors(RELU=20.0, TANH=8.0), 10.0) == named(graph, "TANH")


def test_inputs_that_a_front_reads() -> None:
    """A state that the layers behind it read is none."""
    chain = Chain()
    x, state = chain.input((1, 4), "x"), chain.input((1, 4), "state")
    front = chain.op("TANH", x, shape=(1, 4), name="front")
    graph = chain.graph(chain.op("ADD", front, state, shape=(1, 4), name="y", **NONE))
    assert entrances(graph, ["front"]) == (0,)
    assert entrances(graph, ["y"]) == (0, 1)

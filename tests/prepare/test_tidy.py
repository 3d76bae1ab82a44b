"""Ops that are there twice."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds


def test_what_is_computed_twice_is_computed_once() -> None:
    chain = Chain()
    x = chain.input((1, 6))
    first, second = (chain.op("ADD", x, chain.constant([2.0]), **NONE) for _ in range(2))
    other = chain.op("ADD", x, chain.constant([3.0]), **NONE)
    bounded = chain.op("ADD", x, chain.constant([2.0]), fusedActivationFunction="RELU6")
    products = [chain.op("MUL", first, chain.op("TANH", t), **NONE) for t in (first, second, other, bounded)]
    graph = chain.graph(*(chain.op("EXP", p) for p in products), second)
    prepared = prepare(graph).graph
    # `second` is an output, so it stays.
    assert kinds(prepared).count("ADD") == 4
    assert_same_function(graph, prepared)
    hidden = replace(graph, outputs=graph.outputs[:-1])
    prepared = prepare(hidden).graph
    assert [kinds(prepared).count(kind) for kind in ("ADD", "TANH", "MUL", "EXP")] == [3, 3, 3, 4]
    assert_same_function(hidden, prepared)


def test_equal_layers_are_two_layers() -> None:
    chain = Chain()
    x, w, b = chain.input((1, 6)), chain.constant(noise(4, 6)), chain.constant(noise(4))
    first, second = (chain.op("FULLY_CONNECTED", x, w, b, shape=(1, 4), version=6, **NONE) for _ in range(2))
    graph = chain.graph(chain.op("ADD", chain.op("TANH", first), chain.op("EXP", second), **NONE))
    assert kinds(prepare(graph).graph).count("FULLY_CONNECTED") == 2


def test_equal_shapes_and_orders_are_one_constant() -> None:
    chain = Chain()
    x = chain.input((1, 6, 4))
    turned = [chain.op("TRANSPOSE", t, chain.constant([0, 2, 1]), shape=(1, 4, 6)) for t in (x, chain.op("TANH", x))]
    # One number more than one, and two: real values stay apart, because they may get scales of their own.
    halves = [chain.op("MUL", t, chain.constant([0.5]), **NONE) for t in turned]
    graph = chain.graph(*halves)
    prepared = prepare(graph).graph
    constants = [t.dtype for t in prepared.tensors if t.is_constant]
    assert sorted(constants) == ["float32", "float32", "int32"]
    assert_same_function(graph, prepared)

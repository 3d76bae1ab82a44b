"""Softmax, its logarithm and LayerNorm as JAX and litert-torch write them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds

SHAPE = (2, 3, 8)


def without_maximum(chain: Chain, x: int, axis: int) -> int:
    return x


def by_maximum(chain: Chain, x: int, axis: int) -> int:
    return chain.op("SUB", x, chain.op("REDUCE_MAX", x, chain.constant([axis]), keepDims=True), **NONE)


def from_minus_infinity(chain: Chain, x: int, axis: int) -> int:
    """JAX's: the maximum starts at -infinity, and lost its axis on the way."""
    largest = chain.op("REDUCE_MAX", x, chain.constant([axis]))
    largest = chain.op("MAXIMUM", largest, chain.constant(-np.inf))
    kept = tuple(1 if a == axis else n for a, n in enumerate(SHAPE))
    largest = chain.op("RESHAPE", largest, chain.constant(kept), shape=kept, newShape=kept)
    return chain.op("SUB", x, largest, **NONE)


def plus_a_number(chain: Chain, x: int, axis: int) -> int:
    return chain.op("ADD", by_maximum(chain, x, axis), chain.constant(0.5), **NONE)


SHIFTS = {f.__name__: f for f in (without_maximum, by_maximum, from_minus_infinity, plus_a_number)}


def divided(chain: Chain, e: int, total: int) -> int:
    return chain.op("DIV", e, total, **NONE)


def multiplied(chain: Chain, e: int, total: int) -> int:
    return chain.op("MUL", chain.op("DIV", chain.constant(1.0), total, **NONE), e, **NONE)


def spelled(
    shift: str, quotient: Callable[[Chain, int, int], int] = divided, axis: int = 2, *, read: bool = False
) -> Graph:
    chain = Chain()
    x = chain.op("MUL", chain.input(SHAPE), chain.constant(noise(8, seed=4)), **NONE)
    e = chain.op("EXP", SHIFTS[shift](chain, x, axis))
    total = chain.op("SUM", e, chain.constant([axis]), keepDims=True)
    return chain.graph(*([e] if read else []), quotient(chain, e, total))


@pytest.mark.parametrize("quotient", [divided, multiplied])
@pytest.mark.parametrize("shift", SHIFTS)
def test_softmax_is_one_op(shift: str, quotient: Callable[[Chain, int, int], int]) -> None:
    graph = spelled(shift, quotient)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["MUL", "SOFTMAX"]
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("axis", [0, 1])
def test_along_another_axis_between_two_transposes(axis: int) -> None:
    graph = spelled("by_maximum", axis=axis)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["MUL", "TRANSPOSE", "SOFTMAX", "TRANSPOSE"]
    assert_same_function(graph, prepared)


def test_what_else_is_read_stays() -> None:
    graph = spelled("by_maximum", read=True)
    prepared = prepare(graph).graph
    assert {"EXP", "SOFTMAX"} <= {*kinds(prepared)}
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("shift", SHIFTS)
def test_log_softmax_is_one_op(shift: str) -> None:
    chain = Chain()
    x = SHIFTS[shift](chain, chain.op("TANH", chain.input(SHAPE)), 2)
    total = chain.op("SUM", chain.op("EXP", x), chain.constant([2]), keepDims=True)
    graph = chain.graph(chain.op("SUB", x, chain.op("LOG", total), **NONE))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["TANH", "LOG_SOFTMAX"]
    assert_same_function(graph, prepared)


OTHERS: dict[str, Callable[[Chain, int], int]] = {
    "another's sum": lambda c, x: divided(
        c, c.op("EXP", x), c.op("SUM", c.op("EXP", c.op("TANH", x)), c.constant([2]), keepDims=True)
    ),
    "two axes": lambda c, x: divided(c, e := c.op("EXP", x), c.op("SUM", e, c.constant([1, 2]), keepDims=True)),
    "a sum of something else": lambda c, x: divided(
        c, e := c.op("EXP", x), c.op("SUM", c.op("TANH", e), c.constant([2]), keepDims=True)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_like_it(name: str) -> None:
    chain = Chain()
    graph = chain.graph(OTHERS[name](chain, chain.input(SHAPE)))
    prepared = prepare(graph).graph
    assert "SOFTMAX" not in kinds(prepared)
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("clipped", ["NONE", "RELU"])
def test_the_variance_of_flax(clipped: str) -> None:
    """max(E[x x] - E[x] E[x], 0)."""
    chain = Chain()
    x = chain.op("ADD", chain.input(SHAPE), chain.constant(noise(8, seed=2)), **NONE)
    last = chain.constant([2])
    mean = chain.op("MEAN", x, last, keepDims=True)
    squares = chain.op("MEAN", chain.op("MUL", x, x, **NONE), last, keepDims=True)
    both = chain.op("SUB", squares, chain.op("MUL", mean, mean, **NONE), fusedActivationFunction=clipped)
    root = chain.op("RSQRT", chain.op("ADD", both, chain.constant(1e-3), **NONE))
    graph = chain.graph(chain.op("MUL", chain.op("SUB", x, mean, **NONE), root, **NONE))
    prepared = prepare(graph).graph
    assert "BATCH_MATMUL" in kinds(prepared)
    assert kinds(prepared).count("SUB") == 1
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("negative", ["SUB", "MUL"])
def test_the_layer_norm_of_litert_torch(negative: str) -> None:
    """x r - (m r), with m and r as vectors in between."""
    chain, shape = Chain(), (1, 3, 8)
    x = chain.op("ADD", chain.input(shape), chain.constant(noise(8, seed=2)), **NONE)
    axes = chain.constant([0, 2])

    def column(t: int) -> int:
        return chain.op("RESHAPE", t, chain.constant([1, 3, 1]), shape=(1, 3, 1), newShape=(1, 3, 1))

    mean = chain.op("MEAN", x, axes)
    variance = chain.op("MEAN", chain.op("SQUARED_DIFFERENCE", x, column(mean)), axes)
    root = chain.op("RSQRT", chain.op("ADD", variance, chain.constant(1e-3), **NONE))
    product = chain.op("MUL", root, mean, **NONE)
    if negative == "SUB":
        minus = chain.op("SUB", chain.constant(0.0), product, **NONE)
    else:
        minus = chain.op("MUL", root, chain.op("MUL", mean, chain.constant(-1.0), **NONE), **NONE)
    scaled = chain.op("MUL", x, column(root), **NONE)
    graph = chain.graph(chain.op("ADD", scaled, column(minus), **NONE))
    prepared = prepare(graph).graph
    assert "SUB" in kinds(prepared)
    assert "BATCH_MATMUL" in kinds(prepared)
    assert kinds(prepared)[-1] == "MUL"
    assert_same_function(graph, prepared)

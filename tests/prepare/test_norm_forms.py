"""LayerNorm as Keras and Flax write it comes to the same ops as torch's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.norm_forms import difference_of_squares, keep_axes, spread
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

SHAPE, MEANS = (1, 6, 16), (1, 6, 1)


def mean(chain: Chain, x: int, keep: bool = True) -> int:
    """The mean over the last axis."""
    return chain.op("MEAN", x, chain.constant([2]), shape=MEANS if keep else MEANS[:-1], keepDims=keep)


def op(chain: Chain, kind: str, a: int, b: int, shape: tuple[int, ...] = SHAPE) -> int:
    """An op on two tensors."""
    return chain.op(kind, a, b, shape=shape, **({} if kind == "SQUARED_DIFFERENCE" else NONE))


def root(chain: Chain, variance: int) -> int:
    """1 / sqrt(variance + epsilon)."""
    return chain.op("RSQRT", op(chain, "ADD", variance, chain.constant([1e-3]), MEANS), shape=MEANS)


def keras(chain: Chain, x: int) -> int:
    """tf.nn.batch_normalization: x s + (beta - mean s) with s = gamma / root."""
    m = mean(chain, x)
    inverse = root(chain, mean(chain, op(chain, "SQUARED_DIFFERENCE", x, m)))
    s = op(chain, "MUL", inverse, chain.constant(1 + noise(16, seed=3)))
    rest = op(chain, "SUB", chain.constant(noise(16, seed=4)), op(chain, "MUL", m, s))
    return op(chain, "ADD", op(chain, "MUL", x, s), rest)


def flax(chain: Chain, x: int) -> int:
    """use_fast_variance: mean(x x) - mean(x) mean(x)."""
    m, squares = mean(chain, x), mean(chain, op(chain, "MUL", x, x))
    variance = op(chain, "SUB", squares, op(chain, "MUL", m, m, MEANS), MEANS)
    s = op(chain, "MUL", root(chain, variance), chain.constant(1 + noise(16, seed=3)))
    y = op(chain, "MUL", op(chain, "SUB", x, m), s)
    return op(chain, "ADD", y, chain.constant(noise(16, seed=4)))


def dropped_axes(chain: Chain, x: int) -> int:
    """Means that drop their axis, which is put back."""
    m = toy.reshape(chain, mean(chain, x, keep=False), *MEANS)
    centered = op(chain, "SUB", x, m)
    variance = mean(chain, op(chain, "MUL", centered, centered), keep=False)
    variance = chain.op("EXPAND_DIMS", variance, chain.constant(2), shape=MEANS)
    return op(chain, "MUL", centered, root(chain, variance))


SPELLINGS = {"keras": keras, "flax": flax, "dropped axes": dropped_axes}


def network(norm: Callable[[Chain, int], int]) -> Graph:
    """A norm of what is not known beforehand."""
    chain = Chain()
    return chain.graph(norm(chain, chain.op("TANH", chain.input(SHAPE))))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_become_one(spelling: str) -> None:
    graph = network(SPELLINGS[spelling])
    prepared = prepare(graph).graph
    found = Counter(kinds(prepared))
    assert (found["MEAN"], found["SUB"], found["BATCH_MATMUL"], found["RSQRT"]) == (1, 1, 1, 1)
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


def test_keras_networks_lose_their_means_too() -> None:
    chain = Chain()
    x = toy.dense(chain, chain.input(SHAPE), 16, 1)
    graph = chain.graph(keras(chain, x))
    prepared = prepare(graph).graph
    assert not {"MEAN", "SUB"} & set(kinds(prepared))
    assert_same_function(graph, prepared)


def test_other_sums_and_differences_stay() -> None:
    chain = Chain()
    x, other = chain.op("TANH", chain.input(SHAPE)), chain.input(SHAPE)
    s, m = chain.op("EXP", other), mean(chain, other)
    rest = op(chain, "SUB", chain.constant(noise(16)), op(chain, "MUL", m, s))
    graph = chain.graph(op(chain, "ADD", op(chain, "MUL", x, s), rest))  # another tensor's mean
    assert spread(graph) == (graph, [])
    squares = mean(chain, op(chain, "MUL", x, x))
    graph = chain.graph(op(chain, "SUB", squares, op(chain, "MUL", m, m, MEANS), MEANS))
    assert difference_of_squares(graph) == (graph, [])
    graph = chain.graph(toy.reshape(chain, mean(chain, x, keep=False), 6, 1))
    assert keep_axes(graph) == (graph, [])

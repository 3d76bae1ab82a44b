"""Ops on elements and reductions before a TRANSPOSE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.prepare.prepare import prepare
from tests.chain import CONV, NONE, Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SHAPE = (1, 6, 4, 5)  # channels first: no two axes of a length


def picture(chain: Chain) -> int:
    """A convolution's output, then its axes in another framework's order."""
    x = chain.input((1, 4, 5, 3))
    weights, bias = chain.constant(noise(6, 3, 3, 3, seed=1)), chain.constant(noise(6, seed=2))
    return toy.transpose(chain, chain.op("CONV_2D", x, weights, bias, shape=(1, 4, 5, 6), **CONV), *CHANNELS_FIRST)


def silu(chain: Chain, x: int) -> int:
    """x times its logistic function."""
    shape = chain.tensors[x].shape
    return chain.op("MUL", x, chain.op("LOGISTIC", x, shape=shape), shape=shape, **NONE)


def mean(chain: Chain, x: int, *axes: int, keep: bool = False) -> int:
    """MEAN."""
    shape = chain.tensors[x].shape
    gone = {a % len(shape) for a in axes}
    left = tuple(1 if i in gone else n for i, n in enumerate(shape) if keep or i not in gone)
    return chain.op("MEAN", x, chain.constant(list(axes)), shape=left, keepDims=keep)


def pooled(chain: Chain) -> int:
    return mean(chain, silu(chain, picture(chain)), 2, 3)


def squeezed_and_excited(chain: Chain) -> int:
    x = silu(chain, picture(chain))
    gate = chain.op("LOGISTIC", mean(chain, x, -1, -2, keep=True), shape=(1, 6, 1, 1))
    scaled = chain.op("MUL", x, gate, shape=SHAPE, **NONE)
    by_channel = chain.op("ADD", scaled, chain.constant(noise(1, 6, 1, 1, seed=3)), shape=SHAPE, **NONE)
    return mean(chain, by_channel, 2, 3)


def gated_by_convolutions(chain: Chain) -> int:
    """A gate of convolutions, which a RESHAPE brings to their layout and back: its maps have one position."""
    x = chain.op("HARD_SWISH", picture(chain), shape=SHAPE)
    y = toy.reshape(chain, mean(chain, x, 2, 3, keep=True), 1, 1, 1, 6)
    for k, (inputs, outputs) in enumerate(((6, 3), (3, 6))):
        weights, bias = chain.constant(noise(outputs, 1, 1, inputs, seed=k)), chain.constant(noise(outputs, seed=9 + k))
        y = chain.op("CONV_2D", y, weights, bias, shape=(1, 1, 1, outputs), **CONV)
    shifted = chain.op("ADD", toy.reshape(chain, y, 1, 6, 1, 1), chain.constant([0.5]), shape=(1, 6, 1, 1), **NONE)
    gate = chain.op("LOGISTIC", shifted, shape=(1, 6, 1, 1))
    scaled = chain.op("MUL", x, gate, shape=SHAPE, **NONE)
    back = toy.transpose(chain, scaled, *CHANNELS_LAST)
    weights, bias = chain.constant(noise(2, 1, 1, 6, seed=5)), chain.constant(noise(2, seed=6))
    return chain.op("CONV_2D", back, weights, bias, shape=(1, 4, 5, 2), **CONV)


def convolved_along_time(chain: Chain) -> int:
    """nn.Conv1d: the axis that a picture has besides comes and goes around the layer, an activation outside of it."""
    x = chain.input((1, 1, 7, 3))
    for k, features in enumerate((3, 6)):
        weights, bias = chain.constant(noise(6, 1, 3, features, seed=k)), chain.constant(noise(6, seed=k + 2))
        y = chain.op("CONV_2D", x, weights, bias, shape=(1, 1, 7, 6), **CONV)
        sequence = toy.reshape(chain, toy.transpose(chain, y, *CHANNELS_FIRST), 1, 6, 7)
        active = chain.op("RELU", sequence, shape=(1, 6, 7))
        x = toy.transpose(chain, toy.reshape(chain, active, 1, 6, 1, 7), *CHANNELS_LAST)
    return mean(chain, chain.op("ADD", sequence, active, shape=(1, 6, 7), **NONE), 2)


def joined_and_split(chain: Chain) -> int:
    """Two pictures joined along their channels, and two gates made of the parts."""
    both = chain.op("CONCATENATION", silu(chain, picture(chain)), picture(chain), shape=(1, 12, 4, 5), axis=1, **NONE)
    first = chain.op("SPLIT", chain.constant(np.array(1, np.int32)), both, shape=SHAPE, numSplits=2)
    second = chain.constant(np.zeros(SHAPE, np.float32))
    chain.tensors[second] = replace(chain.tensors[first], name="second")
    chain.ops[-1] = replace(chain.ops[-1], outputs=(first, second))
    halves = first, second
    gated = chain.op("MUL", halves[0], chain.op("LOGISTIC", halves[1], shape=SHAPE), shape=SHAPE, **NONE)
    return mean(chain, gated, 2, 3)


def joined_behind_curves(chain: Chain) -> int:
    """Two pictures that no op has in common before they are joined, each with an op of its own behind its TRANSPOSE."""
    scaled = chain.op("MUL", silu(chain, picture(chain)), chain.constant(np.float32([20])), shape=SHAPE, **NONE)
    both = chain.op("CONCATENATION", scaled, silu(chain, picture(chain)), shape=(1, 12, 4, 5), axis=1, **NONE)
    return chain.op("TANH", toy.transpose(chain, both, *CHANNELS_LAST), shape=(1, 4, 5, 12))


def part_of_what_is_joined(chain: Chain) -> int:
    """A mean for which one TRANSPOSE goes, beside a sum with another one's picture that is wanted as it is."""
    gated = silu(chain, picture(chain))
    total = chain.op("ADD", gated, silu(chain, picture(chain)), shape=SHAPE, **NONE)
    return chain.op("ADD", mean(chain, gated, 2, 3), mean(chain, total, 2, 3), shape=(1, 6), **NONE)


def there_and_back(chain: Chain) -> int:
    return chain.op("EXP", toy.transpose(chain, silu(chain, picture(chain)), *CHANNELS_LAST), shape=(1, 4, 5, 6))


def joined(chain: Chain) -> int:
    return chain.op("MUL", picture(chain), picture(chain), shape=SHAPE, **NONE)


@pytest.mark.parametrize(
    "build",
    [
        pooled,
        squeezed_and_excited,
        there_and_back,
        convolved_along_time,
        gated_by_convolutions,
        joined_and_split,
        joined_behind_curves,
        part_of_what_is_joined,
    ],
)
def test_no_transpose_is_left(build: Callable[[Chain], int]) -> None:
    chain = Chain()
    graph = chain.graph(build(chain))
    prepared = prepare(graph).graph
    assert "TRANSPOSE" in kinds(graph)
    assert "TRANSPOSE" not in kinds(prepared)
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


def test_two_transposes_become_one() -> None:
    chain = Chain()
    graph = chain.graph(joined(chain))
    prepared = prepare(graph).graph
    assert kinds(prepared).count("TRANSPOSE") == 1
    assert_same_function(graph, prepared)


def other_order(chain: Chain) -> int:
    return mean(chain, silu(chain, picture(chain)), 3)  # (channels, height) is what is wanted


def as_many(chain: Chain) -> int:
    return silu(chain, picture(chain))


def by_rows(chain: Chain) -> int:
    return chain.op("ADD", silu(chain, picture(chain)), chain.constant(noise(5, seed=4)), shape=SHAPE, **NONE)


@pytest.mark.parametrize("build", [other_order, as_many, by_rows])
def test_where_it_saves_nothing_the_graph_stays(build: Callable[[Chain], int]) -> None:
    chain = Chain()
    graph = chain.graph(build(chain))
    prepared = prepare(graph).graph
    assert kinds(prepared) == kinds(graph)
    assert_same_function(graph, prepared)

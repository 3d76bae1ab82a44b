"""Streams without means: the same function, without LayerNorm's MEAN and SUB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.centering import center
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds


def subtractions(graph: Graph) -> int:
    """How many norms still subtract a mean."""
    return kinds(graph).count("SUB")


@pytest.mark.parametrize("network", [toy.vision, toy.language])
def test_pre_norm_networks_lose_every_mean(network: Callable[[], Graph]) -> None:
    graph = network()
    assert subtractions(graph) == 5
    prepared = prepare(graph)
    assert subtractions(prepared.graph) == 0
    # The only MEAN left is the one over tokens.
    assert kinds(prepared.graph).count("MEAN") == (network is toy.language)
    assert_same_function(graph, prepared.graph)
    assert prepare(prepared.graph).graph is prepared.graph


def test_the_stream_has_no_mean() -> None:
    """Every sum of the pre-norm network, as LiteRT computes it."""
    graph = center(toy.vision())[0]
    sums = [op.outputs[0] for op in graph.ops if op.kind == "ADD" and graph.tensors[op.outputs[0]].shape == (1, 5, 16)]
    sums = [t for t in sums if any(graph.ops[i].kind == "ADD" for i in graph.consumers()[t])]
    assert len(sums) == 4
    values = xnnpack(graph, sums).run(samples(graph)[0])
    for t in sums:
        # 16 channels of float32 rounding (2^-24) at the size of the largest.
        assert np.abs(values[t].mean(axis=-1)).max() < 16 * 2.0**-24 * np.abs(values[t]).max()


def seen_by(read: Callable[[Chain, int], int]) -> Graph:
    """A linear layer and a norm, and something else that reads what the norm reads."""
    chain = Chain()
    x = toy.dense(chain, chain.input((1, 6, 16)), 16, 1)
    return chain.graph(toy.norm(chain, x, 3), read(chain, x))


READERS: dict[str, Callable[[Chain, int], int]] = {
    "a linear layer": lambda chain, x: toy.dense(chain, x, 4, 5),
    "the caller": lambda chain, x: x,
    "a function": lambda chain, x: chain.op("TANH", x),
    "a sum that nobody centers": lambda chain, x: toy.add(chain, x, chain.constant(noise(16))),
    "the mean's reader": lambda chain, x: chain.op("MEAN", x, chain.constant([2]), shape=(1, 6, 1), keepDims=True),
    "a product of channels": lambda chain, x: chain.op("MUL", x, chain.constant(noise(16)), **NONE),
    "a sum over other channels": lambda chain, x: toy.norm(chain, toy.reshape(chain, x, 1, 12, 8), 7),
    "a transposed norm": lambda chain, x: toy.norm(
        chain, toy.transpose(chain, toy.reshape(chain, x, 6, 4, 4), 0, 2, 1), 7
    ),
    "a slice of channels": lambda chain, x: chain.op(
        "SLICE", x, chain.constant([0, 0, 0]), chain.constant([1, 6, 8]), shape=(1, 6, 8)
    ),
    "a join of channels": lambda chain, x: toy.norm(
        chain, chain.op("CONCATENATION", x, x, shape=(1, 6, 32), axis=2, **NONE), 7
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_sees_the_mean_keeps_it(reader: str) -> None:
    graph = seen_by(READERS[reader])
    assert center(graph) == (graph, [])


def test_two_norms_of_one_stream_both_lose_it() -> None:
    graph = seen_by(lambda chain, x: toy.norm(chain, toy.reshape(chain, x, 6, 16), 7))
    centered, names = center(graph)
    assert (subtractions(centered), len(names)) == (0, 2)
    assert_same_function(graph, centered)


WRITERS: dict[str, Callable[[Chain, int], int]] = {
    "the caller": lambda chain, x: x,
    "a function": lambda chain, x: chain.op("GELU", toy.dense(chain, x, 16, 1), approximate=False),
    "a linear layer with RELU": lambda chain, x: toy.dense(chain, x, 16, 1, fusedActivationFunction="RELU"),
    "a norm": lambda chain, x: toy.add(chain, toy.dense(chain, x, 16, 1), toy.norm(chain, x, 8)),
    "a sum with RELU": lambda chain, x: chain.op(
        "ADD", toy.dense(chain, x, 16, 1), chain.constant(noise(16)), fusedActivationFunction="RELU"
    ),
    "one number for all": lambda chain, x: chain.op(
        "ADD", toy.dense(chain, x, 16, 1), chain.constant(noise(1)), **NONE
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_means_that_cannot_be_taken_out_stay(writer: str) -> None:
    chain = Chain()
    graph = chain.graph(toy.norm(chain, WRITERS[writer](chain, chain.input((1, 6, 16))), 3))
    centered, _ = center(graph)
    assert centered is graph


@pytest.mark.parametrize("kind", ["CONV_2D", "TRANSPOSE_CONV"])
def test_convolutions_write_streams(kind: str) -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    if kind == "CONV_2D":
        y = chain.op(kind, x, chain.constant(noise(8, 3, 3, 3) + 1), chain.constant(noise(8) + 1), **CONV)
    else:
        shape, w, b = chain.constant([1, 8, 8, 8]), chain.constant(noise(8, 2, 2, 3) + 1), chain.constant(noise(8) + 1)
        y = chain.op(kind, shape, w, x, b, padding="SAME", strideH=2, strideW=2, version=3, **NONE)
    graph = chain.graph(toy.norm(chain, y, 3))
    centered, _ = center(graph)
    assert subtractions(centered) == 0
    assert_same_function(graph, centered)


def test_rows_are_scaled_and_split() -> None:
    """A mask of tokens, a factor, and halves that are read apart."""
    chain = Chain()
    x = toy.dense(chain, chain.input((1, 6, 16)), 16, 1)
    x = chain.op("MUL", x, chain.input((1, 6, 1)), **NONE)
    x = chain.op("MUL", chain.constant(0.3), x, **NONE)
    first = chain.op("STRIDED_SLICE", x, chain.constant([0, 0, 0]), chain.constant([1, 3, 16]),
                     chain.constant([1, 1, 1]), shape=(1, 3, 16),
                     beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)  # fmt: skip
    second = chain.op("GATHER", x, chain.constant([4, 2]), shape=(1, 2, 16), axis=1, batchDims=0)
    graph = chain.graph(toy.norm(chain, first, 3), toy.norm(chain, second, 5))
    centered, _ = center(graph)
    assert subtractions(centered) == 0
    assert_same_function(graph, centered)


def test_a_table_that_is_weights_too_stays_whole() -> None:
    """Centered it would be in the file twice; a small one may."""

    def tied(words: int) -> Graph:
        chain = Chain()
        ids, table = chain.input((1, 3), dtype="int32"), chain.constant(noise(words, 16) + 1)
        x = chain.op("GATHER", table, ids, shape=(1, 3, 16), axis=0, batchDims=0)
        y = toy.norm(chain, x, 3)
        return chain.graph(chain.op("FULLY_CONNECTED", y, table, shape=(1, 3, words), keepNumDims=True,
                                    weightsFormat="DEFAULT", version=6, **NONE))  # fmt: skip

    small, large = tied(10), tied(1 << 15)
    assert subtractions(center(small)[0]) == 0
    assert_same_function(small, center(small)[0])
    assert center(large)[0] is large


def test_layers_that_share_weights_go_on_sharing_them() -> None:
    chain = Chain()
    x, w, b = chain.input((1, 6, 16)), chain.constant(noise(16, 16) + 1), chain.constant(noise(16) + 1)
    options = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}
    y = chain.op("FULLY_CONNECTED", x, w, b, shape=(1, 6, 16), version=6, **options)
    z = chain.op("FULLY_CONNECTED", toy.norm(chain, y, 3), w, b, shape=(1, 6, 16), version=6, **options)
    graph = chain.graph(toy.norm(chain, toy.add(chain, y, z), 5))
    centered, _ = center(graph)
    assert subtractions(centered) == 0
    assert_same_function(graph, centered)
    first, second = (op for op in centered.ops if op.kind == "FULLY_CONNECTED")
    assert first.inputs[1:] == second.inputs[1:]

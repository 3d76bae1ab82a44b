"""Gradients at layers' outputs where they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Quantization
from edgeqwt.scales.search_gradients import output_gradients
from tests.chain import NONE, Chain, noise, samples

pytest.importorskip("torch", reason="gradients need torch")

DENSE = {**NONE, "keepNumDims": False}


def two_layers(first: Array, second: Array) -> tuple[Graph, int]:
    """Two dense layers, a RELU in the first, and the first one's output."""
    chain = Chain()
    x = chain.input((1, first.shape[1]))
    relu = {**DENSE, "fusedActivationFunction": "RELU"}
    hidden = chain.op("FULLY_CONNECTED", x, chain.constant(first), -1, name="hidden", **relu)
    out = chain.op("FULLY_CONNECTED", hidden, chain.constant(second), -1, name="out", **DENSE)
    return chain.graph(out), hidden


def test_with_one_output_it_is_the_weights_magnitude() -> None:
    graph, hidden = two_layers(noise(5, 8), noise(1, 5, seed=1))
    gradients = output_gradients(graph, graph.outputs)
    assert gradients is not None
    weights = graph.tensors[graph.ops[1].inputs[1]].data
    assert weights is not None
    for sample in samples(graph):
        # Also where the RELU gave zero: the signs, +1 or -1, are squared away.
        np.testing.assert_allclose(gradients(sample)[hidden], np.abs(weights), rtol=1e-6)
        np.testing.assert_array_equal(gradients(sample)[graph.outputs[0]], 1)


def test_with_many_outputs_it_is_their_sum_of_squares_on_average() -> None:
    graph, hidden = two_layers(noise(5, 8), noise(3, 5, seed=1))
    gradients = output_gradients(graph, graph.outputs)
    assert gradients is not None
    weights = graph.tensors[graph.ops[1].inputs[1]].data
    assert weights is not None
    squares = np.square([gradients(sample)[hidden] for sample in samples(graph, 400)])
    # Each draw is (v . w)^2 with variance below 2 (w . w)^2: 800 of them err by sqrt(2 / 800) = 5 % (one sigma).
    np.testing.assert_allclose(squares.mean(axis=0)[0], np.square(weights).sum(axis=0), rtol=0.2)


def test_the_same_for_the_same_sample() -> None:
    graph, hidden = two_layers(noise(5, 8), noise(3, 5, seed=1))
    gradients = output_gradients(graph, graph.outputs)
    assert gradients is not None
    first, second = samples(graph, 2)
    once = gradients(first)[hidden]
    gradients(second)
    np.testing.assert_array_equal(gradients(first)[hidden], once)


def test_layers_that_the_outputs_do_not_feel_have_zeros() -> None:
    graph, hidden = two_layers(noise(5, 8), noise(3, 5, seed=1))
    gradients = output_gradients(graph, [hidden])
    assert gradients is not None
    found = gradients(samples(graph)[0])
    assert not found[graph.outputs[0]].any()
    np.testing.assert_array_equal(found[hidden], 1)


def test_an_op_without_gradients_leaves_the_others_theirs() -> None:
    """Two branches, one through int8, which torch has no kernel for."""
    chain = Chain()
    x = chain.input((1, 8))
    first, second = (chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 8, seed=s)), -1, **DENSE) for s in range(2))
    quantized = chain.op("QUANTIZE", second, dtype="int8", shape=(1, 3))
    q = Quantization.per_tensor(0.1, 0)
    chain.tensors[quantized] = replace(chain.tensors[quantized], quantization=q)
    back = chain.op("DEQUANTIZE", quantized, shape=(1, 3), version=2)
    graph = chain.graph(chain.op("ADD", first, back, shape=(1, 3), fusedActivationFunction="NONE"))
    gradients = output_gradients(graph, graph.outputs)
    assert gradients is not None
    found = gradients(samples(graph)[0])
    np.testing.assert_array_equal(found[first], 1)
    np.testing.assert_array_equal(found[second], 0)

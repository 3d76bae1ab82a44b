"""Equalization on networks where the best factors are known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.equalize import Equalization, equalize
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise

UNEVEN = np.array([1.0, 16.0, 0.25, 4.0], np.float32)


def two_layers(spread: Array) -> Graph:
    """x (1, 8) -> 4 channels, multiplied by `spread` -> divided again by the next layer's weights -> (1, 3)."""
    chain = Chain()
    x = chain.input((1, 8))
    first, second = noise(4, 8, seed=1) * spread[:, None], noise(3, 4, seed=2) / spread
    dense = {**NONE, "keepNumDims": False}
    y = chain.op("FULLY_CONNECTED", x, chain.constant(first), chain.constant((np.abs(noise(4, seed=3)) + 2) * spread),
                 **{**dense, "fusedActivationFunction": "RELU"})  # fmt: skip
    return chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(second), chain.constant(noise(3)), **dense))


def samples(graph: Graph) -> list[dict[int, Array]]:
    return [{graph.inputs[0]: noise(1, 8, seed=10 + i)} for i in range(64)]


def noise_of(graph: Graph) -> float:
    """Squared error of the outputs, lowered with 8-bit weights."""
    data = samples(graph)
    integer = lower(graph, observe(graph, data)[0], MinMax(), Precision())
    real, whole, total = xnnpack(graph), xnnpack(integer), 0.0
    for sample in data:
        wanted = real.run(sample)[graph.outputs[0]]
        found = whole.run(feed_as(integer, graph, sample))[integer.outputs[0]]
        total += float(np.square(to_real(integer, integer.outputs[0], found) - wanted).sum())
    return total


def test_channels_of_uneven_magnitude_are_made_even() -> None:
    graph = two_layers(UNEVEN)
    found = equalize(graph, samples(graph), observe(graph, samples(graph))[0], Equalization(), Precision())
    assert found.skipped == ""
    assert found.changed == 4
    assert found.predicted_db > 1
    # The spread was put in by hand, so it can be taken out: as good as the network without it.
    assert noise_of(found.graph) < 0.5 * noise_of(graph)
    assert noise_of(found.graph) < 1.5 * noise_of(two_layers(np.ones(4, np.float32)))
    x = samples(graph)[0]
    before, after = (xnnpack(g).run(x)[g.outputs[0]] for g in (graph, found.graph))
    # A dozen float32 operations per value, on terms a few times the result.
    np.testing.assert_allclose(after, before, rtol=0, atol=64 * 2.0**-24 * float(np.abs(before).max()))


def test_the_factors_do_not_depend_on_how_the_function_was_written() -> None:
    found = []
    for spread in (np.ones(4, np.float32), UNEVEN):
        graph = two_layers(spread)
        options = Equalization(steps=600)
        equalized = equalize(graph, samples(graph), observe(graph, samples(graph))[0], options, Precision()).graph
        weights = equalized.tensors[equalized.ops[1].inputs[1]].data
        assert weights is not None
        found.append(np.abs(weights).max(axis=0))
    # The problem is convex in the logarithms, so both descents end at one minimum; a common factor is free.
    ratio = found[0] / found[1]
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.05)


def test_it_says_why_it_does_nothing() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    graph = chain.graph(chain.op("FULLY_CONNECTED", x, chain.constant(noise(2, 4)), chain.constant(noise(2)),
                                 **NONE, keepNumDims=False))  # fmt: skip
    data = [{x: noise(1, 4, seed=i)} for i in range(4)]
    found = equalize(graph, data, observe(graph, data)[0], Equalization(), Precision())
    assert found.graph is graph
    assert found.skipped == "no channel is free to be multiplied"
    assert channels(graph).count == 2


def test_the_same_twice() -> None:
    graph = two_layers(UNEVEN)
    first, second = (
        equalize(graph, samples(graph), observe(graph, samples(graph))[0], Equalization(), Precision()).graph
        for _ in range(2)
    )
    for a, b in zip(first.tensors, second.tensors, strict=True):
        assert (a.data is None) == (b.data is None)
        if a.data is not None and b.data is not None:
            np.testing.assert_array_equal(a.data, b.data)

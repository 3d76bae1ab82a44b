"""Absorbing high biases where the right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.absorb import absorb
from edgeqwt.equalize.equalize import Equalization, equalize
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise

DENSE: dict[str, Any] = {**NONE, "keepNumDims": False}
RELU = {"fusedActivationFunction": "RELU"}
HIGH = np.array([30.0, 0.0, 20.0, -3.0], np.float32)


def dense(bias: Array) -> Graph:
    """x (1, 8) -> 4 channels with some biases, RELU -> (1, 3)."""
    chain = Chain()
    x = chain.input((1, 8))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8)), chain.constant(bias), **{**DENSE, **RELU})
    return chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(noise(3, 4, seed=1)), -1, **DENSE))


def convolutions(chain: Chain, *second: str, padding: str = "VALID", size: int = 3) -> Graph:
    """A convolution with high biases, ops in between, and a layer that reads them."""
    x = chain.input((1, 6, 6, 2))
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 2, scale=0.3)), chain.constant(HIGH), **{**CONV, **RELU})
    for kind in second:
        if kind == "MEAN":
            y = chain.op("MEAN", y, chain.constant(np.array([1, 2])), keepDims=True)
        elif kind == "MAX_POOL_2D":
            pool = {"padding": "VALID", "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, **NONE}
            y = chain.op("MAX_POOL_2D", y, **pool)
        elif kind == "PAD":
            y = chain.op("PAD", y, chain.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]])))
        elif kind == "RESHAPE":
            y = chain.op("RESHAPE", y, chain.constant(np.array([1, 144])), newShape=(1, 144))
            return chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(noise(3, 144)), -1, **DENSE))
        elif kind == "DEPTHWISE_CONV_2D":
            weights, bias = chain.constant(noise(1, 3, 3, 4)), chain.constant(noise(4))
            y = chain.op(kind, y, weights, bias, **{**DEPTHWISE, "padding": "VALID"})
            return chain.graph(y)
    weights = chain.constant(noise(3, size, size, 4, seed=2))
    return chain.graph(chain.op("CONV_2D", y, weights, chain.constant(noise(3)), **{**CONV, "padding": padding}))


def samples(graph: Graph, count: int = 64) -> list[dict[int, Array]]:
    """Some inputs."""
    (x,) = graph.inputs
    return [{x: noise(*graph.tensors[x].shape, seed=10 + i)} for i in range(count)]


def outputs(graph: Graph, data: list[dict[int, Array]]) -> Array:
    """Of every sample."""
    runner = xnnpack(graph)
    return np.stack([runner.run(sample)[graph.outputs[0]] for sample in data])


def check_same(graph: Graph, changed: Graph, data: list[dict[int, Array]]) -> None:
    """Both compute the same, up to float32's rounding of sums of terms some hundred times the step's size."""
    wanted = outputs(graph, data)
    magnitude = max(float(np.abs(wanted).max()), 30.0 * 144)
    np.testing.assert_allclose(outputs(changed, data), wanted, rtol=0, atol=16 * 2.0**-24 * magnitude)


def test_what_a_dense_layer_stays_above_goes_into_the_next_bias() -> None:
    graph = dense(HIGH)
    data = samples(graph)
    found = absorb(graph, data, 0.0)
    assert found.channels == 2
    hidden = graph.ops[0].outputs[0]
    values = np.concatenate([xnnpack(graph, [hidden]).run(sample)[hidden] for sample in data])
    least = values.min(axis=0)
    shift = np.where(least > 0, least, 0)
    assert (shift > 0).tolist() == [True, False, True, False]
    bias = found.graph.tensors[graph.ops[0].inputs[2]].data
    assert bias is not None
    np.testing.assert_allclose(bias, HIGH - shift, atol=1e-5)
    weights = graph.tensors[graph.ops[1].inputs[1]].data
    added = found.graph.tensors[found.graph.ops[1].inputs[2]].data
    assert weights is not None
    assert added is not None
    np.testing.assert_allclose(added, weights @ shift, rtol=1e-5)
    check_same(graph, found.graph, data)
    # Tensors keep their indices, so that samples fit both graphs.
    assert [t.name for t in found.graph.tensors[: len(graph.tensors)]] == [t.name for t in graph.tensors]


def test_the_margin_is_a_share_of_the_span() -> None:
    graph = dense(HIGH)
    data = samples(graph)
    hidden = graph.ops[0].outputs[0]
    values = np.concatenate([xnnpack(graph, [hidden]).run(sample)[hidden] for sample in data])
    shift = values.min(axis=0) - 0.25 * np.ptp(values, axis=0)
    bias = absorb(graph, data, 0.25).graph.tensors[graph.ops[0].inputs[2]].data
    assert bias is not None
    np.testing.assert_allclose(bias[[0, 2]], (HIGH - shift)[[0, 2]], atol=1e-5)
    # Far below anything that was seen, nothing is left to absorb.
    assert absorb(graph, data, 100.0).graph is graph


@pytest.mark.parametrize(
    ("second", "padding", "size"),
    [
        ((), "VALID", 3),
        ((), "SAME", 1),
        (("MEAN",), "SAME", 3),  # one position: what padding there is, is the same for all
        (("MAX_POOL_2D",), "VALID", 2),
        (("RESHAPE",), "VALID", 1),
        (("DEPTHWISE_CONV_2D",), "VALID", 1),
        (("MAX_POOL_2D", "MEAN"), "SAME", 1),
    ],
)
def test_shifts_pass_to_layers_behind(second: tuple[str, ...], padding: str, size: int) -> None:
    graph = convolutions(Chain(), *second, padding=padding, size=size)
    data = samples(graph, 16)
    found = absorb(graph, data, 0.1)
    assert found.channels == 2
    check_same(graph, found.graph, data)


@pytest.mark.parametrize(("second", "padding", "size"), [((), "SAME", 3), (("PAD",), "VALID", 3)])
def test_zeros_around_a_map_are_not_shifted(second: tuple[str, ...], padding: str, size: int) -> None:
    graph = convolutions(Chain(), *second, padding=padding, size=size)
    assert absorb(graph, samples(graph, 4), 0.1).graph is graph


def test_other_readers_forbid_it() -> None:
    chain = Chain()
    x = chain.input((1, 8))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8)), chain.constant(HIGH), **{**DENSE, **RELU})
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(3, 4)), -1, **DENSE)
    for outs in ((z, y), (z, chain.op("EXP", y))):
        graph = chain.graph(*outs)
        assert absorb(graph, samples(graph, 4), 0.1).graph is graph


def test_a_bias_that_others_read_stays_for_them() -> None:
    chain = Chain()
    x, bias = chain.input((1, 8)), chain.constant(HIGH)
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8)), bias, **{**DENSE, **RELU})
    z = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8, seed=5)), bias, **DENSE)
    out = chain.op("FULLY_CONNECTED", y, chain.constant(noise(4, 4, seed=6)), bias, **DENSE)
    graph = chain.graph(chain.op("ADD", out, z, **NONE))
    data = samples(graph)
    found = absorb(graph, data, 0.1)
    assert found.channels == 2
    check_same(graph, found.graph, data)


def test_high_biases_cost_less_at_8_bits() -> None:
    graph = dense(HIGH)
    data = samples(graph)
    found = absorb(graph, data, 0.1)
    quality = {}
    for name, g in (("before", graph), ("after", found.graph)):
        integer = lower(g, observe(g, data)[0], MinMax(), Precision())
        quality[name] = layer_quality(graph, {"": integer}, data)[""].worst_db
    # The step of the hidden layer falls from about 40 / 255 to 12 / 255, which is 10 dB; other roundings stay.
    assert quality["after"] > quality["before"] + 3


def test_equalization_absorbs_when_asked() -> None:
    graph = dense(HIGH)
    data = samples(graph)
    statistics = observe(graph, data)[0]
    for absorbing, channels in ((False, 0), (True, 2)):
        options = Equalization(steps=20, absorb=absorbing)
        found = equalize(graph, data, statistics, options, Precision())
        assert found.absorbed == channels
        assert found.skipped == "" or not absorbing
        check_same(graph, found.graph, data)

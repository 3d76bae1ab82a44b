"""The mean square of what each weight is multiplied with, measured with kernels that pick one input each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.importance import weight_importance
from tests.chain import CONV, NONE, Chain, noise

DEPTHWISE = {**CONV, "depthMultiplier": 2}


def convolution() -> Graph:
    """Stride 2, SAME padding."""
    chain = Chain()
    x = chain.input((1, 7, 6, 3), "x")
    weights = chain.constant(noise(4, 3, 3, 3), "weights")
    bias = chain.constant(np.zeros(4, np.float32), "bias")
    return chain.graph(chain.op("CONV_2D", x, weights, bias, name="y", **{**CONV, "strideH": 2, "strideW": 2}))


def depthwise() -> Graph:
    """Two output channels per input channel."""
    chain = Chain()
    x = chain.input((1, 5, 6, 3), "x")
    weights = chain.constant(noise(1, 3, 2, 6), "weights")
    bias = chain.constant(np.zeros(6, np.float32), "bias")
    return chain.graph(chain.op("DEPTHWISE_CONV_2D", x, weights, bias, name="y", **DEPTHWISE))


def dense() -> Graph:
    """Five features."""
    chain = Chain()
    x = chain.input((1, 5), "x")
    weights = chain.constant(noise(4, 5), "weights")
    return chain.graph(chain.op("FULLY_CONNECTED", x, weights, -1, name="y", keepNumDims=False, **NONE))


@pytest.mark.parametrize("make", [convolution, depthwise, dense])
def test_each_weight_alone_gives_an_output_of_that_power(make: Callable[[], Graph]) -> None:
    graph = make()
    weight = slots(graph.ops[0]).weight
    inputs = [{graph.inputs[0]: noise(*graph.tensors[graph.inputs[0]].shape, seed=seed)} for seed in range(3)]
    found = np.broadcast_to(weight_importance(graph, inputs, threads=2)[weight], graph.tensors[weight].shape)
    axis = 3 if graph.ops[0].kind == "DEPTHWISE_CONV_2D" else 0
    powers = np.zeros(found.shape)
    for k in np.ndindex(found.shape):
        one = np.zeros(found.shape, np.float32)
        one[k] = 1
        runner = xnnpack(graph.with_tensors({weight: replace(graph.tensors[weight], data=one)}))
        outputs: list[Array] = [runner.run(sample)[graph.outputs[0]][..., k[axis]] for sample in inputs]
        powers[k] = np.mean(np.square(np.stack(outputs, dtype=np.float64)))
    # float32 outputs; the scale of all is free.
    np.testing.assert_allclose(found / found.mean(), powers / powers.mean(), rtol=1e-5)


def test_at_most_so_many_samples_are_read() -> None:
    graph = dense()
    x = graph.inputs[0]
    one, two = ({x: noise(1, 5, seed=seed)} for seed in range(2))
    weight = slots(graph.ops[0]).weight
    first = weight_importance(graph, iter([one, two]), limit=1)[weight]
    assert (first == weight_importance(graph, [one])[weight]).all()
    assert (first != weight_importance(graph, [one, two])[weight]).any()

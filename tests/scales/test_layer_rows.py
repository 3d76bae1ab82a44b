"""Rows of layers' inputs: with them and the weights, the layers' outputs as the interpreter computes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.importance import every
from edgeqwt.scales.layer_rows import POSITIONS, LayerRows, searchable
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise, samples


def network() -> Graph:
    """A strided convolution, a depthwise one and two dense layers that share their weights."""
    chain = Chain()
    x = chain.input((1, 40, 36, 3), "x")
    bias = chain.constant(noise(4, seed=2))
    relu6 = {"strideH": 2, "fusedActivationFunction": "RELU6"}
    x = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 3)), bias, name="conv", **{**CONV, **relu6})
    x = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 4, seed=1)), bias, name="depthwise", **DEPTHWISE)
    x = chain.op("MEAN", x, chain.constant(np.array([1, 2])), name="mean", keepDims=False)
    shared = chain.constant(noise(4, 4, seed=3))
    x = chain.op("FULLY_CONNECTED", x, shared, -1, name="dense", keepNumDims=False, **NONE)
    x = chain.op("FULLY_CONNECTED", x, shared, -1, name="again", keepNumDims=False, **NONE)
    last = chain.op("FULLY_CONNECTED", x, chain.constant(noise(2, 4)), -1, name="last", keepNumDims=False, **NONE)
    return chain.graph(last)


def at_rows(graph: Graph, i: int, values: Array) -> Array:
    """A layer's output at the positions that rows are taken of, shape (positions, channels)."""
    step = every(graph, graph.ops[i], POSITIONS)
    taken = values[:, ::step, ::step] if values.ndim == 4 else values
    return taken.reshape(-1, values.shape[-1])


def test_layers_compute_what_the_graph_computes() -> None:
    graph, ops = network(), searchable(network())
    assert [graph.tensors[graph.ops[i].outputs[0]].name for i in ops] == ["conv", "depthwise", "last"]
    inputs = samples(graph, 3)
    runner = xnnpack(graph, [slots(graph.ops[i]).output for i in ops])
    values = [runner.run(x) for x in inputs]
    with ActivationStore() as store:
        rows = LayerRows(graph, ops, iter(inputs), None, store)
        for i in ops:
            layer, out = rows.layer(i), slots(graph.ops[i]).output
            wanted = np.concatenate([at_rows(graph, i, v[out]) for v in values])
            # Sums of up to 27 products of order 1 in float32.
            np.testing.assert_allclose(layer.output(layer.x, layer.weights), wanted, atol=2e-5)
            assert layer.channels == wanted.shape[1]
            assert len(wanted) <= 3 * 2 * POSITIONS


def test_importance_is_the_squared_gradient_at_the_same_positions() -> None:
    graph, ops = network(), searchable(network())
    inputs = samples(graph, 2)
    outputs = {i: slots(graph.ops[i]).output for i in ops}

    def gradients(sample: Mapping[int, Array]) -> Mapping[int, Array]:
        # Not a real gradient: numbers that tell samples, positions and channels apart.
        start = float(sample[graph.inputs[0]].flat[0])
        return {t: start + np.arange(np.prod(s := graph.tensors[t].shape)).reshape(s) / 100 for t in outputs.values()}

    with ActivationStore() as store:
        rows = LayerRows(graph, ops, inputs, gradients, store)
        for i, t in outputs.items():
            wanted = np.concatenate([at_rows(graph, i, np.square(gradients(x)[t])) for x in inputs])
            np.testing.assert_allclose(rows.layer(i).importance, wanted, rtol=1e-6)

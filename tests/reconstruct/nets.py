"""A small residual network whose 4-bit weights leave something to learn."""

from __future__ import annotations

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, NONE, Chain, noise

FOUR = Precision(weight_bits=4)
RELU = {"fusedActivationFunction": "RELU"}


def residual() -> Graph:
    """Convolution, a block of two with a way around it, mean, dense layer, softmax: 4 linear ops in 3 blocks."""
    chain = Chain()
    x = chain.input((1, 8, 8, 3), "image")

    def conv(x: int, channels: int, seed: int, name: str, **options: str) -> int:
        filters = chain.constant(noise(8, 3, 3, channels, seed=seed, scale=0.2), f"{name}/filter")
        bias = chain.constant(noise(8, seed=seed + 1, scale=0.1), f"{name}/bias")
        return chain.op("CONV_2D", x, filters, bias, name=name, **{**CONV, **options})

    x = conv(x, 3, 1, "first", **RELU)
    y = conv(conv(x, 8, 3, "second", **RELU), 8, 5, "third")
    x = chain.op("ADD", x, y, name="sum", **RELU)
    x = chain.op("MEAN", x, chain.constant(np.array([1, 2], np.int32)), name="mean", keepDims=False)
    weights, bias = chain.constant(noise(4, 8, seed=7), "weights"), chain.constant(noise(4, seed=8), "offsets")
    logits = chain.op("FULLY_CONNECTED", x, weights, bias, name="logits", keepNumDims=False, **NONE)
    return chain.graph(chain.op("SOFTMAX", logits, name="classes", beta=1.0))


def inputs(graph: Graph, count: int, seed: int = 0) -> list[dict[int, Array]]:
    """Random images."""
    rng = np.random.default_rng(seed)
    return [{graph.inputs[0]: rng.normal(size=(1, 8, 8, 3)).astype(np.float32)} for _ in range(count)]


def lowered(graph: Graph, samples: list[dict[int, Array]]) -> Graph:
    """With 4-bit weights, rounded to nearest."""
    return lower(graph, observe(graph, samples, threads=1)[0], MinMax(), FOUR)

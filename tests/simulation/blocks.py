"""A transformer of two pre-norm blocks with one head, small and seeded, as a prepared float graph."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph
from tests.chain import NONE, Chain, noise

TOKENS, WIDTH, CLASSES = 6, 8, 5
DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": True}


class _Network(Chain):
    seed = 0

    def dense(self, x: int, inputs: int, outputs: int) -> int:
        self.seed += 1
        weights = self.constant(noise(outputs, inputs, seed=self.seed, scale=inputs**-0.5))
        return self.op("FULLY_CONNECTED", x, weights, self.constant(noise(outputs, seed=99, scale=0.1)), **DENSE)

    def norm(self, x: int) -> int:
        square = self.op("MUL", x, x, **NONE)
        mean = self.op("MEAN", square, self.constant(np.array([2])), keepDims=True)
        root = self.op("RSQRT", self.op("ADD", mean, self.constant(np.float32([1e-3])), **NONE))
        gamma = np.exp(noise(WIDTH, seed=7))  # channels of different ranges, which norms have
        return self.op("MUL", self.op("MUL", x, root, **NONE), self.constant(gamma), **NONE)

    def block(self, x: int) -> int:
        y = self.norm(x)
        query, key, value = (self.dense(y, WIDTH, WIDTH) for _ in range(3))
        scores = self.op("BATCH_MATMUL", query, key, adjY=True)
        mixed = self.op("BATCH_MATMUL", self.op("SOFTMAX", scores, beta=1.0), value)
        x = self.op("ADD", x, self.dense(mixed, WIDTH, WIDTH), **NONE)
        wide = self.op("GELU", self.dense(self.norm(x), WIDTH, 2 * WIDTH), approximate=False)
        return self.op("ADD", x, self.dense(wide, 2 * WIDTH, WIDTH), **NONE)


def graph() -> Graph:
    """Tokens (1, 6, 8), "x", to the logits of 5 classes."""
    net = _Network()
    x = net.dense(net.input((1, TOKENS, WIDTH), "x"), WIDTH, WIDTH)
    for _ in range(2):
        x = net.block(x)
    mean = net.op("MEAN", net.norm(x), net.constant(np.array([1])), keepDims=False)
    return net.graph(net.dense(mean, WIDTH, CLASSES))


def modulated() -> Graph:
    """Tokens (1, 6, 8), "x", and a condition (1, 1, 8), "c", which shifts and scales norms, to tokens (1, 6, 5)."""
    net = _Network()
    x, condition = net.input((1, TOKENS, WIDTH), "x"), net.input((1, 1, WIDTH), "c")
    x = net.dense(x, WIDTH, WIDTH)
    for _ in range(2):
        x = net.op("ADD", x, net.dense(_shifted(net, x, condition), WIDTH, WIDTH), **NONE)
    return net.graph(net.dense(_shifted(net, x, condition), WIDTH, CLASSES))


def _shifted(net: _Network, x: int, condition: int) -> int:
    scale, shift = (net.dense(condition, WIDTH, WIDTH) for _ in range(2))
    return net.op("ADD", net.op("MUL", net.norm(x), scale, **NONE), shift, **NONE)

"""The op that a linear layer is written as, on layers that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qwt.linear_op import NO_SUCH_KIND, OTHER_SIZE, Cost, LinearLayer, added, cost, obstacle, rows

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import slots
from edgeqwt.runtime.boundary import graph_feed, real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.activations import affine
from tests.chain import CONV, Chain, noise
from tests.compensation.nets import KINDS, made, probed, stored, transpose_conv

STANDS = [name for name in KINDS if not name.startswith("transpose")]


def strided(padding: str) -> Callable[[], Graph]:
    def make() -> Graph:
        chain = Chain()
        x, w, b = chain.input((1, 7, 8, 4)), chain.constant(noise(6, 3, 3, 4, scale=0.3)), chain.constant(noise(6))
        return chain.graph(chain.op("CONV_2D", x, w, b, **{**CONV, "padding": padding, "strideH": 2, "strideW": 2}))

    return make


MAKERS = {**{name: KINDS[name] for name in STANDS}, "strided": strided("SAME")}


@pytest.mark.parametrize("name", MAKERS)
def test_adds_what_it_should(name: str) -> None:
    case = made(MAKERS[name](), count=6)
    graph, op = case.integer, case.integer.ops[0]
    s = slots(op)
    assert obstacle(graph, op) == ""
    inputs, outputs = graph.tensors[s.data].shape[-1], graph.tensors[s.output].shape
    layer = LinearLayer(noise(outputs[-1], inputs, seed=7, scale=0.2).astype(float), noise(outputs[-1], seed=8) / 4)
    feeds = [graph_feed(graph, sample) for sample in case.samples]
    x = graph.tensors[s.data].quantization
    assert x is not None
    plain = np.stack([probed(graph, 0, feed[s.data]).astype(np.float64) for feed in feeds])
    seen = rows(op, np.stack([real(feed[s.data], x) for feed in feeds]).astype(np.float64))
    exact = (seen @ layer.matrix.T + layer.offset).reshape(plain.shape)
    before, correction = (affine(v.min(), v.max()) for v in (plain, exact))
    made_graph = added(graph, 0, layer, before, correction)
    assert made_graph is not None
    kind = "FULLY_CONNECTED" if op.kind == "FULLY_CONNECTED" else "CONV_2D"
    assert [o.kind for o in made_graph.ops] == [op.kind, kind, "ADD"]
    assert made_graph.tensors[s.output] is graph.tensors[s.output]
    q = graph.tensors[s.output].quantization
    assert q is not None
    wanted = stored(plain + exact, op.activation, q)
    # y' and c are rounded once or twice, each time by half a step; weights of 8 bits are off by half a step
    # at most, and meet inputs below 4; ADD rounds to 0.76 of a step.
    weights = np.abs(layer.matrix).max() / 127 / 2 * 4 * inputs
    steps = float(before.scale[0] + correction.scale[0])
    allowed = (steps + weights) / float(q.scale[0]) + 0.76
    for runner in RUNNERS.values():
        interpreter = runner(made_graph)
        for feed, integers in zip(feeds, wanted, strict=True):
            assert np.abs(interpreter.run(feed)[s.output] - integers).max() <= allowed


def test_where_none_can_stand() -> None:
    for make, reason in ((strided("VALID"), OTHER_SIZE), (transpose_conv, NO_SUCH_KIND)):
        graph = made(make(), count=2).integer
        assert obstacle(graph, graph.ops[0]) == reason


def test_scales_that_kernels_refuse() -> None:
    graph = made(KINDS["dense"](), count=2).integer
    layer = LinearLayer(np.ones((8, 24)), np.zeros(8))
    assert added(graph, 0, layer, affine(-6, 6), affine(-4, 4)) is not None
    assert added(graph, 0, layer, affine(-6, 6), affine(-1e-6, 1e-6)) is None  # the layer's multiplier
    assert added(graph, 0, layer, affine(-1e-6, 1e-6), affine(-4, 4)) is None  # the op's
    assert added(graph, 0, layer, affine(-1e6, 1e6), affine(-4, 4)) is None  # the sum's


def test_cost() -> None:
    graph = made(strided("SAME")(), count=2).integer
    # 4 inputs, 6 outputs: 24 weights, 6 biases of 4 bytes; 4 x 4 positions.
    assert cost(graph, graph.ops[0]) == Cost(ops=2, bytes=24 + 24, macs=4 * 4 * 24)
    assert cost(graph, graph.ops[0]) + Cost(1, 2, 3) == Cost(3, 50, 387)

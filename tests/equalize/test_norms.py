"""Means that are subtracted whatever the channels' factors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.equalize import Equalization, equalize
from edgeqwt.equalize.factors import FIXED
from edgeqwt.equalize.norms import opened
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.quantize.islands import islands, widened
from edgeqwt.quantize.lower import lower
from edgeqwt.quantize.precision import Precision, Widths
from edgeqwt.quantize.ranges import MinMax
from edgeqwt.quantize.widths import copies, planned
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import xnnpack
from tests.chain import Chain, samples
from tests.equalize.same import check_alike, check_same
from tests.prepare import toy

OUTLIERS = (3, 11)


def post_norm(factor: float = 1.0) -> Graph:
    """Two norms with a residual sum between, in which two channels are larger than the others and say as much."""
    chain = Chain()
    x = chain.input((1, toy.TOKENS, toy.WIDTH))
    y = toy.norm(chain, toy.dense(chain, chain.op("RELU", toy.dense(chain, x, toy.WIDTH, 1)), toy.WIDTH, 3), 2)
    hidden = chain.op("RELU", toy.dense(chain, y, toy.WIDTH, 4))
    z = toy.norm(chain, toy.add(chain, toy.dense(chain, hidden, toy.WIDTH, 6), y), 8)
    graph = chain.graph(toy.dense(chain, z, toy.CLASSES, 10))
    first, second = (op.inputs[1] for op in graph.ops if op.kind == "MUL" and graph.tensors[op.inputs[1]].is_constant)
    reader = next(op.inputs[1] for op in graph.ops if op.inputs[0] == y and op.kind == "FULLY_CONNECTED")
    changes = {}
    for t, power in ((first, 1), (second, -1), (reader, -1)):
        data = np.array(graph.tensors[t].data)
        data[..., OUTLIERS] *= factor**power
        changes[t] = replace(graph.tensors[t], data=data)
    return prepare(graph.with_tensors(changes)).graph


def squared_error(graph: Graph, precision: Precision, data: list[dict[int, Array]]) -> float:
    """Of the outputs, when the graph is lowered."""
    integer = lower(graph, observe(graph, data)[0], MinMax(), precision, {})
    real, whole, total = xnnpack(graph), xnnpack(integer), 0.0
    for sample in data:
        out = integer.outputs[0]
        found = to_real(integer, out, whole.run(graph_feed(integer, sample))[out])
        total += float(np.square(found - real.run(sample)[graph.outputs[0]]).sum())
    return total


def test_the_mean_is_subtracted_as_before_and_leaves_channels_free() -> None:
    graph = post_norm()
    found = opened(graph)
    (spread,) = found.spread  # the first norm's mean was taken out of the weights before it
    assert len(found.graph.ops) == len(graph.ops) + 1
    assert {op.kind for op in found.graph.ops} >= {"SUB"}
    assert "MEAN" not in {op.kind for op in found.graph.ops}
    assert [t.name for t in found.graph.tensors[: len(graph.tensors)]] == [t.name for t in graph.tensors]
    ones: dict[int, Array] = {t: np.ones(1) for op in graph.ops for t in op.outputs}
    check_alike(graph, found.graph, ones)
    stream = found.spread[spread]
    assert (channels(graph).of[stream] == FIXED).all()
    _, free, _ = check_same(found.graph)
    assert len(np.unique(free.of[stream])) == toy.WIDTH
    assert (free.of[stream] > FIXED).all()


def test_a_graph_without_such_means_stays() -> None:
    graph = prepare(toy.vision()).graph
    found = opened(graph)
    assert not found.spread
    assert found.graph.ops == graph.ops


@pytest.mark.parametrize("wide", [False, True])
def test_outliers_of_a_stream_go_away(wide: bool) -> None:
    graph = post_norm(30.0)
    precision = widened(graph, Precision(), islands(graph)) if wide else Precision()
    data = samples(graph, 16)
    statistics = observe(graph, data)[0]
    found = equalize(graph, data, statistics, Equalization(), precision)
    kept = equalize(graph, data, statistics, Equalization(norms=False), precision)
    assert found.precision is not None
    assert len(kept.graph.ops) == len(graph.ops)
    assert len(found.graph.ops) == len(graph.ops) + 1
    # Two channels of sixteen that are 30 times as large as the others take 5 of 8 bits from those wherever the step
    # is one for all: in the whole stream, or where an island leaves it.
    assert found.predicted_db > kept.predicted_db + 4
    before, after = squared_error(kept.graph, precision, data), squared_error(found.graph, found.precision, data)
    assert after < before / 2
    # The model says what happens: within a factor of two, at some hundred rounded values.
    assert abs(10 * np.log10(squared_error(graph, precision, data) / after) - found.predicted_db) < 3


def test_norms_stay_where_nothing_is_gained() -> None:
    graph = post_norm()
    found = equalize(graph, samples(graph, 8), observe(graph, samples(graph, 8))[0], Equalization(), Precision(8, 16))
    assert len(found.graph.ops) == len(graph.ops)


def test_new_activations_are_as_wide_as_what_they_enter() -> None:
    graph = post_norm()
    found = opened(graph)
    (spread,) = found.spread
    (sub,) = [op.outputs[0] for op in graph.ops if op.kind == "SUB"]
    given = Precision(layers={graph.tensors[sub].name: Widths(4, 16)})
    precision = found.precision(given)
    assert precision.layers == {**given.layers, found.graph.tensors[spread].name: Widths(4, 16)}
    assert (spread, 8) not in copies(found.graph, planned(found.graph, precision))
    assert found.precision(Precision()) == Precision()

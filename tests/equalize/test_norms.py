"""Means that are subtracted whatever the channels' factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.equalize import Equalization, equalize
from edgeqwt.equalize.factors import FIXED
from edgeqwt.equalize.norms import needed, opened
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.plan import copies, planned
from edgeqwt.widths.precision import Precision, Widths
from edgeqwt.widths.regions import regions, widened
from tests.chain import Chain, samples
from tests.equalize.same import check_alike, check_same, squared_error
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


def test_the_mean_is_subtracted_as_before_and_leaves_channels_free() -> None:
    graph = post_norm()
    found = opened(graph)
    (spread,) = found.spread  # the first norm's mean was taken out of the weights before it
    assert len(found.graph.ops) == len(graph.ops) + 1
    assert "SUB" in {op.kind for op in found.graph.ops}
    assert "MEAN" not in {op.kind for op in found.graph.ops}
    assert [t.name for t in found.graph.tensors[: len(graph.tensors)]] == [t.name for t in graph.tensors]
    check_alike(graph, found.graph, same(graph, found.graph))
    stream = found.spread[spread]
    assert (channels(graph).of[stream] == FIXED).all()
    _, free, _ = check_same(found.graph)
    assert len(np.unique(free.of[stream])) == toy.WIDTH
    assert (free.of[stream] > FIXED).all()


def same(graph: Graph, other: Graph) -> dict[int, Array]:
    """Factors of 1 for every activation of two graphs, but those of squares, whose sides share the division."""
    sides = {t for op in other.ops if op.kind == "BATCH_MATMUL" and op.inputs[0] == op.inputs[1] for t in op.inputs}
    producers = other.producers()
    sides |= {other.ops[producers[t]].inputs[0] for t in sides}
    return {t: np.ones(1) for op in graph.ops for t in op.outputs if t not in sides}


@pytest.mark.parametrize("make", [toy.vision, toy.language, post_norm], ids=lambda make: str(make.__name__))
def test_squares_are_of_one_tensor_and_take_up_factors(make: Callable[[], Graph]) -> None:
    graph = prepare(make()).graph
    found = opened(graph)
    norms = sum(op.kind == "RSQRT" for op in graph.ops)
    assert found.squares == norms
    check_alike(graph, found.graph, same(graph, found.graph))
    shorter, _ = needed(found.graph, Precision())
    assert len(shorter.ops) == len(found.graph.ops) - norms
    other, free, factors = check_same(shorter)
    products = [op for op in shorter.ops if op.kind == "BATCH_MATMUL" and op.inputs[0] == op.inputs[1]]
    assert len(products) == norms
    assert all((free.of[op.inputs[0]] == FIXED).all() for op in products)
    assert len(other.ops) == len(shorter.ops)
    assert (factors != 1).sum() > norms


@pytest.mark.requires("tflite_micro")
def test_the_product_of_a_tensor_with_itself_runs_in_every_runtime() -> None:
    graph, _ = needed(opened(post_norm()).graph, Precision())
    data = samples(graph, 4)
    integer = lower(graph, observe(graph, data)[0], MinMax(), Precision())
    twice = [op for op in integer.ops if op.kind == "BATCH_MATMUL" and op.inputs[0] == op.inputs[1]]
    assert len(twice) == 2
    runners = [RUNNERS[name](integer) for name in ("xnnpack", "reference", "tflm")]
    for sample in data:
        first, *others = (r.run(graph_feed(integer, sample))[integer.outputs[0]].astype(int) for r in runners)
        for other in others:  # each op may differ by a step
            assert np.abs(first - other).max() <= 4


def test_a_graph_without_norms_stays() -> None:
    chain = Chain()
    graph = chain.graph(toy.dense(chain, chain.input((1, 3, toy.WIDTH)), 4, 1))
    found = opened(graph)
    assert (found.spread, found.squares) == ({}, 0)
    assert found.graph.ops == graph.ops
    assert needed(graph, Precision())[0].ops == graph.ops


@pytest.mark.parametrize("wide", [False, True])
def test_outliers_of_a_stream_go_away(wide: bool) -> None:
    graph = post_norm(30.0)
    precision = widened(graph, Precision(), regions(graph)) if wide else Precision()
    data = samples(graph, 16)
    statistics = observe(graph, data)[0]
    found = equalize(graph, data, statistics, Equalization(), precision)
    kept = equalize(graph, data, statistics, Equalization(norms=False), precision)
    assert found.precision is not None
    assert len(kept.graph.ops) == len(graph.ops)
    assert len(found.graph.ops) == len(graph.ops) + 1 - 2  # one mean's MUL; two RESHAPEs of squares
    # Two channels of sixteen that are 30 times as large as the others take 5 of 8 bits from those wherever the step
    # is one for all: in the whole stream, or where a region leaves it.
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


def test_widths_of_what_is_no_longer_computed_are_forgotten() -> None:
    graph = post_norm()
    found = opened(graph)
    sides = [t for op in graph.ops if op.kind == "BATCH_MATMUL" for t in op.inputs]
    given = Precision(layers={graph.tensors[t].name: Widths(8, 16) for t in sides})
    shorter, precision = needed(found.graph, found.precision(given))
    assert {*precision.layers} < {*given.layers}
    planned(shorter, precision)  # names of tensors that nothing computes would be an error


@pytest.mark.parametrize("make", [toy.vision, post_norm])
def test_tensors_keep_their_indices(make: Callable[[], Graph]) -> None:
    found = opened(prepare(make()).graph)
    shorter, _ = needed(found.graph, Precision())
    assert len(shorter.ops) < len(found.graph.ops)
    assert shorter.tensors == found.graph.tensors
    assert (shorter.inputs, shorter.outputs) == (found.graph.inputs, found.graph.outputs)

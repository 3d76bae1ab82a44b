"""Observing a float graph: every activation, whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.observe import float_activations, observe
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, NONE, Chain, noise, samples


def small_net() -> Graph:
    """A convolution, a branch, an integer output."""
    chain = Chain()
    x, w = chain.input((1, 6, 6, 3), name="image"), chain.constant(noise(4, 3, 3, 3))
    y = chain.op("CONV_2D", x, w, chain.constant(noise(4)), name="features", **CONV)
    z = chain.op("MUL", y, chain.constant(8.0), name="scaled", **NONE)
    best = chain.op("ARG_MAX", z, chain.constant([3]), dtype="int32", outputType="INT32")
    return chain.graph(z, best)


def test_float_tensors_are_observed_and_nothing_else() -> None:
    graph = small_net()
    assert [graph.tensors[t].name for t in float_activations(graph)] == ["image", "features", "scaled"]


def test_statistics_are_those_of_a_run() -> None:
    graph = small_net()
    feeds = samples(graph, 5)
    statistics, count = observe(graph, feeds)
    runner, wanted = xnnpack(graph, float_activations(graph)), float_activations(graph)
    runs = [{**feed, **runner.run(feed)} for feed in feeds]
    assert count == 5
    for t in wanted:
        values = np.stack([run[t] for run in runs])
        assert (statistics[t].low, statistics[t].high) == (values.min(), values.max())
        counts = statistics[t].counts
        assert counts is not None
        assert int(counts.sum()) + statistics[t].zeros == values.size


def test_number_of_threads_does_not_matter() -> None:
    graph = small_net()
    # Samples of growing magnitude, so that the histograms of different threads have different reaches.
    feeds = [{t: v * np.float32(1.7**i) for t, v in feed.items()} for i, feed in enumerate(samples(graph, 24))]
    alone, _ = observe(graph, feeds, threads=1)
    for threads in (2, 3, 5):
        together, count = observe(graph, feeds, threads=threads)
        assert count == 24
        for t, expected in alone.items():
            got = together[t]
            assert (got.low, got.high, got.reach, got.zeros) == (
                expected.low,
                expected.high,
                expected.reach,
                expected.zeros,
            )
            np.testing.assert_array_equal(got.folds, expected.folds)


def test_samples_are_read_one_by_one() -> None:
    graph = small_net()
    feeds, read = samples(graph, 64), 0

    def stream() -> object:
        nonlocal read
        for feed in feeds:
            read += 1
            yield feed
            assert read <= 64

    _, count = observe(graph, stream(), threads=2)  # type: ignore[arg-type]
    assert count == read == 64


def test_a_tensor_that_is_not_finite_is_named() -> None:
    chain = Chain()
    x = chain.input((2, 2))
    graph = chain.graph(chain.op("LOG", x, name="logits"))
    feeds = [{x: np.ones((2, 2), np.float32)}, {x: np.zeros((2, 2), np.float32)}]
    with pytest.raises(InputError, match="tensor 'logits': a value is NaN or infinite"):
        observe(graph, feeds)

"""Statistics weighted by squared gradients."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.autograd.weighted import FLOOR, weighted
from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from edgeqwt.quantize.ranges import Mse
from tests.chain import NONE, Chain, noise


def gated() -> Graph:
    """Half of what is computed is multiplied by zero."""
    chain = Chain()
    x = chain.input((1, 8))
    y = chain.op("TANH", x, name="y")
    return chain.graph(chain.op("MUL", y, chain.constant([1.0] * 4 + [0.0] * 4), name="out", **NONE))


def test_what_the_outputs_do_not_feel_counts_by_the_floor_alone() -> None:
    graph = gated()
    x, y = graph.inputs[0], graph.ops[0].outputs[0]
    sample = np.array([[0.1, 0.2, 0.3, 0.4, 3.0, 3.0, 3.0, 3.0]], np.float32)
    statistics, _ = observe(graph, [{x: sample}])
    found = weighted(graph, [{x: sample}], graph.outputs, statistics)
    counts, centers = found[y].counts, found[y].centers()
    assert counts is not None
    # The gradient at y is +-1 for the first half and 0 for the other; their mean square is 1/2.
    small, large = counts[centers < 0.9].sum(), counts[centers > 0.9].sum()
    assert large / small == pytest.approx(FLOOR / 2 / (1 + FLOOR / 2), rel=1e-6)
    assert (found[y].low, found[y].high) == (statistics[y].low, statistics[y].high)


def test_an_outlier_that_nobody_feels_is_clipped() -> None:
    chain = Chain()
    x = chain.input((1, 256))
    gate = np.ones(256, np.float32)
    gate[7] = 0
    graph = chain.graph(chain.op("MUL", x, chain.constant(gate), **NONE))
    samples = [{x: noise(1, 256, seed=seed)} for seed in range(32)]
    samples[3][x][0, 7] = 10.0
    statistics, _ = observe(graph, samples)
    found = weighted(graph, samples, graph.outputs, statistics)
    # Clipping one value of 8192 at 4 costs 36 / 8192 if it counts; ten more units of range cost 1.7e-4 on each.
    assert Mse().choose(statistics[x], 256)[1] > 8
    assert Mse().choose(found[x], 256)[1] < 6


def test_mean_weight_is_one_and_the_same_samples_give_the_same_bytes() -> None:
    chain = Chain()
    x = chain.input((2, 6))
    graph = chain.graph(chain.op("TANH", chain.op("MUL", x, chain.constant(noise(6, seed=1)), **NONE)))
    samples = [{x: noise(2, 6, seed=seed)} for seed in range(5)]
    statistics, _ = observe(graph, samples)
    first, second = (weighted(graph, samples, graph.outputs, statistics) for _ in range(2))
    total = sum(float(s.counts.sum()) for s in first.values() if s.counts is not None)
    # Every value has its gradient's square, of mean 1 over all, and the floor's share of its tensor's.
    assert total == pytest.approx((1 + FLOOR) * 12 * len(first) * 5, rel=1e-9)
    for t, s in first.items():
        assert np.array_equal(s.counts, second[t].counts)


def test_what_does_not_lead_to_the_outputs_keeps_its_counts() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    y, aside = chain.op("TANH", x), chain.op("LOGISTIC", x)
    graph = chain.graph(y, aside)
    samples = [{x: noise(1, 4)}]
    statistics, _ = observe(graph, samples)
    found = weighted(graph, samples, [y], statistics)
    assert found[aside] is statistics[aside]
    assert found[y] is not statistics[y]

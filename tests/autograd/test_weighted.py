"""Statistics weighted by squared gradients."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.autograd.weighted import FLOOR, weighted
from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from edgeqwt.scales.ranges import Mse
from tests.chain import NONE, Chain, noise


def gated(half: int) -> Graph:
    """Half of what is computed is multiplied by zero."""
    chain = Chain()
    x = chain.input((1, 2 * half))
    y = chain.op("TANH", x, name="y")
    return chain.graph(chain.op("MUL", y, chain.constant([1.0] * half + [0.0] * half), name="out", **NONE))


def test_what_the_outputs_do_not_feel_counts_by_the_floor_alone() -> None:
    half = 100
    graph = gated(half)
    x, y = graph.inputs[0], graph.ops[0].outputs[0]
    sample = np.array([[0.3] * half + [3.0] * half], np.float32)
    statistics, _ = observe(graph, [{x: sample}])
    found = weighted(graph, [{x: sample}], graph.outputs, statistics)
    counts, centers = found[y].counts, found[y].centers()
    assert counts is not None
    # The gradient at y is +-1 for the first half and 0 for the other; their mean square is 1/2.
    small, large = counts[centers < 0.9].sum(), counts[centers > 0.9].sum()
    sensitive, insensitive, mean = 1 + FLOOR / 2, FLOOR / 2, (1 + FLOOR) / 2
    # Each magnitude as if one more value of the mean weight had been seen.
    assert large / small == pytest.approx((half * insensitive + mean) / (half * sensitive + mean), rel=1e-6)
    assert (found[y].low, found[y].high) == (statistics[y].low, statistics[y].high)


def test_an_outlier_that_nobody_feels_is_clipped() -> None:
    chain = Chain()
    x = chain.input((1, 4096))
    gate = np.ones(4096, np.float32)
    gate[7] = 0
    graph = chain.graph(chain.op("MUL", x, chain.constant(gate), **NONE))
    samples = [{x: noise(1, 4096, seed=seed)} for seed in range(64)]
    for sample in samples:
        sample[x][0, 7] = 10.0
    statistics, _ = observe(graph, samples)
    found = weighted(graph, samples, graph.outputs, statistics)
    # Clipping one value of 4096 at 4 costs 36 / 4096 = 9e-3 if it counts, 2e-4 at 1/40; the wider range 4e-4 on each.
    assert Mse(clipping=1).choose(statistics[x], 256)[1] > 9
    assert Mse(clipping=1).choose(found[x], 256)[1] < 8


def test_mean_weight_is_one_and_the_same_samples_give_the_same_bytes() -> None:
    chain = Chain()
    x = chain.input((2, 6))
    graph = chain.graph(chain.op("TANH", chain.op("MUL", x, chain.constant(noise(6, seed=1)), **NONE)))
    samples = [{x: noise(2, 6, seed=seed)} for seed in range(5)]
    statistics, _ = observe(graph, samples)
    first, second = (weighted(graph, samples, graph.outputs, statistics) for _ in range(2))
    total = sum(float(s.counts.sum()) for s in first.values() if s.counts is not None)
    # Every value has its gradient's square, of mean 1 over all, and the floor's share of its tensor's; of 60 values
    # few have one magnitude, and these are drawn to the mean.
    assert total == pytest.approx((1 + FLOOR) * 12 * len(first) * 5, rel=0.05)
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
    for t, same in ((aside, True), (y, False)):
        ours, theirs = found[t].counts, statistics[t].counts
        assert ours is not None
        assert theirs is not None
        assert np.array_equal(ours, theirs) == same


def test_values_that_no_gradient_was_taken_at_weigh_as_the_mean() -> None:
    chain = Chain()
    x = chain.input((1, 64))
    graph = chain.graph(chain.op("MUL", x, chain.constant([2.0]), **NONE))
    samples = [{x: np.clip(noise(1, 64, seed=seed), -3, 3)} for seed in range(20)]
    samples[19][x][0, 5] = 7.9
    statistics, _ = observe(graph, samples)
    found = weighted(graph, samples[:4], graph.outputs, statistics)[x]
    assert found.counts is not None
    counted = statistics[x].folds_within(found.reach).sum(axis=0)
    assert (found.counts > 0).sum() == (counted > 0).sum()
    tail = found.centers() > 7
    # The outputs depend on all values alike, so each weighs as the others: the ranges are those of all twenty samples.
    np.testing.assert_allclose(found.counts[tail].sum(), found.counts.sum() / counted.sum(), rtol=1e-6)


def test_weighted_ranges_have_no_margins() -> None:
    chain = Chain()
    x = chain.input((1, 64))
    y = chain.op("MUL", x, chain.constant([2.0]), **NONE)
    insensitive = chain.op("MUL", x, chain.constant([3.0]), **NONE)
    graph = chain.graph(y, insensitive)
    rng = np.random.default_rng(0)
    samples = [{x: (rng.lognormal() * noise(1, 64, seed=seed)).astype(np.float32)} for seed in range(8)]
    statistics, _ = observe(graph, samples)
    found = weighted(graph, samples, [y], statistics)
    for t in (x, insensitive):
        assert Mse().choose(statistics[t], 256) != Mse(margins=False).choose(statistics[t], 256)
        assert Mse().choose(found[t], 256) == Mse(margins=False).choose(found[t], 256)

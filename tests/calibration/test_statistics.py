"""Streaming statistics: exact, mergeable in any order."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.statistics import BINS, BLOCK, COUNTED, FOLDS, Statistics
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array


def observed(*values: Array | list[float]) -> Statistics:
    """Statistics of some samples, in order."""
    statistics = Statistics()
    for array in values:
        statistics.add(np.asarray(array, np.float32))
    return statistics


def assert_equal(a: Statistics, b: Statistics) -> None:
    """Compares every field."""
    assert (a.low, a.high, a.reach, a.zeros) == (b.low, b.high, b.reach, b.zeros)
    assert a.folds is not None
    assert b.folds is not None
    np.testing.assert_array_equal(a.folds, b.folds)


def parts(seed: int) -> list[Array]:
    """Samples of very different magnitudes, with round numbers and zeros among them."""
    rng = np.random.default_rng(seed)
    scales = rng.permutation([2.0**k for k in range(-24, 12, 3)])
    found = [(s * rng.standard_normal(3000)).astype(np.float32) for s in scales]
    edges = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -4.0, 1e-30, -1e-30, 1024.0], np.float32)
    return [np.concatenate([part, edges[rng.permutation(10)[:5]]]) for part in found]


@pytest.mark.parametrize("seed", range(5))
def test_any_order_and_any_division_gives_the_same(seed: int) -> None:
    values = parts(seed)
    everything = observed(np.concatenate(values))
    assert_equal(observed(*values), everything)
    assert_equal(observed(*reversed(values)), everything)
    for cut in (1, 4, 11):
        merged = observed(*values[:cut])
        merged.merge(observed(*values[cut:]))
        assert_equal(merged, everything)
        merged = observed(*values[cut:])
        merged.merge(observed(*values[:cut]))
        assert_equal(merged, everything)


def test_merging_with_nothing_changes_nothing() -> None:
    values = parts(0)[0]
    full = observed(values)
    full.merge(Statistics())
    assert_equal(full, observed(values))
    empty = Statistics()
    empty.merge(observed(values))
    assert_equal(empty, observed(values))


@pytest.mark.parametrize("seed", range(3))
def test_histogram_counts_every_value_in_its_bin(seed: int) -> None:
    values = np.concatenate(parts(seed))
    statistics = observed(values)
    assert statistics.counts is not None
    assert int(statistics.counts.sum()) + statistics.zeros == values.size
    width = 2 * statistics.reach / BINS
    bins = np.floor(values[values != 0].astype(np.float64) / width).astype(int) + BINS // 2
    np.testing.assert_array_equal(statistics.counts, np.bincount(bins, minlength=BINS))
    # The used half keeps at least a quarter of all bins.
    assert statistics.reach <= 2 * max(-statistics.low, statistics.high)


def test_samples_are_reported_apart_by_folds() -> None:
    rng = np.random.default_rng(1)
    samples = [(k + 1) * rng.standard_normal(500).astype(np.float32) for k in range(3 * FOLDS)]
    statistics = Statistics()
    for k, values in enumerate(samples):
        statistics.add(values, sample=k)
    assert statistics.folds is not None
    constant = np.float32([0.25, 0.5])
    statistics.add(constant)
    for k, fold in enumerate(statistics.folds):
        alone = observed(*samples[k::FOLDS]) if k < FOLDS else observed(constant)
        np.testing.assert_array_equal(fold, alone.folds_within(statistics.reach)[FOLDS])
    np.testing.assert_array_equal(statistics.pooled().counts, statistics.counts)
    pooled = statistics.pooled().folds
    assert pooled is not None
    assert not pooled[:FOLDS].any()


@pytest.mark.parametrize("size", [1, 100, BLOCK // 3, BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_samples_taken_in_together_are_those_taken_in_one_by_one(size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    samples = [np.maximum((1 + k) * rng.standard_normal(size), 0).astype(np.float32) for k in range(count)]
    together, one_by_one = Statistics(), Statistics()
    together.add_samples(samples, 6)
    for k, values in enumerate(samples):
        one_by_one.add(values, sample=6 + k)
    assert_equal(together, one_by_one)
    assert together.seen == one_by_one.seen == sum(np.count_nonzero(values) for values in samples)
    # No matter how many values are counted at a time.
    whole = Statistics()
    for k, values in enumerate(samples):
        whole.add(values, np.ones(size), sample=6 + k)
    assert_equal(together, whole)


def test_extremes_are_exact_and_zeros_counted_apart() -> None:
    statistics = observed([0.0, -0.0, 1.25], [-3.5, 0.0])
    assert (statistics.low, statistics.high, statistics.zeros) == (-3.5, 1.25, 3)


def test_centers_lie_in_their_bins() -> None:
    statistics = observed([-5.0, 5.0])
    assert statistics.counts is not None
    centers = statistics.centers()[np.flatnonzero(statistics.counts)]
    np.testing.assert_allclose(centers, [-5.0, 5.0], atol=2 * statistics.reach / BINS)


def test_a_tensor_without_elements_adds_nothing() -> None:
    assert_equal(observed([1.0], np.zeros((0, 3))), observed([1.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        observed([1.0, value])


def test_of_a_large_sample_some_positions_are_counted_and_the_extremes_are_of_all() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((1, 256, 256, 4)).astype(np.float32) for _ in range(8)]
    samples[3][0, 200, 7, 2] = 40
    found = Statistics()
    for number, sample in enumerate(samples):
        found.add(sample, sample=number)
    assert (found.low, found.high) == (min(s.min() for s in samples), 40)
    assert found.counts is not None
    assert COUNTED * 8 <= found.counts.sum() < 2 * COUNTED * 8
    # Of n normal values 31.7 % lie beyond 1, with a deviation of sqrt(0.317 * 0.683 / n) = 0.13 %.
    beyond = found.counts[np.abs(found.centers()) > 1].sum() / found.counts.sum()
    assert beyond == pytest.approx(0.3173, abs=0.005)


def test_of_a_large_sample_of_zeros_no_other_value_is_missed() -> None:
    values = np.zeros((1, 256, 256, 4), np.float32)
    values[0, 3, 5, 1] = 2
    found = Statistics()
    found.add(values, sample=0)
    assert found.counts is not None
    assert (found.high, found.counts.sum()) == (2, 1)


def test_a_large_sample_that_is_not_finite_is_refused() -> None:
    values = np.zeros((1, 256, 256, 4), np.float32)
    values[0, 3, 5, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        Statistics().add(values, sample=0)

from __future__ import annotations

from functools import reduce

import numpy as np

from edgeqwt.verify.metrics import Sums, compare
from edgeqwt.verify.spread import Spread


def test_parts_merge_to_the_whole_in_any_grouping() -> None:
    rng = np.random.default_rng(0)
    values = (1000 + rng.normal(size=(11, 3, 5))).astype(np.float32)
    whole = values.astype(np.float64)
    wanted = np.square(whole - whole.mean(axis=0)).sum()
    one = reduce(Spread.plus, (Spread(1, value) for value in values))
    halves = [reduce(Spread.plus, (Spread(1, value) for value in part)) for part in (values[:4], values[4:])]
    for found in (one, halves[0].plus(halves[1]), halves[1].plus(halves[0])):
        assert found.count == 11
        # Means near 1000 have rounding errors of 1e-13, beside deviations of 1: some 1e-12 over 165 terms.
        np.testing.assert_allclose(found.squares, wanted, rtol=1e-11)
        np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-14)


def test_equal_samples_do_not_vary_at_all() -> None:
    value = np.full((2, 3), 0.1, np.float32)
    assert reduce(Spread.plus, [Spread(1, value)] * 7).squares == 0.0


def test_an_output_that_hardly_varies_has_few_decibels_of_what_varies() -> None:
    """Everything that distinguishes the samples is lost, and SQNR and cosine praise it."""
    rng = np.random.default_rng(1)
    reference = (100 + rng.normal(scale=0.1, size=(20, 1, 50))).astype(np.float32)
    test = np.full_like(reference, 100)
    found = reduce(Sums.plus, (compare(r, t, varying=True) for r, t in zip(reference, test, strict=True))).result()
    assert found.sqnr_db > 59
    assert found.cosine > 0.99999
    assert found.varying_db is not None
    # The error is as large as what varies: 0 dB. 1000 squares of normal numbers: sqrt(2 / 1000), some 0.2 dB.
    assert abs(found.varying_db) < 0.4
    assert found.judged_db == found.varying_db


def test_nothing_varies_with_one_sample_or_with_equal_ones() -> None:
    x = np.ones((1, 4), np.float32)
    assert compare(x, x, varying=True).result().varying_db is None
    twice = compare(x, 2 * x, varying=True).plus(compare(x, x, varying=True)).result()
    assert twice.varying_db is None
    assert twice.judged_db == twice.sqnr_db


def test_integers_agree_where_they_are_equal_and_ties_are_distinguished() -> None:
    classes = compare(np.array([3, 4, 5]), np.array([3, 4, 6]), varying=True).result()
    assert (classes.top1, classes.rows) == (2 / 3, 3)
    reference = np.array([[1.0, 0.95, 0.0], [1.0, 0.2, 0.0]], np.float32)
    found = compare(reference, reference[:, [1, 0, 2]], step=0.1).result()
    assert (found.top1, found.rows, found.clear_rows, found.clear_top1) == (0.0, 2, 1, 0.0)

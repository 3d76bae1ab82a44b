from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.verify.paired import OF_ONE_SAMPLE, Split, assumed_error, gain, least_db, mcnemar, split, tail


def test_a_gain_and_its_standard_error() -> None:
    """The jackknife's standard error is the spread of the figure over repetitions of the experiment."""
    rng = np.random.default_rng(0)
    repeated = []
    for _ in range(300):
        difficulty = rng.gamma(2.0, size=64)  # samples differ, in the same way for both models
        repeated.append(gain(difficulty * rng.gamma(9.0, size=64), 0.5 * difficulty * rng.gamma(9.0, size=64)))
    spread = np.std([g.db for g in repeated])
    assert np.mean([g.db for g in repeated]) == pytest.approx(10 * math.log10(2), abs=0.1)
    # A standard deviation from 300 values is good to 1 / sqrt(600), some 4 %; the jackknife is a little cautious.
    assert np.mean([g.standard_error for g in repeated]) == pytest.approx(spread, rel=0.15)
    assert all(g.certain for g in repeated)


def test_no_gain_without_knowing() -> None:
    assert not gain([1.0, 2.0], [0.5, 1.0]).certain  # too few
    assert gain([1.0, 2.0], [0.5, 1.0]).db == pytest.approx(10 * math.log10(2))
    assert gain([0.0] * 4, [0.0] * 4).db == 0
    assert gain([1.0] * 4, [0.0] * 4).db == math.inf
    assert not gain([1.0] * 4, [0.0] * 4).certain
    assert math.isnan(gain([1.0, math.nan], [1.0, 1.0]).db)
    assert gain([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).certain  # always twice as much


def test_the_error_to_assume_of_few_samples() -> None:
    """The spread of gains that are none: independent normal errors, and samples that differ by themselves."""
    rng = np.random.default_rng(0)
    for samples, elements in ((1, 1), (1, 10), (2, 10)):
        a, b = (np.square(rng.normal(size=(20_000, samples, elements))) for _ in range(2))
        spread = (10 * np.log10(a.sum(axis=(1, 2)) / b.sum(axis=(1, 2)))).std()
        # A standard deviation from 20 000 values is good to 1 / sqrt(40 000); the logarithm of a single
        # element's ratio has longer tails than a normal one, a kurtosis of 5: sqrt(2) times that.
        own = math.sqrt(assumed_error(samples, samples * elements) ** 2 - OF_ONE_SAMPLE**2 / samples)
        assert own == pytest.approx(spread, rel=0.03)
    assert assumed_error(1, 10**6) == pytest.approx(OF_ONE_SAMPLE, abs=0.01)
    assert assumed_error(2, 10**6) == pytest.approx(OF_ONE_SAMPLE / math.sqrt(2), abs=0.01)


def test_exact_tests() -> None:
    assert tail(0, 3, 0.5) == pytest.approx(1 / 8)
    assert tail(2, 3, 0.5) == pytest.approx(7 / 8)
    assert tail(7, 8, 0.9) == pytest.approx(1 - 0.9**8)
    assert tail(9, 9, 0.9) == pytest.approx(1)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(4, 4) == 1
    assert mcnemar(0, 0) == 1
    assert tail(0, 10_000, 0.5) == 0.0  # no overflow


def test_classes_are_compared_sample_by_sample() -> None:
    assert split([1, 1, 1, 0, 0], [1, 0, 1, 0, 1]) == Split(1, 1, 1.0)
    assert split([0] * 6, [1] * 6) == Split(0, 6, pytest.approx(2 / 64))
    assert split([0] * 6, [1] * 6).certain
    assert not split([1, 1], [1, 1]).certain
    # Thousands of rows, pixels for instance, of two samples are two trials, whatever each of them says.
    assert split([9000, 9500], [9100, 9600]) == Split(0, 2, pytest.approx(0.5))


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_fresh_samples_seldom_have_less_than_is_said_that_they_may(spread: float) -> None:
    """16 samples at a time of many whose errors are lognormal: the more unlike they are, the further the bound lies."""
    random = np.random.default_rng(0)
    true = -10 * math.log10(math.exp(spread**2 / 2))  # of errors with mean exp(spread^2 / 2) where 1 varies
    drawn = [np.exp(spread * random.normal(size=16)) for _ in range(400)]
    least = [least_db(np.ones(16), errors) for errors in drawn]
    figures = [gain(np.ones(16), errors) for errors in drawn]
    covered = float(np.mean([each <= true for each in least]))
    assert covered > 0.87  # 0.89 and more of 1500; the standard error of 400 is 0.016
    assert covered >= np.mean([each.db - 2 * each.standard_error <= true for each in figures])


def test_samples_that_err_alike_promise_what_they_have() -> None:
    assert least_db([2.0] * 16, [0.02] * 16) == pytest.approx(20)


def test_nothing_is_said_of_what_too_few_samples_may_have() -> None:
    assert math.isnan(least_db([1.0, 1.0], [0.1, 0.2]))
    assert math.isnan(least_db([0.0] * 4, [0.0] * 4))  # nor of what never varies
    assert least_db([1.0] * 4, [0.0, 0.1, 0.1, 0.2]) < gain([1.0] * 4, [0.0, 0.1, 0.1, 0.2]).db  # no logarithm of zero


def test_without_the_sample_that_varies_most_less_may_be_left() -> None:
    """A detector that fired in one of 16 samples was promised 38 dB, and had 22 of samples in which it did not."""
    variations, errors = [1e-6] * 15 + [1.0], [1e-8] * 15 + [2e-8]
    assert least_db(variations, errors) <= 20.0
    even = least_db([1.0] * 16, [1e-3, 2e-3] * 8)
    assert even > 26  # 28.2 and half a decibel of standard error

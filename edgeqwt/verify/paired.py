"""What differences between two models are worth, measured on the same samples.

Samples differ far more from each other than models do, so models are compared sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CHANCE = 0.05  # a difference that chance alone makes less often than this is called one
STANDARD_ERRORS = 2.0  # beyond so many of them, which is about CHANCE
ONE_SIDED = 1.645  # standard deviations of a normal distribution beyond which 1 in 20 lies, on one side
LEAST = 3  # samples that show how far they differ
OF_ONE_SAMPLE = 3.0
"""dB by which one sample's gain differs from another's (standard deviation), beyond what few elements account for.

The root mean square over four networks at w8a8 and w4a8, built from 16 images, is 2.7 dB; over two of them built from 4
images, 3.2 dB (benchmarks/gain_spread.py).
"""


@dataclass(frozen=True)
class Gain:
    """How much less one model errs than another.

    Attributes:
        db: 10 log10(Σ error before² / Σ error after²): positive where the second one is better.
        standard_error: of it, in dB; nan where there are too few samples to know.
    """

    db: float
    standard_error: float

    @property
    def certain(self) -> bool:
        """Whether it is more than chance; false where nobody can know."""
        return self.db != 0 and abs(self.db) > STANDARD_ERRORS * self.standard_error


def gain(before: Sequence[float], after: Sequence[float]) -> Gain:
    """What the second of two models gains.

    The standard error is the jackknife's: the spread of the figure when each sample in turn is left out (Efron and
    Stein, "The jackknife estimate of variance", 1981). A few samples with large errors make it large.

    Args:
        before: squared error of each sample.
        after: likewise, in the same order.
    """
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    count = len(a)
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or count == 0:
        return Gain(math.nan, math.nan)
    if a.sum() == b.sum() == 0:
        return Gain(0.0, 0.0)
    if a.sum() == 0 or b.sum() == 0:
        return Gain(-math.inf if a.sum() == 0 else math.inf, math.nan)
    db = float(10 * np.log10(a.sum() / b.sum()))
    if count < LEAST:
        return Gain(db, math.nan)
    # Sums of what is not left out, not differences of sums, which could come out below zero.
    others = ~np.eye(count, dtype=bool) if count <= 512 else None
    rest_a, rest_b = (x.sum() - x if others is None else others @ x for x in (a, b))
    if (rest_a <= 0).any() or (rest_b <= 0).any():
        return Gain(db, math.nan)
    each = 10 * np.log10(rest_a / rest_b)
    return Gain(db, float(np.sqrt((count - 1) / count * np.square(each - each.mean()).sum())))


def least_db(variations: Sequence[float], errors: Sequence[float]) -> float:
    """The SQNR of what varies that fresh samples may well have, in dB, by what held-out ones are unlike.

    The lowest of three bounds: two of the jackknife's standard errors, that of a lognormal mean by Cox's method (Land
    1972; Zhou and Gao 1997), which knows that where samples err by orders of magnitude more and less, few of them
    lack the largest. Of 16 such samples (standard deviations of 1 to 2 of the logarithm) the mean of all lies above in
    nine of ten cases, where two standard errors have eight. And what the others have without the sample that varies
    most: of a detector that fires in one of them, that one has nearly all of what varies, and fresh samples may lack
    such. A kind of sample that none of them is, none of the bounds knows.

    Args:
        variations: what each sample adds to what varies.
        errors: squared error of each, in the same order.

    Returns:
        nan where samples are too few to know, and where nothing varies.
    """
    if not any(variations):
        return math.nan
    found, a, b = gain(variations, errors), np.asarray(variations, np.float64), np.asarray(errors, np.float64)
    most = int(a.argmax())
    rest = (np.delete(each, most).tolist() for each in (a, b))
    others = gain(*rest).db if len(a) > LEAST else math.nan
    low = found.db - STANDARD_ERRORS * found.standard_error
    low = min(low, others) if math.isfinite(others) else low
    if math.isnan(found.standard_error) or not (b > 0).all():
        return low
    logs = np.log(b)
    mean, variance, count = float(logs.mean()), float(logs.var(ddof=1)), len(b)
    reach = ONE_SIDED * math.sqrt(variance / count + variance**2 / (2 * (count - 1)))
    cox = 10 * math.log10(a.mean()) - 10 / math.log(10) * (mean + variance / 2 + reach)
    return min(low, cox)


def assumed_error(samples: int, elements: int) -> float:
    """The standard error in dB to expect of a gain that is no gain, where samples are too few to show it.

    Were the errors of two models independent and normal in every element, the ratio of their sums of squares would have
    the F distribution, the variance of whose logarithm is 2 ψ′(elements / 2). Elements of one sample vary together,
    as in maps, so that what whole samples differ by (`OF_ONE_SAMPLE`) adds to it.

    Args:
        samples: at least one.
        elements: of all samples together.
    """
    decibels = 10 / math.log(10)
    return math.hypot(decibels * math.sqrt(2 * _trigamma(elements / 2)), OF_ONE_SAMPLE / math.sqrt(samples))


def _trigamma(x: float) -> float:
    """ψ′(x): its recurrence, and its asymptotic series from 8 on, where the first term left out is below 2e-8."""
    steps = max(0, math.ceil(8 - x))
    y = x + steps
    series = 1 / y + 1 / (2 * y**2) + 1 / (6 * y**3) - 1 / (30 * y**5) + 1 / (42 * y**7)
    return series + math.fsum(1 / (x + k) ** 2 for k in range(steps))


def tail(successes: int, trials: int, probability: float) -> float:
    """How probable so many successes or fewer are, each trial succeeding with this probability."""
    p, q = math.log(probability), math.log1p(-probability)
    choose = math.lgamma(trials + 1)
    terms = (
        choose - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * p + (trials - k) * q
        for k in range(successes + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


@dataclass(frozen=True)
class Split:
    """How two models agree with the reference's classes, sample by sample.

    Attributes:
        lost: samples of which the first model has more rows right than the second.
        won: the reverse.
        probability: of a split at least as uneven by chance; 1 where nothing differs.
    """

    lost: int
    won: int
    probability: float

    @property
    def certain(self) -> bool:
        """Whether it is more than chance."""
        return self.probability <= CHANCE


def split(before: Sequence[int], after: Sequence[int]) -> Split:
    """McNemar's test of two models' classes; where samples have many rows, a sign test with the samples as units.

    Rows of one sample, such as pixels, are no independent trials: counted one by one they would make chance certain.

    Args:
        before: how many rows of each sample the first model has right.
        after: likewise, in the same order.
    """
    lost, won = (sum(a > b for a, b in zip(x, y, strict=True)) for x, y in ((before, after), (after, before)))
    return Split(lost, won, mcnemar(lost, won))


def mcnemar(only_first: int, only_second: int) -> float:
    """How probable a split at least as uneven is by chance: McNemar's exact test, two-sided.

    McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.

    Args:
        only_first: samples that the first model alone gets right.
        only_second: those that the second alone gets right.
    """
    return min(1.0, 2 * tail(min(only_first, only_second), only_first + only_second, 0.5))

"""Range rules where the best range is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.calibration.statistics import BINS, Statistics
from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Array
from edgeqwt.scales.activations import affine, symmetric
from edgeqwt.scales.ranges import (
    MARGINS,
    RULES,
    Kl,
    Lp,
    MinMax,
    Mse,
    Percentile,
    PowerOfTwo,
    RangeRule,
    squared_error,
)


def observed(*values: Array | list[float]) -> Statistics:
    """Statistics of some samples."""
    statistics = Statistics()
    for array in values:
        statistics.add(np.asarray(array, np.float32))
    return statistics


def real_error(values: Array, low: float, high: float, levels: int) -> float:
    """Mean squared error of rounding to the integers that span a range."""
    step = (high - low) / (levels - 1)
    return float(np.square(values - np.clip(np.rint(values / step) * step, low, high)).mean())


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule is not PowerOfTwo])
def test_every_rule_covers_zero_and_stays_within_the_extremes(rule: type[RangeRule]) -> None:
    rng = np.random.default_rng(0)
    for low, high in ((1.0, 4.0), (-4.0, -1.0), (-1.0, 3.0), (0.0, 0.0), (0.0, 1e-9), (-1e9, 1e9)):
        statistics = observed(rng.uniform(low, high, 1000))
        found = rule().choose(statistics, 256)
        assert min(statistics.low, 0.0) <= found[0] <= 0.0 <= found[1] <= max(statistics.high, 0.0)


def test_min_max_is_exact() -> None:
    assert MinMax().choose(observed([-1.25, 3.0], [7.5]), 256) == (-1.25, 7.5)


def test_min_max_of_one_sided_values_includes_zero() -> None:
    assert MinMax().choose(observed([2.0, 3.0]), 256) == (0.0, 3.0)
    assert MinMax().choose(observed([-2.0, -3.0]), 256) == (-3.0, 0.0)


def test_mse_keeps_the_whole_of_a_uniform_distribution() -> None:
    # Clipping costs more than any gain in resolution while step << width: the optimum is the extremes.
    values = np.random.default_rng(1).uniform(-2, 5, 100_000)
    low, high = Mse().choose(observed(values), 256)
    assert low == pytest.approx(-2, rel=0.02)
    assert high == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("clipping", [1, 2, 5])
def test_mse_leaves_a_lone_outlier_out(clipping: float) -> None:
    # One value of 1000 in 100 000 of [0, 1]. Clipped at c it costs k (1000 - c)^2 / n; each of the others costs
    # c^2 / 12 / (levels - 1)^2. With 16 levels: 1e6 / 1e5 = 10 k against 1e6 / 12 / 225 = 370: it is clipped, at the
    # minimum of k (1000 - c)^2 / n + c^2 / (12 * 225): c = 1000 / (1 + n / 2700 k) = 26.3 for k = 1.
    values = np.append(np.random.default_rng(2).uniform(0, 1, 100_000), 1000)
    _, high = Mse(candidates=1000, clipping=clipping).choose(observed(values), 16)
    assert high == pytest.approx(1000 / (1 + 1e5 / 2700 / clipping), abs=1.5)


@pytest.mark.parametrize("levels", [4, 8, 16, 64])
def test_mse_of_a_normal_distribution_clips_where_theory_says(levels: int) -> None:
    # For a range [-a, a]: step^2 / 12 inside and 2 ((1 + a^2) Q(a) - a phi(a)) outside (Banner et al. 2019, eq. 5).
    ends = np.arange(0.5, 6, 0.005)
    tail = np.array([math.erfc(a / math.sqrt(2)) / 2 for a in ends])
    density = np.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
    outside = 2 * ((1 + ends**2) * tail - ends * density)
    expected = ends[np.argmin((2 * ends / (levels - 1)) ** 2 / 12 * (1 - 2 * tail) + outside)]
    values = np.random.default_rng(3).standard_normal(400_000)
    low, high = Mse(candidates=512, clipping=1).choose(observed(values), levels)
    # Two candidates apart, and the noise of a flat minimum over 400 000 values.
    assert high == pytest.approx(expected, rel=0.03)
    assert low == pytest.approx(-expected, rel=0.03)


@pytest.mark.parametrize("levels", [8, 16, 256])
@pytest.mark.parametrize("seed", range(4))
def test_mse_beats_min_max_and_every_nearby_range(levels: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 50_000)
    statistics = observed(values)
    low, high = Mse(clipping=1).choose(statistics, levels)
    best = real_error(values, low, high, levels)
    assert best <= 1.01 * real_error(values, statistics.low, statistics.high, levels)
    for factor in (0.7, 0.85, 1.2, 1.5):
        # 3 %: the model step^2 / 12 is approximate when there are few steps.
        assert best <= 1.03 * real_error(values, low * factor, high * factor, levels)


def in_turns(parts: list[Array]) -> Statistics:
    """Statistics of samples 0, 1, 2, ..."""
    statistics = Statistics()
    for k, values in enumerate(parts):
        statistics.add(values.astype(np.float32), sample=k)
    return statistics


def test_few_samples_get_a_margin_that_other_samples_confirm() -> None:
    # Each sample reaches as far as its own random scale: what eight samples reach, the next ones exceed.
    rng = np.random.default_rng(6)

    def samples(count: int) -> list[Array]:
        return [np.float64(rng.lognormal(0, 0.15)) * rng.uniform(0, 1, 2000) for _ in range(count)]

    few, others = in_turns(samples(8)), in_turns(samples(4000))
    narrow, wide = Mse(margins=False).choose(few, 256), Mse().choose(few, 256)
    margin = wide[1] / narrow[1]
    assert margin in [pytest.approx(m) for m in MARGINS[1:]]
    assert squared_error(others, wide, 256) < 0.8 * squared_error(others, narrow, 256)
    # Thousands of them have been everywhere.
    assert Mse().choose(others, 256)[1] <= 1.03 * Mse(margins=False).choose(others, 256)[1]


def test_there_is_no_margin_around_what_ends_where_it_ends() -> None:
    # As after a ReLU6: every sample has values at both ends.
    rng = np.random.default_rng(7)
    bounded = in_turns([np.clip(rng.normal(3, 3, 2000), 0, 6) for _ in range(8)])
    assert Mse().choose(bounded, 256) == Mse(margins=False).choose(bounded, 256)


def test_there_is_no_margin_where_a_fold_has_no_samples() -> None:
    # Statistics of one sample, or of constants: there is nothing to judge by.
    values = np.random.default_rng(8).standard_t(3, 5000)
    assert Mse().choose(observed(values), 256) == Mse(margins=False).choose(observed(values), 256)


def test_zeros_cost_nothing() -> None:
    # Half the values are exact zeros (after a ReLU): the range must be that of the others alone.
    values = np.abs(np.random.default_rng(4).standard_normal(50_000)).astype(np.float32)
    alone = Mse().choose(observed(values), 16)
    assert Mse().choose(observed(values, np.zeros(200_000)), 16) == alone


@pytest.mark.parametrize("levels", [4, 16, 256])
def test_lp_of_two_is_mse(levels: int) -> None:
    values = np.random.default_rng(5).standard_t(4, 50_000)
    assert Lp(2.0).choose(observed(values), levels) == pytest.approx(Mse(clipping=1).choose(observed(values), levels))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("levels", [8, 32])
def test_lp_of_a_laplace_distribution_clips_where_theory_says(p: float, levels: int) -> None:
    # Density exp(-|v|) / 2, range [-a, a]: (step / 2)^p / (p + 1) on the share 1 - exp(-a) within, and outside
    # the integral of (v - a)^p exp(-v) over v > a, which is exp(-a) Gamma(p + 1).
    ends = np.arange(0.5, 12, 0.005)
    step = 2 * ends / (levels - 1)
    cost = (1 - np.exp(-ends)) * (step / 2) ** p / (p + 1) + np.exp(-ends) * math.gamma(p + 1)
    expected = ends[np.argmin(cost)]
    low, high = Lp(p, candidates=512).choose(observed(np.random.default_rng(6).laplace(size=400_000)), levels)
    # The minimum is flat, and p-th powers of the few values in the tail are noisy.
    assert high == pytest.approx(expected, rel=0.06)
    assert low == pytest.approx(-expected, rel=0.06)


def test_a_larger_p_clips_less() -> None:
    statistics = observed(np.random.default_rng(7).laplace(size=100_000))
    highs = [Lp(p).choose(statistics, 32)[1] for p in (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)]
    assert highs == sorted(highs)
    assert highs[0] < 0.7 * highs[-1]


def test_percentile_leaves_out_that_share_of_the_values_zeros_included() -> None:
    # Of 90 zeros and 1..10, 5 % are five values: 6..10. The end is that of the histogram's bin of 5.
    statistics = observed(np.append(np.zeros(90), np.arange(1, 11)))
    width = 2 * statistics.reach / BINS
    assert Percentile(95).choose(statistics, 256) == (0.0, 5 + width)
    assert Percentile(94.9).choose(statistics, 256) == (0.0, 5 + width)
    assert Percentile(95.1).choose(statistics, 256) == (0.0, 6 + width)
    assert Percentile(100).choose(statistics, 256) == (0.0, 10.0)


def test_percentile_counts_at_each_end() -> None:
    values = np.random.default_rng(8).standard_normal(400_000)
    low, high = Percentile(99.0).choose(observed(values), 256)
    # The 99 % point of the normal distribution; the quantile's standard error is
    # sqrt(0.01 * 0.99 / 400 000) / density(2.326) = 0.006.
    assert high == pytest.approx(2.3263, abs=0.025)
    assert low == pytest.approx(-2.3263, abs=0.025)


def test_kl_keeps_values_that_the_integers_hold_exactly() -> None:
    # Sixteen values, each an integer multiple of the step: Q = P, and no narrower range comes near.
    values = np.repeat(np.arange(-4, 12) / 4, np.random.default_rng(9).integers(1, 50, 16))
    assert Kl().choose(observed(values), 16) == (-1.0, 2.75)


def test_kl_clips_a_long_tail() -> None:
    # Half-normal values and a few far out: at 16 levels the whole range would leave 3 integers for 99.9 % of them.
    rng = np.random.default_rng(10)
    values = np.concatenate([np.abs(rng.standard_normal(100_000)), np.linspace(10, 20, 100)])
    low, high = Kl().choose(observed(values), 16)
    assert low == 0.0
    assert 2.0 < high < 6.0


@pytest.mark.parametrize("seed", range(3))
def test_kl_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    statistics = observed(np.abs(rng.laplace(size=2000)))
    rule = Kl(candidates=16)
    candidates = [statistics.high * share / 16 for share in range(16, 0, -1)]
    expected = min(candidates, key=lambda high: divergence(statistics, high, 8))
    assert rule.choose(statistics, 8) == (0.0, expected)


def divergence(statistics: Statistics, high: float, levels: int) -> float:
    """KL of a range [0, high], bin by bin."""
    assert statistics.counts is not None
    step, half_a_bin = high / (levels - 1), statistics.reach / BINS
    p: dict[int, float] = {}
    cells: dict[int, list[int]] = {}
    beyond = 0.0
    for k, (count, center) in enumerate(zip(statistics.counts, statistics.centers(), strict=True)):
        if count and center <= high + half_a_bin:
            p[k] = float(count)
            cells.setdefault(round(center / step), []).append(k)
        elif count:
            beyond += float(count)
    q = {k: sum(p[j] for j in bins) / len(bins) for bins in cells.values() for k in bins}
    within = sum(p.values())
    p[max(p)] += beyond
    return sum(p[k] / (within + beyond) * math.log((p[k] / (within + beyond)) / (q[k] / within)) for k in p)


@pytest.mark.parametrize("inner", ["minmax", "mse", "percentile", "kl", "lp"])
def test_power_of_two_scales_are_powers_of_two(inner: str) -> None:
    rng = np.random.default_rng(11)
    rule = PowerOfTwo(inner)
    for low, high in ((-1.0, 3.0), (0.0, 6.3), (-5e-3, 1e-3), (-1e6, 1e6), (0.0, 0.0), (2.0, 3.0), (-3.0, -2.0)):
        statistics = observed(rng.uniform(low, high, 1000))
        found = rule.choose(statistics, 256)
        quantization = affine(*found)
        scale, zero_point = float(quantization.scale[0]), int(quantization.zero_point[0])
        assert math.frexp(scale)[0] == 0.5, (low, high)
        assert found == ((-128 - zero_point) * scale, (127 - zero_point) * scale)
        wide = symmetric(*rule.choose(statistics, 65535), 16)
        assert math.frexp(float(wide.scale[0]))[0] == 0.5, (low, high)


def test_power_of_two_of_a_uniform_distribution() -> None:
    # 255 steps of 2^-7 span 1.992 of [-1, 1]: the last half step is clipped, which costs less than steps of 2^-6.
    statistics = observed(np.linspace(-1, 1, 100_001))
    assert PowerOfTwo("minmax").choose(statistics, 256) == (-1.0, 1 - 2**-7)
    # 255 steps of 2^-8 would clip a third of [0, 1.5].
    assert PowerOfTwo("minmax").choose(observed(np.linspace(0, 1.5, 100_001)), 256) == (0.0, 255 / 128)


def test_power_of_two_refuses_an_inner_rule_that_it_cannot_have() -> None:
    for name in ("power_of_two", "nonsense"):
        with pytest.raises(RecipeError, match=name):
            PowerOfTwo(name)


def test_squared_error_is_the_real_one() -> None:
    values = np.random.default_rng(12).standard_normal(100_000)
    for ends in ((-4.0, 4.0), (-1.0, 2.5), (-5.0, 0.5)):
        # 64 levels: the model step^2 / 12 is close, and bins are much narrower than steps.
        expected = real_error(values, *ends, 64) * len(values)
        assert squared_error(observed(values), ends, 64) == pytest.approx(expected, rel=0.03)

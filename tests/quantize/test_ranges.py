"""Range rules where the best range is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array
from edgeqwt.quantize.ranges import RULES, MinMax, Mse, RangeRule


def observed(*values: Array | list[float]) -> Statistics:
    """Statistics of some samples."""
    statistics = Statistics()
    for array in values:
        statistics.add(np.asarray(array, np.float32))
    return statistics


def squared_error(values: Array, low: float, high: float, levels: int) -> float:
    """Mean squared error of rounding to the integers that span a range."""
    step = (high - low) / (levels - 1)
    return float(np.square(values - np.clip(np.rint(values / step) * step, low, high)).mean())


@pytest.mark.parametrize("rule", RULES.values())
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


def test_mse_leaves_a_lone_outlier_out() -> None:
    # One value of 1000 in 100 000 of [0, 1]. Clipped at c it costs (1000 - c)^2 / n; each of the others costs
    # c^2 / 12 / (levels - 1)^2. With 16 levels: 1e6 / 1e5 = 10 against 1e6 / 12 / 225 = 370: it is clipped, at the
    # minimum of (1000 - c)^2 / n + c^2 / (12 * 225): c = 1000 / (1 + n / 2700) = 26.3.
    values = np.append(np.random.default_rng(2).uniform(0, 1, 100_000), 1000)
    _, high = Mse(candidates=1000).choose(observed(values), 16)
    assert high == pytest.approx(1000 / (1 + 1e5 / 2700), abs=1.5)


@pytest.mark.parametrize("levels", [4, 8, 16, 64])
def test_mse_of_a_normal_distribution_clips_where_theory_says(levels: int) -> None:
    # For a range [-a, a]: step^2 / 12 inside and 2 ((1 + a^2) Q(a) - a phi(a)) outside (Banner et al. 2019, eq. 5).
    ends = np.arange(0.5, 6, 0.005)
    tail = np.array([math.erfc(a / math.sqrt(2)) / 2 for a in ends])
    density = np.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
    outside = 2 * ((1 + ends**2) * tail - ends * density)
    expected = ends[np.argmin((2 * ends / (levels - 1)) ** 2 / 12 * (1 - 2 * tail) + outside)]
    values = np.random.default_rng(3).standard_normal(400_000)
    low, high = Mse(candidates=512).choose(observed(values), levels)
    # Two candidates apart, and the noise of a flat minimum over 400 000 values.
    assert high == pytest.approx(expected, rel=0.03)
    assert low == pytest.approx(-expected, rel=0.03)


@pytest.mark.parametrize("levels", [8, 16, 256])
@pytest.mark.parametrize("seed", range(4))
def test_mse_beats_min_max_and_every_nearby_range(levels: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 50_000)
    statistics = observed(values)
    low, high = Mse().choose(statistics, levels)
    best = squared_error(values, low, high, levels)
    assert best <= 1.01 * squared_error(values, statistics.low, statistics.high, levels)
    for factor in (0.7, 0.85, 1.2, 1.5):
        # 3 %: the model step^2 / 12 is approximate when there are few steps.
        assert best <= 1.03 * squared_error(values, low * factor, high * factor, levels)


def test_zeros_cost_nothing() -> None:
    # Half the values are exact zeros (after a ReLU): the range must be that of the others alone.
    values = np.abs(np.random.default_rng(4).standard_normal(50_000)).astype(np.float32)
    alone = Mse().choose(observed(values), 16)
    assert Mse().choose(observed(values, np.zeros(200_000)), 16) == alone

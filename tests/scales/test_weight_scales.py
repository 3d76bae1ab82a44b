"""Weight scales where the best one is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.scales.weight_scales import (
    MseWeights,
    PowerOfTwoWeights,
    WeightRule,
    choose,
)
from edgeqwt.scales.weights import weight_scales


def weighted_error(row: Array, scale: float, limit: int, importance: Array) -> float:
    """Squared rounding error of one channel."""
    integers = np.clip(np.rint(row / scale), -limit, limit)
    return float((importance * (row - scale * integers) ** 2).sum())


def test_mse_of_a_ternary_channel_is_the_mean_where_that_is_best() -> None:
    # Integers -1, 0, 1. For nine times 1 and one 2 the scale 2 rounds the nine to zero (1 / 2 to even): error 9.
    # With all integers 1 the best scale is the mean, 1.1: error 9 + 4 - 11^2 / 10 = 0.9.
    weights = np.array([[1.0] * 9 + [2.0], [1.0] * 9 + [10.0]])
    # For nine times 1 and one 10 the mean, 1.9, would err by 109 - 36.1 = 72.9, and the scale 10 by 9 alone.
    assert choose(weights, 0, 2, MseWeights()) == pytest.approx([1.1, 10.0])


def test_importance_decides_which_weights_are_clipped() -> None:
    weights = np.array([[1.0] * 9 + [2.0]])
    # With the large weight's error counting 30 times, the mean errs by 9 * 0.1^2 + 30 * 0.9^2 = 24 and more, and
    # the weighted mean, (9 + 60) / 39 = 1.77, by 9 * 0.77^2 + 30 * 0.23^2 = 6.9; the scale 2 by 9.
    importance = np.array([1.0] * 9 + [30.0])
    assert choose(weights, 0, 2, MseWeights(), importance) == pytest.approx([69 / 39])
    # And with a weight that does not count at all, the others are met exactly.
    assert choose(weights, 0, 2, MseWeights(), np.array([1.0] * 9 + [0.0])) == pytest.approx([1.0])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_mse_is_the_best_of_all_scales(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, importance = rng.standard_t(5, (4, 60)), rng.uniform(0.1, 2.0, 60)
    limit = 2 ** (bits - 1) - 1
    for row, found in zip(weights, choose(weights, 0, bits, MseWeights(), importance), strict=True):
        widest = np.abs(row).max() / limit
        best = min(weighted_error(row, s * widest, limit, importance) for s in np.linspace(0.05, 1, 4000))
        # 64 candidates and least squares need not find the deepest of many dents; the others are hardly deeper.
        assert weighted_error(row, found, limit, importance) <= 1.03 * best
        assert found <= widest


def test_mse_of_normal_weights_at_4_bits_gains_what_theory_says() -> None:
    # 15 uniform levels on a normal density have their least error at the step 0.335 (0.01154 of the variance, Max
    # 1960, table II for 16 levels; 15 are a little worse: 0.0131 by integration). Min-max of 4000 values, about
    # +-3.5, has the step 0.5 and errs by 0.5^2 / 12 = 0.0208.
    weights = np.random.default_rng(3).standard_normal((8, 4000))
    even = np.ones(4000)

    def mean_error(scales: Array) -> float:
        pairs = zip(weights, scales, strict=True)
        return float(np.mean([weighted_error(row, s, 7, even) / row.size for row, s in pairs]))

    assert mean_error(choose(weights, 0, 4, MseWeights())) == pytest.approx(0.0131, rel=0.05)
    assert mean_error(weight_scales(weights, 0, 4)) > 0.018


def test_power_of_two_scales_are_the_best_powers() -> None:
    weights = np.random.default_rng(4).standard_normal((20, 30))
    for row, scale in zip(weights, choose(weights, 0, 4, PowerOfTwoWeights()), strict=True):
        assert math.frexp(scale)[0] == 0.5
        errors = {k: weighted_error(row, 2.0**k, 7, np.ones(30)) for k in range(-8, 3)}
        assert errors[round(math.log2(scale))] == min(errors.values())


@pytest.mark.parametrize("rule", [MseWeights, PowerOfTwoWeights])
def test_channels_are_judged_alone_whatever_their_axis(rule: type[WeightRule]) -> None:
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((1, 3, 3, 5)) * np.array([1, 0.01, 3, 0, 7])
    importance = rng.uniform(0, 1, (1, 3, 3, 5))
    together = choose(weights, 3, 4, rule(), importance)
    moved = choose(np.moveaxis(weights, 3, 0), 0, 4, rule(), np.moveaxis(importance, 3, 0))
    assert (together == moved).all()
    assert (together > 0).all()
    alone = choose(weights[..., 2:3], 3, 4, rule(), importance[..., 2:3])
    assert together[2] == alone[0]
    # A channel without weights has the others' largest scale, as in `weight_scales`: any is exact.
    assert together[3] >= 0.99 * together[[0, 1, 2, 4]].max()


def test_importance_that_is_zero_throughout_says_nothing() -> None:
    weights = np.random.default_rng(6).standard_normal((3, 40))
    assert (choose(weights, 0, 4, MseWeights(), np.zeros(40)) == choose(weights, 0, 4, MseWeights())).all()


def test_only_ratios_of_importance_count() -> None:
    rng = np.random.default_rng(7)
    weights, importance = rng.standard_normal((3, 40)), rng.uniform(0, 1, 40)
    assert choose(weights, 0, 4, MseWeights(), 1024 * importance) == pytest.approx(
        choose(weights, 0, 4, MseWeights(), importance)
    )

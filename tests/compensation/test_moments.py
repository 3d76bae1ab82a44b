from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.compensation.moments import Moments, evening, evening_rows
from edgeqwt.graph.graph import Array

FIELDS = ("q", "y", "qq", "qy", "yy")
# Summing n terms of one sign errs by at most n * 2^-53 of the sum; n <= 4096 here.
RTOL = 4096 * 2.0**-53


def pairs(samples: int = 5, channels: int = 7, seed: int = 0) -> tuple[Array, Array]:
    """Quantized-like outputs and their references, float32, shape (samples, 6, 9, channels)."""
    rng = np.random.default_rng(seed)
    y = (rng.standard_normal((samples, 6, 9, channels)) + rng.uniform(-3, 3, channels)).astype(np.float32)
    q = (0.9 * y + 0.2 + 0.05 * rng.standard_normal(y.shape)).astype(np.float32)
    return q, y


def total(q: Array, y: Array) -> Moments:
    return Moments.of(q, y).total(np.ones(len(q)))


def assert_close(found: Moments, wanted: Moments, scale: Moments) -> None:
    """Equal but for rounding; `scale` are the moments of the absolute values, which rounding is relative to."""
    assert found.n == pytest.approx(wanted.n, rel=1e-15)
    for field in FIELDS:
        difference = np.abs(getattr(found, field) - getattr(wanted, field))
        assert (difference <= RTOL * getattr(scale, field)).all(), field


def test_moments_are_the_direct_formulas() -> None:
    q, y = pairs()
    found = Moments.of(q, y)
    flat_q, flat_y = (a.astype(np.float64).reshape(5, 54, 7) for a in (q, y))
    assert found.n == 54
    wanted = (flat_q, flat_y, flat_q**2, flat_q * flat_y, flat_y**2)
    for field, values in zip(FIELDS, wanted, strict=True):
        bound = RTOL * np.abs(values).sum(axis=1)
        assert (np.abs(getattr(found, field) - values.sum(axis=1)) <= bound).all(), field


def test_moments_of_vectors_count_one_position() -> None:
    q, y = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, 5.0]], np.float32)
    found = Moments.of(q, y)
    assert found.n == 1
    np.testing.assert_array_equal(found.qy, [[3.0, 10.0]])


def test_moments_of_parts_add_up() -> None:
    q, y = pairs(samples=8)
    parts = total(q[:3], y[:3]) + total(q[3:], y[3:]) + Moments.zero(7)
    assert_close(parts, total(q, y), total(np.abs(q), np.abs(y)))


def test_weights_count_samples_so_many_times() -> None:
    q, y = pairs(samples=3)
    weighted = Moments.of(q, y).total(np.array([2.0, 0.0, 1.0]))
    repeated = total(q[[0, 0, 2]], y[[0, 0, 2]])
    assert_close(weighted, repeated, total(np.abs(q[[0, 0, 2]]), np.abs(y[[0, 0, 2]])))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1.1, -0.25), (-0.5, 3.0), (0.0, 0.0)])
def test_error_is_the_sum_of_squares(gain: float, offset: float) -> None:
    q, y = pairs()
    moments = total(q, y)
    gains, offsets = gain * np.linspace(0.9, 1.1, 7), offset * np.linspace(0.9, 1.1, 7)
    wide_q, wide_y = (a.astype(np.float64) for a in (q, y))
    direct = np.square(gains * wide_q + offsets - wide_y).sum(axis=(0, 1, 2))
    # The terms of the expanded square cancel: rounding is relative to their sizes, not to their sum.
    sizes = total(np.abs(q), np.abs(y)).error(np.abs(gains), -np.abs(offsets))
    large = gains**2 * moments.qq + moments.n * offsets**2 + moments.yy
    assert (np.abs(moments.error(gains, offsets) - direct) <= 4 * RTOL * (large + sizes)).all()


def test_error_is_never_negative() -> None:
    rng = np.random.default_rng(3)
    y = (1e4 + 1e-3 * rng.standard_normal((4, 500, 6))).astype(np.float32)
    found = total(y, y).error(np.ones(6), np.zeros(6))
    assert (found >= 0).all()


def test_sums_do_not_depend_on_the_memory_layout() -> None:
    q, y = pairs()
    turned = np.ascontiguousarray(q.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(Moments.of(turned, y).qy, Moments.of(q, y).qy)


def test_evening_weighs_by_one_over_rms_error() -> None:
    y = np.zeros((3, 10, 4), np.float32)
    q = y + np.array([1.0, 10.0, 0.0], np.float32)[:, None, None]
    step = 0.12
    weights = evening(Moments.of(q, y), step)
    np.testing.assert_allclose(
        weights[:2], [1 / np.sqrt(1 + step**2 / 12), 1 / np.sqrt(100 + step**2 / 12)], rtol=1e-12
    )
    # A sample without error does not outweigh all others: the output's rounding noise is its floor.
    assert weights[2] == pytest.approx(np.sqrt(12) / step, rel=1e-12)


def test_one_saturated_sample_does_not_decide_for_all() -> None:
    """Nine samples are 1 too low, one is 101 too low: the mean error says 11, the evened one about 1."""
    y = np.zeros((10, 8, 2), np.float32)
    q = y - np.array([1.0] * 9 + [101.0], np.float32)[:, None, None]
    moments = Moments.of(q, y)
    plain, evened = moments.total(np.ones(10)), moments.total(evening(moments, 1e-6))
    np.testing.assert_allclose((plain.y - plain.q) / plain.n, 11.0)
    np.testing.assert_allclose((evened.y - evened.q) / evened.n, (9 + 1) / (9 + 1 / 101), rtol=1e-9)


def test_weights_count_positions_so_many_times() -> None:
    q, y = (a.reshape(3, 54, 7) for a in pairs(samples=3))
    weights = [np.array([2.0, *[0.0] * 52, 1.0]), np.zeros(54), np.ones(54)]
    found = Moments.of(q, y, weights).total(np.ones(3))
    rows = [(0, 0), (0, 0), (0, 53), *((2, p) for p in range(54))]
    few_q, few_y = (np.stack([a[i, p] for i, p in rows])[:, None] for a in (q, y))
    assert_close(found, total(few_q, few_y), total(np.abs(few_q), np.abs(few_y)))


def test_a_position_counts_as_it_is_felt_and_less_where_it_errs() -> None:
    y = np.zeros((1, 3, 2), np.float32)
    q = y + np.array([0.0, 3.0, 3.0], np.float32)[None, :, None]
    position_weights = [np.array([1.0, 1.0, 4.0])]
    (weights,) = evening_rows(q, y, position_weights, step=12**0.5)
    # RMS errors of 0 and 3, and rounding noise of 12 / 12: 1 / sqrt(1), 1 / sqrt(10), four times that.
    np.testing.assert_allclose(weights, [1.0, 10**-0.5, 4 * 10**-0.5], rtol=1e-12)

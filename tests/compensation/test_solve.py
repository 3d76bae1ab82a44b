from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.compensation.moments import Moments
from edgeqwt.compensation.solve import DEGENERATE, NO_HELP, OUT_OF_BOUNDS, UNUSED, Correction, Options, solve
from edgeqwt.graph.graph import Array

CHANNELS = 6
GAINS = np.array([0.5, 0.9, 1.0, 1.3, -1.2, 3.0])
OFFSETS = np.array([0.3, -2.0, 0.0, 1.0, 0.5, -0.1])


def moments(q: Array, y: Array) -> Moments:
    return Moments.of(q, y).total(np.ones(len(q)))


def planted(gain: Array, offset: Array, noise: float = 0.0, seed: int = 0, samples: int = 40) -> Moments:
    """Moments of q and y = gain * q + offset + noise."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((samples, 25, len(gain))) + 0.7
    return moments(q, gain * q + offset + noise * rng.standard_normal(q.shape))


def solved(
    gain: Array, offset: Array, options: Options | None = None, noise: float = 0.0, **headroom: bool
) -> Correction:
    one, other = (planted(gain, offset, noise, seed) for seed in (0, 1))
    return solve([one, other], options or Options(), **headroom)


def test_exact_recovery() -> None:
    found = solved(GAINS, OFFSETS)
    # Differences of sums of 1000 numbers of size 1: 1000 * 2^-53, twice, with a factor 10 to spare.
    np.testing.assert_allclose(found.gain, GAINS, atol=1e-11)
    np.testing.assert_allclose(found.offset, OFFSETS, atol=1e-11)
    assert found.refused == {NO_HELP: 1}  # channel 2 needs nothing
    assert not found.is_identity


def test_noise_does_not_bias_the_line() -> None:
    """y is the noisy one here, so the slope is unbiased: 1000 pairs, so the standard error is 0.1 / sqrt(1000)."""
    found = solved(GAINS, OFFSETS, noise=0.1)
    needy = OFFSETS != 0
    np.testing.assert_allclose(found.gain[needy], GAINS[needy], atol=5 * 0.1 / 1000**0.5)
    np.testing.assert_allclose(found.offset[needy], OFFSETS[needy], atol=10 * 0.1 / 1000**0.5)


def test_offset_alone_is_the_mean_difference() -> None:
    found = solved(np.ones(CHANNELS), OFFSETS, Options(gain=False))
    np.testing.assert_array_equal(found.gain, 1)
    np.testing.assert_allclose(found.offset, OFFSETS, atol=1e-11)


@pytest.mark.parametrize("without", [{"options": Options(gain=False)}, {"can_gain": False}])
def test_without_gain_no_gain(without: dict[str, object]) -> None:
    found = solved(GAINS, OFFSETS, **without)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.gain, 1)
    assert found.refused.keys() <= {NO_HELP}


@pytest.mark.parametrize("without", [{"options": Options(offset=False)}, {"can_offset": False}])
def test_gain_alone_goes_through_zero(without: dict[str, object]) -> None:
    found = solved(GAINS, np.zeros(CHANNELS), **without)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.gain, GAINS, atol=1e-11)
    np.testing.assert_array_equal(found.offset, 0)


def test_gain_alone_minimizes_the_error_of_a_line_through_zero() -> None:
    fit = planted(np.full(1, 0.8), np.full(1, 2.0))
    found = solve([fit], Options(offset=False))
    nearby = [float(fit.error(found.gain + d, found.offset)[0]) for d in (-1e-3, 0.0, 1e-3)]
    assert nearby[1] < nearby[0]
    assert nearby[1] < nearby[2]


def test_room_for_nothing_changes_nothing() -> None:
    found = solved(GAINS, OFFSETS, can_gain=False, can_offset=False)
    assert found.is_identity
    assert found.refused == {NO_HELP: CHANNELS}


def test_constant_channel_gets_the_offset_alone() -> None:
    q = np.random.default_rng(0).standard_normal((8, 10, 2))
    q[..., 0] = 3.0
    found = solve([moments(q, 2 * q)], Options())
    np.testing.assert_allclose(found.gain, [1, 2], atol=1e-11)
    np.testing.assert_allclose(found.offset, [3, 0], atol=1e-11)
    assert found.refused == {DEGENERATE: 1}


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-30])
def test_dead_layer(value: float) -> None:
    q = np.full((4, 9, 3), value)
    found = solve([moments(q, q)], Options())
    assert found.is_identity
    assert found.refused == {DEGENERATE: 3, NO_HELP: 3}


def test_nearly_constant_channel_has_no_slope() -> None:
    """Its variance is the rounding error of its sums, and the slope would be anything."""
    q = 1000 + 1e-3 * np.random.default_rng(0).standard_normal((8, 50, 1))
    found = solve([moments(q, 2 * q)], Options())
    assert found.gain == 1
    np.testing.assert_allclose(found.offset, 1000, atol=0.01)


@pytest.mark.parametrize("slope", [4.5, -4.5, 0.2, -0.2, 0.0])
def test_gain_out_of_bounds_falls_back_to_the_offset(slope: float) -> None:
    found = solved(np.full(1, slope), np.full(1, 5.0))
    assert found.gain == 1
    assert found.offset != 0
    assert found.refused == {OUT_OF_BOUNDS: 1}


def test_gain_limit_is_an_option() -> None:
    found = solved(np.full(1, 4.5), np.zeros(1), Options(gain_limit=5.0))
    np.testing.assert_allclose(found.gain, 4.5, atol=1e-10)


def test_what_does_not_hold_on_other_samples_is_refused() -> None:
    """One half says +1, the other -1."""
    one, other = planted(np.ones(2), np.full(2, 1.0)), planted(np.ones(2), np.full(2, -1.0), seed=1)
    found = solve([one, other], Options())
    assert found.is_identity
    assert found.refused == {NO_HELP: 2}


def test_chance_is_no_help() -> None:
    """Two halves of pure noise: fitting always helps the half that it is fitted on, the other one seldom."""
    one, other = (planted(np.ones(400), np.zeros(400), noise=0.1, seed=seed, samples=4) for seed in (0, 1))
    found = solve([one, other], Options(margin=0.0, gain_margin=0.0))
    eager = int((found.gain != 1).sum() + (found.offset != 0).sum())
    strict = solve([one, other], Options(margin=0.05, gain_margin=0.05))
    assert int((strict.offset != 0).sum()) < 20 < eager


def test_margin_must_be_beaten() -> None:
    """An offset that removes 10 % of the squared error: noise of variance 9 and offset 1."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal((50, 40, 1))
    y = q + 1 + 3 * rng.standard_normal(q.shape)
    same = moments(q, y)
    drop = 1 - float((same.error(np.ones(1), (same.y - same.q) / same.n) / same.error(np.ones(1), np.zeros(1)))[0])
    options = Options(gain=False)
    assert solve([same], Options(gain=False, margin=drop * 0.99)).offset != 0
    assert solve([same], Options(gain=False, margin=drop * 1.01)).is_identity
    assert solve([same], options).offset != 0


def test_gain_must_beat_the_offset_by_its_margin() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((50, 40, 1))
    same = moments(q, 1.1 * q + 1 + 0.5 * rng.standard_normal(q.shape))
    slope = (same.qy / same.n - same.q * same.y / same.n**2) / (same.qq / same.n - (same.q / same.n) ** 2)
    offset_alone = float(same.error(np.ones(1), (same.y - same.q) / same.n)[0])
    both = float(same.error(slope, (same.y - slope * same.q) / same.n)[0])
    enough = offset_alone / both - 1
    assert solve([same], Options(gain_margin=enough * 0.99)).gain == pytest.approx(float(slope[0]))
    refused = solve([same], Options(gain_margin=enough * 1.01))
    assert refused.gain == 1
    assert refused.offset != 0


def test_each_fold_confirms_what_the_others_fitted() -> None:
    folds = [planted(GAINS, OFFSETS, noise=0.1, seed=seed) for seed in range(3)]
    found = solve(folds, Options())
    for k, (gain, offset) in enumerate(found.confirmed):
        others = [fold for j, fold in enumerate(folds) if j != k]
        alone = solve([others[0] + others[1]], Options())
        np.testing.assert_array_equal(gain, alone.gain)
        np.testing.assert_array_equal(offset, alone.offset)


def test_folds_without_samples_do_not_count() -> None:
    one, nothing = planted(GAINS, OFFSETS), Moments.zero(CHANNELS)
    found, alone = solve([nothing, one, nothing], Options()), solve([one], Options())
    np.testing.assert_array_equal(found.gain, alone.gain)
    assert len(found.confirmed) == 1


@pytest.mark.parametrize("weight", [0.0, np.nan])
def test_a_layer_none_of_whose_rows_counts_stays(weight: float) -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((4, 5, CHANNELS))
    nothing = Moments.of(q, 2 * q).total(np.full(4, weight))
    found = solve([nothing, nothing], Options())
    assert found.is_identity
    assert found.refused == {UNUSED: CHANNELS}


def test_weights_do_not_change_an_exact_line() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((12, 10, 3))
    apart = Moments.of(q, 1.5 * q - 0.5)
    found = solve([apart.total(rng.uniform(0.01, 10, 12)) for _ in range(3)], Options())
    np.testing.assert_allclose(found.gain, 1.5, atol=1e-11)
    np.testing.assert_allclose(found.offset, -0.5, atol=1e-11)

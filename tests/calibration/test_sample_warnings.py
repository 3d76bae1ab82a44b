from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edgeqwt.calibration.sample_warnings import sample_warnings
from edgeqwt.calibration.samples import Samples
from edgeqwt.graph.graph import Array


def message(arrays: Iterable[Array], channels_first: bool = False) -> tuple[str, ...]:
    kept = [{"x": array} for array in arrays]
    count, sentences = sample_warnings(Samples("test", lambda: iter(kept), len(kept)), {"x": channels_first})
    assert count == len(kept)
    return sentences


def noise(count: int, *shape: int, seed: int = 0) -> list[Array]:
    return [*np.random.default_rng(seed).normal(size=(count, 1, *shape)).astype(np.float32)]


def test_good_samples_leave_no_doubts() -> None:
    assert message(noise(40, 4)) == ()


def test_numbers() -> None:
    assert "nothing is held out" in message(noise(1, 4))[0]
    assert "31 calibration samples" in message(noise(31, 4))[0]
    assert "fresh ones may have 10 dB less" in message(noise(16, 4))[0]
    assert "fresh ones" not in message(noise(17, 4))[0]
    assert "the same one" in message(noise(1, 4) * 40)[0]
    twice = [x for x in noise(20, 4) for _ in range(2)]
    assert "only 20 of 40" in message(twice)[0]


def test_what_is_held_out_may_not_be_fitted_on() -> None:
    arrays = noise(60, 4)
    for k in range(1, 60, 4):  # every held-out sample is the one before it
        arrays[k] = arrays[k - 1]
    assert any("every held-out sample is fitted on" in sentence for sentence in message(arrays))
    arrays[1] = noise(1, 4, seed=9)[0]
    assert not any("every held-out sample is fitted on" in sentence for sentence in message(arrays))


def test_constants() -> None:
    constants = [np.full((1, 4), k, np.float32) for k in range(40)]
    assert message(constants) == ("input 'x' is constant in every calibration sample: give real data",)
    assert message([*constants[:10], *noise(30, 4)])[0].startswith("input 'x' is constant in 10 of 40")


def test_held_out_samples_beyond_the_fitted_ones() -> None:
    arrays = noise(40, 4)
    for k in range(1, 40, 4):
        arrays[k] = 3 * arrays[k] + 10
    (only,) = message(arrays)
    assert "10 of 10 held-out samples lie outside" in only


@pytest.mark.parametrize("channels_first", [True, False])
def test_channels_on_the_wrong_axis_of_a_cube(channels_first: bool) -> None:
    """Smooth along two axes, independent along the third."""
    rng = np.random.default_rng(1)
    maps = np.cumsum(np.cumsum(rng.normal(size=(40, 1, 6, 6, 6)), axis=-1), axis=-2).astype(np.float32)
    first, last = [*maps], [*np.moveaxis(maps, 2, -1)]
    right, wrong = (first, last) if channels_first else (last, first)
    assert message(right, channels_first) == ()
    (only,) = message(wrong, channels_first)
    assert "transpose the samples" in only
    assert message([x[:, :, :, :5] for x in wrong], channels_first) == ()  # another shape: checked elsewhere


@pytest.mark.parametrize("degrees", [2.0, 30.0])
def test_tails_that_no_number_of_samples_shows(degrees: float) -> None:
    """By Student's t: with 2 degrees of freedom squares have no mean, with 30 it is almost normal."""
    values = np.random.default_rng(0).standard_t(degrees, size=(400, 1, 12)).astype(np.float32)
    said = [sentence for sentence in message(values) if "heavy tails" in sentence]
    assert bool(said) == (degrees == 2)
    few, large = message(values[:63]), message(np.resize(values, (64, 1, 5000)))
    assert not any("heavy tails" in sentence for sentence in (*few, *large))


def test_pieces_of_one_recording_are_told_from_shuffled_ones() -> None:
    """Held-out samples that lie between fitted ones were promised 30 dB of a small network, and others had 5."""
    walk = np.cumsum(np.random.default_rng(0).normal(size=(64, 1, 12)), axis=0).astype(np.float32)
    (said,) = (sentence for sentence in message([*walk]) if "much alike" in sentence)
    assert said.startswith("input 'x': samples that follow one another are much alike (they differ by ")
    shuffled = walk[np.random.default_rng(1).permutation(64)]
    assert not any("much alike" in sentence for sentence in message([*shuffled]))

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.samples import Samples, split, turned
from edgeqwt.errors import InputError


def stream(n: int, count: int | None) -> Samples:
    return Samples("s", lambda: ({"x": np.array([i])} for i in range(n)), count)


def indices(samples: Samples) -> list[int]:
    return [int(s["x"][0]) for s in samples]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 17, 128])
def test_split_shares_out_every_sample_once(n: int, known: bool) -> None:
    fit, held_out = split(stream(n, n if known else None))
    assert indices(held_out) == list(range(1, n, 4))
    assert sorted(indices(fit) + indices(held_out)) == list(range(n))
    assert indices(fit) == sorted(indices(fit)) == indices(fit)
    if known:
        assert (fit.count, held_out.count) == (len(indices(fit)), len(indices(held_out)))
    else:
        assert (fit.count, held_out.count) == (None, None)
    assert len(indices(held_out)) >= 1
    assert len(indices(fit)) >= 1


@pytest.mark.parametrize("known", [True, False])
def test_turned_samples_are_the_same_ones_from_another_on(known: bool) -> None:
    samples = stream(5, 5 if known else None)
    assert indices(turned(samples, 2)) == [2, 3, 4, 0, 1]
    assert indices(turned(samples, 13).head(3)) == [3, 4, 0]
    assert indices(turned(samples, 0)) == indices(samples)


def test_split_by_another_number() -> None:
    fit, held_out = split(stream(6, 6), every=2)
    assert (indices(fit), indices(held_out)) == ([0, 2, 4], [1, 3, 5])


@pytest.mark.parametrize("count", [1, None])
def test_split_of_a_single_sample_says_that_nothing_is_held_out(count: int | None) -> None:
    fit, held_out = split(stream(1, count))
    assert indices(fit) == indices(held_out) == [0]
    assert fit.origin == held_out.origin == "s (one sample, none held out)"


@pytest.mark.parametrize("count", [0, None])
def test_split_of_nothing(count: int | None) -> None:
    with pytest.raises(InputError, match="s has no samples"):
        split(stream(0, count))


def test_split_needs_two() -> None:
    with pytest.raises(InputError, match="one in 1"):
        split(stream(5, 5), every=1)


def test_split_reads_lazily() -> None:
    fit, held_out = split(stream(10**9, 10**9))
    assert next(iter(fit))["x"][0] == 0
    assert next(iter(held_out))["x"][0] == 1
    assert (fit.count, held_out.count) == (750_000_000, 250_000_000)


def test_head_and_map_keep_the_stream_re_readable() -> None:
    doubled = stream(5, 5).head(3).map(lambda s: {"x": s["x"] * 2})
    assert doubled.count == 3
    assert indices(doubled) == indices(doubled) == [0, 2, 4]

"""Wider ranges for few values, unless that clearly loses."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.scales.ranges import MinMax, Mse
from edgeqwt.techniques.range_tails import RangeTails
from tests import small
from tests.techniques.test_regions16 import begin, work_on


def test_held_out_samples_may_refuse_it() -> None:
    work = work_on(small.graph(), small.images(16))
    before = begin(work)
    after, account = RangeTails(max_loss=100).apply(before, work)
    assert account.kept
    assert isinstance(after.ranges, Mse)
    assert after.ranges.tails
    gain = account.data["gain_db"]
    for most in (0.0, 0.3):
        after, account = RangeTails(max_loss=most).apply(before, work)
        assert account.kept == (gain >= -10 * most)  # 4 held-out samples say little of what more would lack
        assert account.kept or (after is before and "dB on held-out samples" in account.sentences[0])


def test_other_rules_have_no_tails() -> None:
    work = work_on(small.graph(), small.images(16))
    other = replace(begin(work), ranges=MinMax())
    after, account = RangeTails().apply(other, work)
    assert after is other
    assert not account.sentences

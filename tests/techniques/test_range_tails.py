"""Wider ranges for few values, unless that clearly loses."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.scales.ranges import MinMax, Mse, with_default
from edgeqwt.techniques.range_tails import MOST, SHARES, RangeTails
from tests import small
from tests.techniques.test_regions16 import begin, work_on


def test_held_out_samples_may_refuse_it() -> None:
    work = work_on(small.graph(), small.images(16))
    before = begin(work)
    after, account = RangeTails(max_loss=100).apply(before, work)
    assert account.kept
    assert isinstance(after.ranges, Mse)
    assert after.ranges.tails == SHARES[0]
    gains = {}
    for share in SHARES:
        ranges = with_default(before.ranges, Mse(tails=share))
        gains[share] = work.keep(before, replace(before, ranges=ranges), -100).gain_db
    for most in (0.0, *(-gain / 625 for gain in gains.values()), 0.3):
        after, account = RangeTails(max_loss=max(most, 0.0)).apply(before, work)
        # 4 held-out samples say little of what more would lack: (100 / 4)^2 times as much may be lost, up to 5 dB.
        allowed = [share for share in SHARES if gains[share] >= -min(625 * max(most, 0.0), MOST)]
        assert account.kept == bool(allowed)
        assert account.kept or (after is before and "dB on held-out samples" in account.sentences[0])
        assert not account.kept or after.ranges.tails == allowed[0]


def test_other_rules_have_no_tails() -> None:
    work = work_on(small.graph(), small.images(16))
    other = replace(begin(work), ranges=MinMax())
    after, account = RangeTails().apply(other, work)
    assert after is other
    assert not account.sentences

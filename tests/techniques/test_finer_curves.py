"""TANH and LOGISTIC as tables where held-out samples gain by it."""

from __future__ import annotations

from edgeqwt.profile import Npu, TargetProfile
from edgeqwt.techniques.finer_curves import FinerCurves
from tests.scales.test_curves import actor, samples
from tests.techniques.test_regions16 import begin, work_on


def test_held_out_samples_decide() -> None:
    for scaled in (True, False):
        work = work_on(actor(scaled=scaled), samples(0.05)[:, 0])
        before = begin(work)
        after, account = FinerCurves().apply(before, work)
        assert (account.data["ops"], account.kept) == (1, True)
        assert (
            account.data["gain_db"] > 6
        )  # values within 0.2 of -1..1: steps are 5 times as fine, 14 dB, less the input's
        assert after.precision.finer_curves
        assert account.sentences[0].startswith("1 TANH or LOGISTIC is tables")
        same, account = FinerCurves(min_gain=100).apply(before, work)
        assert same is before
        assert not account.kept
        assert account.sentences[0].startswith("no TANH or LOGISTIC is a table with a finer output scale")


def test_npus_have_the_curves_themselves() -> None:
    npu = Npu("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
    work = work_on(actor(), samples(0.05)[:, 0], TargetProfile("npu", "", ("reference",), npu=npu))
    before = begin(work)
    after, account = FinerCurves().apply(before, work)
    assert after is before
    assert not account.sentences

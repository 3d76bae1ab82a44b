"""Techniques within a limited time or memory: shortened, left out, or as they were."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import pytest

import edgeqwt
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.passes import limits as limiting
from edgeqwt.passes.context import Context
from edgeqwt.passes.limits import AFTER, FEW, FOLLOWING, LIMITED, Limits, weight
from edgeqwt.passes.run import make, start
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.report.document import document
from edgeqwt.report.terminal import limit_sentences
from edgeqwt.techniques.gptq import Gptq
from edgeqwt.techniques.weighted_ranges import WeightedRanges
from edgeqwt.widths.precision import parse
from tests import small
from tests.reports import problems

LITERT = TargetProfile("tflite", "", ("reference", "xnnpack"))
GIB = 1 << 30


class Clock:
    """Time that passes only where a test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "time", CLOCK)


@dataclass(frozen=True)
class Reader(Technique):
    """Takes a second for every sample."""

    name = "reader"
    works = Works.FLOAT
    gains_db: ClassVar[tuple[float, float] | None] = (1.0, 1.0)
    samples: int = 64

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        count = 0
        for count, _ in enumerate(islice(iter(context.fit), self.samples), start=1):
            CLOCK.now += 1.0
            context.advance(count, self.samples)
        return replace(state), Account(("read",), {"samples": count})


@dataclass(frozen=True)
class Other(Reader):
    name = "other"
    gains_db: ClassVar[tuple[float, float] | None] = (3.0, 3.0)


def context(limits: Limits) -> Context:
    graph = small.graph()
    spec = InputSpec("image", (1, 8, 8, 3), "float32")
    model = ConvertedModel(graph, (Binding(spec, graph.inputs[0]),), (), lambda sample: {})
    return replace(Context.of(model, graph, open_samples({"image": small.images(40)}), LITERT), limits=limits)


def seconds(share: float) -> Limits:
    """Limits of which techniques have so many seconds."""
    return Limits.from_now(share / (1 - AFTER), None)


def made(*techniques: Technique, limits: Limits) -> list[tuple[Technique, Account]]:
    """What techniques did, and with which options."""
    steps = make(context(limits), techniques, parse("w8a8"), Stages()).steps
    return [(step.technique, step.account) for step in steps]


def test_enough_time_changes_nothing() -> None:
    ((used, account),) = made(Reader(), limits=seconds(38.1))  # 8 samples to try, and all 30 that are not held out
    assert (used, dict(account.data)) == (Reader(), {"samples": 30})
    assert account.sentences == ("read",)


def test_little_time_shortens() -> None:
    ((used, account),) = made(Reader(), limits=seconds(28.1))
    assert used == Reader(samples=20)
    assert account.data["samples"] == 20  # what is reported is what ran
    assert account.data[LIMITED] == "20 of 30 samples, for its share of the time, 28.1 s"
    assert account.sentences == ("read", f"shortened: {account.data[LIMITED]}")
    ((used, account),) = made(Reader(), limits=seconds(20.0))  # 12 are not worth a second run
    assert (used, account.data["samples"]) == (Reader(samples=FEW), FEW)


def test_no_time_leaves_out() -> None:
    ((used, account),) = made(Reader(), limits=seconds(7.0))
    assert (used, account.kept) == (Reader(), False)
    assert account.sentences == ("left out: its share of the time, 7.0 s, is not enough",)


def test_shares_are_by_gain() -> None:
    """Of 40.1 s the first of two gets a quarter, which is enough to try it; the other one what is left."""
    (first, _), (second, account) = made(Reader(), Other(), limits=seconds(40.1))
    assert (first, second) == (Reader(samples=FEW), Other(samples=24))
    assert "32.1 s" in account.data[LIMITED]


def test_what_gains_more_at_few_bits_has_a_larger_share_there() -> None:
    wide, few = parse("w8a8"), parse("w4a8")
    assert weight(Gptq(), few) / weight(WeightedRanges(), few) > 10 * weight(Gptq(), wide) / weight(
        WeightedRanges(), wide
    )


def test_what_does_not_fit_the_memory_is_left_out() -> None:
    work = context(Limits())
    state = work.with_integer(start(work, parse("w8a8")))
    needed = Gptq().memory(state)
    assert 0 < needed < GIB
    assert Limits(memory=100 * GIB).lacking(needed) == ""
    assert Limits(memory=1).lacking(needed).endswith("of 0 MiB 0 are left")
    assert Limits(memory=1).lacking(0) == ""  # what needs little runs
    ((_, account),) = made(Gptq(), limits=Limits(memory=1))
    assert not account.kept
    assert "left out: it needs about" in account.sentences[0]
    with pytest.raises(InputError, match="more than the 0 MiB of --memory"):
        Limits(memory=1).require("conversion")


def test_a_part_ends_earlier() -> None:
    whole = Limits.from_now(100.0, None)
    assert whole.part(0.5).left() == pytest.approx(whole.left() / 2)
    assert Limits().part(0.5) == Limits()


def test_time_is_kept_for_what_runs_the_samples_again() -> None:
    whole = Limits.from_now(100.0, None)
    assert whole.foreseeing(1.0).left() == pytest.approx(100 * (1 - AFTER), abs=1)
    assert whole.foreseeing(10.0).left() == pytest.approx(100 - 10 * FOLLOWING, abs=1)
    assert Limits().foreseeing(10.0).left() == math.inf


@pytest.mark.parametrize(("time_budget", "memory"), [(0.0, None), (float("nan"), None), (None, 0)])
def test_a_build_needs_something(time_budget: float | None, memory: int | None) -> None:
    with pytest.raises(InputError, match="needs time and memory"):
        Limits.from_now(time_budget, memory)


def test_a_build_says_what_it_was_allowed(tmp_path: Path) -> None:
    files = small.write(tmp_path)
    options = {"calibration": files.samples, "recipe": "fast", "accept": True}
    free, roomy = edgeqwt.build(files.model, **options), edgeqwt.build(files.model, **options, memory=100 * GIB)
    assert roomy.to_bytes() == free.to_bytes()
    assert document(free)["limits"] is None
    assert document(roomy)["limits"] == {"seconds": None, "memory": 100 * GIB, "less": {}}
    assert problems(document(roomy)) == []
    (said,) = limit_sentences(roomy)
    assert said.endswith("MiB of memory were taken, 102,400 allowed")
    with pytest.raises(InputError, match="of --memory"):
        edgeqwt.build(files.model, **options, memory=1 << 20)


def test_a_short_build_does_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "time", time)
    files = small.write(tmp_path)
    result = edgeqwt.build(files.model, calibration=files.samples, recipe="balanced", accept=True, time_budget=0.001)
    assert list(result.limited) == ["equalization", "weighted_ranges", "gptq"]
    assert result.ceiling is None
    assert result.remedy.startswith("Try one or several of: ")  # nothing is tried
    assert "equalization, weighted_ranges, gptq did less" in next(iter(limit_sentences(result)))

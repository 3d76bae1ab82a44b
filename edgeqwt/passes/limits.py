"""What a build may take: time that costly techniques share by what they gain, and memory that none may go beyond.

Nobody knows beforehand how long a technique takes for a network on a machine. So each is tried with a few samples
first; what that took says how many samples its share of the time is enough for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeqwt.errors import InputError
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique
from edgeqwt.progress import peak
from edgeqwt.runtime.child import MIB
from edgeqwt.widths.precision import Precision

if TYPE_CHECKING:
    from edgeqwt.passes.context import Context

AFTER = 0.3  # of a build's time is kept at least for what follows techniques: judging, proofs, the package
FOLLOWING = 6.5  # times calibration's: compensation, judging and proofs took 4.5 to 6.9 times that of four builds
FEW = 8  # samples that a technique is tried with
LATE = 1.5  # times its share after which a technique is stopped
LEAST_DB = 0.1  # what a technique counts as gaining at least
FEW_BITS = 4  # of weights, up to which gains at 4 bits count
LIMITED = "limited"
"""In the figures of an account: why a technique did less than its recipe asks."""


@dataclass(frozen=True)
class Limits:
    """What a build may take.

    Attributes:
        seconds: of wall-clock time, as the user gave them; None: not limited.
        memory: bytes that its process may have resident; None: not limited.
        ends: `time.monotonic()` at which the build should have ended.
        following: seconds that what follows techniques takes, as far as calibration tells.
    """

    seconds: float | None = None
    memory: int | None = None
    ends: float = math.inf
    following: float = 0.0

    @classmethod
    def from_now(cls, seconds: float | None, memory: int | None) -> Limits:
        """Limits of a build that begins now.

        Raises:
            InputError: there is to be no time, or no memory.
        """
        if (seconds is not None and not seconds > 0) or (memory is not None and memory <= 0):
            raise InputError("a build needs time and memory", "Give more than nothing, or leave the limit out.")
        return cls(seconds, memory, math.inf if seconds is None else time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that techniques have left."""
        return self.ends - time.monotonic() - max(AFTER * (self.seconds or 0.0), self.following)

    def foreseeing(self, calibration: float) -> Limits:
        """The same, once it is known how many seconds a run of the float graph on the samples to fit on takes."""
        return replace(self, following=FOLLOWING * calibration)

    def spare(self) -> bool:
        """Whether there is time for what only informs."""
        return self.ends - time.monotonic() > AFTER / 2 * (self.seconds or 0.0)

    def part(self, share: float) -> Limits:
        """The same, for a build that has only a share of what is left."""
        return self if self.seconds is None else replace(self, ends=self.ends - (1 - share) * max(0.0, self.left()))

    def lacking(self, needed: int) -> str:
        """Why so many bytes more cannot be had; empty where they can."""
        taken = (peak() or 0) * MIB
        if self.memory is None or not needed or taken + needed <= self.memory:
            return ""
        left = max(0, self.memory - taken)
        return f"it needs about {needed / MIB:,.0f} MiB, and of {self.memory / MIB:,.0f} MiB {left / MIB:,.0f} are left"

    def require(self, doing: str) -> None:
        """Stops a build that has taken more than it may before anything can be left out.

        Raises:
            InputError: it has.
        """
        taken = peak() or 0
        if self.memory is not None and taken * MIB > self.memory:
            raise InputError(
                f"{doing} took {taken:,} MiB, more than the {self.memory / MIB:,.0f} MiB of --memory",
                "Allow more, or build with fewer calibration samples or from an .onnx or .tflite file.",
            )


UNLIMITED = Limits()


class _LateError(Exception):
    """A technique has taken longer than it may."""


def within_limits(
    technique: Technique, state: State, context: Context, others: Sequence[Technique] = ()
) -> tuple[Technique, State, Account]:
    """One pass, as long as its limits allow: the technique as it ran, the model after it, and what it did.

    Args:
        technique: with its options.
        state: what came out of the one before.
        context: its `limits` count.
        others: that come after it and have a share of the time.
    """
    limits = context.limits
    if limits.memory is not None and (lacking := limits.lacking(technique.memory(state))):
        return technique, state, _left_out(lacking)
    if limits.seconds is None or not shares(technique):
        return technique, *technique.apply(state, context)
    weights = [weight(each, state.precision) for each in (technique, *filter(shares, others))]
    share = max(0.0, limits.left()) * weights[0] / sum(weights)
    return _timed(technique, state, context, share)


def shares(technique: Technique) -> bool:
    """Whether a technique has a share of the time: it takes samples, and is known to gain."""
    return technique.gains_db is not None and hasattr(technique, "samples")


def weight(technique: Technique, precision: Precision) -> float:
    """What a technique is expected to gain, in dB, for its share of the time."""
    assert technique.gains_db is not None
    return max(LEAST_DB, technique.gains_db[precision.weight_bits <= FEW_BITS])


def _timed(technique: Technique, state: State, context: Context, share: float) -> tuple[Technique, State, Account]:
    """A technique with as many samples as its share of the time is enough for."""
    asked: int = technique.samples  # type: ignore[attr-defined]  # see `shares`
    known = context.fit.samples.count
    most, begin = asked if known is None else min(asked, known), time.monotonic()
    tried = _with(technique, min(FEW, most))
    first = _until(begin + share, tried, state, context)
    if first is None:
        return technique, state, _left_out(f"its share of the time, {share:.1f} s, is not enough")
    spent = time.monotonic() - begin
    affordable = most if spent <= 0 else math.floor(FEW * (share - spent) / spent)
    if most <= FEW:
        return technique, *first
    if affordable >= most:
        whole = _until(begin + LATE * share, technique, state, context)
        if whole is not None:
            return technique, *whole
    elif affordable >= 2 * FEW:
        shorter = _with(technique, affordable)
        found = _until(begin + LATE * share, shorter, state, context)
        if found is not None:
            return shorter, found[0], _shortened(found[1], affordable, most, share)
    return tried, first[0], _shortened(first[1], FEW, most, share)


def _with(technique: Technique, samples: int) -> Technique:
    changes: dict[str, Any] = {"samples": samples}
    return replace(technique, **changes)  # type: ignore[type-var]  # techniques are frozen dataclasses


def _until(end: float, technique: Technique, state: State, context: Context) -> tuple[State, Account] | None:
    """What a technique makes; None where it takes longer."""
    shown = context.advance

    def advance(done: int, total: int | None, layer: str = "") -> None:
        if time.monotonic() > end:
            raise _LateError
        shown(done, total, layer)

    if time.monotonic() >= end:
        return None
    try:
        return technique.apply(state, context.showing(advance))
    except _LateError:
        return None


def _left_out(why: str) -> Account:
    return Account((f"left out: {why}",), {"skipped": why, LIMITED: why}, kept=False)


def _shortened(account: Account, samples: int, most: int, share: float) -> Account:
    why = f"{samples} of {most} samples, for its share of the time, {share:.1f} s"
    return replace(account, sentences=(*account.sentences, f"shortened: {why}"), data={**account.data, LIMITED: why})

"""The never-worse gate: a change is kept only if it does not raise the error at the outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from edgeqwt.verify.paired import LEAST, Gain, Split, assumed_error, gain, split
from edgeqwt.verify.quality import Quality


@dataclass(frozen=True)
class Choice:
    """Which variant is kept.

    Attributes:
        name: the variant's.
        reason: a sentence for the report.
    """

    name: str
    reason: str


def choose(candidates: Mapping[str, Quality]) -> Choice:
    """The last candidate that is for every output at least as close to the float graph as the one kept before it.

    Nor may it be worse at any part of an output by more than chance. What varies between samples and the whole
    output have the same error, so that both decide alike. Fewer than `FEW` samples decide for a change only where it
    gains more than chance. One or two do not show how far they differ: what is to be expected counts there
    (`paired.assumed_error`).

    Args:
        candidates: in the order in which they were made, the plainest first; all judged on the same
            samples, none of which was used to make them.
    """
    (first, quality), *others = candidates.items()
    kept, compared = first, 0
    for name, candidate in others:
        worse = _first_worse(quality, candidate)
        compared = worse or 0
        if worse is None:
            kept, quality = name, candidate
    reason = _reason(candidates, compared) if others else "there is no other candidate"
    return Choice(kept, reason)


FEW = 8


def gain_at(before: Quality, after: Quality, output: int) -> Gain:
    """What a candidate gains at the tensor that decides for an output.

    One or two samples do not show how far samples differ: the standard error is then the one to assume.
    """
    b, a = before.decisive[output], after.decisive[output]
    found = gain(b.errors, a.errors)
    if len(a.errors) < LEAST and found.db != 0 and math.isfinite(found.db):
        return replace(found, standard_error=assumed_error(len(a.errors), a.closeness.elements))
    return found


def split_at(before: Quality, after: Quality, output: int) -> Split | None:
    """What a candidate wins and loses of an output's classes; None where it has no classes."""
    b, a = before.outputs[output], after.outputs[output]
    return None if b.closeness.top1 is None or not b.agreeing else split(b.agreeing, a.agreeing)


def _first_worse(before: Quality, after: Quality) -> int | None:
    for k, (b, a) in enumerate(zip(before.decisive, after.decisive, strict=True)):
        if not a.closeness.rms_error <= b.closeness.rms_error:  # nan counts as worse
            return k
        if 0 < len(b.errors) < FEW and a.errors != b.errors and not gain_at(before, after, k).certain:
            return k
    for k, (out_b, out_a) in enumerate(zip(before.outputs, after.outputs, strict=True)):
        gains = (gain(b.errors, a.errors) for b, a in zip(out_b.parts, out_a.parts, strict=True))
        if any(g.certain and g.db < 0 for g in gains):
            return k
    return None


def _reason(candidates: Mapping[str, Quality], output: int) -> str:
    """What every candidate reaches at the output that decided, and what it gains over the one before it."""
    listed = [f"{q.decisive[output].closeness.judged_db:.2f} dB {name}" for name, q in candidates.items()]
    gains = [gain_at(b, a, output) for b, a in pairwise(candidates.values())]
    sentences = ", ".join([listed[0], *(f"{t}{gain_text(g)}" for t, g in zip(listed[1:], gains, strict=True))])
    last = list(candidates.values())[-1]
    judged = last.decisive[output]
    name, end = judged.name, last.outputs[output].name
    where = f"at {name!r}" if name == end else f"at {name!r}, before {end!r}"
    what = "SQNR" if judged.closeness.varying_db is None else "SQNR of what varies"
    few = ", so few that only what is more than chance counts" if 0 < len(judged.errors) < FEW else ""
    return f"{what} {where}: {sentences}; on {last.samples} held-out sample{'s' * (last.samples != 1)}{few}"


def gain_text(found: Gain) -> str:
    """The gain in brackets with its standard error; whether it is one is said where it is not."""
    if math.isnan(found.standard_error):  # nobody can know
        return ""
    chance = "" if found.certain or found.db == 0 else ", no more than chance"
    return f" ({found.db:+.2f} ± {found.standard_error:.2f}{chance})"

"""The never-worse gate: a change is kept only if it does not raise the error at the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeqwt.verify.layers import Quality


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

    Args:
        candidates: in the order in which they were made, the plainest first; all judged on the same
            samples, none of which was used to make them.
    """
    (kept, quality), *others = candidates.items()
    place = 0
    for name, candidate in others:
        worse = _first_worse(quality, candidate)
        place = worse or 0
        if worse is None:
            kept, quality = name, candidate
    return Choice(kept, _reason(candidates, place) if others else "there is no other candidate")


def _first_worse(before: Quality, after: Quality) -> int | None:
    pairs = zip(before.decisive, after.decisive, strict=True)
    errors = [(b.closeness.rms_error, a.closeness.rms_error) for b, a in pairs]
    return next((k for k, (b, a) in enumerate(errors) if not a <= b), None)  # nan counts as worse


def _reason(candidates: Mapping[str, Quality], output: int) -> str:
    """What every candidate reaches at the output that decided."""
    told = ", ".join(f"{q.decisive[output].closeness.sqnr_db:.2f} dB {name}" for name, q in candidates.items())
    last = list(candidates.values())[-1]
    judged, end = last.decisive[output].tensor, last.outputs[output].tensor
    where = f"at {judged!r}" if judged == end else f"at {judged!r}, before {end!r}"
    return f"SQNR {where}: {told}; on {last.samples} held-out samples"

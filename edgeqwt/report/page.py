"""What a page of a report shows, as a value: made by `pages.py`, drawn by `html.py`, put side by side by `diff.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeqwt.report.details import Memory, OpRow, SampleRow
from edgeqwt.verify.thresholds import Thresholds

GOOD, POOR, BELOW, UNKNOWN = "good", "poor", "below", "unknown"
"""Levels: above both quality thresholds, below the one that warns, below the one that refuses."""


VERDICTS = {GOOD: "good", POOR: "poor", BELOW: "below the quality thresholds", UNKNOWN: "not known"}


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        text: as people read it.
        note: more of it, smaller.
        level: one of the levels, for its colour; empty: none.
        bar: from 0 to 1, of a bar behind it; None: none.
    """

    text: str
    note: str = ""
    level: str = ""
    bar: float | None = None


@dataclass(frozen=True)
class Row:
    """One figure of every model, in the order of the columns.

    Attributes:
        label: what it is.
        cells: one per column; None where a model has none.
        note: what it was measured on.
        decides: whether it says which model is kept.
    """

    label: str
    cells: tuple[Cell | None, ...]
    note: str = ""
    decides: bool = False


@dataclass(frozen=True)
class Hint:
    """One of the worst ops: what is wrong, and what to do."""

    op: int | None
    kind: str
    tensor: str
    what: str
    todo: str


@dataclass(frozen=True)
class Step:
    """What a technique did, and what it gained where that was measured."""

    name: str
    kept: bool
    sentences: tuple[str, ...]
    gain_db: float | None = None


@dataclass(frozen=True)
class Advice:
    """Something that a target or a runtime has to say: `severity` is error, warning or note."""

    severity: str
    sentence: str


@dataclass(frozen=True)
class Page:
    """One report.

    Attributes:
        kind: "build", "refused" (a build that stopped for its quality), "compensate" or "compare".
        title: the model.
        facts: what it was made with, in a few words each.
        level: of the whole.
        headline: the verdict in a sentence; `lead` has more.
        columns, kept: models side by side, and which of them was kept, or was the best that was refused.
        rows: what was measured of them.
        hints: the worst ops; `together` says why the model is poor where none of them is.
        series: models that `ops` has errors of, in order; the last one is looked at first.
        ops: as `details.op_rows` makes them.
        thresholds: levels follow from them.
        steps, memory, npu, advice, samples, origin: techniques, the plan of the arena, the NPU compiler's summary, what
            target and runtimes say, the worst samples, and what the file was made of.
    """

    kind: str
    title: str
    level: str
    headline: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    series: tuple[str, ...]
    ops: tuple[OpRow, ...]
    kept: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    lead: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    steps: tuple[Step, ...] = ()
    memory: Memory | None = None
    npu: Mapping[str, Any] | None = None
    advice: tuple[Advice, ...] = ()
    samples: tuple[SampleRow, ...] = ()
    origin: tuple[tuple[str, str], ...] = ()
    together: str = ""


def level_of(db: float | None, thresholds: Thresholds) -> str:
    """The level of an SQNR of what varies."""
    if db is None:
        return UNKNOWN
    if math.isnan(db) or db < thresholds.min_db:
        return BELOW
    return POOR if db < thresholds.warn_db else GOOD


def own_of(op: OpRow, series: str) -> float | None:
    """An op's own error in dB; None where it is not known or the op only moves values."""
    error = op["errors"].get(series)
    return None if error is None or error["moves"] else error["own_db"]


def accumulated_of(op: OpRow, series: str) -> float | None:
    """The error behind an op, in dB; None where it is not known."""
    error = op["errors"].get(series)
    return None if error is None else error["accumulated_db"]

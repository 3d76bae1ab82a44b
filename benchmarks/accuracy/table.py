"""Records as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from accuracy.plan import PRECISIONS, Method

HEADER = ("precision", "tool", "method", "runs", "accuracy", "same top-1", "SQNR dB", "seconds", "peak MiB", "commit")
NOT_RUN = "not run"


class Measured(Protocol):
    """What the table shows of a record."""

    @property
    def accuracy(self) -> float | None: ...
    @property
    def agreement(self) -> float | None: ...
    @property
    def sqnr(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def peak_mib(self) -> float | None: ...
    @property
    def failure(self) -> str: ...
    @property
    def commit(self) -> str: ...


def rows(methods: Iterable[Method], records: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    """One row a method, by precision; what failed shows its reason in place of the figures."""
    ordered = sorted(methods, key=lambda method: PRECISIONS.index(method.precision))
    return [_row(method, records.get(method.label)) for method in ordered]


def _row(method: Method, record: Measured | None) -> tuple[str, ...]:
    name = (method.precision, method.peer, method.name, method.runs)
    if record is None:
        return (*name, NOT_RUN, *[""] * 5)
    if record.failure:
        return (*name, f"failed: {record.failure}", *[""] * 4, record.commit)
    return (
        *name,
        _form(record.accuracy, 4),
        _form(record.agreement, 4),
        _form(record.sqnr, 2),
        _form(record.seconds, 0),
        _form(record.peak_mib, 0),
        record.commit,
    )


def _form(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, numbers at the right."""
    numeric = HEADER.index("accuracy")
    rule = ["---"] * numeric + ["---:"] * (len(HEADER) - numeric - 1) + ["---"]
    lines = [HEADER, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

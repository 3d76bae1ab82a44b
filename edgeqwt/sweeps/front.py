"""Which builds of a model are worth having: quality over what they cost, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeqwt.sweeps.table import BUILT, Row


@dataclass(frozen=True)
class Cost:
    """Something that builds cost.

    Attributes:
        column: of the table.
        title: with its unit.
        digits: behind the point.
    """

    column: str
    title: str
    digits: int = 0


COSTS = (Cost("bytes", "bytes"), Cost("cycles", "cycles"), Cost("latency_ms", "latency, ms", 3))


@dataclass(frozen=True)
class Point:
    """A build in a chart.

    Attributes:
        row: of the build.
        cost: what it costs.
        db: its quality.
        best: whether it is on the front: no other build of its chart is at least as good and costs less, or is better
            and costs no more.
    """

    row: Row
    cost: float
    db: float
    best: bool


def points(rows: Sequence[Row], cost: Cost) -> tuple[Point, ...]:
    """The builds whose cost and quality are known, the cheapest first.

    Args:
        rows: of one model: qualities of several cannot be compared.
        cost: what it is held against.
    """
    known = [
        (float(value), row.kept_db, row)
        for row in rows
        if row.status == BUILT and row.kept_db is not None and (value := getattr(row, cost.column)) is not None
    ]
    found: list[Point] = []
    best = float("-inf")
    for value, db, row in sorted(known, key=lambda item: (item[0], -item[1])):
        found.append(Point(row, value, db, db > best))
        best = max(best, db)
    return tuple(found)


def best_keys(rows: Sequence[Row]) -> frozenset[str]:
    """The keys of the builds on a front of their own model, by any cost but latency, which varies from run to run."""
    chosen = [cost for cost in COSTS if cost.column != "latency_ms"]
    return frozenset(
        point.row.key
        for model in dict.fromkeys(row.model for row in rows)
        for cost in chosen
        for point in points([row for row in rows if row.model == model], cost)
        if point.best
    )

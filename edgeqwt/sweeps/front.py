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


COSTS = (
    Cost("bytes", "bytes"),
    Cost("cycles", "cycles"),
    Cost("bit_operations", "bit operations"),
    Cost("latency_ms", "latency, ms", 3),
)


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


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Builds whose qualities can be compared, by name: of one model, judged on the held-out samples of one set."""
    sets = {model: {row.calibration for row in rows if row.model == model} for model in {row.model for row in rows}}
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = f"{row.model}, {row.calibration}" if len(sets[row.model]) > 1 else row.model
        found.setdefault(name, []).append(row)
    return found


def points(rows: Sequence[Row], cost: Cost) -> tuple[Point, ...]:
    """The builds whose cost and quality are known, the cheapest first.

    Args:
        rows: of one group.
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
    """The keys of the builds on a front of their group, by any cost but latency, which varies from run to run."""
    found = [points(group, cost) for group in groups(rows).values() for cost in COSTS if cost.column != "latency_ms"]
    return frozenset(point.row.key for shown in found for point in shown if point.best)

"""A sweep in the terminal: its table, and quality over costs as characters; and as CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import astuple
from typing import TYPE_CHECKING

from edgeqwt.output import show_facts, show_table
from edgeqwt.sweeps.front import COSTS, Cost, Point, best_keys, groups, points
from edgeqwt.sweeps.table import BUILT, COLUMNS, FAILED, LOST, Row, counts

if TYPE_CHECKING:
    from rich.console import Console

    from edgeqwt.sweeps.run import Sweep

HEADER = (
    "build", "target", "recipe", "widths", "samples", "plain,\ndB", "kept,\ndB", "same\ntop-1", "score", "bytes",
    "cycles", "bit ops,\nM", "latency,\nms", "s", "MiB", "best",
)  # fmt: skip
TEXTS = 5  # columns that are no figures
SPARE = tuple(map(HEADER.index, ("MiB", "s", "bit ops,\nM", "same\ntop-1", "plain,\ndB")))
"""Columns that a narrow terminal does without, the first of them first, and a phone."""
WIDTH, HEIGHT = 60, 12  # characters of a chart
BEST, OTHER = "●", "·"


def show_sweep(out: Console, found: Sweep) -> None:
    """The builds of each group, the best first; what failed and why; quality over costs."""
    rows = ordered(found.rows)
    built, best = [row for row in rows if row.status == BUILT], best_keys(rows)
    if built:
        _show_builds(out, built, best)
    for name, group in groups(built).items():
        for cost in COSTS:
            shown = points(group, cost)
            if len({point.cost for point in shown}) > 1:
                out.print()
                out.print(f"{name}: dB of what varies over {cost.title}; {BEST} best", style="bold")
                for line in chart(shown, cost):
                    out.print(line)
    failed = [row for row in rows if row.status in (FAILED, LOST)]
    if failed:
        out.print()
        show_facts(out, [fact for row in failed for fact in _failure(row)])
    said = ", ".join(f"{count} {status}" for status, count in counts(found.rows).items())
    out.print()
    out.print(f"{said}; the table is in {found.folder}", soft_wrap=True)


def sweep_document(found: Sweep) -> dict[str, object]:
    """What `--json` prints of a sweep."""
    return {"folder": str(found.folder), "builds": found.rows}


def _show_builds(out: Console, built: Sequence[Row], best: Set[str]) -> None:
    """The table; what all builds have in common stands in its title."""
    columns, named, lines = columns_of(built, best)
    shown = [tuple(line[k] for k in columns) for line in (HEADER, *lines)]
    spare = [columns.index(k) for k in SPARE if k in columns]
    title, texts = f"Builds: {named}" if named else "Builds", sum(k < TEXTS for k in columns)
    left = show_table(out, title, shown[0], shown[1:], texts=texts, spare=spare)
    if left:
        out.print(f"Left out for lack of room, and shown by a wider terminal: {'; '.join(left)}.")


def columns_of(built: Sequence[Row], best: Set[str]) -> tuple[list[int], str, list[tuple[str, ...]]]:
    """The builds as rows of texts: which columns tell builds apart or hold figures, what all have in common, the rows.

    Args:
        built: the builds, ordered.
        best: keys of those to be marked.
    """
    lines = [(*cells(row), BEST if row.key in best else "") for row in built]
    common = [k for k in range(1, TEXTS) if len(lines) > 1 and len({line[k] for line in lines}) == 1]
    columns = [k for k in range(len(HEADER)) if k not in common and (k == 0 or any(line[k] for line in lines))]
    return columns, ", ".join(lines[0][k] for k in common if lines[0][k]), lines


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Group by group as in the plan, the best first, then what has no quality."""
    return [
        row
        for group in groups(rows).values()
        for row in sorted(group, key=lambda row: (row.kept_db is None, -(row.kept_db or 0.0), row.bytes or 0))
    ]


def cells(row: Row) -> tuple[str, ...]:
    """A row as people read it, without what failed."""
    return (
        row.model, row.target, row.recipe, row.precision, row.calibration, _number(row.plain_db, 1),
        _number(row.kept_db, 1), _number(row.agreement, 3), _number(row.score, 4), _number(row.bytes),
        _number(row.cycles), _number(row.bit_operations and row.bit_operations / 1e6, 1),
        _number(row.latency_ms, 3), _number(row.seconds, 1), _number(row.peak_mib),
    )  # fmt: skip


def name_of(row: Row) -> str:
    """The cell of a row in a line."""
    return ", ".join(filter(None, (row.model, row.target, row.recipe, row.precision, row.calibration)))


def chart(shown: Sequence[Point], cost: Cost) -> Iterator[str]:
    """Points as characters, dear to the right, good above."""
    dbs, costs = [point.db for point in shown], [point.cost for point in shown]
    low, high, cheap, dear = min(dbs), max(dbs), min(costs), max(costs)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for point in sorted(shown, key=lambda point: point.best):
        x = round((point.cost - cheap) / (dear - cheap) * (WIDTH - 1))
        y = round((high - point.db) / ((high - low) or 1.0) * (HEIGHT - 1))
        grid[y][x] = BEST if point.best else OTHER
    for k, line in enumerate(grid):
        label = f"{high:.1f}" if k == 0 else f"{low:.1f}" if k == HEIGHT - 1 else ""
        yield f"{label:>7} │{''.join(line).rstrip()}"
    left, right = (f"{value:,.{cost.digits}f}" for value in (cheap, dear))
    yield f"{'':7} └{'─' * WIDTH}"
    yield f"{'':9}{left}{right:>{WIDTH - len(left)}}"


def print_csv(rows: Sequence[Row]) -> None:
    """All columns of the table, as CSV on standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)


def _failure(row: Row) -> Iterator[tuple[str, str]]:
    code = f" (exit code {row.exit_code})" if row.status == FAILED else ""
    yield row.status, f"{name_of(row)}: {row.message}{code}"
    if row.hint:
        yield "hint", row.hint


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"

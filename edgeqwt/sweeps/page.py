"""A sweep as one HTML file: its table, and quality over costs with the Pareto fronts, as static SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeqwt.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, decibel_lines, markup
from edgeqwt.report.html import rendered
from edgeqwt.sweeps.front import COSTS, Cost, Point, best_keys, groups, points
from edgeqwt.sweeps.show import HEADER, SPARE, TEXTS, columns_of, name_of, ordered
from edgeqwt.sweeps.table import BUILT, FAILED, LOST, counts

if TYPE_CHECKING:
    from markupsafe import Markup

    from edgeqwt.sweeps.run import Sweep

TONES = 4  # colours that report.css has for kinds of things
TICKS = 6


def page_html(found: Sweep) -> str:
    """The file."""
    rows = ordered(found.rows)
    built, best = [row for row in rows if row.status == BUILT], best_keys(rows)
    said = ", ".join(f"{count} {status}" for status, count in counts(found.rows).items())
    columns, named, lines = columns_of(built, best)
    return rendered(
        "sweep.html.j2",
        title=found.folder.name,
        said=said,
        named=named,
        header=[" ".join(HEADER[k].split()) for k in columns],
        kinds=[_kinds(k, alone=len({line[0] for line in lines}) == 1) for k in columns],
        rows=[([line[k] for k in columns], row.key in best) for row, line in zip(built, lines, strict=True)],
        charts=list(_charts(found)),
        failed=[(name_of(row), row) for row in rows if row.status in (FAILED, LOST)],
    )


def _kinds(column: int, alone: bool) -> str:
    """The classes of a column's cells: words or figures, and what a phone does without.

    There the only model need not be named in every row, and the best rows are shaded.
    """
    spared = column in SPARE or HEADER[column] == "best" or (column == 0 and alone)
    return " ".join(filter(None, ("text" if column < TEXTS else "", "extra" if spared else "")))


def _charts(found: Sweep) -> Iterator[tuple[str, Markup, list[tuple[int, str]]]]:
    """A title, a drawing, and what its colours stand for."""
    for name, own in groups(found.built).items():
        kinds = list(dict.fromkeys(f"{row.recipe} {row.precision}".strip() for row in own))
        for cost in COSTS:
            shown = points(own, cost)
            if len({point.cost for point in shown}) > 1:
                yield f"{name}: quality over {cost.title}", scatter(shown, cost, kinds), list(enumerate(kinds))


def scatter(shown: Sequence[Point], cost: Cost, kinds: Sequence[str]) -> Markup:
    """Builds as dots, dear to the right, good above; the front is a line.

    Args:
        shown: of one model, the cheapest first; two costs at least.
        cost: their unit.
        kinds: recipe and widths, in the order of the colours.
    """
    plot = _Plot(shown)
    parts = [*_grid(plot, cost)]
    steps = [point for point in shown if point.best]
    path = f"M{plot.x(steps[0].cost)} {plot.y(steps[0].db)}"
    path += "".join(f"H{plot.x(point.cost)}V{plot.y(point.db)}" for point in steps[1:]) + f"H{plot.right}"
    parts.append(markup('<path class="line now" d="{d}"><title>the best for their cost</title></path>').format(d=path))
    for point in shown:
        kind = kinds.index(f"{point.row.recipe} {point.row.precision}".strip())
        parts.append(
            markup(
                '<g class="dot{best}"><circle class="tone{tone}" cx="{x}" cy="{y}" r="{r}"/>'
                "<title>{name}: {db:.1f} dB, {cost:,.{digits}f} {unit}</title></g>"
            ).format(
                best=" best" if point.best else "", tone=kind % TONES, x=plot.x(point.cost), y=plot.y(point.db),
                r=7 if point.best else 5, name=name_of(point.row), db=point.db, cost=point.cost, digits=cost.digits,
                unit=cost.title,
            )
        )  # fmt: skip
    text = f"Decibels of what varies over {cost.title}; up and to the left is better"
    return markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{text}">{parts}</svg>').format(
        w=WIDTH, h=HEIGHT, text=text, parts=markup("").join(parts)
    )


class _Plot:
    """Places of costs and decibels in the drawing."""

    def __init__(self, shown: Sequence[Point]) -> None:
        costs, dbs = [point.cost for point in shown], [point.db for point in shown]
        room = 0.04 * (max(costs) - min(costs))
        self.left, self.most = min(costs) - room, max(costs) + room
        self.low, self.high = math.floor(min(dbs)) - 1, math.ceil(max(dbs)) + 1
        self.right, self.bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(self, cost: float) -> float:
        return round(LEFT + (cost - self.left) / (self.most - self.left) * (self.right - LEFT), 1)

    def y(self, db: float) -> float:
        return round(self.bottom - (db - self.low) / (self.high - self.low) * (self.bottom - TOP), 1)


def _grid(plot: _Plot, cost: Cost) -> Iterator[Markup]:
    yield from decibel_lines({db: plot.y(db) for db in _round(plot.low, plot.high)})
    for value in _round(plot.left, plot.most):
        yield markup('<text class="tick op" x="{x}" y="{y}">{text}</text>').format(
            x=plot.x(value), y=plot.bottom + 22, text=_short(value)
        )


def _round(low: float, high: float) -> list[float]:
    """Round values from low to high, TICKS or so."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"

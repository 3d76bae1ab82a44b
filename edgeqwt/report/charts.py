"""Charts of a report as static SVG: they need no script, print, and show in notebooks that are not trusted.

Colours are classes that `report.css` fills in, so that one drawing serves the light and the dark theme.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeqwt.report.page import Page, Step, accumulated_of, level_of, own_of
from edgeqwt.verify.thresholds import Thresholds

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 1000, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 30, 34
CEILING_DB = 70.0  # what is better is drawn there
DENSE = 120  # ops of which phones draw smaller marks
NAMED = 3  # worst ops that have a number in the chart
BANDS = 600  # tensors that the memory map shows; of more, the smallest are left out


def markup(text: str) -> Markup:
    """Markup of ours; what `format` puts into it is escaped."""
    from markupsafe import Markup

    return Markup(text)


def error_chart(page: Page) -> Markup:
    """Own errors as dots and accumulated ones as lines, op by op in the graph's order; low is bad."""
    rows = [k for k, op in enumerate(page.ops) if op["errors"]]
    ops = [page.ops[k] for k in rows]
    if not ops:
        return markup("")
    values = [
        v for op in ops for name in page.series for v in (own_of(op, name), accumulated_of(op, name)) if v is not None
    ]
    low = min([0.0, *(max(-20.0, v) for v in values)])
    high = min(CEILING_DB, max([30.0, *values]))
    plot = _Plot(len(ops), low, high)
    parts = [*_bands(plot, page.thresholds), *_grid(plot, ops)]
    for k, name in enumerate(page.series):
        style = "line now" if k == len(page.series) - 1 else "line before"
        parts.append(_line(plot, [accumulated_of(op, name) for op in ops], style, f"behind the op, {name}"))
    parts += _dots(plot, rows, page)
    text = "Error of each op by itself and of all ops up to it, in decibels of what varies; lower is worse"
    dense = " dense" if len(ops) > DENSE else ""
    return markup(
        '<svg class="chart{dense}" viewBox="0 0 {w} {h}" role="img" aria-label="{text}">{parts}</svg>'
    ).format(w=WIDTH, h=HEIGHT, text=text, dense=dense, parts=markup("").join(parts))  # fmt: skip


class _Plot:
    """Places of ops and decibels in the drawing."""

    def __init__(self, count: int, low: float, high: float) -> None:
        self.count, self.low, self.high = count, low, high
        self.right, self.bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(self, k: float) -> float:
        return round(LEFT + (k + 0.5) * (self.right - LEFT) / self.count, 1)

    def y(self, db: float) -> float:
        share = (min(max(db, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - TOP), 1)


def _bands(plot: _Plot, wanted: Thresholds) -> Iterator[Markup]:
    """What is below the thresholds, shaded."""
    for style, low, high in (("below", plot.low, wanted.min_db), ("poor", wanted.min_db, wanted.warn_db)):
        if high > low:
            top, bottom = plot.y(high), plot.y(low)
            yield markup('<rect class="band {s}" x="{x}" y="{y}" width="{w}" height="{h}"/>').format(
                s=style, x=LEFT, y=top, w=plot.right - LEFT, h=round(bottom - top, 1)
            )


def _grid(plot: _Plot, ops: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    step = 10 if plot.high - plot.low <= 80 else 20
    dbs = range(int(plot.low // step) * step, int(plot.high) + 1, step)
    yield from decibel_lines({db: plot.y(db) for db in dbs if db >= plot.low})
    every = max(1, -(-len(ops) // 16))
    for k in range(0, len(ops), every):
        label = "in" if ops[k]["op"] is None else str(ops[k]["op"])
        yield markup('<text class="tick op{rare}" x="{x}" y="{y}">{label}</text>').format(
            x=plot.x(k), y=plot.bottom + 19, label=label, rare="" if k // every % 4 == 0 else " spare"
        )


def decibel_lines(heights: Mapping[float, float]) -> Iterator[Markup]:
    """Lines across a drawing at some decibels, whose heights are given, and their unit."""
    for db, y in heights.items():
        yield markup('<path class="rule" d="M{a} {y}H{b}"/><text class="tick" x="{x}" y="{t}">{db:g}</text>').format(
            a=LEFT, b=WIDTH - RIGHT, y=y, x=LEFT - 6, t=y + 4, db=db
        )
    yield markup('<text class="tick unit" x="{x}" y="{y}">dB</text>').format(x=LEFT - 6, y=TOP - 13)


def _line(plot: _Plot, values: Sequence[float | None], style: str, title: str) -> Markup:
    path, pen = [], "M"
    for k, value in enumerate(values):
        if value is None:
            continue  # an op without a figure is passed over: the line goes on
        path.append(f"{pen}{plot.x(k)} {plot.y(value)}")
        pen = "L"
    return markup('<path class="{s}" d="{d}"><title>{t}</title></path>').format(s=style, d="".join(path), t=title)


def _dots(plot: _Plot, rows: Sequence[int], page: Page) -> Iterator[Markup]:
    last = page.series[-1]
    worst = {hint.tensor: n for n, hint in enumerate(page.hints[:NAMED], start=1)}
    radius = 5.0 if len(rows) <= 60 else 3.4 if len(rows) <= 160 else 2.4
    for k, row in enumerate(rows):
        op = page.ops[row]
        db = own_of(op, last)
        if db is None:
            continue
        x, y, number = plot.x(k), plot.y(db), worst.get(op["measured"])
        mark = markup("") if number is None else markup('<text class="rank" x="{x}" y="{y}">{n}</text>').format(
            x=x, y=round(y + (24 if y < 54 else -13), 1), n=number
        )  # fmt: skip
        yield markup(
            '<g class="dot {level}" data-row="{row}"><circle cx="{x}" cy="{y}" r="{r}"/>{mark}'
            "<title>{kind} {name}: {db:.1f} dB by itself</title></g>"
        ).format(
            level=level_of(db, page.thresholds), row=row, x=x, y=y,
            r=radius + 1.5 if number else radius, mark=mark, kind=op["kind"],
            name=op["location"] or op["tensor"], db=db,
        )  # fmt: skip


def gain_bar(step: Step, most: float) -> Markup:
    """A technique's gain to the right, its loss to the left."""
    gain = step.gain_db or 0.0
    length = 0.0 if most <= 0 else round(abs(gain) / most * 70, 1)
    return markup(
        '<svg class="gain" viewBox="0 0 150 14" aria-hidden="true"><path class="rule" d="M75 0V14"/>'
        '<rect class="{s}" x="{x}" y="3" width="{w}" height="8"/></svg>'
    ).format(s="up" if gain >= 0 else "down", x=75 if gain >= 0 else 75 - length, w=length)


def share_bar(bar: float, style: str = "") -> Markup:
    """A share as a bar."""
    return markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="back" width="100" height="6"/><rect class="fill {s}" width="{w}" height="6"/></svg>'
    ).format(s=style, w=round(100 * min(1.0, max(0.0, bar)), 1))


def memory_chart(memory: Mapping[str, Any]) -> Markup:
    """Tensors as rectangles: from left to right the ops during which they exist, from below their place."""
    size, ops = memory["bytes"], max(1, memory["ops"])
    if not size:
        return markup("")
    top, height, right = 24, 236, WIDTH - RIGHT  # of the plan; type of phones has room above and below
    parts = []
    for k, (name, offset, count, first, last) in enumerate(memory["slots"][:BANDS]):
        x, width = LEFT + (first + 1) * (right - LEFT) / (ops + 1), (last - first + 1) * (right - LEFT) / (ops + 1)
        y, tall = height * (1 - (offset + count) / size) + top, height * count / size
        parts.append(
            markup(
                '<rect class="slot tone{tone}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}">'
                "<title>{name}: {count:,} bytes at {offset:,}, {life}</title></rect>"
            ).format(
                tone=k % 4,
                x=x,
                y=y,
                w=width,
                h=max(0.5, tall),
                name=name,
                count=count,
                offset=offset,
                life=f"while op {max(0, first)} to {last} run",
            )
        )
    scale = markup('<text class="tick" x="{x}" y="{y:.1f}">{text}</text>')
    parts += [
        scale.format(x=LEFT - 6, y=height * (1 - share) + top + 4, text=f"{size * share / 1024:.3g}")
        for share in (0, 0.5, 1)
    ]
    parts.append(markup('<text class="tick unit" x="{x}" y="{y}">KiB</text>').format(x=LEFT - 6, y=12))
    parts.append(
        markup('<text class="tick op" x="{x}" y="{y}">ops in the order in which they run</text>').format(
            x=(LEFT + right) / 2, y=top + height + 26
        )
    )
    return markup('<svg class="chart memory" viewBox="0 0 {w} {h}" role="img" aria-label="{t}">{parts}</svg>').format(
        w=WIDTH, h=top + height + 34, t=f"Plan of {size:,} bytes of activations", parts=markup("").join(parts)
    )

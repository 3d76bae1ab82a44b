"""The rows of a sweep as lines, and as Markdown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]
"""What `one` writes of a network: "name", "status" and what was measured."""
BUILT, BELOW, REFUSED, UNCONVERTED = "built", "below the gate", "refused", "not converted"
SMOOTH, WHITE, EITHER = "smooth", "white", "either"
"""Filters of random convolutions: blurred, or as the package draws them; networks of text are the same with either."""
QUICK, DEFAULT = "fast", "balanced"
"""Recipes: that of the first sweeps, and that of a command that names none."""
FEW, MANY = 32, 128
"""Samples: of the first sweeps, and now."""
CONVERTED = "converted"
"""Nothing more was asked for."""
DONE = (BUILT, BELOW)
CONVERTS, INTEGER, GOOD = 0.98, 0.95, 25.0  # shares, and dB of what varies, that are asked for


def line(row: Row) -> str:
    """A row for people who wait."""
    what = row.get("message", "")
    if row["status"] in DONE:
        what = f"{row['varying_db']:.1f} dB of what varies, {row['ops']} ops, {row['converter']}"
    return f"{row['name']:45} {row['status']:14} {row.get('seconds', 0):6.1f} s  {what[:160]}"


def table(rows: Sequence[Row]) -> str:
    """What is asked for beside what was measured, then one line per network, the worst first.

    A network counts by its row with smooth filters, where there is one that says more than that it converts; of these
    by that at its own resolution, with the most samples, and with the default recipe.
    """
    by_name: dict[str, dict[Way, Row]] = {}
    for row in rows:
        by_name.setdefault(row["name"], {})[way(row)] = row
    chosen = [_chosen(found) for found in by_name.values()]
    made = [row for row in chosen if row["status"] != "not made"]
    tried = [row for row in made if row["status"] != CONVERTED]
    converted = [row for row in made if any(found.get("converted") for found in by_name[row["name"]].values())]
    integer = [row for row in made if row["status"] in DONE and row["float_ops"] == 0]
    counts = ", ".join(f"{n} {status}" for status, n in Counter(row["status"] for row in chosen).most_common())
    lines = [
        f"{len(made)} networks: {counts}.",
        "",
        "| | asked for | measured |",
        "|---|---|---|",
        f"| convert with parity | {CONVERTS:.0%} | {_share(converted, made)} |",
        f"| build with every op integer | {INTEGER:.0%} | {_share(integer, tried)} |",
        f"| median SQNR of what varies | {GOOD} dB | {_median(chosen)} |",
        f"| with weights left float, where that is better | | {_median(chosen, 'ceiling_db')} |",
        *_compared(by_name, "filters", {SMOOTH: "smooth filters", WHITE: "white filters"}),
        *_compared(by_name, "native", {False: "at 96 pixels", True: "at their own resolution"}),
        *_compared(by_name, "samples", {FEW: f"{FEW} samples", MANY: f"{MANY} samples"}),
        *_compared(by_name, "recipe", {QUICK: f"`{QUICK}`", DEFAULT: f"`{DEFAULT}`"}),
        f"| crashes, tracebacks | 0 | {sum(row['status'] in ('crashed', 'bug') for row in chosen)} |",
        f"| stopped by the limit of time | 0 | {sum(row['status'] == 'timed out' for row in chosen)} |",
        "",
        "| network | input | converter | difference to the source, of the tolerance | recipe | samples "
        f"| of what varies, dB | with `fast`, dB | {FEW} samples at 96 pixels, dB | 8-bit activations alone, dB "
        "| noise gain, dB | same top-1 | white filters: of what varies, dB | white filters: noise gain, dB "
        "| ops | seconds | peak MiB | commit | status |",
        f"|{19 * '---|'}",
    ]
    cells = (_cells(row, by_name[row["name"]]) for row in sorted(chosen, key=_order))
    return "\n".join([*lines, *cells])


class Way(NamedTuple):
    """How a network was built: the filters, whether at its own resolution, from how many samples, the recipe."""

    filters: str
    native: bool
    samples: int
    recipe: str


def way(row: Row) -> Way:
    """How a row's network was built; early rows do not say it."""
    native, samples = row.get("native", False), row.get("samples", FEW)
    return Way(row.get("filters", WHITE), native, samples, row.get("recipe", QUICK))


def _rank(row: Row) -> tuple[int, ...]:
    """Of several rows of one network the highest counts."""
    how = way(row)
    known = row["status"] != CONVERTED, how.filters != WHITE, row["status"] in DONE
    return (*known, how.native, how.samples, how.recipe == DEFAULT)


def _chosen(found: Mapping[Way, Row]) -> Row:
    """The row that a network counts by."""
    return max(found.values(), key=_rank)


def _pair(found: Mapping[Way, Row], field: str, values: Iterable[object]) -> list[Row] | None:
    """Rows of files that differ in one thing alone, one for each of its values."""
    for row in sorted(found.values(), key=_rank, reverse=True):
        rows = [found.get(way(row)._replace(**{field: value})) for value in values]
        built = [other for other in rows if other is not None and other["status"] in DONE]
        if len(built) == len(rows):
            return built
    return None


def _compared(by_name: Mapping[str, Mapping[Way, Row]], field: str, values: Mapping[object, str]) -> list[str]:
    """Lines with the medians of networks that were built in several ways."""
    pairs = [pair for found in by_name.values() if (pair := _pair(found, field, values)) is not None]
    columns = zip(*pairs, strict=True) if pairs else [()] * len(values)
    return [
        f"| of those built with both, {what} | | {_median(rows)} |"
        for what, rows in zip(values.values(), columns, strict=True)
    ]


def _median(rows: Sequence[Row], *others: str) -> str:
    """Of what varies, or of the largest of that and of others of a row's figures."""
    done = [row for row in rows if row["status"] in DONE]
    values = [max(row[key] for key in ("varying_db", *others) if row.get(key) is not None) for row in done]
    return f"{statistics.median(values):.1f} dB ({len(values)} networks)" if values else ""


def _share(some: Sequence[Row], of: Sequence[Row]) -> str:
    return f"{len(some) / max(len(of), 1):.1%} ({len(some)} of {len(of)})"


def _order(row: Row) -> tuple[bool, float, str]:
    return row["status"] in DONE, row.get("varying_db", 0.0), row["name"]


def _cells(row: Row, found: Mapping[Way, Row]) -> str:
    how = way(row)
    white = _best([other for other in found.values() if way(other).filters == WHITE])
    quick = found.get(how._replace(recipe=QUICK)) if how.recipe != QUICK else None
    small = [other for other in found.values() if way(other)[:3] == (how.filters, False, FEW)]
    shape = "×".join(map(str, row.get("shape", [])[1:]))
    parity = "" if row.get("parity") is None else f"{row['parity']:.2g}"
    numbers, ops = [*6 * [""], _one_digit(row.get("noise_gain_db")), ""], ""
    if how.filters == WHITE:  # nothing of smooth filters is known
        numbers, ops = [""] * 8, str(row.get("ops", ""))
    elif row["status"] in DONE:
        others = [_varying(quick), _varying(_best(small)) if how[1:3] != (False, FEW) else ""]
        figures = [_one_digit(row.get(key)) for key in ("ceiling_db", "noise_gain_db")]
        numbers = [how.recipe, str(how.samples), _varying(row), *others, *figures, f"{row['agreement']:.3f}"]
        ops = str(row["ops"])
    harder = [_varying(white), _one_digit((white or {}).get("noise_gain_db"))]
    what = " ".join(f"{row['status']} {row.get('message', '')}".split()).replace("|", "/")[:240]
    cells = [row["name"], shape, row.get("converter", ""), parity, *numbers, *harder, ops]
    cells += [f"{row.get('seconds', 0):.0f}", str(row.get("peak_mib", "")), row.get("commit", ""), what]
    return f"| {' | '.join(cells)} |"


def _best(rows: Sequence[Row]) -> Row | None:
    """The row that counts among some."""
    return max(rows, key=_rank, default=None)


def _varying(row: Row | None) -> str:
    return _one_digit((row or {}).get("varying_db"))


def _one_digit(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"

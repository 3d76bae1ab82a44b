"""The rows of a sweep as lines, and as Markdown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
"""What `one` writes of a network: "name", "status" and what was measured."""
Key = tuple[str, str]
"""Filters and recipe."""
BUILT, BELOW, REFUSED, UNCONVERTED = "built", "below the gate", "refused", "not converted"
SMOOTH, WHITE, EITHER = "smooth", "white", "either"
"""Filters of random convolutions: blurred, or as the package draws them; networks of text are the same with either."""
PAIR = (SMOOTH, WHITE)
QUICK, DEFAULT = "fast", "balanced"
"""Recipes: that of the first sweeps, and that of a command that names none."""
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
    by that with the default recipe.
    """
    by_recipe: dict[str, dict[Key, Row]] = {}
    for row in rows:
        by_recipe.setdefault(row["name"], {})[filters(row), recipe(row)] = row
    by_name = {name: _by_filters(found) for name, found in by_recipe.items()}
    chosen = [_chosen(found) for found in by_name.values()]
    of_recipes = {name: _of_recipes(found) for name, found in by_recipe.items()}
    twice = [found for found in of_recipes.values() if len(found) == 2]
    made = [row for row in chosen if row["status"] != "not made"]
    tried = [row for row in made if row["status"] != CONVERTED]
    converted = [row for row in made if any(found.get("converted") for found in by_name[row["name"]].values())]
    integer = [row for row in made if row["status"] in DONE and row["float_ops"] == 0]
    both = [found for found in by_name.values() if all(found.get(kind, {}).get("status") in DONE for kind in PAIR)]
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
        *(
            f"| of those built with both, {kind} filters | | {_median([found[kind] for found in both])} |"
            for kind in PAIR
        ),
        *(
            f"| of those built with both, `{kind}` | | {_median([found[kind] for found in twice])} |"
            for kind in (QUICK, DEFAULT)
        ),
        f"| crashes, tracebacks | 0 | {sum(row['status'] in ('crashed', 'bug') for row in chosen)} |",
        f"| stopped by the limit of time | 0 | {sum(row['status'] == 'timed out' for row in chosen)} |",
        "",
        "| network | input | converter | difference to the source, of the tolerance | recipe | of what varies, dB "
        "| with `fast`, dB | 8-bit activations alone, dB | noise gain, dB | same top-1 "
        "| white filters: of what varies, dB | white filters: noise gain, dB | ops | seconds | peak MiB | commit "
        "| status |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cells = (
        _cells(row, by_name[row["name"]].get(WHITE), of_recipes[row["name"]].get(QUICK))
        for row in sorted(chosen, key=_order)
    )
    return "\n".join([*lines, *cells])


def recipe(row: Row) -> str:
    """That a network was built with; early rows do not say it."""
    return str(row.get("recipe", QUICK))


def _by_filters(found: Mapping[Key, Row]) -> dict[str, Row]:
    """By filters, the row of the default recipe where there is one that was built."""
    order = sorted(found.items(), key=lambda item: (item[1]["status"] in DONE, item[0][1] == DEFAULT))
    return {kind: row for (kind, _), row in order}


def _of_recipes(found: Mapping[Key, Row]) -> dict[str, Row]:
    """By recipe, rows of files with smooth filters, or of text."""
    return {name: row for (kind, name), row in found.items() if kind != WHITE and row["status"] in DONE}


def filters(row: Row) -> str:
    """How a row's filters were drawn; early rows do not say it."""
    return str(row.get("filters", WHITE))


def _chosen(found: dict[str, Row]) -> Row:
    """The row that a network counts by."""
    rows = [found[kind] for kind in (EITHER, SMOOTH, WHITE) if kind in found]
    return next((row for row in rows if row["status"] != CONVERTED), rows[0])


def _median(rows: Sequence[Row], *others: str) -> str:
    """Of what varies, or of the largest of that and of others of a row's figures."""
    done = [row for row in rows if row["status"] in DONE]
    values = [max(row[key] for key in ("varying_db", *others) if row.get(key) is not None) for row in done]
    return f"{statistics.median(values):.1f} dB ({len(values)} networks)" if values else ""


def _share(some: Sequence[Row], of: Sequence[Row]) -> str:
    return f"{len(some) / max(len(of), 1):.1%} ({len(some)} of {len(of)})"


def _order(row: Row) -> tuple[bool, float, str]:
    return row["status"] in DONE, row.get("varying_db", 0.0), row["name"]


def _cells(row: Row, white: Row | None, quick: Row | None) -> str:
    shape = "×".join(map(str, row.get("shape", [])[1:]))
    parity = "" if row.get("parity") is None else f"{row['parity']:.2g}"
    numbers, ops = ["", "", "", "", _one_digit(row.get("noise_gain_db")), ""], ""
    if row is white:  # nothing of smooth filters is known
        numbers, ops = [""] * 6, str(row.get("ops", ""))
    elif row["status"] in DONE:
        figures = [_one_digit(row.get(key)) for key in ("varying_db", "ceiling_db", "noise_gain_db")]
        figures.insert(1, _one_digit((quick or {}).get("varying_db")) if recipe(row) != QUICK else "")
        numbers, ops = [recipe(row), *figures, f"{row['agreement']:.3f}"], str(row["ops"])
    harder = [_one_digit((white or {}).get(key)) for key in ("varying_db", "noise_gain_db")]
    what = " ".join(f"{row['status']} {row.get('message', '')}".split()).replace("|", "/")[:240]
    cells = [row["name"], shape, row.get("converter", ""), parity, *numbers, *harder, ops]
    cells += [f"{row.get('seconds', 0):.0f}", str(row.get("peak_mib", "")), row.get("commit", ""), what]
    return f"| {' | '.join(cells)} |"


def _one_digit(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"

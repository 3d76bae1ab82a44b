"""The rows of a sweep as lines, and as Markdown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
"""What `one` writes of a network: "name", "status" and what was measured."""
BUILT, BELOW, REFUSED, UNCONVERTED = "built", "below the gate", "refused", "not converted"
CONVERTED = "converted"
"""Nothing more was asked for."""
DONE = (BUILT, BELOW)
FAULTS = ("crashed", "bug", "timed out")
CONVERTS, INTEGER, GOOD = 0.98, 0.95, 25.0  # shares, and dB of what varies, that are asked for


def line(row: Row) -> str:
    """A row for people who wait."""
    what = row.get("message", "")
    if row["status"] in DONE:
        what = f"{row['varying_db']:.1f} dB of what varies, {row['ops']} ops, {row['converter']}"
    return f"{row['name']:45} {row['status']:14} {row.get('seconds', 0):6.1f} s  {what[:160]}"


def table(rows: Sequence[Row]) -> str:
    """What is asked for beside what was measured, then a row per network, the worst first."""
    made = [row for row in rows if row["status"] != "not made"]
    tried = [row for row in made if row["status"] != CONVERTED]
    done = [row for row in made if row["status"] in DONE]
    converted = [row for row in made if row.get("converted")]
    integer = [row for row in done if row["float_ops"] == 0]
    median = statistics.median(row["varying_db"] for row in done) if done else float("nan")
    counts = ", ".join(f"{n} {status}" for status, n in Counter(row["status"] for row in rows).most_common())
    lines = [
        f"{len(made)} networks: {counts}.",
        "",
        "| | asked for | measured |",
        "|---|---|---|",
        f"| convert with parity | {CONVERTS:.0%} | {_share(converted, made)} |",
        f"| build with every op integer | {INTEGER:.0%} | {_share(integer, tried)} |",
        f"| median SQNR of what varies | {GOOD} dB | {median:.1f} dB |",
        f"| crashes, tracebacks, time over | 0 | {sum(row['status'] in FAULTS for row in rows)} |",
        "",
        "| network | input | converter | difference to the source, of the tolerance | of what varies, dB "
        "| 8-bit activations alone, dB | noise gain, dB | same top-1 | ops | seconds | peak MiB | status |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_cells(row) for row in sorted(rows, key=_order))])


def _share(some: Sequence[Row], of: Sequence[Row]) -> str:
    return f"{len(some) / max(len(of), 1):.1%} ({len(some)} of {len(of)})"


def _order(row: Row) -> tuple[bool, float, str]:
    return row["status"] in DONE, row.get("varying_db", 0.0), row["name"]


def _cells(row: Row) -> str:
    shape = "×".join(map(str, row.get("shape", [])[1:]))
    parity = "" if row.get("parity") is None else f"{row['parity']:.2g}"
    gain, ceiling = _one_digit(row.get("noise_gain_db")), _one_digit(row.get("ceiling_db"))
    numbers = ["", "", gain, "", ""]
    if row["status"] in DONE:
        numbers = [f"{row['varying_db']:.1f}", ceiling, gain, f"{row['agreement']:.3f}", str(row["ops"])]
    what = " ".join(f"{row['status']} {row.get('message', '')}".split()).replace("|", "/")[:240]
    cells = [row["name"], shape, row.get("converter", ""), parity, *numbers]
    cells += [f"{row.get('seconds', 0):.0f}", str(row.get("peak_mib", "")), what]
    return f"| {' | '.join(cells)} |"


def _one_digit(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"

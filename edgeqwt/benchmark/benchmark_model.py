"""What LiteRT's benchmark_model prints, as figures.

The forms are those of its published logs; logs of 2020 to 2026 have been read.
"""

from __future__ import annotations

import re

from edgeqwt.benchmark.result import Figure, OpCost
from edgeqwt.errors import InputError

_NUMBER = r"[\d.]+(?:e[+-]?\d+)?"
_REGULAR = "Profiling Info for Regular Benchmark Runs"


def parse(printed: str) -> tuple[Figure, ...]:
    """The figures of one run of benchmark_model.

    Raises:
        InputError: there are none.
    """
    runs = re.findall(rf"count=(\d+) .*?min=({_NUMBER}) max=({_NUMBER}) avg=({_NUMBER})", printed)
    timings = re.search(rf"Init: ({_NUMBER}), First inference: ({_NUMBER})", printed)
    if not runs or timings is None:
        said = [line.strip() for line in printed.splitlines() if line.strip()]
        raise InputError(
            f"benchmark_model printed no timings; its last line: {said[-1][:200] if said else 'nothing'}",
            "Is it LiteRT's benchmark_model, and does it take the model's ops?",
        )
    count, least, most, mean = runs[-1]  # the first is the warm-up's
    microseconds = {
        "latency_min": least,
        "latency_mean": mean,
        "latency_max": most,
        "latency_first": timings[2],
        "load_first": timings[1],
    }
    figures = [Figure(name, "xnnpack", 1e-6 * float(value), "s") for name, value in microseconds.items()]
    figures.append(Figure("runs", "xnnpack", int(count), "runs"))
    memory = {"memory_delta": "[Mm]emory footprint delta", "memory_process_peak": "[Pp]eak memory footprint"}
    for name, words in memory.items():
        if found := re.search(rf"{words}.*?overall=({_NUMBER})", printed):
            figures.append(Figure(name, "xnnpack", float(found[1]) * 1024 * 1024, "B"))
    return tuple(figures)


def parse_ops(printed: str) -> tuple[OpCost, ...]:
    """Mean seconds of every op in the regular runs: the delegate's own ops in place of the delegate."""
    regular = printed.partition(_REGULAR)[2]
    tables = re.findall(r"=+ Run Order =+\s*\n(.*?)(?:\n\s*\n|\Z)", regular, re.DOTALL)
    if not tables:
        return ()
    interpreter, inside = _rows(tables[0], "CPU"), [row for table in tables[1:] for row in _rows(table, "XNNPACK")]
    if inside:
        interpreter = [row for row in interpreter if "Delegate" not in row.kind]
    return (*inside, *interpreter)


def _rows(table: str, where: str) -> list[OpCost]:
    """The rows of a table, whose columns are the kind, numbers, and the name; their number grew over the years."""
    header, *lines = table.splitlines()
    columns = re.findall(r"\[([^\]]+)\]", header)
    if "avg ms" not in columns:
        return []
    numbers, average = len(columns) - 2, columns.index("avg ms") - 1
    form = re.compile(rf"\s*(.+?)\s+((?:{_NUMBER}%?\s+){{{numbers}}})(.*)")
    found = []
    for line in lines:
        if match := form.fullmatch(line):
            seconds = 1e-3 * float(match[2].split()[average])
            found.append(OpCost(match[1].removeprefix("Delegate/"), match[3].strip(), where, seconds, "s"))
    return found

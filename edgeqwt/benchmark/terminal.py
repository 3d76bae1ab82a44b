"""Benchmarks for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.benchmark.result import BenchResult, Figure, compare, document
from edgeqwt.disk import write_whole
from edgeqwt.output import show_facts, show_table

if TYPE_CHECKING:
    from rich.console import Console

COSTLIEST = 10  # ops that are shown
UNKNOWN = "–"  # what no backend tells, such as the cycles of ops on an NPU's CPU


def show_bench(out: Console, results: Sequence[BenchResult]) -> None:
    """Figures, what the costliest ops cost, what was checked, and how to read it.

    Args:
        out: where it goes.
        results: one, or two that are compared.
    """
    for result in results:
        title = f"{result.file}, {result.bytes:,} bytes, on {result.where}: {result.evidence}"
        show_table(out, title, ("figure", "kernels", ""), [_row(f) for f in result.figures], texts=2)
        costs = sorted(result.op_costs, key=lambda op: -op.value)[:COSTLIEST]
        if costs:
            rows = [(op.name, op.kind, op.where, said(op.value, op.unit) if op.value else UNKNOWN) for op in costs]
            some = f"the {COSTLIEST} costliest of {len(result.op_costs)} ops"
            whole = f"{len(costs)} ops"
            title = some if len(result.op_costs) > COSTLIEST else whole
            show_table(out, title, ("name", "op", "where", ""), rows, texts=3)
        out.print()
        show_facts(
            out,
            [
                *(("ok" if check.ok else "FAILED", f"{check.name}: {check.detail}") for check in result.checks),
                *(
                    (
                        "known" if d.known else "DIFFERENT",
                        f"{d.kind} #{d.op} {d.tensor!r}: {d.differing:,} of {d.elements:,} values differ, by "
                        f"{d.largest:g} at most",
                    )
                    for d in result.differences
                ),
                *(("note", note) for note in result.notes),
            ],
        )
    if len(results) == 2:
        first, second = results
        ratios = [
            (
                r.name,
                r.kernels,
                said(r.found, r.unit),
                said(r.other, r.unit),
                f"{r.ratio:.4f}" if math.isfinite(r.ratio) else UNKNOWN,
            )
            for r in compare(first, second)
        ]
        title = f"{first.file} against {second.file}"
        show_table(out, title, ("figure", "kernels", "first", "second", "ratio"), ratios, texts=2)


def write_bench(results: Sequence[BenchResult], path: Path) -> None:
    """Writes the results as JSON, whole or not at all; docs/bench.schema.json pins its fields.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(document(*results), indent=2, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def said(value: float, unit: str) -> str:
    """A figure with its unit."""
    if unit == "s":
        return f"{value * 1e3:,.3f} ms"
    if unit == "%":
        return f"{value:.2f} %"
    return f"{value:,.0f} {unit}".rstrip()


def _row(figure: Figure) -> tuple[str, str, str]:
    return figure.name, figure.kernels, said(figure.value, figure.unit)

"""A study in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeqwt.output import show_facts, show_table
from edgeqwt.report.variants import decibels

if TYPE_CHECKING:
    from rich.console import Console

    from edgeqwt.simulation.study import Study


def show_study(out: Console, found: Study) -> None:
    """The table of settings, the best of each method in bold, and what it is: a simulation."""
    rows, styles = [], {}
    best = {m: max(r.quality.judged_db for r in found.rows if r.method == m) for m in {r.method for r in found.rows}}
    for k, row in enumerate(found.rows):
        rows.append(
            (
                row.method,
                row.correction,
                decibels(row.quality.judged_db),
                "" if row.quality.top1 is None else f"{row.quality.top1:.4f}",
                "" if row.accuracy is None else f"{row.accuracy:.4f}",
                f"{row.parameters:,}" if row.parameters else "0",
            )
        )
        if row.quality.judged_db == best[row.method]:
            styles[(k, 2)] = "bold"
    bits = found.bits
    title = (
        f"w{bits.weights}a{bits.activations}, first and last layer {bits.ends} bits; {found.judged:,} samples judged"
    )
    header = ("method", "correction", "what\nvaries, dB", "same top-1\nas float", "accuracy", "added\nnumbers")
    show_table(out, title, header, rows, texts=2, styles=styles)
    out.print()
    facts = [("simulated", found.simulated)]
    if found.accuracy is not None:
        facts.insert(0, ("float", f"accuracy {found.accuracy:.4f}"))
    show_facts(out, facts)

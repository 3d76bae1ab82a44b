"""What `edgeqwt evaluate` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeqwt.output import show_facts, show_table
from edgeqwt.report.variants import decibels, varying

if TYPE_CHECKING:
    from rich.console import Console

    from edgeqwt.verify.scoring import Pairing, Score, Scores

MOST = 5  # changes of class that are reported for each file


def show_scores(out: Console, found: Scores) -> None:
    """Files side by side, what their differences are worth, and which classes became which."""
    rows = [
        (
            f.name,
            "" if f.accuracy is None else f"{f.accuracy:.4f}",
            "" if f.agreement is None else f"{f.agreement:.4f}",
            decibels(f.outputs[0].sqnr_db) if k else "",
            varying(f.outputs[0]) if k else "",
        )
        for k, f in enumerate(found.files)
    ]
    first = found.files[0].name
    header = ("file", "accuracy", "same as\nthe first", "SQNR dB", "what\nvaries, dB")
    show_table(out, f"{found.samples:,} samples, beside {first}", header, rows)
    out.print()
    notes = [("warning", sentence) for sentence in found.notes]
    show_facts(out, [*notes, *((label, text) for f in found.files for label, text in _facts(f))])


def _facts(found: Score) -> Iterator[tuple[str, str]]:
    for pairing in found.pairings:
        yield "difference", f"{found.name} against {pairing.other}: {_paired(pairing)}"
    if found.changes:
        message = ", ".join(f"{c.before} became {c.after} ({c.rows})" for c in found.changes[:MOST])
        rows = sum(c.rows for c in found.changes)
        yield "changed", f"{found.name}: {rows} rows; {message}" + (", ..." if len(found.changes) > MOST else "")


def _paired(found: Pairing) -> str:
    counts = f"{found.only_this} right that the other has wrong, {found.only_other} the reverse"
    message = f"{found.verdict} ({counts}; p = {found.probability:.2g})"
    if found.gain is None or found.gain.db != found.gain.db:
        return message
    error = "" if found.gain.standard_error != found.gain.standard_error else f" ± {found.gain.standard_error:.2f}"
    chance = "" if found.gain.certain else ", no more than chance"
    return f"{message}; SQNR {found.gain.db:+.2f}{error} dB{chance}"

"""The table of a build's models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from edgeqwt.output import Row, show_table

if TYPE_CHECKING:
    from rich.console import Console

    from edgeqwt.verify.metrics import Closeness
    from edgeqwt.verify.paired import Gain
    from edgeqwt.verify.quality import OutputFigures, Quality, TensorQuality

NOTHING = "nothing"  # varies between samples
DECIDES = " *"  # marks the row that says which model is kept


def show_variants(
    out: Console,
    quality: Mapping[str, Quality],
    scores: Mapping[str, Mapping[str, float]],
    ops: Mapping[str, int],
    sizes: Mapping[str, int],
    evaluated: int = 0,
) -> None:
    """What is measured in rows, the variants side by side; the row that decides is marked."""
    names = list(dict.fromkeys((*sizes, *quality)))
    samples = next(q.samples for q in quality.values())
    rows: list[Row] = []

    def add(label: str, values: Mapping[str, str]) -> None:
        rows.append((label, *(values.get(name, "") for name in names)))

    for label, values in _output_rows(quality):
        add(label, values)
    if scores:
        add(f"on {evaluated:,} evaluation samples", {})
    for metric in dict.fromkeys(metric for by_metric in scores.values() for metric in by_metric):
        add(
            f"  {metric}",
            {name: number(by_metric[metric]) for name, by_metric in scores.items() if metric in by_metric},
        )
    add("ops", {name: f"{count:,}" for name, count in ops.items()})
    add("bytes", {name: f"{size:,}" for name, size in sizes.items()})
    title = f"Outputs against the float model, on {samples} held-out calibration samples"
    deciding = [k for k, row in enumerate(rows) if row[0].endswith(DECIDES)]
    styles = {(k, column): "bold" for k in deciding for column in range(len(names) + 1)}
    show_table(out, title, ("", *names), rows, last=2, styles=styles)
    if len(quality) > 1:
        classes = any(output.closeness.top1 is not None for q in quality.values() for output in q.outputs)
        chance = "; samples won and lost likewise, with the probability by chance (McNemar)" if classes else ""
        over = "± is the standard error; gains are over the model to the left"
        out.print(f"{DECIDES.strip()} decides which is kept; {over}{chance}.")


def _unresolved(judged: OutputFigures) -> str:
    """What a row says that does not decide."""
    return "" if judged.unresolved is None else ", below a step: not judged"


def _output_rows(quality: Mapping[str, Quality]) -> list[tuple[str, dict[str, str]]]:
    first, rows = next(iter(quality.values())), []
    for k, output in enumerate(first.outputs):
        prefix = f"{output.name} " if len(first.outputs) > 1 else ""
        found = {name: q.outputs[k].closeness for name, q in quality.items()}
        elsewhere = first.decisive[k].tensor != output.tensor
        mark = DECIDES if len(quality) > 1 else ""
        rows.append((f"{prefix}SQNR dB", {name: decibels(c.sqnr_db) for name, c in found.items()}))
        label = f"{prefix}what varies, dB" + ("" if elsewhere else _unresolved(first.decisive[k]) or mark)
        rows.append((label, {name: _with_error(q.outputs[k]) for name, q in quality.items()}))
        for p, part in enumerate(output.parts):
            parts = {name: q.outputs[k].parts[p].closeness for name, q in quality.items()}
            rows.append((f"  {part.name}{_unresolved(part)}", {name: varying(c) for name, c in parts.items()}))
        if elsewhere:
            label = f"  the same before {output.kind or 'the end'}{_unresolved(first.decisive[k]) or mark}"
            rows.append((label, {name: _with_error(q.decisive[k]) for name, q in quality.items()}))
        if len(quality) > 1:
            rows.append((f"{prefix}gain, dB", _gains(quality, k)))
        rows.append((f"{prefix}cosine", {name: f"{c.cosine:.5f}" for name, c in found.items()}))
        if output.closeness.top1 is not None:
            rows.append((f"{prefix}same top-1", {name: f"{c.top1:.4f}" for name, c in found.items()}))
            if len(quality) > 1:
                rows.append(("  won, lost; by chance", _splits(quality, k)))
    return rows


def _with_error(found: TensorQuality) -> str:
    """SQNR of what varies, with its standard error where samples show it."""
    shown, error = varying(found.closeness), found.standard_error
    return shown if math.isnan(error) else f"{shown} ± {error:.1f}"


def _gains(quality: Mapping[str, Quality], output: int) -> dict[str, str]:
    """What each variant gains over the one before it, at the tensor that decides."""
    from edgeqwt.verify.choice import gain_at

    return {b: _gain(gain_at(quality[a], quality[b], output)) for a, b in pairwise(quality)}


def _splits(quality: Mapping[str, Quality], output: int) -> dict[str, str]:
    """Samples whose class each variant gets right and the one before it does not, and the reverse."""
    from edgeqwt.verify.choice import split_at

    found = {b: split_at(quality[a], quality[b], output) for a, b in pairwise(quality)}
    return {name: f"{s.won}, {s.lost}; {s.probability:.2g}" for name, s in found.items() if s is not None}


def _gain(found: Gain) -> str:
    if math.isnan(found.db):
        return ""
    return f"{found.db:+.2f}" + ("" if math.isnan(found.standard_error) else f" ± {found.standard_error:.2f}")


def varying(c: Closeness) -> str:
    """SQNR of what varies between samples, or that nothing does."""
    return NOTHING if c.varying_db is None else decibels(c.varying_db)


def decibels(value: float) -> str:
    """For people: one decimal, or what the value means where it is not finite."""
    if math.isnan(value):
        return "NaN"
    return "exact" if value == math.inf else "none" if value == -math.inf else f"{value:.1f}"


def in_db(value: float) -> str:
    """The same within a sentence, with its unit."""
    if math.isinf(value):
        return "-∞ dB (values that are not finite)" if value < 0 else "∞ dB (no error)"
    return f"{decibels(value)} dB"


def number(value: float) -> str:
    """A score."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"

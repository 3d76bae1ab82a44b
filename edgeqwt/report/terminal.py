"""What the command line prints: short tables, and progress bars where somebody looks."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.progress import Advance, Display, silent
from edgeqwt.target import TargetProfile

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgeqwt.compensate.cwac import Outcome
    from edgeqwt.pipeline import BuildResult, CompensationResult
    from edgeqwt.report.inspect import Description
    from edgeqwt.verify.bitexact import BitExactness
    from edgeqwt.verify.compare import Comparison
    from edgeqwt.verify.layers import Quality
    from edgeqwt.verify.metrics import Closeness


def console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def progress_display() -> Display:
    """Progress bars on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return silent
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def display(name: str) -> Iterator[Advance]:
        columns = (SpinnerColumn(), TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return display


def print_json(value: Any) -> None:
    """A frozen dataclass as JSON on standard output."""
    print(json.dumps(dataclasses.asdict(value), indent=2, default=str))


def show_build(out: Console, result: BuildResult, folder: Path) -> None:
    """What was built, how good it is, what was proved, and where it is."""
    for sentence in (*result.model.notes, *result.prepared.changes):
        out.print(f"[dim]{sentence}[/dim]")
    if result.outcome is not None:
        out.print(_layer_table(result.quality, result.outcome, result.model.places))
        out.print(_skipped(result.outcome))
    out.print(_output_table(result.quality, result.sizes, result.scores))
    out.print(f"kept: [bold]{result.choice.name}[/bold] ({result.choice.reason})")
    worst = max(result.parity.outputs, key=lambda o: o.max_abs)
    out.print(
        f"float parity: largest difference {worst.max_abs:.1e} on {result.parity.samples} samples, "
        f"tolerance {worst.tolerance:.1e}"
    )
    for sentence in runtime_sentences(result.runtimes):
        out.print(sentence)
    told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items())
    out.print(f"[dim]seconds: {told}[/dim]")
    out.print(f"[bold]{folder}/model.tflite[/bold] ({result.sizes[result.choice.name]:,} bytes), {folder}/report.json")


def runtime_sentences(runtimes: BitExactness) -> list[str]:
    """What was found when the runtimes were compared."""
    told = []
    if runtimes.unavailable:
        told.append(f"TFLite Micro does not run the whole model: {runtimes.unavailable}")
    verdict = (
        "byte-identical" if not runtimes.differences else "as expected" if runtimes.ok else "[bold]different[/bold]"
    )
    told.append(
        f"TFLite Micro and LiteRT's reference kernels: {verdict}, op by op, "
        f"{runtimes.ops} ops, {runtimes.samples} samples, {runtimes.elements:,} values"
    )
    told += [
        f"  {d.kind} #{d.op} {d.tensor}: {d.differing} of {d.elements} differ, by {d.largest:g} at most"
        for d in runtimes.differences
    ]
    largest = max((d.largest for d in runtimes.xnnpack_outputs), default=0.0)
    told.append(f"XNNPACK differs from the reference kernels by up to {largest:g} steps at the outputs")
    return told


def show_compensation(out: Console, result: CompensationResult, path: Path) -> None:
    """What compensation did to a file of another tool's."""
    out.print(_layer_table(result.quality, result.outcome, {}))
    out.print(_skipped(result.outcome))
    out.print(_output_table(result.quality, result.sizes, {}))
    out.print(f"kept: [bold]{result.choice.name}[/bold] ({result.choice.reason})")
    out.print(f"[bold]{path}[/bold] ({result.sizes[result.choice.name]:,} bytes)")


def show_comparison(out: Console, comparison: Comparison) -> None:
    """SQNR per tensor, outputs last."""
    from rich.table import Table

    table = Table(title=f"{comparison.samples} samples", title_justify="left")
    for name, justify in (
        ("tensor", "left"),
        ("op", "left"),
        ("SQNR dB", "right"),
        ("cosine", "right"),
        ("max abs", "right"),
    ):
        table.add_column(name, justify=justify, overflow="ellipsis", no_wrap=True)  # type: ignore[arg-type]
    for row in comparison.tensors:
        table.add_row(row.name, row.kind, *_closeness(row.closeness))
    table.add_section()
    for row in comparison.outputs:
        table.add_row(f"[bold]output {row.name}[/bold]", row.kind, *_closeness(row.closeness))
    out.print(table)


def show_description(out: Console, description: Description) -> None:
    """What `inspect` found."""
    from edgeqwt.report.inspect import render

    out.print(render(description))


def show_targets(out: Console, profiles: Iterable[TargetProfile]) -> None:
    """One row per target."""
    from rich.table import Table

    table = Table("target", "what it is", "notes")
    for profile in profiles:
        table.add_row(f"[bold]{profile.name}[/bold]", profile.title, " ".join(profile.notes))
    out.print(table)


def _layer_table(quality: Mapping[str, Quality], outcome: Outcome, places: Mapping[str, str]) -> Table:
    from rich.table import Table

    plain, *others = ({place.tensor: place.closeness for place in q.layers} for q in quality.values())
    table = Table(title="Linear layers: output SQNR on held-out samples, and what was folded in", title_justify="left")
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=34)
    table.add_column("plain", justify="right", no_wrap=True)
    table.add_column("compensated", justify="right", no_wrap=True)
    table.add_column("gains", justify="right", no_wrap=True)
    table.add_column("gained/offset/all", justify="right", no_wrap=True)
    table.add_column("scale", justify="right", no_wrap=True)
    for change in outcome.changes:
        before, after = plain.get(change.name), others[0].get(change.name) if others else None
        gains = f"{change.gain_low:.3f} {change.gain_high:.3f}" if change.with_gain else ""
        scale = "" if change.scale is None else f"x {change.scale[1] / change.scale[0]:.2f}"
        table.add_row(
            places.get(change.name, change.name),
            "" if before is None else f"{decibels(before.sqnr_db)} dB",
            "" if after is None else f"{decibels(after.sqnr_db)} dB",
            gains,
            f"{change.with_gain}/{change.with_offset}/{change.channels}",
            scale,
        )
    return table


def _skipped(outcome: Outcome) -> str:
    """One line: why how many channels were left alone."""
    reasons: Counter[str] = Counter()
    for skip in outcome.skips:
        reasons[skip.reason] += skip.channels
    total = sum(change.channels for change in outcome.changes)
    told = "; ".join(f"{channels} {reason}" for reason, channels in reasons.most_common())
    return f"left alone, of {total} channels: {told}" if told else "no channel was left alone"


def _output_table(
    quality: Mapping[str, Quality], sizes: Mapping[str, int], scores: Mapping[str, Mapping[str, float]]
) -> Table:
    from rich.table import Table

    metrics = list(dict.fromkeys(name for found in scores.values() for name in found))
    table = Table("", "output SQNR dB", "cosine", "top-1 as float", "bytes", *metrics)
    for name in dict.fromkeys((*(["float"] if scores else []), *quality)):
        outputs = [place.closeness for place in quality[name].outputs] if name in quality else []
        table.add_row(
            f"[bold]{name}[/bold]",
            ", ".join(decibels(c.sqnr_db) for c in outputs),
            ", ".join(f"{c.cosine:.5f}" for c in outputs),
            ", ".join("" if c.top1 is None else f"{c.top1:.4f}" for c in outputs),
            f"{sizes[name]:,}" if name in sizes else "",
            *(f"{scores[name][metric]:.4f}" for metric in metrics if name in scores),
        )
    return table


def _closeness(closeness: Closeness) -> tuple[str, str, str]:
    return decibels(closeness.sqnr_db), f"{closeness.cosine:.5f}", f"{closeness.max_abs:.3g}"


def decibels(value: float) -> str:
    """For people: one decimal, or what the value means where it is not finite."""
    if math.isnan(value):
        return "NaN"
    return "exact" if value == math.inf else "none" if value == -math.inf else f"{value:.1f}"

"""What the command line prints: short tables, and progress bars where somebody looks."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.compensation.channel_constants import KINDS as CONSTANTS
from edgeqwt.compensation.cwac import Change, Outcome
from edgeqwt.output import Row, finite, first_name, most, plain, show_facts, show_table
from edgeqwt.report.conversion import converter_sentences, parity_sentence, rewritten
from edgeqwt.report.findings import finding_sentences
from edgeqwt.report.folder import unused
from edgeqwt.report.groups import group_sentences
from edgeqwt.report.own_errors import ceiling_sentences, own_sentences
from edgeqwt.report.page import VERDICTS, level_of
from edgeqwt.report.runtimes import runtime_sentences, some
from edgeqwt.report.variants import decibels, in_db, show_variants, varying
from edgeqwt.report.widths import float_sentences, int4_sentences, widths, widths_sentences
from edgeqwt.rounding.structure import KINDS
from edgeqwt.runtime.child import MIB
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.thresholds import Thresholds

if TYPE_CHECKING:
    from rich.console import Console

    from edgeqwt.mixed.build import Assignment
    from edgeqwt.passes.run import Gain
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.repair import CompensationResult
    from edgeqwt.verify.choice import Choice
    from edgeqwt.verify.compare import Comparison, TensorComparison

MANY = 40  # layers that are all shown; of more, only the worst
WORST = 20
WIDE = 100  # characters of a line that has space for numbers of channels
WORST_OPS = 5  # own errors that `compare` tells
COLOURS = {"good": "green", "poor": "yellow", "below": "red", "unknown": ""}
BAR, FULL_DB = 5, 40.0  # characters of a layer's bar, and the SQNR that fills it
BLOCKS = " ▏▎▍▌▋▊▉█"
CONVERT = "convert"  # the stage
LONG = 1.0  # seconds from which on the layer that took longest is named


def show_build(out: Console, result: BuildResult, folder: Path) -> None:
    """What was built, how good it is, what was proved, and where it is."""
    from edgeqwt.report.document import variants

    show_facts(out, [("converter", sentence) for sentence in converter_sentences(result.model)])
    show_facts(out, [("note", sentence) for sentence in (*result.model.notes, *rewritten(result.prepared.changes))])
    if result.outcome is not None:
        _show_layers(out, result.quality, result.outcome, result.model.locations, result.recipe.quality)
    ops, kept = {name: len(graph.ops) for name, graph in variants(result).items()}, result.quality[result.choice.name]
    show_variants(out, result.quality, result.scores, ops, result.sizes, result.evaluated)
    out.print()
    show_facts(
        out,
        [
            ("kept", kept_sentence(result.choice)),
            *(("BELOW" if found.below else "warning", found.sentence) for found in result.shortfalls),
            *(("remedy", remedy) for remedy in [result.remedy] if remedy),
            *(("ceiling", sentence) for sentence in ceiling_sentences(result.ceiling, kept)),
            *(("samples", sentence) for sentence in result.warnings),
            *(
                ("own error", sentence)
                for sentence in own_sentences(result.own, 2, result.recipe.quality, kept.worst_db, result)
            ),
            *(("widths", sentence) for sentence in assignment_sentences(result.assignment)),
            *(("16 bits", sentence) for sentence in widths_sentences(widths(result.graph))),
            *(("float", sentence) for sentence in float_sentences(widths(result.graph))),
            *(("4 bits", listed) for listed in int4_sentences(result.graph, result.recipe.precision, result.target)),
            *((s.technique.name, sentence) for s in result.made.steps for sentence in s.account.sentences),
            *(("gradients", sentence) for sentence in result.made.notes),
            *(("structure", sentence) for sentence in structure_sentences(result)),
            *(("gains", gain_sentence(gain)) for gain in result.gains),
            ("source", parity_sentence(result.parity)),
            *runtime_sentences(result.graph, result.runtimes),
            *(("groups", sentence) for sentence in group_sentences(result)),
            ("time", time_sentence(result)),
            *(("limits", sentence) for sentence in limit_sentences(result)),
            *(("adapted", sentence) for sentence in result.adapted),
            *finding_sentences(result.findings),
            *(("package", sentence) for sentence in result.notes),
            ("files", f"{folder}/model.tflite, {folder}/report.json, {folder}/package/README.md"),
            ("next", f"open {folder}/report.html: where the error is born, op by op"),
        ],
    )


def show_compensation(out: Console, result: CompensationResult, path: Path) -> None:
    """What compensation did to a file of another tool's."""
    from edgeqwt.report.files import page_beside

    _show_layers(out, result.quality, result.outcome, {}, Thresholds())
    graphs = zip(result.quality, (result.original, result.outcome.graph), strict=False)  # one where nothing was done
    show_variants(out, result.quality, {}, {name: len(graph.ops) for name, graph in graphs}, result.sizes)
    out.print()
    warnings = [
        *(f"accepted: {warning}" for warning in result.warnings),
        *(found.sentence for found in result.shortfalls),
    ]
    listed = (("warning", sentence) for sentence in warnings)
    own = result.traced.get(result.choice.name)
    said = (
        ()
        if own is None
        else own_sentences(own, 2, Thresholds(), result.quality[result.choice.name].worst_db, repaired=True)
    )
    errors = [("own error", sentence) for sentence in said]
    show_facts(out, [("kept", kept_sentence(result.choice)), *listed, *errors, ("file", str(path))])
    show_facts(out, [("next", f"open {page_beside(path)}: where the error is born, op by op")])


def compensation_document(result: CompensationResult, path: Path) -> dict[str, object]:
    """What `edgeqwt compensate --json` prints."""
    return {
        "file": str(path),
        "kept": result.choice.name,
        "reason": result.choice.reason,
        "bytes": dict(result.sizes),
        "quality": finite(plain({name: quality.outputs for name, quality in result.quality.items()})),
        "warnings": [*result.warnings, *(found.sentence for found in result.shortfalls)],
    }


def show_comparison(
    out: Console, comparison: Comparison, first: Path, second: Path, data: Sequence[str] = ("-c", "...")
) -> None:
    """How close every tensor is, outputs last; where it is poor, the ops that err most, and what to do.

    Args:
        out: where it goes.
        comparison: of the files.
        first: the file that was compared with.
        second: the file that was judged.
        data: the options that named the samples.
    """
    found = (*comparison.tensors, *comparison.outputs)
    names = [first_name(row.name) + (f", {row.part}" if row.part else "") for row in found]
    rows = [(name, row.kind, *_closeness(row.closeness)) for name, row in zip(names, found, strict=True)]
    header = ("tensor", "op", "SQNR dB", "what\nvaries", "cosine", "max abs", "steps")
    output_rows = len(comparison.outputs)
    levels = [level_of(_judged(row), Thresholds()) for row in found]
    styles = {(k, column): COLOURS[level] for k, level in enumerate(levels) for column in (2, 3)}
    styles |= {(len(rows) - k, 0): "bold" for k in range(1, output_rows + 1)}
    show_table(out, f"{comparison.samples} samples", header, rows, texts=2, last=output_rows, styles=styles)
    out.print()
    show_facts(out, [("verdict", verdict(comparison, Thresholds()))])
    own = [*own_sentences(comparison.own, WORST_OPS, Thresholds(), comparison.worst()[0])]
    if comparison.own.worst:
        own.insert(0, f"of what varies, op by op, on the first {comparison.own.samples} samples:")
    show_facts(out, [("own error", sentence) for sentence in own])
    show_facts(out, [("warning", sentence) for sentence in comparison.notes])
    for row in comparison.outputs:
        if row.closeness.top1 is not None and not row.part:
            out.print(f"{row.name}: the same largest element in {row.closeness.top1:.4f} of the rows")
    if comparison.unmatched:
        out.print(f"{comparison.unmatched} tensors of the first file are not in the second by name and shape.")
    if comparison.own.worst:
        command, why = next_command(comparison, str(first), str(second), data)
        show_facts(out, [("next", f"{command} {why}")])


def next_command(comparison: Comparison, first: str, second: str, data: Sequence[str]) -> tuple[str, str]:
    """The command that makes a better file, and why: compensation, but where values are cut off or nothing is left."""
    from edgeqwt.advice import clipped
    from edgeqwt.repair import LEAST_DB

    build = shlex.join(["edgeqwt", "build", first, *data, "-o", unused("out")])
    worst = comparison.own.worst
    poor = [op for op in worst[:WORST_OPS] if (op.own_db or 0.0) < Thresholds().warn_db]
    refused = any(row.closeness.judged_db < LEAST_DB for row in comparison.outputs if not row.part)
    if any(map(clipped, poor)):
        but = ", not that of the input" if any(op.kind == "INPUT" and clipped(op) for op in worst) else ""
        other = "" if refused else f"; `compensate` widens those of some layers in place{but}"
        return build, f"chooses ranges that hold these samples{other}"
    if refused:
        return build, "makes one from the float file; so little is right about this one that `compensate` refuses it"
    files = [second, "--reference", first, *data, "-o", "better.tflite"]
    return shlex.join(["edgeqwt", "compensate", *files]), "repairs it in place"


def verdict(comparison: Comparison, wanted: Thresholds) -> str:
    """How good the second file is at its worst output, in a sentence."""
    worst, before = comparison.worst()
    where = f"before the worst output, at {first_name(before)!r}" if before else "at the worst output"
    return f"{in_db(worst)} of what varies {where}: {VERDICTS[level_of(worst, wanted)]}"


def _judged(row: TensorComparison) -> float:
    """SQNR of what varies, where it is known."""
    return row.closeness.sqnr_db if row.closeness.varying_db is None else row.closeness.varying_db


def kept_sentence(choice: Choice) -> str:
    """Which variant was kept and why."""
    return f"{choice.name}: {choice.reason}"


def structure_sentences(result: BuildResult) -> Iterator[str]:
    """What became of zeros and clusters among weights; nothing where there are none."""
    rows = result.made.structure
    sparse, clustered = ([row for row in rows if kind in row.kept] for kind in KINDS)
    if sparse:
        least, most = (min(row.zeros_after for row in sparse), max(row.zeros_after for row in sparse))
        lost = sum(row.zeros_after < row.zeros_before for row in sparse)
        kept = "all zeros of the source kept" if not lost else f"zeros were lost in {lost} of them"
        yield f"layers with many zeros: {len(sparse)}, {least:.0%} to {most:.0%} of their weights, {kept}"
    if clustered:
        most_values = max(row.values_after for row in clustered)
        yield f"clustered layers: {len(clustered)}, at most {most_values} distinct integers in each"
    if rows:
        small, kept = result.compressed, result.choice.name
        yield f"compressed {small['float']:,} bytes in float, {small[kept]:,} in integers"


def assignment_sentences(found: Assignment | None) -> Iterator[str]:
    """Which widths were chosen; nothing where the recipe has them."""
    if found is None:
        return
    counts = Counter(layer.chosen for layer in found.layers)
    listed = ", ".join(
        f"{n} w{w.weights}a{w.activations}" for w, n in sorted(counts.items(), key=lambda pair: -pair[1])
    )
    copies = f"; {found.copies} ops copy activations between widths" if found.copies else ""
    yield (
        f"{listed}: {found.bytes:,} bytes{copies}; {found.measured_db:.2f} dB on samples fitted on, "
        f"{found.predicted_db:.2f} expected; {found.builds} builds"
    )


def time_sentence(result: BuildResult) -> str:
    """How long the stages took."""
    spent = {name: f"{name} {seconds:.1f}" for name, seconds in result.seconds.items() if seconds >= 0.05}
    if result.model.cached and CONVERT in spent:
        spent[CONVERT] += " (from the cache)"
    layers = [
        (cost.seconds, stage, name) for stage, costs in result.layer_costs.items() for name, cost in costs.items()
    ]
    for seconds, stage, name in sorted(layers)[-1:]:
        if seconds >= LONG:
            spent[stage] += f" (layer {name!r} {seconds:.1f})"
    return f"{sum(result.seconds.values()):.1f} s: {', '.join(spent.values())}"


def limit_sentences(result: BuildResult) -> Iterator[str]:
    """What a limit of time or memory came to; nothing without one."""
    limits, less = result.limits, ", ".join(result.limited)
    if limits.seconds is not None:
        other = f"{less} did less for it: on a quicker machine the file may be another one"
        yield f"{limits.seconds:g} s were allowed; {other if less else 'no technique did less for it'}"
    if limits.memory is not None:
        most, allowed = max(result.peaks.values(), default=0), limits.memory / MIB
        yield f"{most:,} MiB of memory were taken, {allowed:,.0f} allowed"


def gain_sentence(gain: Gain) -> str:
    """What a build loses without one technique."""
    return f"{gain.technique}: {gain.gain_db:+.2f} dB; a build without it has {gain.without_db:.2f} dB"


def _show_layers(
    out: Console, quality: Mapping[str, Quality], outcome: Outcome, locations: Mapping[str, str], thresholds: Thresholds
) -> None:
    """The table of layers, what constants per channel took up, and what was skipped."""
    from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED

    plain, after = (
        {layer.tensor: layer.closeness for layer in quality[name].layers} if name in quality else {}
        for name in (UNCOMPENSATED, COMPENSATED)
    )
    changes = linear = tuple(c for c in outcome.changes if c.kind not in CONSTANTS)
    title = "Linear layers: SQNR of the output in dB, and channels that compensation changed"
    if (many := most(MANY)) is not None and len(changes) > many:
        by_sqnr = sorted(changes, key=lambda c: _rank((after or plain).get(c.name)))
        worst = {c.name for c in by_sqnr[:WORST]}
        changes = tuple(c for c in changes if c.name in worst)
        title = f"The {len(changes)} worst of {len(linear)} linear layers: SQNR of the output in dB"
    judged = next(iter(quality.values()))
    if judged.layer_samples < judged.samples:
        title += f"; on the first {judged.layer_samples} samples"
    rows = [
        (
            locations.get(c.name) or first_name(c.name),
            _sqnr(plain.get(c.name)),
            _sqnr(after.get(c.name)),
            bar((after or plain).get(c.name)),
            f"{c.channels}" if out.width >= WIDE else "",
            f"{c.with_gain or ''}",
            f"{c.with_offset or ''}",
            f"{c.gain_low:.3f}-{c.gain_high:.3f}" if c.with_gain else "",
            "" if c.scale is None else f"x{c.scale[1] / c.scale[0]:.3f}",
        )
        for c in changes
    ]
    header = ("layer", "before", "after", "", "channels", "with\ngain", "with\noffset", "gains", "output\nscale")
    levels = [{name: level_of(c.judged_db, thresholds) for name, c in values.items()} for values in (plain, after)]
    shown = (levels[0], levels[1], levels[1] or levels[0])  # numbers of both, and the bar
    styles = {
        (k, 1 + i): COLOURS[by_name.get(c.name, "unknown")]
        for k, c in enumerate(changes)
        for i, by_name in enumerate(shown)
    }
    show_table(out, title, header, rows, styles=styles)
    constants = [c for c in outcome.changes if c.kind in CONSTANTS]
    changed, channels = sum(c.with_gain + c.with_offset for c in constants), sum(c.channels for c in constants)
    listed = [f"{changed:,} of {channels:,} channels changed by {len(constants)} MUL and ADD"] if constants else []
    facts = [("constants", t) for t in listed]
    facts += [
        ("varies", sentence) for sentence in _hidden([row[0] for row in rows], changes, after or plain, thresholds)
    ]
    show_facts(out, [*facts, *(("skipped", sentence) for sentence in _skipped(outcome))])


def _hidden(
    labels: Sequence[str], changes: Sequence[Change], closeness: Mapping[str, Closeness], thresholds: Thresholds
) -> Iterator[str]:
    """Layers that are worse in what varies between samples, which their colours tell, than their SQNR says."""
    known = [(label, closeness[c.name]) for label, c in zip(labels, changes, strict=True) if c.name in closeness]
    found = [(label, c) for label, c in known if level_of(c.judged_db, thresholds) != level_of(c.sqnr_db, thresholds)]
    if found:
        names = [f"{label!r} {decibels(c.judged_db)}" for label, c in sorted(found, key=lambda f: _rank(f[1]))]
        yield f"the outputs of some layers hardly change; dB of what varies, as colours tell: {', '.join(some(names))}"


def _skipped(outcome: Outcome) -> Iterator[str]:
    """Why how many channels got nothing or only a part, and which ops nothing at all."""
    changed = {change.name for change in outcome.changes}
    total = sum(change.channels for change in outcome.changes)
    reasons: dict[str, int] = {}
    whole: dict[str, list[str]] = {}
    for skip in outcome.skips:
        if skip.name in changed:
            reasons[skip.reason] = reasons.get(skip.reason, 0) + skip.channels
        else:
            whole.setdefault(skip.reason, []).append(f"{skip.kind} {skip.name!r}")
    for reason, channels in reasons.items():
        yield f"{channels:,} of {total:,} channels: {reason}"
    for reason, ops in whole.items():
        yield f"{', '.join(some(ops))}: {reason}"


def bar(closeness: Closeness | None) -> str:
    """An SQNR as a bar, full at `FULL_DB`."""
    if closeness is None or math.isnan(closeness.sqnr_db):
        return ""
    eighths = round(8 * BAR * min(max(closeness.sqnr_db / FULL_DB, 0.0), 1.0))
    return (BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8]).strip().ljust(BAR)


def _rank(closeness: Closeness | None) -> float:
    """Layers that nothing is known of, or that are not finite, count as the worst."""
    return -math.inf if closeness is None or math.isnan(closeness.judged_db) else closeness.judged_db


def _sqnr(closeness: Closeness | None) -> str:
    return "" if closeness is None else decibels(closeness.sqnr_db)


def _closeness(c: Closeness) -> Row:
    steps = "" if c.max_steps is None else f"{c.max_steps:.1f}"
    return decibels(c.sqnr_db), varying(c), f"{c.cosine:.5f}", f"{c.max_abs:.3g}", steps

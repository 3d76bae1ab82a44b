"""Results as pages: of builds, of compensated files, of comparisons."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.advice import added_up, advice_on, causes
from edgeqwt.ceiling import Ceiling, alone
from edgeqwt.errors import printable
from edgeqwt.graph.graph import Graph
from edgeqwt.judgement import Refused
from edgeqwt.output import first_name
from edgeqwt.passes.run import Step as Applied
from edgeqwt.pipeline import FLOAT, BuildResult
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.regular_files import json_object
from edgeqwt.report.conversion import converter_sentences, parity_sentence
from edgeqwt.report.details import OpRow, bare_row, memory_map, op_rows, sample_rows
from edgeqwt.report.findings import finding_sentences
from edgeqwt.report.groups import group_sentences
from edgeqwt.report.own_errors import ceiling_sentences, names_in
from edgeqwt.report.page import BELOW, GOOD, POOR, VERDICTS, Advice, Cell, Hint, Page, Row, Step, level_of
from edgeqwt.report.runtimes import runtime_sentences
from edgeqwt.report.terminal import kept_sentence, limit_sentences, next_command, verdict
from edgeqwt.report.variants import decibels, in_db, number
from edgeqwt.verify.choice import gain_at
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.paired import Gain
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.thresholds import Shortfall, Thresholds

if TYPE_CHECKING:
    from edgeqwt.repair import CompensationResult
    from edgeqwt.verify.compare import Comparison

FULL_BAR = 50.0  # dB: a bar as long as its column
WORST = 3  # ops that are named with what to do


NOT_WRITTEN = "No model was written"
"""How the page of a refused build begins."""


def build_page(
    result: BuildResult, origin: Sequence[tuple[str, str]] = (), npu: Mapping[str, Any] | None = None
) -> Page:
    """The page of a build.

    Args:
        result: of it.
        origin: what it was made of and how it is made again.
        npu: the NPU compiler's summary, as the package has it.
    """
    quality, kept, wanted = result.quality[result.choice.name], result.choice.name, result.recipe.quality
    columns = (FLOAT, *result.quality)
    level, headline = _verdict(quality, wanted, result.shortfalls)
    series = tuple(sorted(result.traced, key=lambda name: name == kept))
    graphs = {FLOAT: result.prepared.graph, **result.variants}
    return Page(
        "build", Path(result.sources.model).name, level, headline, columns,
        (
            *_score_rows(result, columns),
            *_quality_rows(result.quality, columns, wanted),
            *_npu_rows(npu, columns, kept),
            _counts("bytes", result.sizes, columns),
            _counts("ops", {name: len(graph.ops) for name, graph in graphs.items()}, columns),
        ),
        series, tuple(op_rows(result.graph, result.traced, result.outcome, result.model.locations)), kept,
        _facts(result), tuple(_lead(result)),
        _hints(result.own, result.recipe, names_in(result.own, result), result.ceiling), wanted, tuple(_steps(result)),
        memory_map(result.graph), npu, tuple(_advice(result)), tuple(sample_rows(result.worst)),
        tuple(origin), added_up(result.own, quality.worst_db, wanted, foreign=False),
    )  # fmt: skip


def refused_page(refused: Refused, model: str, origin: Sequence[tuple[str, str]] = ()) -> Page:
    """The page of a build that stopped for its quality: where the error is made, of a file that was not written."""
    found, context, wanted = refused.judgement, refused.context, refused.recipe.quality
    quality, kept = found.quality[found.choice.name], found.choice.name
    level, headline = _verdict(quality, wanted, found.shortfalls)
    series = tuple(sorted(found.traced, key=lambda name: name == kept))
    lead = [f"{NOT_WRITTEN}: `--accept` writes it as it is.", f"{_meaning(wanted)}."]
    lead += [f"What to do: {found.remedy}"] if found.remedy else []
    lead += [f"Samples: {sentence}." for sentence in found.warnings]
    lead += [f"Ceiling: {sentence}." for sentence in ceiling_sentences(found.ceiling, quality)]
    advice = [Advice("error" if s.below else "warning", s.sentence) for s in found.shortfalls]
    advice += [Advice("note", sentence) for sentence in found.adapted]
    columns, locations = tuple(found.quality), context.model.locations
    names = {name: locations.get(name, "") for name in names_in(found.own, None)}
    return Page(
        "refused", Path(model).name, level, headline, columns, tuple(_quality_rows(found.quality, columns, wanted)),
        series, tuple(op_rows(found.variants[kept], found.traced, refused.outcome, locations)), kept,
        (("target", context.target.name), ("recipe", refused.recipe.name), ("best", kept)), tuple(lead),
        _hints(found.own, refused.recipe, names, found.ceiling), wanted, (), memory_map(found.variants[kept]), None,
        tuple(advice), tuple(sample_rows(found.worst)), tuple(origin),
        added_up(found.own, quality.worst_db, wanted, foreign=False),
    )  # fmt: skip


def compensation_page(
    result: CompensationResult, model: str, origin: Sequence[tuple[str, str]] = (), anew: Sequence[str] = ()
) -> Page:
    """The page of a repaired file; `anew` is the command that builds one from the float file instead."""
    quality, wanted = result.quality[result.choice.name], Thresholds()
    columns = tuple(result.quality)
    level, headline = _verdict(quality, wanted, result.shortfalls)
    series = tuple(sorted(result.traced, key=lambda name: name == result.choice.name))
    rows = (*_quality_rows(result.quality, columns, wanted), _counts("bytes", result.sizes, columns))
    advice = [Advice("warning", f"accepted: {sentence}") for sentence in result.warnings]
    advice += [Advice("error" if s.below else "warning", s.sentence) for s in result.shortfalls]
    own = result.traced.get(result.choice.name, OwnErrors(0, (), 0))
    lead = [f"{_meaning(wanted)}.", f"Kept: {kept_sentence(result.choice)}."]
    if level != GOOD and anew:
        lead.append(f"Next: `{shlex.join(anew)}` makes a file from the float one, with ranges for these samples.")
    return Page(
        "compensate", Path(model).name, level, headline, columns, rows, series,
        tuple(op_rows(result.graph, result.traced, result.outcome, {})), result.choice.name,
        (("compared with", "the float file"), ("held-out samples", str(quality.samples))),
        tuple(lead), _hints(own, names=names_in(own, None), repaired=True), wanted, (),
        memory_map(result.graph), None, tuple(advice), tuple(sample_rows(result.worst)), tuple(origin),
        added_up(own, quality.worst_db, wanted, foreign=True, repaired=True),
    )  # fmt: skip


def comparison_page(
    found: Comparison,
    graph: Graph | None,
    first: str,
    second: str,
    origin: Sequence[tuple[str, str]] = (),
    data: str = "DATA",
) -> Page:
    """The page of a comparison; `graph` is the second file's, None where only its errors are to be shown."""
    wanted, ends = Thresholds(), [row for row in found.outputs if not row.part]
    level = level_of(found.worst()[0], wanted)
    name = Path(second).name
    rows = [
        Row(
            f"what varies at {row.name!r}{', part ' + row.part if row.part else ''}, dB",
            (_decibel_cell(row.closeness.judged_db, wanted),),
            f"{found.samples} samples",
            not row.part,
        )
        for row in found.outputs
    ]
    rows += [
        Row(
            f"what varies before {end!r}, at {first_name(row.name)!r}, dB",
            (_decibel_cell(row.closeness.judged_db, wanted),),
            f"{found.samples} samples",
            True,
        )
        for end, row in found.before.items()
    ]
    rows += [
        Row(f"same largest element at {row.name!r}", (Cell(f"{row.closeness.top1:.4f}"),), f"{row.closeness.rows} rows")
        for row in ends
        if row.closeness.top1 is not None
    ]
    headline, lead = verdict(found, wanted), [f"{_meaning(wanted)}."]
    if found.own.worst:
        command, why = next_command(found, first, second, ["-c", data])
        lead.append(f"Next: `{command}` {why}.")
    notes = [Advice("warning", note) for note in found.notes]
    if found.unmatched:
        notes.append(Advice("note", f"{found.unmatched} tensors of the first file are not in the second."))
    if found.own.skipped:
        notes.append(Advice("warning", f"Own errors are not known: {found.own.skipped}"))
    return Page(
        "compare", name, level, headline, (name,), tuple(rows), (name,), _compared_rows(found, graph, name),
        name, (("compared with", Path(first).name), ("samples", str(found.samples))),
        tuple(lead), _hints(found.own, names=names_in(found.own, None)),
        wanted, (), None if graph is None else memory_map(graph), None, tuple(notes), (), tuple(origin),
        added_up(found.own, found.worst()[0], wanted, foreign=True),
    )  # fmt: skip


def _compared_rows(found: Comparison, graph: Graph | None, name: str) -> tuple[OpRow, ...]:
    if graph is not None:
        return tuple(op_rows(graph, {name: found.own}, None, {}))
    return tuple(bare_row(error, name) for error in found.own.ops)


def npu_summary(package: Path) -> Mapping[str, Any] | None:
    """The NPU compiler's summary in a package that a build wrote; None where there is none."""
    found = json_object(package / "summary.json")
    return found if found.get("schema") == "edgeqwt.ethos-u" else None


def _verdict(quality: Quality, wanted: Thresholds, found: Sequence[Shortfall]) -> tuple[str, str]:
    db = quality.worst_db
    level = seen = level_of(db, wanted)
    grave = next((s for s in found if s.below), next(iter(found), None))
    if grave is not None and seen in (GOOD, POOR):
        level = BELOW if grave.below else POOR
    where = "at the output" if len(quality.outputs) == 1 else "at the worst output"
    ends = [o.closeness for o in quality.outputs]  # rows of maps are no classes
    same = [c.top1 for c in ends if c.top1 is not None and c.rows == c.samples]
    classes = f"; the largest element is the float model's in {min(same):.1%} of rows" if same else ""
    # A part of an output, say, or its classes.
    why = "" if level == seen or grave is None else f", because {grave.sentence}"
    return level, f"{in_db(db)} of what varies {where}: {VERDICTS[level]}{why}{classes}"


def _facts(result: BuildResult) -> tuple[tuple[str, str], ...]:
    p = result.recipe.precision
    return (
        ("target", result.target.name),
        ("recipe", result.recipe.name),
        ("widths", "mixed" if result.recipe.mixed else p.name),
        ("calibration samples", f"{result.samples:,}"),
        ("kept", result.choice.name),
    )


def _meaning(wanted: Thresholds) -> str:
    return (
        "SQNR of what varies holds the part of the outputs that differs between samples against the error: 6 dB "
        f"more is half of the error; below {wanted.warn_db:g} dB is poor"
    )


def _lead(result: BuildResult) -> Iterator[str]:
    wanted = result.recipe.quality
    yield f"{_meaning(wanted)}; below {wanted.min_db:g} dB a build stops unless --accept is given."
    if result.remedy:
        yield f"What to do: {result.remedy}"
    for sentence in result.warnings:
        yield f"Samples: {sentence}."
    yield f"Kept: {kept_sentence(result.choice)}."
    for sentence in ceiling_sentences(result.ceiling, result.quality[result.choice.name]):
        yield f"Ceiling: {sentence}."


def _hints(
    own: OwnErrors,
    recipe: Recipe | None = None,
    names: Mapping[str, str] | None = None,
    ceiling: Ceiling | None = None,
    repaired: bool = False,
) -> tuple[Hint, ...]:
    names, wanted, wider = names or {}, Thresholds() if recipe is None else recipe.quality, alone(ceiling)
    return tuple(
        Hint(
            op.op,
            op.kind,
            op.tensor,
            f"alone would leave {in_db(op.own_db or 0.0)}: {causes(op)}",
            advice_on(op, own, wanted, recipe, names, wider_db=wider.get(op.tensor), repaired=repaired),
        )
        for op in own.worst[:WORST]
    )


def _score_rows(result: BuildResult, columns: Sequence[str]) -> Iterator[Row]:
    metrics = dict.fromkeys(metric for scores in result.scores.values() for metric in scores)
    for metric in metrics:
        values = {name: scores[metric] for name, scores in result.scores.items() if metric in scores}
        cells = tuple(
            Cell(number(values[name]), _chance(metric, values[name], result.evaluated)) if name in values else None
            for name in columns
        )
        yield Row(metric, cells, f"{result.evaluated:,} evaluation samples")


def _chance(metric: str, value: float, samples: int) -> str:
    """The standard error of a share of samples."""
    if metric != "top1" or not samples or not 0 <= value <= 1:
        return ""
    return f"± {(value * (1 - value) / samples) ** 0.5:.4f}"


def _quality_rows(quality: Mapping[str, Quality], columns: Sequence[str], wanted: Thresholds) -> Iterator[Row]:
    """What varies, what each gains over the one before it, and agreement, output by output."""
    first = next(iter(quality.values()))
    note = f"{first.samples} held-out samples"
    before = dict(pairwise([name for name in columns if name in quality]))
    previous = {after: name for name, after in before.items()}
    for k, output in enumerate(first.outputs):
        at = f" at {printable(output.name)!r}" if len(first.outputs) > 1 else ""
        found = {name: q.decisive[k] for name, q in quality.items()}
        cells = [
            _decibel_cell(found[n].closeness.judged_db, wanted, found[n].standard_error) if n in found else None
            for n in columns
        ]
        judged = first.decisive[k].tensor
        where = "" if judged == output.tensor else f", before {output.kind or 'the end'}"
        yield Row(f"what varies{at}, dB", tuple(cells), note + where, True)
        gains = {name: gain_at(quality[previous[name]], quality[name], k) for name in previous}
        if gains:
            cells = [_gain_cell(gains[name]) if name in gains else None for name in columns]
            yield Row(f"gain over the model to the left{at}, dB", tuple(cells), note)
        if output.closeness.top1 is not None:
            cells = [
                _agreement_cell(quality[name].outputs[k].closeness) if name in quality else None for name in columns
            ]
            yield Row(f"same largest element as float{at}", tuple(cells), note)


def _gain_cell(found: Gain) -> Cell | None:
    if math.isnan(found.db):
        return None
    error = "" if math.isnan(found.standard_error) else f"± {found.standard_error:.2f}"
    return Cell(f"{found.db:+.2f}", error + ("" if found.certain or found.db == 0 else ", chance"))


def _agreement_cell(found: Closeness) -> Cell:
    share = found.top1 or 0.0
    return Cell(f"{share:.4f}", _chance("top1", share, found.rows))


def _decibel_cell(db: float, wanted: Thresholds, error: float = math.nan) -> Cell:
    level, note = level_of(db, wanted), "" if math.isnan(error) else f"± {error:.1f}"
    return Cell(decibels(db), note, level, min(1.0, max(0.0, db / FULL_BAR)) if db == db else 0.0)


def _npu_rows(npu: Mapping[str, Any] | None, columns: Sequence[str], kept: str) -> Iterator[Row]:
    if npu is None:
        return
    total, seconds = float(npu["cycles"]["total"]), float(npu["seconds"])
    cells = tuple(Cell(f"{total:,.0f}", f"{seconds * 1e3:.3f} ms") if name == kept else None for name in columns)
    yield Row("NPU cycles per inference", cells, f"{npu['accelerator']}, estimated by Vela")


def _counts(label: str, values: Mapping[str, int], columns: Sequence[str]) -> Row:
    most = max(values.values(), default=0) or 1
    bar = label == "bytes"
    return Row(
        label,
        tuple(Cell(f"{values[n]:,}", bar=values[n] / most if bar else None) if n in values else None for n in columns),
    )


def _steps(result: BuildResult) -> Iterator[Step]:
    gains = {gain.technique: gain.gain_db for gain in result.gains}
    for step in result.made.steps:
        name = step.technique.name
        yield Step(name, step.account.kept, tuple(step.account.sentences) or _in_figures(step), gains.get(name))


def _in_figures(step: Applied) -> tuple[str, ...]:
    """What a technique without a sentence on this model is for, and the figures of its account."""
    summary = (type(step.technique).__doc__ or "").strip().partition("\n")[0]
    figures = {
        key: f"{value:.3g}" if isinstance(value, float) else str(value)
        for key, value in step.account.data.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }
    shown = [
        f"{key.removesuffix('_db').replace('_', ' ')}: {value}{' dB' if key.endswith('_db') else ''}"
        for key, value in figures.items()
    ]
    return (summary, ", ".join(shown)) if shown else (summary,)


def _advice(result: BuildResult) -> Iterator[Advice]:
    """What target, runtimes and conversion say, the gravest first."""
    for found in result.shortfalls:
        yield Advice("error" if found.below else "warning", found.sentence)
    rules = list[tuple[str, list[str]]]()
    for severity, sentence in finding_sentences(result.findings):  # a rule, then the kinds of ops that break it
        if severity:
            rules.append((severity, [sentence]))
        else:
            rules[-1][1].append(sentence)
    for severity, (rule, *kinds) in rules:
        yield Advice(severity, f"{rule} {'; '.join(kinds)}{'.' if kinds else ''}".rstrip())
    for name, sentence in runtime_sentences(result.graph, result.runtimes):
        yield Advice("note", f"{name or 'TFLite Micro'}: {sentence}")
    for sentence in group_sentences(result):
        yield Advice("note", f"Groups: {sentence}")
    for sentence in limit_sentences(result):
        yield Advice("note", f"Limits: {sentence}")
    yield Advice("note", f"Source: {parity_sentence(result.parity)}")
    for sentence in (*result.notes, *result.adapted):
        yield Advice("note", sentence)
    for sentence in (*converter_sentences(result.model), *result.model.notes, *result.prepared.changes):
        yield Advice("note", f"Conversion: {sentence}")

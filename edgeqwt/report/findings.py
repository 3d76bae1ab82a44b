"""Targets, and what they do not take, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING

from edgeqwt.errors import listed, short
from edgeqwt.output import LABEL, show_facts
from edgeqwt.profile import Finding, TargetProfile

if TYPE_CHECKING:
    from rich.console import Console

NAMED = 3  # ops of one rule that are named


def show_targets(out: Console, profiles: Iterable[TargetProfile]) -> None:
    """Each target with what it is; then what was verified, once for all of which it is true."""
    for notes, group in groupby(sorted(profiles, key=lambda p: p.name), lambda p: p.notes):
        for profile in group:
            title = fill(f"{profile.name}: {profile.title}", out.width, subsequent_indent=" " * LABEL)
            out.print(title, style="bold")
        show_facts(out, [("", note) for note in notes])


def show_findings(out: Console, findings: Sequence[Finding], done: Sequence[str], target: str) -> None:
    """Every rule that is broken, the ops that break it, and the remedy.

    Args:
        out: where it goes.
        findings: errors first.
        done: sentences on what was fixed.
        target: its name.
    """
    show_facts(out, [("fixed", sentence) for sentence in done])
    if not findings:
        out.print(f"{target}: nothing stands in the way.")
        return
    show_facts(out, finding_sentences(findings))
    errors = sum(finding.severity == "error" for finding in findings)
    summary = f"{target}: {_counted(errors, 'error')}" if errors else f"{target} takes it"
    out.print(f"{summary}, {_counted(len(findings) - errors, 'warning')}.", style="bold")


def finding_sentences(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Severity and text, errors first.

    What is true of several ops is reported once. A rule that several kinds of ops break is reported once as
    well, with a line for each kind: for most models XNNPACK's is.
    """

    def key(finding: Finding) -> tuple[str, str, str]:
        return finding.severity, _rule(finding), finding.remedy

    messages = []
    for _, group in groupby(sorted(findings, key=lambda finding: (*key(finding), finding.reason)), key):
        kinds = [list(same) for _, same in groupby(group, lambda finding: finding.reason)]
        first = kinds[0][0]
        if len(kinds) == 1:
            where = _where(kinds[0])
            messages.append((first.severity, f"{where}{where and ': '}{first.reason.rstrip('.')}. {_remedy(first)}"))
            continue
        rule = _rule(first).rstrip(".")
        messages.append((first.severity, f"{rule[:1].upper()}{rule[1:]}. {_remedy(first)}"))
        messages += [("", f"{same[0].reason.partition(': ')[0]}: {_first(same)}") for same in kinds]
    return messages


def _rule(finding: Finding) -> str:
    """Of a reason such as "SOFTMAX on int8: XNNPACK does not take it" what comes last; else all of it."""
    return finding.reason.partition(": ")[2] or finding.reason


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _where(findings: Sequence[Finding]) -> str:
    named = [f"{f.op} ({short(f.tensor)})" if f.tensor else f.op for f in findings if f.op]
    return listed(named, NAMED)


def _first(findings: Sequence[Finding]) -> str:
    """As `_where`, in a line."""
    return _where(findings) if len(findings) == 1 else f"{len(findings)} ops, the first is {findings[0].op}"


def _remedy(finding: Finding) -> str:
    return f"{finding.remedy} --fix applies {finding.fix}." if finding.fix else finding.remedy

"""What a target does not take, for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from edgeqwt.output import show_facts
from edgeqwt.target import Finding

if TYPE_CHECKING:
    from rich.console import Console

NAMED = 3  # ops of one rule that are named
LONGEST = 40  # characters of a tensor's name


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
    told = f"{target}: {errors} errors" if errors else f"{target} takes it"
    out.print(f"{told}, {len(findings) - errors} warnings.", style="bold")


def finding_sentences(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Severity and text, errors first; what is true of several ops is told once."""

    def key(finding: Finding) -> tuple[str, str, str]:
        return finding.severity, finding.reason, finding.remedy

    told = []
    for _, group in groupby(sorted(findings, key=key), key):
        same = list(group)
        told += [(same[0].severity, f"{_where(same)}{same[0].reason.rstrip('.')}. {_remedy(same[0])}")]
    return told


def _where(findings: Sequence[Finding]) -> str:
    named = [f"{f.op} ({_short(f.tensor)})" if f.tensor else f.op for f in findings if f.op]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{', '.join(named[:NAMED])}{more}: " if named else ""


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"…{name[-LONGEST:]}"


def _remedy(finding: Finding) -> str:
    return f"{finding.remedy} --fix applies {finding.fix}." if finding.fix else finding.remedy

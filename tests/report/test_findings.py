from __future__ import annotations

import io

from rich.console import Console

from edgeqwt.profile import Finding, TargetProfile
from edgeqwt.report.findings import finding_sentences, show_findings, show_targets

SLOW = [Finding("delegated", "warning", f"SOFTMAX {i}", f"out{i}", "XNNPACK lacks it.", "Leave it.") for i in range(5)]
REFUSED = Finding("kinds", "error", "GELU 7", "gelu", "there is no kernel", "Use a table.", "lookup-table")


def shown(findings: list[Finding], done: tuple[str, ...] = ()) -> str:
    out = Console(file=io.StringIO(), width=200, highlight=False, markup=False)
    show_findings(out, findings, done, "tflm")
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_targets_with_the_same_notes_tell_them_once() -> None:
    profiles = [TargetProfile(name, f"the {name}", (), ("True.",) if name != "c" else ("Else.",)) for name in "bac"]
    out = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    show_targets(out, profiles)
    assert isinstance(out.file, io.StringIO)
    lines = [line.strip() for line in out.file.getvalue().splitlines()]
    assert lines == ["a: the a", "b: the b", "True.", "c: the c", "Else."]


def test_ops_with_one_reason_are_reported_together() -> None:
    (message,) = finding_sentences(SLOW)
    names = "SOFTMAX 0 (out0), SOFTMAX 1 (out1), SOFTMAX 2 (out2) and 2 more"
    assert message == ("warning", f"{names}: XNNPACK lacks it. Leave it.")


def test_a_rule_that_several_kinds_break_is_reported_once_and_each_kind_in_a_line() -> None:
    kinds = ("SOFTMAX", "CAST", "SOFTMAX")
    found = [
        Finding("delegated", "warning", f"{kind} {i}", f"out{i}", f"{kind} on int8: the rule is broken.", "Leave it.")
        for i, kind in enumerate(kinds)
    ]
    assert finding_sentences([*found, REFUSED]) == [
        ("error", "GELU 7 (gelu): there is no kernel. Use a table. --fix applies lookup-table."),
        ("warning", "The rule is broken. Leave it."),
        ("", "CAST on int8: CAST 1 (out1)"),
        ("", "SOFTMAX on int8: 2 ops, the first is SOFTMAX 0"),
    ]


def test_errors_come_first_and_name_their_fix() -> None:
    first, _ = finding_sentences([*SLOW, REFUSED])
    assert first == ("error", "GELU 7 (gelu): there is no kernel. Use a table. --fix applies lookup-table.")


def test_the_last_line_counts() -> None:
    assert shown([REFUSED, *SLOW]).splitlines()[-1] == "tflm: 1 error, 5 warnings."
    assert shown(SLOW).splitlines()[-1] == "tflm takes it, 5 warnings."
    assert shown(SLOW[:1]).splitlines()[-1] == "tflm takes it, 1 warning."
    assert shown([]) == "tflm: nothing stands in the way.\n"
    assert "fixed" in shown([], ("GELU became a table.",))

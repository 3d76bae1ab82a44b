"""What reports and benchmarks share: the console, progress, JSON."""

from __future__ import annotations

import json
import os
import pty
import select
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from edgeqwt import output


def test_json_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Found:
        name: str
        path: Path

    output.print_json(Found("[x]", Path("a/b")))
    assert json.loads(capsys.readouterr().out) == {"name": "[x]", "path": "a/b"}


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_display()("stage") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    with os.fdopen(slave, "w") as screen:
        monkeypatch.setattr("sys.stderr", screen)
        with output.progress_display()("fit") as advance:
            for done, total in ((1, None), (3, 4), (4, 4)):
                advance(done, total)
    seen = ""
    while select.select([master], [], [], 0.5)[0]:  # a terminal passes things on in pieces
        seen += os.read(master, 1 << 16).decode()
    os.close(master)
    assert "fit" in seen
    assert "4/4" in seen
    assert seen.rstrip().endswith("\x1b[2K")  # nothing of it stays


def test_the_console_is_wide_enough_where_it_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = output.console()
    assert out.width == output.WIDTH
    out.print("[bold]tensor[0][/bold] :smile:")
    assert capsys.readouterr().out == "[bold]tensor[0][/bold] :smile:\n"


def test_plain_and_finite_data() -> None:
    @dataclass(frozen=True)
    class Found:
        limits: object
        value: float

    made = output.plain([Found(MappingProxyType({"a": 1}), float("nan"))])
    assert output.finite(made) == [{"limits": {"a": 1}, "value": None}]


HOSTILE = "\x1b]0;t\x07\x1b[2Ja\x0b\u202e|`<b>\r\n[x](y)"


def test_nothing_in_a_name_is_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = output.console()
    out.print(HOSTILE)
    output.show_facts(out, [(HOSTILE, HOSTILE)])
    output.show_table(out, HOSTILE, (HOSTILE, "b"), [(HOSTILE, HOSTILE)])
    said = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said)
    assert "a" in said


def test_names_in_markdown_are_text() -> None:
    assert output.markdown(HOSTILE) == "\ufffd\\]0;t\ufffd\ufffd\\[2Ja \ufffd\\|\\`\\<b\\> \\[x\\](y)"
    assert output.markdown_code("a`|b\n#") == "a'\\|b #"

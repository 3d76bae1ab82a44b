"""What reports and benchmarks share: the console, progress, JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.console import Console

from edgeqwt import output
from edgeqwt.errors import InputError
from edgeqwt.progress import silent
from tests import small


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


def test_progress_in_a_log_is_lines_with_what_is_left(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        display = output._lines(log.fileno(), patience=0.05)
        with display("fit") as advance:
            advance(1, 4)
            small.wait_for(lambda: "left" in (tmp_path / "log").read_text())
        with display("short") as advance:
            advance(1, 1)
    first, *_, last = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"edgeqwt: fit: 1 of 4, 0 s, about \d s left", first)
    assert re.fullmatch(r"edgeqwt: fit: done in \d s", last)
    assert output._progress(0, None, 130.0) == "2 min"


@pytest.mark.parametrize(("no_color", "red"), [("", True), ("1", False)])
def test_errors_are_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: str, red: bool) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    with os.fdopen(slave, "w") as screen:
        monkeypatch.setattr("sys.stderr", screen)
        output.show_error(InputError("no such file", "Name another."))
        screen.flush()
        said = ""
        while "another." not in said:  # a terminal hands on what it has so far
            said += os.read(master, 1 << 16).decode()
    os.close(master)
    assert ("\x1b[1;31m" in said) is red
    assert said.splitlines()[1] == "  hint: Name another."


@pytest.mark.parametrize(("forced", "no_color", "red"), [("1", "", True), ("1", "1", False), ("", "", False)])
def test_errors_in_a_log_are_red_where_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forced: str, no_color: str, red: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", forced)
    monkeypatch.setenv("NO_COLOR", no_color)
    output.show_error(InputError("no such file", ""))
    assert ("\x1b[1;31m" in capsys.readouterr().err) is red


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.loudness(quiet=True, verbose=False):
        output.show_facts(output.console(), [("kept", "all")])
        assert output.progress_display() is silent
    with output.loudness(quiet=False, verbose=True):
        assert list(range(9))[: output.most(3)] == list(range(9))
    assert list(range(9))[: output.most(3)] == [0, 1, 2]
    assert capsys.readouterr().out == ""


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


@pytest.mark.parametrize(("width", "left"), [(60, []), (38, ["b b"]), (24, ["b b", "c"])])
def test_a_narrow_table_leaves_out_what_is_spare_and_no_figure_is_cut(width: int, left: list[str]) -> None:
    out = Console(file=io.StringIO(), width=width)
    cells = ("a name of the row", "1,234,567", "7,654,321", "1.23")
    assert output.show_table(out, "t", ("name", "b\nb", "c", "d"), [cells], spare=(1, 2)) == left
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert [figure in said for figure in cells[1:]] == ["b b" not in left, "c" not in left, True]
    assert max(map(len, said.splitlines())) <= width


def test_names_in_markdown_are_text() -> None:
    assert output.markdown(HOSTILE) == "\ufffd\\]0;t\ufffd\ufffd\\[2Ja \ufffd\\|\\`\\<b\\> \\[x\\](y)"
    assert output.markdown_code("a`|b\n#") == "a'\\|b #"


def test_merged_names_are_shown_by_their_first() -> None:
    assert output.first_name("relu/Relu;bn/add;conv") == "relu/Relu"
    assert output.first_name(";odd") == ";odd"

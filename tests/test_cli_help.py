"""Help, completion, versions and usage errors of the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgeqwt import errors
from edgeqwt.commands import panels
from tests import small
from tests.small import Command, Small

COMMANDS = (
    "build", "demo", "compensate", "inspect", "compare", "evaluate", "check", "export", "diff", "explore",
    "bench", "targets", "study", "recipes", "sweep", "tools",
)  # fmt: skip
ALIKE = {
    "--json": "--json Print the result as JSON, and nothing else.",
    "--fix": "--fix Apply what findings of `edgeqwt check` offer to apply.",
    "--quiet": "-q, --quiet Print nothing but errors, and JSON where --json asks for it.",
    "--verbose": "-v, --verbose Print all layers, ops and samples, not the worst alone.",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_commands_and_exit_codes(edgeqwt: Command, arguments: list[str]) -> None:
    code, out, err = edgeqwt(*arguments)
    assert (code, err) == (0, "")
    assert re.findall(r"^  (\w+)  ", out, re.MULTILINE)[-len(COMMANDS) :] == list(COMMANDS)
    message = {
        int(number) for number in re.findall(r"(\d+) (?:done|a|the|an|anything|interrupted)", " ".join(out.split()))
    }
    kinds = [errors.EdgeqwtError, *errors.EdgeqwtError.__subclasses__(), errors.ParityError]
    assert message == {0, 130, *(kind.exit_code for kind in kinds)}


@pytest.mark.parametrize("command", COMMANDS)
def test_many_options_stand_under_headings(edgeqwt: Command, command: str) -> None:
    text = edgeqwt(command, "--help")[1].partition("\nExamples:\n")[0]
    headings = re.split(r"\n(?=[A-Z][\w ]+:\n)", text)[1:]
    listed = {part.partition(":\n")[0]: re.findall(r"^  (-\S+)", part, re.MULTILINE) for part in headings}
    options = [option for heading, found in listed.items() if heading != "Arguments" for option in found]
    if len(options) <= panels.MOST:
        assert listed["Options"] == options
    else:
        assert listed["Options"] == ["-q,", "-v,", "-h,"]  # everything else has a panel
        assert [heading for heading in panels.PANELS if heading in listed] == [
            heading for heading in listed if heading not in ("Arguments", "Options")
        ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(edgeqwt: Command, command: str) -> None:
    code, out, _ = edgeqwt(command, "--help")
    assert code == 0
    options, examples = out.split("\nExamples:\n")
    for line in options.splitlines():
        assert not re.fullmatch(r"  -\S+( [A-Z|]+)?", line), f"no help: {line}"
    given = {name for line in options.splitlines() for name in re.findall(r"(?:^|[ ,])(-[-\w]+)", line[:34])}
    for line in examples.splitlines():
        assert line.startswith("  edgeqwt ")
        assert set(re.findall(r" (-{1,2}[a-z][-\w]*)", line)) <= given, line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_options_of_one_meaning(edgeqwt: Command, command: str) -> None:
    _, out, _ = edgeqwt(command, "-h")
    said = " ".join(out.split())
    for option, message in ALIKE.items():
        there = re.search(rf"^  (-\w, )?{option} ", out, re.MULTILINE) is not None
        assert there or option in ("--json", "--fix")
        assert not there or message in said, option


def test_the_list_of_commands_says_what_each_is_for_in_one_line(edgeqwt: Command) -> None:
    _, out, _ = edgeqwt("-h")
    listed = out.split("Commands:\n")[1].split("\n\n")[0]
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) <= 80


def test_quiet_and_verbose(edgeqwt: Command, files: Small) -> None:
    assert edgeqwt("targets", "--quiet") == (0, "", "")
    _, out, _ = edgeqwt("targets", "-q", "--json")
    assert "tflm-cortex-m4" in json.loads(out)
    assert "exclude each other" in edgeqwt.refused(2, "inspect", files.model, "-q", "-v")


@pytest.mark.parametrize(
    ("typed", "offered"), [("edgeqwt ins", {"inspect"}), ("edgeqwt inspect --js", {"--json"}), ("edgeqwt xyz", set())]
)
def test_completion_of_a_shell(edgeqwt: Command, monkeypatch: Any, typed: str, offered: set[str]) -> None:
    monkeypatch.setenv("_EDGEQWT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    code, out, err = edgeqwt()
    assert (code, set(out.split()), err) == (0, offered, "")


def test_completion_is_installed_by_one_command(edgeqwt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(edgeqwt.folder))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = edgeqwt("--show-completion", "bash")
    assert code == 0
    assert "_EDGEQWT_COMPLETE=complete_bash" in out
    assert edgeqwt("--install-completion", "bash")[0] == 0
    assert "edgeqwt" in (edgeqwt.folder / ".bashrc").read_text()


def test_version(edgeqwt: Command) -> None:
    code, out, err = edgeqwt("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"edgeqwt(, run from a checkout that is not installed| \d+\.\d+.*)\n", out)


@pytest.mark.parametrize(
    ("arguments", "said", "help_of"),
    [
        (["buidl"], "No such command 'buidl'", "edgeqwt"),
        (["build"], "Missing argument 'MODEL'", "edgeqwt build"),
        (["build", "m.tflite"], "Missing option '--calibration'", "edgeqwt build"),
        (["inspect", "a", "b"], "unexpected extra argument", "edgeqwt inspect"),
        (["--colour"], "No such option: --colour", "edgeqwt"),
    ],
)
def test_usage_errors_look_like_all_others(edgeqwt: Command, arguments: list[str], said: str, help_of: str) -> None:
    err = edgeqwt.refused(2, *arguments)
    assert said in err
    assert f"See `{help_of} --help`" in err

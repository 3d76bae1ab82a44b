"""--json, --quiet and --verbose mean the same in every command, and shells offer the values that options take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edgeqwt.commands import app
from tests import small
from tests.small import ROOT, Command

FILES = "-c", "samples.npz"
CALLS: dict[str, tuple[str, ...]] = {
    "build": ("float.tflite", *FILES, "-o", "new/made", "--recipe", "fast", "--overwrite"),
    "demo": ("out", "--bundle", "page"),
    "compensate": ("out/model.tflite", "--reference", "float.tflite", *FILES, "-o", "new/better.tflite"),
    "inspect": ("float.tflite",),
    "compare": ("float.tflite", "out/model.tflite", *FILES),
    "evaluate": ("float.tflite", "out/model.tflite", "--data", "labelled.npz"),
    "check": ("out/model.tflite", "--target", "tflm", "--fix", "-o", "new/fixed.tflite"),
    "export": ("out/model.tflite", "-o", "new/model.onnx"),
    "diff": ("out", "out"),
    "explore": ("out",),
    "bench": ("out/model.tflite", "--on", "host", "--runs", "1"),
    "targets": (),
    "study": ("float.tflite", *FILES, "--methods", "plain", "--corrections", "none"),
    "recipes": (),
    "recipes show": ("fast",),
    "sweep run": ("plan.toml", "-o", "sweep", "--jobs", "1"),
    "sweep show": ("sweep",),
    "tools": (),
    "tools install": ("litertjs",),
}
PLAN = """
models = ["float.tflite"]
calibration = ["samples.npz"]
recipes = ["fast"]
"""
WITHOUT = {"explore"}  # its result is Model Explorer's window
EXTRAS = {"export": ("onnx",), "study": ("torch",)}


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All commands that do something by themselves, by what one types."""
    alone = not getattr(command, "no_args_is_help", False) or not hasattr(command, "commands")
    if name and alone:
        yield name, command
    for key, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, f"{name} {key}".strip())


LEAVES = dict(leaves(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, its build, and a sweep of it."""
    from edgeqwt import cli

    folder = tmp_path_factory.mktemp("made")
    small.write(folder)
    (folder / "plan.toml").write_text(PLAN)
    model, samples = str(folder / "float.tflite"), str(folder / "samples.npz")
    assert cli.run(["build", model, "-c", samples, "-o", str(folder / "out"), "--recipe", "fast", "-q"]) == 0
    assert cli.run(["sweep", str(folder / "plan.toml"), "-o", str(folder / "sweep"), "--jobs", "1", "-q"]) == 0
    return folder


@pytest.fixture
def edgeqwt(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in that folder, without what only other programs do."""
    from edgeqwt import api_targets, api_web
    from edgeqwt.converters.tools import Found
    from edgeqwt.report import model_explorer

    found = small.command(tmp_path, monkeypatch, capsys)
    monkeypatch.chdir(made)
    monkeypatch.setattr(api_targets, "install_tool", lambda name, python: Found(name, "1.0", "there", "npm"))
    monkeypatch.setattr(api_web, "bundle_demo", lambda folder, output, options: None)
    monkeypatch.setattr(model_explorer, "explore", lambda folder: None)
    return found


def test_every_command_is_tried() -> None:
    assert set(CALLS) == set(LEAVES)


@pytest.mark.parametrize("name", CALLS)
def test_json_and_quiet(edgeqwt: Command, name: str) -> None:
    for package in EXTRAS.get(name, ()):
        pytest.importorskip(package)
    call = (*name.split(), *CALLS[name])
    code, said, err = edgeqwt(*call)
    assert (code, err) == (0, "")
    assert said or name in WITHOUT
    assert edgeqwt(*call, "--quiet") == (0, "", "")
    code, all_of_it, err = edgeqwt(*call, "--verbose")
    assert (code, err) == (0, "")
    assert len(all_of_it.splitlines()) >= len(said.splitlines())
    if name in WITHOUT:
        return
    found = {}
    for loudness in ("--quiet", "--verbose"):
        code, out, err = edgeqwt(*call, loudness, "--json")
        assert (code, err) == (0, "")
        found[loudness] = json.loads(out)
    assert type(found["--quiet"]) is type(found["--verbose"])
    assert len(found["--quiet"]) == len(found["--verbose"]) > 0


def test_the_json_of_a_build_is_its_report(edgeqwt: Command) -> None:
    _, out, _ = edgeqwt("build", *CALLS["build"], "--json")
    assert json.loads(out) == json.loads(Path("new/made/report.json").read_text())
    _, out, _ = edgeqwt("build", *CALLS["build"], "--pareto", "--json")
    assert {row["status"] for row in json.loads(out)["builds"]} >= {"built"}


# -- completion -------------------------------------------------------------------

TYPED = {
    "edgeqwt comp": ["compare", "compensate"],
    "edgeqwt build m.onnx --recipe f": ["fast"],
    "edgeqwt recipes show bal": ["balanced"],
    "edgeqwt recipes show gpt": ["gptq"],
    "edgeqwt check m.tflite --target ethos-u65": ["ethos-u65-256", "ethos-u65-512"],
    "edgeqwt bench m.tflite --on qe": ["qemu"],
    "edgeqwt build m.onnx --ranges min": ["minmax"],
    "edgeqwt build m.onnx --converter on": ["onnx2tf"],
    "edgeqwt tools install q": ["qualcomm"],
    "edgeqwt build m.onnx --calibration dat": ["data.npz"],  # files, as the shell has them
    "edgeqwt build m.onnx --recipe dat": ["data.npz"],
}


def test_completion_in_a_real_bash(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "edgeqwt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m edgeqwt "$@"\n')
    program.chmod(0o755)
    (tmp_path / "data.npz").touch()
    environment = {"HOME": str(tmp_path), "PATH": f"{program.parent}:/usr/bin:/bin", "TERM": "dumb"}
    run: dict[str, Any] = {"env": environment, "cwd": tmp_path, "text": True, "capture_output": True}
    installed = subprocess.run(["bash", "-c", "edgeqwt --install-completion; exit $?"], check=False, **run)
    assert installed.returncode == 0, installed.stderr
    # What `bind` would do when Tab is pressed: the words of the line, then the function that `complete` names, and
    # files where it offers nothing, as its `-o default` says.
    ask = """
    source ~/.bashrc
    [[ $(complete -p edgeqwt) == *"-o default -F "* ]] || exit 9
    while read -r line; do
        COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
        _edgeqwt_completion edgeqwt
        [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[-1]}"))
        echo "offered ${COMPREPLY[*]}"
    done
    """
    answered = subprocess.run(["bash", "-ic", ask], input="\n".join(TYPED) + "\n", check=False, **run)
    lines = [line.split()[1:] for line in answered.stdout.splitlines() if line.startswith("offered")]
    assert dict(zip(TYPED, map(sorted, lines), strict=True)) == TYPED, answered.stderr

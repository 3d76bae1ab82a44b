from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from edgeqwt.converters import tools
from edgeqwt.converters.tools import FOLDER_VARIABLE, MANAGED, OWN, TOOLS, find, install, managed_python, tools_folder
from edgeqwt.errors import InputError, ToolError

PINS = Path(tools.__file__).with_name("pins")


@pytest.mark.requires("onnx2tf")
def test_the_environment_of_edgeqwt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find("onnx2tf")
    assert (found.where, found.python, found.problem) == (OWN, sys.executable, "")
    assert found.version is not None
    assert find("litert-torch").version is None


@pytest.mark.requires("onnx2tf")
def test_a_variable_names_another_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variable = TOOLS["onnx2tf"].variable
    monkeypatch.setenv(variable, str(tmp_path / "python"))
    assert find("onnx2tf").problem == f"{tmp_path / 'python'} is no program"
    venv.create(tmp_path / "empty", with_pip=False)
    empty = str(tmp_path / "empty" / "bin" / "python")
    monkeypatch.setenv(variable, empty)
    assert find("onnx2tf").problem == f"{empty} has no onnx2tf"
    assert variable in tools.missing(find("onnx2tf")).hint
    monkeypatch.setenv(variable, sys.executable)
    found = find("onnx2tf")
    assert (found.where, found.problem) == (variable, "")
    assert found.version is not None


@pytest.mark.requires("onnx2tf")
def test_a_managed_environment_goes_before_edgeqwts_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    python = managed_python("onnx2tf")
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 9.9\n")
    python.chmod(0o755)
    found = find("onnx2tf")
    assert (found.version, found.python, found.where) == ("9.9", str(python), MANAGED)
    (python.parents[1] / tools.UNFINISHED).touch()  # an installation that was stopped
    assert find("onnx2tf").where == OWN


def test_where_managed_environments_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert tools_folder() == tmp_path / "edgeqwt" / "tools"
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "here"))
    assert tools_folder() == tmp_path / "here"


def test_installing_what_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    for name in ("vela", "toco"):
        with pytest.raises(InputError, match=f"no environment can be made for '{name}'"):
            install(name)
    with pytest.raises(ToolError, match="no/such/python -m venv could not be started"):
        install("onnx2tf", "no/such/python")
    assert find("onnx2tf").where == OWN  # what is left of that does not count


@pytest.mark.parametrize("name", [tool.name for tool in TOOLS.values() if tool.size])
def test_pins_are_complete_and_exact(name: str) -> None:
    pinned = [line for line in (PINS / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]
    names = [line.partition("==")[0] for line in pinned]
    assert names == sorted(names)
    assert all(line.count("==") == 1 for line in pinned)
    assert set(names) & set(TOOLS[name].packages)

"""Tests of scripts/find_python.sh, with PATHs that hold nothing but what a test puts there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "find_python.sh"
FAILING_SHIM = "echo 'pyenv: command not found' >&2; exit 127"


def interpreter(path: Path, version: str = "3.12.4", missing: str = "") -> Path:
    """Puts a Python at `path`: the one that runs this, which takes itself for another version."""
    pretend = (
        f"import sys; sys.version_info = {tuple(map(int, version.split('.')))}; sys._base_executable = '{path}'; "
        f"sys.modules.update(dict.fromkeys({missing.split()})); exec(sys.argv[1])"
    )
    # The script runs candidates as `python -c PROGRAM`.
    return command(path, f'[ "$1" = -c ] && exec "{sys.executable}" -c "{pretend}" "$2"')


def command(path: Path, body: str) -> Path:
    """Puts an executable shell script at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@dataclass(frozen=True)
class Machine:
    """A machine that has only what a test puts there."""

    bin: Path
    home: Path

    def find(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the script there."""
        return subprocess.run(
            [str(self.bin / "bash"), str(SCRIPT)],
            env={"PATH": str(self.bin), "HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def found(self, **environment: str) -> Path:
        """What the script finds there."""
        done = self.find(**environment)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without any Python."""
    made = Machine(bin=tmp_path / "bin", home=tmp_path / "home")
    made.bin.mkdir()
    made.home.mkdir()
    for tool in ("bash", "cat", "tail"):
        path = shutil.which(tool)
        assert path
        (made.bin / tool).symlink_to(path)
    return made


@pytest.mark.parametrize("name", ["python3.12", "python3.13", "python3", "python"])
def test_finds_a_python_on_path_by_any_name(machine: Machine, name: str) -> None:
    expected = interpreter(machine.bin / name)
    assert machine.found() == expected


def test_prefers_3_12(machine: Machine) -> None:
    interpreter(machine.bin / "python3.13", "3.13.0")
    expected = interpreter(machine.bin / "python3.12")
    assert machine.found() == expected


@pytest.mark.parametrize("version", ["3.11.7", "2.7.18", "3.14.0"])
def test_passes_over_other_versions(machine: Machine, version: str) -> None:
    interpreter(machine.bin / "python3", version)
    expected = interpreter(machine.bin / "python")
    assert machine.found() == expected


def test_finds_pyenv_versions_behind_a_shim_that_fails(machine: Machine, tmp_path: Path) -> None:
    command(machine.bin / "python3.12", FAILING_SHIM)
    command(machine.bin / "pyenv", f"echo {tmp_path}/pyenv")
    interpreter(tmp_path / "pyenv/versions/3.11.7/bin/python", "3.11.7")
    expected = interpreter(tmp_path / "pyenv/versions/3.13.0/bin/python", "3.13.0")
    assert machine.found() == expected


def test_finds_pyenv_versions_when_pyenv_is_not_on_path(machine: Machine) -> None:
    expected = interpreter(machine.home / ".pyenv/versions/3.12.1/bin/python")
    assert machine.found() == expected


def test_finds_a_python_of_uv(machine: Machine, tmp_path: Path) -> None:
    expected = interpreter(tmp_path / "uv/python3.12")
    command(machine.bin / "python3.12", FAILING_SHIM)
    command(machine.bin / "uv", f'[ "$1 $2" = "python find" ] && echo {expected}')
    assert machine.found() == expected


def test_takes_the_python_that_is_named(machine: Machine, tmp_path: Path) -> None:
    interpreter(machine.bin / "python3.12")
    expected = interpreter(tmp_path / "mine/python", "3.13.0")
    assert machine.found(PYTHON=str(expected)) == expected


def test_says_so_when_the_named_python_will_not_do(machine: Machine) -> None:
    expected = interpreter(machine.bin / "python3.12")
    done = machine.find(PYTHON="python3.7")
    assert Path(done.stdout.strip()) == expected
    assert "PYTHON=python3.7 will not do" in done.stderr


def test_names_the_interpreter_itself_not_a_virtual_environment(machine: Machine) -> None:
    # sys.executable may itself be in a virtual environment, as it is under `make test`.
    command(machine.bin / "python3.12", f'exec "{sys.executable}" "$@"')
    prefix, base = subprocess.run(
        [str(machine.found()), "-c", "import sys; print(sys.prefix, sys.base_prefix)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert prefix == base == sys.base_prefix


def test_without_any_python_it_says_what_to_install(machine: Machine) -> None:
    done = machine.find()
    assert done.returncode == 1
    assert done.stdout == ""
    assert "needs Python 3.12 or 3.13" in done.stderr
    assert "apt install python3.12 python3.12-venv" in done.stderr


def test_without_a_usable_python_it_says_why_each_was_refused(machine: Machine) -> None:
    interpreter(machine.bin / "python3", "3.11.2")
    interpreter(machine.bin / "python3.12", "3.12.3", missing="ensurepip")
    command(machine.bin / "python3.13", FAILING_SHIM)
    done = machine.find()
    assert done.returncode == 1
    assert f"{machine.bin}/python3 is Python 3.11.2\n" in done.stderr
    assert f"{machine.bin}/python3.12 is Python 3.12.3, but without its ensurepip module\n" in done.stderr
    assert f"{machine.bin}/python3.13 does not run (exit status 127)\n" in done.stderr

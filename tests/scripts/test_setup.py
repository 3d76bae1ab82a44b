"""Tests of scripts/setup.sh and the Makefile's rule for it: they start over, go on or do nothing, as is due.

The way to a complete environment is what `make test` itself went before this runs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with no environment yet."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def set_up_without_network(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Runs a set-up that makes the environment and then fails, as pip may look for packages nowhere."""
    without = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=checkout,
        env=os.environ | without,
        capture_output=True,
        text=True,
        check=False,
    )


def due(checkout: Path) -> bool:
    """Whether make would run the set-up."""
    answer = subprocess.run(["make", "--question", ".venv/.ready"], cwd=checkout, capture_output=True, check=False)
    assert answer.returncode in (0, 1)
    return answer.returncode == 1


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="set-up refuses this platform")
def test_an_environment_that_never_became_complete_is_made_anew(checkout: Path) -> None:
    unfinished, leftover = checkout / ".venv" / ".unfinished", checkout / ".venv" / "half-unpacked"
    unfinished.parent.mkdir()
    unfinished.touch()
    leftover.touch()
    done = set_up_without_network(checkout)
    assert done.returncode != 0
    assert "Making .venv" in done.stdout
    assert not leftover.exists()
    assert unfinished.exists()
    assert due(checkout)

    # Once it has been complete, a set-up that fails leaves it alone.
    unfinished.unlink()
    leftover.touch()
    done = set_up_without_network(checkout)
    assert done.returncode != 0
    assert "Updating .venv" in done.stdout
    assert leftover.exists()
    assert due(checkout)


def test_make_sets_up_again_only_when_something_changed(checkout: Path) -> None:
    ready = checkout / ".venv" / ".ready"
    assert due(checkout)
    ready.parent.mkdir()
    ready.touch()
    assert not due(checkout)
    later = ready.stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (later, later))
    assert due(checkout)


def test_help_names_every_target(checkout: Path) -> None:
    printed = subprocess.run(["make", "help"], cwd=checkout, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "check", "benchmark", "help"):
        assert f"make {target} " in printed

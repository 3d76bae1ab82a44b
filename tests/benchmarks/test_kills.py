"""Builds are killed at random moments, and at lines that handle their folders; `make benchmark-kills` kills more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def killed(call: str, folder: Path) -> dict[str, int]:
    """What a function of benchmarks/kills.py counts, in a process without threads, which may be forked."""
    code = f"import json, pathlib, kills; print(json.dumps(kills.{call}))"
    command = [sys.executable, "-c", code.replace("PLACE", f"pathlib.Path({str(folder)!r})")]
    environment = {**os.environ, "PYTHONPATH": f"{BENCHMARKS}:{BENCHMARKS.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_killed_at_lines(tmp_path: Path) -> None:
    found = killed("kill_at_lines(PLACE / 'work', step=9)", tmp_path)
    assert found.pop("killed at a line") >= 20
    assert found == {"not killed": 2}


def test_killed_while_folders_change_places(tmp_path: Path) -> None:
    found = killed("kill_builds(PLACE / 'work', 20, whole=False)", tmp_path)
    assert found.pop("ended by SIGKILL", 0) + found.pop("ended before", 0) == 20
    assert found == {}


def test_whole_builds_killed(tmp_path: Path) -> None:
    found = killed("kill_builds(PLACE / 'work', 3, seed=2)", tmp_path)
    assert not [name for name in found if "FAULT" in name], found


def test_a_loss_is_found(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """What looks for faults sees them."""
    kills = script("kills")
    judged = tmp_path / "judged"
    (judged / "tmp").mkdir(parents=True)
    (judged / "stderr").write_text("")
    found = list(kills.faults(judged, 0, -9, 9, speaks=False))
    assert found == ["output lost"]
    kills.build_folder(judged)
    assert list(kills.faults(judged, 0, -9, 9, speaks=False)) == []
    (judged / ".out.edgeqwt-notes").mkdir()
    assert list(kills.faults(judged, 0, -9, 9, speaks=False)) == ["left: .out.edgeqwt-notes"]
    (judged / ".out.edgeqwt-notes").rmdir()
    (judged / "out" / "package").unlink()
    assert list(kills.faults(judged, 0, -9, 9, speaks=False)) == ["output lost"]
    before = (judged / "out").stat().st_ino
    said = list(kills.faults(judged, before, 0, 15, speaks=True))
    assert said == ["exit code 0, changed False, said ''", "output lost"]

"""The example of Keras models: what its page shows, and with TensorFlow at hand that it still prints it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "keras"
ROW = re.compile(r"^(float|trained|pruned|clustered) +(\d\.\d{4}) +(\d\.\d{4})(.*)$", re.MULTILINE)
POINTS = 0.005


def test_the_readme_shows_what_was_asked_for() -> None:
    rows = ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    assert [row[0] for row in rows] == ["float", "trained", "pruned", "clustered"]
    for _, keras, integer, _ in rows:
        assert abs(float(keras) - float(integer)) <= POINTS
    assert rows[2][3].split() == ["60%", "to", "60%"]
    assert int(rows[3][3]) <= 16


@pytest.mark.tool("tensorflow")
@pytest.mark.requires("sklearn")
def test_it_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--epochs", "1"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = ROW.findall(done.stdout)
    assert [row[0] for row in rows] == ["float", "trained", "pruned", "clustered"]
    before, after = re.findall(r"(\d+)%", rows[2][3])
    assert before == after == "60"
    assert int(rows[3][3]) <= 16

"""A package with a technique is installed, and a recipe uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from tests import reports
from tests.small import ROOT, graph, images

PACKAGE = ROOT / "examples" / "technique"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into."""
    folder = tmp_path_factory.mktemp("packages")
    source = tmp_path_factory.mktemp("source")  # setuptools builds where the source is
    for file in ("pyproject.toml", "clip_weights.py"):
        (source / file).write_bytes((PACKAGE / file).read_bytes())
    command = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder))
    subprocess.run([sys.executable, "-m", "pip", *command, str(source)], check=True, capture_output=True)
    return folder


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, with the package beside it."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "edgeqwt", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_technique_of_another_package_is_used(installed: Path, tmp_path: Path) -> None:
    def outlier(constants: dict[str, object]) -> None:
        constants["filter"][0, 0, 0, 0] = 40.0  # type: ignore[index]

    flatbuffer.write(graph(outlier), tmp_path / "float.tflite")
    np.savez(tmp_path / "samples.npz", image=images(16))
    (tmp_path / "mine.toml").write_text(
        'precision = "w4a8"\ntechniques = ["minmax_ranges", { name = "clip_weights", deviations = 19 }, "cwac"]\n'
    )
    arguments = ("build", "float.tflite", "-c", "samples.npz", "-o", "out", "--recipe", "mine.toml", "--accept")
    done = run(installed, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    report = reports.read(tmp_path / "out")
    (message,) = [technique for technique in report["techniques"] if technique["name"] == "clip_weights"]
    assert message["options"] == {"deviations": 19.0}
    assert message["data"]["layers"] == 2
    assert "standard deviations clipped" in message["sentences"][0]
    assert "clip_weights" in done.stdout
    # Without the package it is unknown, and the message lists what there is.
    refused = run(ROOT, tmp_path, *arguments)
    assert refused.returncode == 3
    assert "there is no technique 'clip_weights'" in refused.stderr

"""The example of `make demo`, with less training."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeqwt.calibration.sources import open_samples
from edgeqwt.loading import load_callable
from tests import reports

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "digits"

pytestmark = pytest.mark.requires("torch", "sklearn", "onnx2tf")


@pytest.fixture(scope="module")
def model() -> ModuleType:
    return sys.modules[load_callable(f"{FOLDER}/model.py:create", "example").__module__]


def test_it_runs_and_prints_what_its_reports_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--epochs", "2", "--output", tmp_path / "out"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = re.findall(r"^(float|8 bit|4 bit) +(|plain|edgeqwt) +(\d\.\d{4}) +(\d+) ", done.stdout, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        ("float", ""), ("8 bit", "plain"), ("8 bit", "edgeqwt"), ("4 bit", "plain"), ("4 bit", "edgeqwt"),
    ]  # fmt: skip
    built = {bits: reports.read(tmp_path / f"out/digits-w{bits}") for bits in (8, 4)}
    variants = {"": "float", "plain": "plain", "edgeqwt": "compensated"}
    for weights, message, accuracy, wrong in rows:
        report = built[4 if weights == "4 bit" else 8]
        measured = report["scores"][variants[message]]["top1"]
        assert float(accuracy) == pytest.approx(measured, abs=5e-5)
        assert int(wrong) == round((1 - measured) * 597)
    # Even two epochs learn: chance is 0.1.
    assert float(rows[0][2]) > 0.5
    assert built[8]["recipe"]["precision"]["weight_bits"] == 8
    assert built[4]["recipe"]["precision"]["weight_bits"] == 4


def test_the_network_learns_and_is_the_same_every_time(model: ModuleType) -> None:
    import torch

    images, labels = model.data()[1]
    first, second = (model.create(epochs=6)(torch.from_numpy(images)).detach().numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first.argmax(1) == labels).mean() > 0.9


def test_calibration_and_evaluation_are_different_scans(model: ModuleType) -> None:
    calibration, test = open_samples(model.calibration), open_samples(model.evaluation)
    seen = {sample["image"].tobytes() for sample in calibration}
    judged = {sample["image"].tobytes() for sample in test}
    assert len(list(calibration)) == model.CALIBRATION
    assert len(list(test)) == 1797 - model.TRAINING
    assert not seen & judged


def test_the_readme_shows_what_the_example_prints() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^(?:float|8 bit|4 bit) .* \d\.\d{4} +\d+ .*\d+$", page, re.MULTILINE)) == 5

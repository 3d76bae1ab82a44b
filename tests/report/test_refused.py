"""The page of a build that is refused for its quality."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.cli import run
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.report.folder import whole_folder
from tests.chain import Chain, noise

DENSE = {
    "fusedActivationFunction": "NONE",
    "asymmetricQuantizeInputs": False,
    "weightsFormat": "DEFAULT",
    "keepNumDims": False,
}


@pytest.fixture
def network(tmp_path: Path) -> list[str]:
    """The command that builds a network whose 8-bit input holds nothing of what decides."""
    chain = Chain()
    weights = noise(3, 2, seed=1) * np.array([1.0, 1e-6], np.float32)
    graph = chain.graph(chain.op("FULLY_CONNECTED", chain.input((1, 2), "x"), chain.constant(weights), -1, **DENSE))
    flatbuffer.write(graph, tmp_path / "net.tflite")
    values = np.random.default_rng(0).normal(size=(48, 2)) * [1.0, 1e3] + [0.0, 1e5]
    np.save(tmp_path / "samples.npy", values.astype(np.float32))
    named = [str(tmp_path / "net.tflite"), "--calibration", str(tmp_path / "samples.npy")]
    return ["build", *named, "--recipe", "fast"]


def test_it_lies_beside_the_folder_and_the_hint_names_it(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "a" / "out v1.0", tmp_path / "a" / "out v1.0.refused.html"
    assert run([*network, "-o", str(out)]) == 8
    said = " ".join(capsys.readouterr().err.split())
    assert f"Open {page}: where the error is born" in said
    assert [path.name for path in (tmp_path / "a").iterdir()] == [page.name]  # no folder, nothing half-written
    text = page.read_text(encoding="utf-8")
    assert "No model was written" in text
    assert "--standardize x" in text
    assert "below the quality thresholds" in text
    assert re.search(r"<small>best</small>|Measured", text)
    assert "kept</small>" not in text


def test_what_was_there_stays(network: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run([*network, "-o", str(out), "--accept"]) == 0
    assert not (tmp_path / "out.refused.html").exists()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run([*network, "-o", str(out)]) == 8
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert (tmp_path / "out.refused.html").is_file()


def test_the_page_goes_when_a_build_is_written_there(network: list[str], tmp_path: Path) -> None:
    assert run([*network, "-o", str(tmp_path / "out")]) == 8
    assert run([*network, "-o", str(tmp_path / "out"), "--accept"]) == 0
    assert not (tmp_path / "out.refused.html").exists()
    (tmp_path / "out.refused.html").write_text("somebody's own")
    assert run([*network, "-o", str(tmp_path / "out"), "--accept", "--overwrite"]) == 0
    assert (tmp_path / "out.refused.html").read_text() == "somebody's own"


def test_where_it_cannot_be_written_the_error_is_the_same(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.refused.html").mkdir()
    assert run([*network, "-o", str(tmp_path / "out")]) == 8
    assert "refused.html" not in capsys.readouterr().err
    assert list((tmp_path / "out.refused.html").iterdir()) == []


def test_within_a_folder_that_goes_with_the_error_nothing_is_written(network: list[str], tmp_path: Path) -> None:
    work = tmp_path / ".out.edgeqwt-0123abcd"
    work.mkdir()
    assert run([*network, "-o", str(work / "seq32")]) == 8
    assert list(work.iterdir()) == []


def test_errors_within_a_folder_that_is_being_made_name_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error, whole_folder(tmp_path / "out") as work:
        raise InputError(f"{work}/builds/w8a8 cannot be written", f"Look at {work}.")
    place = tmp_path / "out"
    assert (error.value.message, error.value.hint) == (f"{place}/builds/w8a8 cannot be written", f"Look at {place}.")
    assert str(error.value) == error.value.message


def test_names_that_are_not_utf_8(network: list[str], tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"out\xe9")
    assert run([*network, "-o", str(strange), "--accept"]) == 0
    assert "out?" in (strange / "report.html").read_text(encoding="utf-8")
    assert run(["bench", str(strange / "model.tflite"), "--on", "host", "--runs", "2"]) == 0
    assert run([*network, "-o", str(strange)]) == 8
    assert strange.with_name(f"{strange.name}.refused.html").is_file()


def test_a_build_that_has_no_time_left_is_refused_too(network: list[str], tmp_path: Path) -> None:
    """What the budget spares is the trial of remedies, never the judgement."""
    assert run([*network, "-o", str(tmp_path / "out"), "--time-budget", "0.01s"]) == 8
    assert [path.name for path in tmp_path.glob("out*")] == ["out.refused.html"]

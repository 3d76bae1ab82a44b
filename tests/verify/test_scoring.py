"""Scores of files side by side, on files whose differences are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from tests.chain import NONE, Chain
from tests.small import Command, command


def argmax(weights: np.ndarray) -> Graph:
    """A dense layer of 4 inputs."""
    chain = Chain()
    x = chain.input((1, 4), "x")
    return chain.graph(chain.op("FULLY_CONNECTED", x, chain.constant(weights), -1, name="y", keepNumDims=False, **NONE))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Identity; the same with classes 0 and 1 exchanged; and with a little noise."""
    rng = np.random.default_rng(0)
    eye = np.eye(4)
    made = {"float": eye, "swapped": eye[[1, 0, 2, 3]], "noisy": eye + 0.01 * rng.normal(size=(4, 4))}
    for name, weights in made.items():
        flatbuffer.write(argmax(weights.astype(np.float32)), tmp_path / f"{name}.tflite")
    return [tmp_path / f"{name}.tflite" for name in made]


def data() -> dict[str, Any]:
    values = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    return {"x": values, "labels": values.argmax(axis=1)}


def test_files_are_scored_and_paired(files: list[Path]) -> None:
    found = edgeqwt.evaluate(files, data=data())
    assert (found.samples, found.rows) == (200, 200)
    first, swapped, noisy = found.files
    labels = data()["labels"]
    changed = int((labels < 2).sum())
    assert (first.accuracy, first.agreement, first.pairings, first.changes) == (1.0, 1.0, (), ())
    assert swapped.accuracy == swapped.agreement == pytest.approx(1 - changed / 200)
    assert {(c.before, c.after, c.rows) for c in swapped.changes} == {
        (0, 1, int((labels == 0).sum())), (1, 0, int((labels == 1).sum())),
    }  # fmt: skip
    (pairing,) = swapped.pairings
    assert (pairing.only_other, pairing.only_this, pairing.verdict) == (changed, 0, "worse")
    assert pairing.gain is None
    against_first, against_swapped = noisy.pairings
    assert against_first.verdict == "no difference beyond chance"
    assert (against_swapped.other, against_swapped.verdict) == (str(files[1]), "better")
    assert against_swapped.gain is not None
    assert against_swapped.gain.certain
    assert noisy.outputs[0].varying_db is not None
    assert noisy.outputs[0].varying_db > 30  # 20 log10(1 / (0.01 · 2)) = 34 dB


def test_pixels_of_a_sample_are_no_trials_of_their_own(tmp_path: Path) -> None:
    names = []
    for name, weights in {"float": np.eye(4), "swapped": np.eye(4)[[1, 0, 2, 3]]}.items():
        chain = Chain()
        x = chain.input((1, 50, 4), "x")
        y = chain.op("FULLY_CONNECTED", x, chain.constant(weights), -1, name="y", keepNumDims=True, **NONE)
        flatbuffer.write(chain.graph(y), tmp_path / f"{name}.tflite")
        names.append(tmp_path / f"{name}.tflite")
    values = np.random.default_rng(1).normal(size=(8, 50, 4)).astype(np.float32)
    for count, verdict in ((3, "no difference beyond chance"), (8, "worse")):
        few = {"x": values[:count], "labels": values[:count].argmax(axis=-1)}
        (pairing,) = edgeqwt.evaluate(names, data=few).files[1].pairings
        assert pairing.only_other == int((few["labels"] < 2).sum()) > 50
        assert pairing.probability == pytest.approx(2 * 0.5**count)  # every sample has lost
        assert pairing.verdict == verdict


def test_labels_may_come_from_a_file_or_be_missing(files: list[Path], tmp_path: Path) -> None:
    given = data()
    np.save(tmp_path / "labels.npy", given["labels"])
    images = {"x": given["x"]}
    assert edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy") == edgeqwt.evaluate(files, data=given)
    without = edgeqwt.evaluate(files, data=images)
    assert [f.accuracy for f in without.files] == [None] * 3
    assert [len(f.pairings) for f in without.files] == [0, 0, 1]
    assert without.files[2].pairings[0].verdict == "better"  # it agrees with the first more often
    np.save(tmp_path / "labels.npy", given["labels"][:9])
    with pytest.raises(InputError, match="9 labels for 200 samples"):
        edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy")
    for beyond in (-1, 1000):  # numbered from 1, or those of another data set
        np.save(tmp_path / "labels.npy", np.where(np.arange(200) == 7, beyond, given["labels"]))
        with pytest.raises(InputError, match=f"the labels of sample 7 lie in {beyond} to {beyond}, the first output"):
            edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy")
    np.save(tmp_path / "labels.npy", np.zeros((200, 2), np.int64))
    with pytest.raises(InputError, match="do not fit the first output"):
        edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy")
    np.save(tmp_path / "labels.npy", np.zeros(200))
    with pytest.raises(InputError, match="are float64"):
        edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy")
    (tmp_path / "labels.npy").write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        edgeqwt.evaluate(files, data=images, labels=tmp_path / "labels.npy")


def test_what_does_not_correspond(files: list[Path], tmp_path: Path) -> None:
    other = argmax(np.ones((3, 4), np.float32))
    flatbuffer.write(replace(other), tmp_path / "other.tflite")
    with pytest.raises(InputError, match="outputs differ"):
        edgeqwt.evaluate([files[0], tmp_path / "other.tflite"], data=data())
    with pytest.raises(InputError, match="named twice"):
        edgeqwt.evaluate([files[0], files[0]], data=data())
    with pytest.raises(InputError, match="no samples"):
        edgeqwt.evaluate(files, data={"x": np.zeros((0, 4), np.float32)})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(tmp_path, monkeypatch, capsys)


def test_the_command(run: Command, files: list[Path]) -> None:
    np.savez("data.npz", **data())
    code, out, err = run("evaluate", *files, "--data", "data.npz")
    assert (code, err) == (0, "")
    assert "worse (0 right that the other has wrong" in " ".join(out.split())
    assert "0 became 1" in out
    code, out, err = run("evaluate", *files, "--data", "data.npz", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["files"][0]["accuracy"] == 1.0

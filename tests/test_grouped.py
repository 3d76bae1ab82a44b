"""Scales per group of samples: on a model whose activations grow with an input of one value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.grouped import Grouping, require_signatures
from edgeqwt.pipeline import BuildResult
from edgeqwt.target.load import load
from tests.chain import NONE, Chain, noise
from tests.small import Command, command

COUNT, WIDTH = 96, 48


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(tmp_path, monkeypatch, capsys)


def growing() -> Graph:
    """x (1, WIDTH) and t (1, 1) to three dense layers of t·x: all activations are proportional to t."""
    chain = Chain()
    x, t = chain.input((1, WIDTH), "x"), chain.input((1, 1), "t")
    y = chain.op("MUL", x, t, name="scaled", **NONE)
    for k in range(3):
        weights = chain.constant(noise(WIDTH, WIDTH, seed=k, scale=0.2), f"weights{k}")
        y = chain.op("FULLY_CONNECTED", y, weights, -1, name=f"layer{k}", keepNumDims=False, **NONE)
    return chain.graph(y)


def samples(largest: float = 30.0) -> dict[str, Array]:
    """Half of the samples with t near 1, half near `largest`, in turn."""
    t = np.where(np.arange(COUNT) % 2 == 0, 1.0, largest) * np.linspace(0.9, 1.1, COUNT)
    # Held out is one in four: every second of them would be of one half, were they not shuffled.
    order = np.random.default_rng(0).permutation(COUNT)
    return {"x": noise(COUNT, WIDTH, seed=9), "t": t[order, None].astype(np.float32)}


def built(folder: Path, data: dict[str, Array], **options: Any) -> BuildResult:
    flatbuffer.write(growing(), folder / "float.tflite")
    return edgeqwt.build(folder / "float.tflite", calibration=data, recipe="fast", **options)


@pytest.mark.parametrize("precision", ["w8a8", "w4a8"])
def test_a_group_of_small_values_gains(tmp_path: Path, precision: str) -> None:
    result = built(tmp_path, samples(), groups="t=2", precision=precision, accept=True, output=tmp_path / "out")
    assert result.groups is not None
    small, large = result.groups.found
    # The scales of values up to 33 leave those of 1 a thirtieth of their steps: 30 dB at 8-bit weights, where
    # activations alone err; 10 are asked for, as 4-bit weights leave less.
    assert small.own
    assert small.gain_db > (10 if precision == "w8a8" else 3)
    assert small.quality.worst_db > small.before.worst_db
    # All samples' scales are those of the large ones.
    assert not large.own
    assert large.graph is result.variants[result.choice.name]
    # The weights are the same bytes: more by biases, scales and the graph.
    weights = 3 * WIDTH * WIDTH // (1 if precision == "w8a8" else 2)
    assert len(result.to_bytes()) < len(flatbuffer.to_bytes(result.graph)) + weights
    shared = [
        {id(t.data) for t in graph.tensors if t.dtype in ("int8", "int4") and t.is_constant and len(t.shape) == 2}
        for graph in (result.file, *result.file.others)
    ]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 3
    interface = json.loads((tmp_path / "out/package/io.json").read_text())
    first, second = interface["signatures"]
    assert (first["lowest"], second["below"]) == (None, None)
    assert 1.1 < first["below"] == second["lowest"] < 27
    assert first["outputs"][0]["scale"] < second["outputs"][0]["scale"] / 10
    report = json.loads((tmp_path / "out/report.json").read_text())["groups"]
    assert [row["own"] for row in report["signatures"]] == [True, False]
    assert all(row["exact"] for row in report["signatures"])


def test_groups_that_gain_nothing_are_not_kept(tmp_path: Path) -> None:
    data = samples(largest=1.0)
    result = built(tmp_path, data, groups="t=2")
    assert result.groups is not None
    assert result.groups.found == ()
    assert "no group of 't' gains" in result.groups.reason
    assert result.to_bytes() == built(tmp_path, data).to_bytes()


def test_the_command_line_says_what_groups_gain(run: Command) -> None:
    flatbuffer.write(growing(), Path("float.tflite"))
    np.savez("samples.npz", **samples())
    arguments = ("build", "float.tflite", "-c", "samples.npz", "--recipe", "fast", "--groups", "t=2", "-o", "out")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "signature for each group of 't'" in " ".join(out.split())
    refused = run.refused(2, *arguments[:-4], "--groups", "x=2", "-o", "other")
    assert f"input 'x' has {WIDTH} values" in refused
    assert "no input 'z'" in run.refused(2, *arguments[:-4], "--groups", "z=2", "-o", "other")
    assert "too few for 50 groups" in run.refused(2, *arguments[:-4], "--groups", "t=50", "-o", "other")


@pytest.mark.parametrize("text", ["t", "t=1", "t=0", "=3", "t=five"])
def test_texts_that_say_of_no_groups_what_they_are(text: str) -> None:
    with pytest.raises(InputError, match="no groups"):
        Grouping.parse(text)


def test_a_runtime_without_signatures_is_refused() -> None:
    assert require_signatures("t=3", load("tflite")) == Grouping("t", 3)
    with pytest.raises(InputError, match="runs one graph of a file"):
        require_signatures("t=3", load("tflm"))

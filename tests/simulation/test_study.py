"""Studies as users call them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import RecipeError
from edgeqwt.graph import flatbuffer
from edgeqwt.simulation.corrections import CORRECTIONS
from edgeqwt.simulation.methods import METHODS
from edgeqwt.simulation.study import SIMULATION, Study
from tests.simulation.blocks import TOKENS, WIDTH, graph
from tests.small import command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "model.tflite"
    flatbuffer.write(graph(), path)
    return path


def samples(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=(count, TOKENS, WIDTH)).astype(np.float32)}


def by_setting(found: Study) -> dict[tuple[str, str], float]:
    return {(row.method, row.correction): row.quality.judged_db for row in found.rows}


def test_wide_integers_come_close_to_the_float_network_by_every_method(model: Path) -> None:
    # Each sample four times, one of which is held out: nothing that is judged lies beyond the ranges that were fitted.
    data = {"x": np.repeat(samples(8)["x"], 4, axis=0)}
    found = by_setting(
        edgeqwt.study(model, calibration=data, precision="w12a12", methods=list(METHODS), corrections=["none"])
    )
    # Equal steps of 2^-12 of a range: some 70 dB at each layer. Steps that grow with the value leave an error of up to
    # 19 % (base 2^0.5) or 41 % (base 2) at any width, and clipping one that no width mends.
    others = {"percentile", "repq_vit", "repquant", "dopq_vit", "adfq_vit", "aiqvit", "lrq_dit"}
    assert {name for (name, _), db in found.items() if db > 45} >= {*METHODS} - others, found
    assert all(db > 8 for db in found.values()), found


def test_corrections_at_four_bits(model: Path) -> None:
    found = edgeqwt.study(model, calibration=samples(64), methods=["mse"], corrections=list(CORRECTIONS))
    db = by_setting(found)
    assert db["mse", "cwac"] > db["mse", "none"]
    assert db["mse", "qwt"] > db["mse", "none"]
    added = {row.correction: row.parameters for row in found.rows}
    assert added["none"] == added["offset"] == added["cwac"] == 0
    assert added["qwt"] > 0 < added["low_rank"]
    assert found.fitted == 48
    assert found.judged == 16
    again = edgeqwt.study(model, calibration=samples(64), methods=["mse"], corrections=list(CORRECTIONS))
    assert again == found
    assert found.to_rows()[0]["method"] == "mse"


def test_what_is_wrong_with_a_request_is_said_before_the_conversion(tmp_path: Path) -> None:
    missing = tmp_path / "missing.tflite"
    for options, said in (
        ({"precision": "w4"}, "no widths"),
        ({"precision": "w1a8"}, "no widths"),
        ({"methods": ["other"]}, "no method 'other'"),
        ({"corrections": ["other"]}, "no correction 'other'"),
    ):
        with pytest.raises(RecipeError, match=said):
            edgeqwt.study(missing, calibration=samples(8), **options)


def test_the_command(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = command(tmp_path, monkeypatch, capfd)
    data, test, labels = tmp_path / "samples.npz", tmp_path / "test.npz", tmp_path / "labels.npy"
    np.savez(data, **samples(32))
    np.savez(test, **samples(10))
    np.save(labels, np.zeros(10, np.int64))
    done = run(
        "study", model, "--calibration", data, "--methods", "plain, mse", "--corrections", "none,cwac",
        "--data", test, "--labels", labels,
    )  # fmt: skip
    code, out, err = done
    assert code == 0, err
    assert "10 samples judged" in out
    assert " ".join(SIMULATION.split()[:4]) in " ".join(out.split())
    assert [line.split()[:2] for line in out.splitlines() if "cwac" in line] == [["plain", "cwac"], ["mse", "cwac"]]
    code, _, err = run("study", model, "--calibration", data, "--methods", "nothing")
    assert code == RecipeError.exit_code
    assert "no method 'nothing'" in err

"""The zoo's rows: none is lost, whatever a network's process does, and the sums say what the rows say."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")


def _row(name: str, status: str, **more: Any) -> dict[str, Any]:
    row = {"name": name, "status": status, "converted": True, "seconds": 2.0, "peak_mib": 300, "shape": [1, 3, 8, 8]}
    row |= {"filters": "smooth", "commit": "0000000"}
    if status in ("built", "below the gate"):
        row |= {"ceiling_db": 32.0, "noise_gain_db": 3.0}
        row |= {"varying_db": 30.0, "agreement": 1.0, "ops": 5, "float_ops": 0, "parity": 0.1, "converter": "onnx2tf"}
    return row | more


def test_the_sums_count_what_was_made_and_name_what_is_below() -> None:
    from benchmarks.zoo.table import table

    rows = [
        _row("a/good", "built"),
        _row("a/float", "built", float_ops=1, varying_db=20.0),
        _row("a/poor", "below the gate", varying_db=3.0, message="3 dB | of what varies"),
        _row("a/lost", "not converted", converted=False),
        _row("a/dead", "crashed", converted=False, message="exit -6: "),
        _row("a/other", "not made", converted=False),
    ]
    text = table(rows)
    assert "5 networks: 2 built, 1 below the gate, 1 not converted, 1 crashed, 1 not made." in text
    assert "| convert with parity | 98% | 60.0% (3 of 5) |" in text
    assert "| build with every op integer | 95% | 40.0% (2 of 5) |" in text
    assert "| median SQNR of what varies | 25.0 dB | 20.0 dB (3 networks) |" in text
    assert "| crashes, tracebacks | 0 | 1 |" in text
    assert "| stopped by the limit of time | 0 | 0 |" in text
    lines = [line for line in text.splitlines() if line.startswith("| a/")]
    assert lines[-1].startswith("| a/good |")  # the worst come first
    assert {line.count("|") for line in lines} == {20}  # a message's own bars would be columns


def test_a_network_counts_once_by_its_smooth_filters() -> None:
    from benchmarks.zoo.table import table

    rows = [
        _row("a/both", "built", varying_db=31.0, noise_gain_db=4.0),
        _row("a/both", "below the gate", varying_db=2.0, noise_gain_db=44.0, filters="white"),
        _row("a/early", "timed out", converted=False, filters="white"),
        _row("a/early", "converted"),
        _row("a/text", "built", varying_db=33.0, filters="either"),
    ]
    text = table(rows)
    assert "3 networks: 2 built, 1 timed out." in text
    assert "| convert with parity | 98% | 100.0% (3 of 3) |" in text  # one row that proves it is enough
    assert "| median SQNR of what varies | 25.0 dB | 32.0 dB (2 networks) |" in text
    assert "| of those built with both, smooth filters | | 31.0 dB (1 networks) |" in text
    assert "| of those built with both, white filters | | 2.0 dB (1 networks) |" in text
    assert "| stopped by the limit of time | 0 | 1 |" in text
    line = next(line for line in text.splitlines() if line.startswith("| a/both |"))
    assert [cell.strip() for cell in line.split("|")][5:15] == [
        "fast", "32", "31.0", "", "", "32.0", "4.0", "1.000", "2.0", "44.0",
    ]  # fmt: skip


def test_a_network_counts_by_the_default_recipe_where_that_was_built() -> None:
    from benchmarks.zoo.table import table

    rows = [
        _row("a/both", "built", varying_db=24.0, recipe="fast"),
        _row("a/both", "built", varying_db=26.0, recipe="balanced"),
        _row("a/slow", "built", varying_db=28.0, recipe="fast"),
        _row("a/slow", "timed out", recipe="balanced"),
    ]
    text = table(rows)
    assert "2 networks: 2 built." in text
    assert "| median SQNR of what varies | 25.0 dB | 27.0 dB (2 networks) |" in text
    assert "| of those built with both, `fast` | | 24.0 dB (1 networks) |" in text
    assert "| of those built with both, `balanced` | | 26.0 dB (1 networks) |" in text
    line = next(line for line in text.splitlines() if line.startswith("| a/both |"))
    assert [cell.strip() for cell in line.split("|")][5:9] == ["balanced", "32", "26.0", "24.0"]


def test_a_network_counts_at_its_own_resolution_and_with_the_most_samples() -> None:
    from benchmarks.zoo.table import table

    rows = [
        _row("a/both", "built", varying_db=24.0, recipe="balanced"),
        _row("a/both", "built", varying_db=21.0, recipe="balanced", native=True),
        _row("a/both", "built", varying_db=29.0, recipe="fast"),
        _row("a/quick", "built", varying_db=20.0, recipe="fast", native=True),
        _row("a/slow", "built", varying_db=28.0, recipe="balanced"),
        _row("a/slow", "timed out", recipe="balanced", native=True),
        _row("a/many", "built", varying_db=27.0, recipe="balanced", native=True),
        _row("a/many", "built", varying_db=29.0, recipe="balanced", native=True, samples=128),
    ]
    text = table(rows)
    assert "4 networks: 4 built." in text
    assert "| median SQNR of what varies | 25.0 dB | 24.5 dB (4 networks) |" in text
    assert "| of those built with both, 32 samples | | 27.0 dB (1 networks) |" in text
    assert "| of those built with both, 128 samples | | 29.0 dB (1 networks) |" in text
    assert "| of those built with both, at 96 pixels | | 24.0 dB (1 networks) |" in text
    assert "| of those built with both, at their own resolution | | 21.0 dB (1 networks) |" in text
    lines = [line for line in text.splitlines() if line.startswith("| a/")]
    found = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")][5:10] for line in lines}
    assert found["a/both"] == ["balanced", "32", "21.0", "", "24.0"]
    assert found["a/quick"] == ["fast", "32", "20.0", "", ""]


def test_the_last_row_of_a_network_counts(tmp_path: Path) -> None:
    from benchmarks.zoo.__main__ import again, read
    from benchmarks.zoo.table import Way

    path = tmp_path / "zoo.jsonl"
    assert read(path) == {}
    path.write_text("".join(json.dumps(_row("a/x", status)) + "\n" for status in ("crashed", "built")))
    row = read(path)["a/x", Way("smooth", False, 32, "fast")]
    assert row["status"] == "built"
    assert not again(row, argparse.Namespace(redo="failed", convert=False))
    assert again(_row("a/x", "refused"), argparse.Namespace(redo="failed", convert=False))
    assert not again(_row("a/x", "refused"), argparse.Namespace(redo=None, convert=False))
    assert again(_row("a/x", "converted"), argparse.Namespace(redo=None, convert=False))
    assert not again(_row("a/x", "converted"), argparse.Namespace(redo="failed", convert=True))


@pytest.mark.parametrize(("seconds", "status"), [(100, "not made"), (0, "timed out")])
def test_a_network_that_cannot_be_made_or_takes_too_long_is_a_row(
    seconds: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.zoo import __main__ as zoo

    monkeypatch.setattr(zoo, "PRELOAD", [])
    options = argparse.Namespace(
        recipe="fast", samples=2, small=True, convert=False, filters="white", memory=12, seconds=seconds
    )
    row = zoo.one("nowhere/nothing", options)
    assert (row["name"], row["status"]) == ("nowhere/nothing", status)
    assert row["message"]
    assert row["converted"] is False


def test_how_far_a_build_came_that_did_not_end(tmp_path: Path) -> None:
    from benchmarks.zoo.__main__ import _converted, _last_stage

    log = tmp_path / "log"
    assert not _converted(log)
    log.write_text("stage: convert\nstage: check parity\n")
    assert not _converted(log)
    log.write_text(log.read_text() + "stage: look at samples\nstage: judge\nnoise\n")
    assert _converted(log)
    assert _last_stage(log) == "stage: judge"


def test_norms_get_the_statistics_of_what_they_see_alone() -> None:
    """A rest of the variance 1 that they begin with would let small activations vanish."""
    import numpy as np
    import torch

    from benchmarks.zoo.data import settle
    from benchmarks.zoo.networks import Network

    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(2, eps=1e-12)
    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(5, 1e-3, (1, 2)).astype(np.float32)} for _ in range(16)]
    settle(Network(norm, {"x": (1, 2)}), data, 0.5)
    with torch.no_grad():
        found = norm(torch.from_numpy(np.concatenate([sample["x"] for sample in data])))
    # The deviation is that of 15 degrees of freedom; what is left are six digits of 5.001 in float32.
    torch.testing.assert_close(found.std(0), norm.weight.detach(), rtol=1e-3, atol=0)
    assert not norm.training
    assert found.mean() == pytest.approx(norm.bias.detach().mean().item(), abs=1e-3)


def test_smooth_filters_pass_little_of_what_differs_from_pixel_to_pixel_and_keep_their_norm() -> None:
    import torch

    from benchmarks.zoo.data import smooth
    from benchmarks.zoo.networks import Network

    torch.manual_seed(0)
    square, line, point = torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(4, 4, (1, 7), groups=4), torch.nn.Conv2d(4, 4, 1)
    weights = [layer.weight.detach().clone() for layer in (square, line, point)]
    smooth(Network(torch.nn.Sequential(square, line, point), {"x": (1, 4, 9, 9)}))
    checkers = (torch.arange(3)[:, None] + torch.arange(3)) % 2 * 2.0 - 1
    for layer, before in zip((square, line, point), weights, strict=True):
        torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), before.flatten(1).norm(dim=1))
    assert (square.weight * checkers).sum((2, 3)).abs().mean() < 0.3 * (weights[0] * checkers).sum((2, 3)).abs().mean()
    assert line.weight[..., 1:].sub(line.weight[..., :-1]).norm() < 0.7 * weights[1].diff(dim=3).norm()
    torch.testing.assert_close(point.weight, weights[2])


def test_textures_stand_in_for_photographs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks.zoo.data import samples
    from benchmarks.zoo.networks import Network

    monkeypatch.setenv("EDGEQWT_SHARED", str(tmp_path))
    network: Any = Network(None, {"x": (1, 3, 12, 16)})  # type: ignore[arg-type]
    found = [sample["x"] for sample in samples(network, 2)]
    assert [image.shape for image in found] == [(1, 3, 12, 16)] * 2
    assert abs(found[0] - found[1]).max() > 0.1


def test_what_a_process_started_is_found_in_sessions_of_its_own_too() -> None:
    from benchmarks.zoo.__main__ import _descendants

    script = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        try:
            assert _descendants(parent.pid) == [grandchild]
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_noise_gain_is_beside_what_varies() -> None:
    import torch

    from benchmarks.zoo.data import noise_gain_db

    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(16)]

    class Shifted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x + 100  # what does not vary counts for nothing, and a factor meets both alike

    assert noise_gain_db(Shifted(), data) == pytest.approx(0, abs=0.2)  # float32 beside 100 rounds at 4e-6
    assert noise_gain_db(Shifted(), [{"x": np.zeros((1, 4), np.int64)}]) is None

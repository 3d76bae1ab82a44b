"""Plans: what is wrong is named with its file and key; keys change with whatever decides a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeqwt.api_targets import target_of
from edgeqwt.errors import InputError
from edgeqwt.sweeps import contents, plan
from edgeqwt.sweeps.contents import mirrored, packed, unpacked
from tests import small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small.write(tmp_path)
    return tmp_path


def cells(folder: Path, **table: Any) -> tuple[plan.Cell, ...]:
    contents._file_digest.cache_clear()  # a process reads a file once; here files change
    wanted = {"models": ["float.tflite"], "calibration": ["samples.npz"], **table}
    return plan.cells(plan.read(wanted)[0], "plan.toml", folder, target_of)


def test_a_plan_is_a_product(folder: Path) -> None:
    found = cells(folder, targets=["tflite", "ethos-u55-128"], recipes=["plain", "fast"], precisions=["w8a8", "w4a8"])
    assert len({cell.key for cell in found}) == len({cell.folder for cell in found}) == 8
    assert found[0].folder.startswith("float-samples-tflite-plain-w8a8-")
    assert found[0].options["model"] == str(folder / "float.tflite")
    assert found[0].files == (str(folder / "float.tflite"), str(folder / "samples.npz"))
    assert "ethos-u-vela" not in found[0].versions
    assert len(cells(folder, recipes=["plain", "plain"])) == 1


def test_keys_follow_contents(folder: Path) -> None:
    (before,) = cells(folder)
    assert cells(folder)[0].key == before.key
    for change in ({"samples": 8}, {"precisions": ["w4a8"]}, {"latency": True}, {"accept": False}):
        assert cells(folder, **change)[0].key != before.key
    (folder / "weights.pt").write_bytes(b"1")
    model = {"source": "float.tflite", "depends": ["weights.pt"]}
    first = cells(folder, models=[model])[0].key
    (folder / "weights.pt").write_bytes(b"2")
    assert len({before.key, first, cells(folder, models=[model])[0].key}) == 3
    (folder / "samples.npz").write_bytes((folder / "labelled.npz").read_bytes())
    assert cells(folder)[0].key != before.key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles = []", "unknown key 'modles'"),
        ("models = []", "models = []"),
        ('models = ["float.tflite"]', "calibration is missing for model 'float.tflite'"),
        ('models = ["gone.onnx"]\ncalibration = ["samples.npz"]', "models: there is no file or folder gone.onnx"),
        ('models = [{ source = "float.tflite", sample = 3 }]', "models, entry 1: unknown key 'sample'"),
        ('models = ["float.tflite"]\ncalibration = ["samples.npz"]\nrecipes = ["fats"]', "recipes: there is no recipe"),
        ('models = ["float.tflite"]\ncalibration = ["samples.npz"]\ntargets = ["moon"]', "targets: "),
        ('models = ["float.tflite"]\ncalibration = ["samples.npz"]\nprecisions = ["w9a8"]', "precisions: there is no"),
        ('models = ["float.tflite"]\ncores = 0', "cores = 0"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str, said: str) -> None:
    path = folder / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        plan.cells(*plan.read(path), target_of)
    assert caught.value.message.startswith(f"{path}: {said}")
    assert caught.value.hint


def test_files_reach_other_machines_whole(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x").write_bytes(b"x")
    unpacked(packed(tmp_path / "a", "a"), tmp_path / "other")
    assert (tmp_path / "other/a/b/x").read_bytes() == b"x"
    options = {"model": "/m/net.py:create", "recipe": "fast", "samples": 3}
    assert mirrored(options, {"/m/net.py": "/t/m/net.py"}) == {**options, "model": "/t/m/net.py:create"}

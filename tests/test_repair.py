"""`compensate`: what decides, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import edgeqwt
from edgeqwt import repair
from edgeqwt.errors import QualityError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.report.terminal import show_comparison
from tests import small

IMAGES = {"image": small.images(48)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A float file, and the integer one that was made from it."""
    folder = tmp_path_factory.mktemp("repair")
    flatbuffer.write(small.graph(), folder / "float.tflite")
    made = edgeqwt.build(folder / "float.tflite", calibration=IMAGES, recipe="plain", precision="w4a8", accept=True)
    flatbuffer.write(made.graph, folder / "int8.tflite")
    return folder / "float.tflite", folder / "int8.tflite"


def trained_on(graph: Graph, amount: float) -> Graph:
    """The float graph after some training: every weight has moved a little."""
    rng = np.random.default_rng(3)
    moved = {
        i: replace(t, data=(t.data * (1 + amount * rng.standard_normal(t.shape))).astype(np.float32))
        for i, t in enumerate(graph.tensors)
        if t.data is not None and t.is_float and len(t.shape) > 1
    }
    return graph.with_tensors(moved)


def test_what_judges_was_not_fitted_on(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = repair.compensate

    def watched(graph: Graph, reference: Graph, samples: Any, *rest: Any) -> Any:
        kept = [*samples]
        seen.extend(float(value.sum()) for sample in kept for value in sample.values())
        return original(graph, reference, kept, *rest)

    monkeypatch.setattr(repair, "compensate", watched)
    found = edgeqwt.compensate(files[1], files[0], calibration=IMAGES)
    held_out = [float(image[None].sum()) for image in IMAGES["image"][1::4]]
    assert len(seen) == 36
    assert not {*seen} & {*held_out}
    assert found.warnings == ()
    assert found.choice.name == "compensated"
    assert found.quality["compensated"].samples == 12


def test_a_reference_that_is_not_the_parent(tmp_path: Path) -> None:
    flatbuffer.write(small.graph(), tmp_path / "float.tflite")
    made = edgeqwt.build(tmp_path / "float.tflite", calibration=IMAGES, recipe="plain")
    flatbuffer.write(made.graph, tmp_path / "int8.tflite")
    flatbuffer.write(trained_on(small.graph(), 0.1), tmp_path / "before.tflite")
    call: dict[str, Any] = {"calibration": IMAGES, "output": tmp_path / "out.tflite"}
    with pytest.raises(QualityError, match="the weights of 2 of 2 layers are not its weights, rounded") as error:
        edgeqwt.compensate(tmp_path / "int8.tflite", tmp_path / "before.tflite", **call)
    assert "--accept" in error.value.hint
    assert not (tmp_path / "out.tflite").exists()
    found = edgeqwt.compensate(tmp_path / "int8.tflite", tmp_path / "before.tflite", accept=True, **call)
    assert len(found.warnings) >= 1
    assert (tmp_path / "out.tflite").exists()


def test_a_file_that_has_nothing_to_do_with_the_reference(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Its weights are the same, its biases are not."""

    def shift(constants: dict[str, Any]) -> None:
        constants["bias"] += 5

    flatbuffer.write(small.graph(shift), tmp_path / "other.tflite")
    with pytest.raises(QualityError, match="dB SQNR of what varies to begin with"):
        edgeqwt.compensate(files[1], tmp_path / "other.tflite", calibration=IMAGES)


def test_a_file_that_cuts_samples_off_is_to_be_built_anew(tmp_path: Path) -> None:
    """Its calibration samples were 30 times smaller: that is said, and no compensation is offered."""
    flatbuffer.write(small.graph(), tmp_path / "float.tflite")
    quiet = {"image": IMAGES["image"] / 30}
    made = edgeqwt.build(tmp_path / "float.tflite", calibration=quiet, recipe="plain", accept=True)
    flatbuffer.write(made.graph, tmp_path / "int8.tflite")
    compared = edgeqwt.compare(tmp_path / "float.tflite", tmp_path / "int8.tflite", calibration=IMAGES)
    out = io.StringIO()
    show_comparison(Console(file=out, width=100), compared, Path("a.tflite"), Path("b.tflite"), ["-c", "s.npz"])
    said = " ".join(out.getvalue().split())
    assert "INPUT 'image'" in said
    assert "Samples go beyond its range" in said
    assert "next edgeqwt build a.tflite -c s.npz -o out chooses ranges that hold these samples" in said
    assert "compensate" not in said


def test_one_sample_confirms_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    one = {"image": small.images(1)}
    found = edgeqwt.compensate(files[1], files[0], calibration=one, output=tmp_path / "out.tflite")
    assert (found.choice.name, found.choice.reason) == ("uncompensated", repair.ONE_SAMPLE)
    assert (tmp_path / "out.tflite").read_bytes() == files[1].read_bytes()
    built = edgeqwt.build(files[0], calibration=one, recipe="fast", accept=True)
    assert (built.choice.name, built.outcome) == ("uncompensated", None)
    assert "nothing is held out" in built.warnings[0]

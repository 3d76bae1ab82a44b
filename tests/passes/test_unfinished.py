"""Builds that stop on the way, and others of the same that go on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt import user_cache
from edgeqwt.calibration.samples import split
from edgeqwt.calibration.sources import open_samples
from edgeqwt.errors import QualityError
from edgeqwt.graph import flatbuffer
from edgeqwt.passes import run, unfinished
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Techniques, Works
from edgeqwt.pipeline import BuildResult
from edgeqwt.progress import Stages
from edgeqwt.recipe import recipe as recipes
from edgeqwt.user_cache import VARIABLE
from tests import small

LAST = "cwac"  # of all recipes' techniques
HELD_OUT = 13  # of 16 samples


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> small.Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def whole(files: small.Small) -> BuildResult:
    """What a build that is not stopped makes; conftest has caches off."""
    return built(files)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of unfinished builds, which are written after each technique."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    return tmp_path / "builds"


def built(files: small.Small, recipe: Any = "balanced", **options: Any) -> BuildResult:
    return edgeqwt.build(files.model, calibration=files.samples, recipe=recipe, **{"accept": True, **options})


def entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of techniques at which a build is interrupted."""
    names, apply = set[str](), run.apply

    def interrupted(
        technique: Technique, state: State, context: Context, stages: Stages, others: Techniques = ()
    ) -> tuple[Technique, State, Account]:
        if technique.name in names:
            raise KeyboardInterrupt
        return apply(technique, state, context, stages, others)

    monkeypatch.setattr(run, "apply", interrupted)
    return names


@pytest.mark.parametrize("name", ["mse_ranges", "equalization", "gptq", LAST])
def test_a_build_goes_on_and_makes_the_same(
    files: small.Small, whole: BuildResult, kept: Path, stopping: set[str], name: str
) -> None:
    stopping.add(name)
    with pytest.raises(KeyboardInterrupt) as stop:
        built(files)
    assert len(entries(kept)) == 1
    (note,) = stop.value.__notes__
    stopping.clear()
    found = built(files)
    (stage,) = [stage for stage in found.seconds if stage.startswith("go on after ")]
    assert (
        note == f"The same build, also with --accept, goes on after the stage {stage.removeprefix('go on after ')!r}."
    )
    assert "calibrate" not in found.seconds
    assert found.to_bytes() == whole.to_bytes()
    assert {n: flatbuffer.to_bytes(g) for n, g in found.variants.items()} == {
        n: flatbuffer.to_bytes(g) for n, g in whole.variants.items()
    }
    assert [step.account.sentences for step in found.made.steps] == [s.account.sentences for s in whole.made.steps]
    assert found.made.notes == whole.made.notes
    assert entries(kept) == []


def stopped(files: small.Small, stopping: set[str], **options: Any) -> None:
    stopping.add(LAST)
    with pytest.raises(KeyboardInterrupt):
        built(files, "fast", **options)
    stopping.clear()


@pytest.mark.parametrize("other", ["samples", "held-out samples", "model", "recipe", "precision", "target"])
def test_a_build_of_another_begins_anew(
    files: small.Small, kept: Path, stopping: set[str], tmp_path: Path, other: str
) -> None:
    stopped(files, stopping)
    images = small.images(16)
    images[HELD_OUT if other == "held-out samples" else 0] += 0.01
    np.savez(tmp_path / "other.npz", image=images)
    calibration = tmp_path / "other.npz" if "samples" in other else files.samples
    flatbuffer.write(
        small.graph(lambda constants: constants.update(bias=constants["bias"] + 0.01)), tmp_path / "other.tflite"
    )
    model = tmp_path / "other.tflite" if other == "model" else files.model
    options: dict[str, dict[str, Any]] = {
        "recipe": {"recipe": "int8-only"},
        "precision": {"precision": "w4a8"},
        "target": {"target": "tflm"},
    }
    wanted: dict[str, Any] = {"recipe": "fast", **options.get(other, {})}
    found = edgeqwt.build(model, calibration=calibration, accept=True, **wanted)
    assert "calibrate" in found.seconds


def test_a_sample_is_held_out() -> None:
    """What the test above rests on."""
    fit, held_out = split(open_samples({"image": np.arange(16.0).reshape(16, 1)}))
    assert 0.0 in [float(s["image"].flat[0]) for s in fit]
    assert HELD_OUT in [float(s["image"].flat[0]) for s in held_out]


@pytest.mark.parametrize("options", [{"cache": False}, {"time_budget": 1000.0}, {"memory": 8 << 30}])
def test_nothing_is_kept(files: small.Small, kept: Path, stopping: set[str], options: dict[str, Any]) -> None:
    stopped(files, stopping, **options)
    assert entries(kept) == []


def test_little_work_is_not_kept(
    files: small.Small, kept: Path, stopping: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "EVERY", 1000.0)
    stopped(files, stopping)
    assert entries(kept) == []


@pytest.mark.parametrize("damage", ["short", "another program's"])
def test_what_cannot_be_read_is_made_anew(files: small.Small, kept: Path, stopping: set[str], damage: str) -> None:
    stopped(files, stopping)
    (entry,) = entries(kept)
    if damage == "short":
        entry.write_bytes(entry.read_bytes()[:-1])
    else:
        user_cache.Entries(kept).write(entry.name, lambda file: file.write(b"\x80\x05cnowhere\nnothing\n."))
    found = built(files, "fast")
    assert "calibrate" in found.seconds


def test_a_build_that_was_refused_goes_on_where_the_result_is_accepted(
    files: small.Small, whole: BuildResult, kept: Path
) -> None:
    for _ in range(2):  # the second one goes on, is refused as well, and says the same
        with pytest.raises(QualityError) as refused:
            built(files, accept=None, min_quality=300.0)
        assert refused.value.__notes__ == ["The same build, also with --accept, goes on after the stage 'compensate'."]
    found = built(files, min_quality=300.0)
    assert "calibrate" not in found.seconds
    assert found.to_bytes() == whole.to_bytes()


@dataclass(frozen=True)
class Secretive(Technique):
    """Hands on what has no bytes."""

    name = "secretive"
    works = Works.CORRECTION

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        return state, Account(("done",), detail=lambda: None)


def test_what_has_no_bytes_is_not_kept(files: small.Small, kept: Path) -> None:
    recipe = recipes.load("fast")
    recipe = replace(recipe, techniques=(*recipe.techniques, Secretive()))
    assert built(files, recipe=recipe).made.account("secretive") is not None
    assert entries(kept) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_build_goes_on_in_another_process(files: small.Small, whole: BuildResult, kept: Path) -> None:
    program = f"""
        import os, signal
        from edgeqwt.passes import unfinished
        from edgeqwt.rounding import reround
        import edgeqwt, edgeqwt.techniques.weight_rounding as technique
        unfinished.EVERY = 0.0
        technique.reround = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
        edgeqwt.build({str(files.model)!r}, calibration={str(files.samples)!r}, accept=True, recipe="balanced")
    """
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=small.ROOT, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert len(entries(kept)) == 1
    found = built(files)
    assert "calibrate" not in found.seconds
    assert found.to_bytes() == whole.to_bytes()

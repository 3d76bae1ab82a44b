"""The levers put together, on a small network."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="learned rounding needs torch")

from edgeqwt import engine
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.engine import LEVERS, Job, bare, leave_one_out, make
from edgeqwt.equalize.equalize import Equalized
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from edgeqwt.progress import Stages
from edgeqwt.quantize.precision import parse
from edgeqwt.recipes.recipe import Recipe, load
from edgeqwt.reconstruct.rule import Reconstruction
from edgeqwt.target import TargetProfile
from tests import small

QUICK = Reconstruction(iterations=2, finish=2, batch=4)


@pytest.fixture(scope="module")
def job() -> Job:
    graph = small.graph()
    spec = InputSpec("image", (1, 8, 8, 3), "float32")
    model = ConvertedModel(graph, (Binding(spec, graph.inputs[0]),), (), lambda sample: {})
    samples = {"image": small.images(24)}
    return Job(model, graph, open_samples(samples), TargetProfile("tflite", "", ("reference", "xnnpack")))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return replace(load("balanced"), precision=parse("w4a8"), reconstruction=QUICK)


def test_every_lever_can_be_left_out(job: Job, recipe: Recipe) -> None:
    assert all(without(recipe) != recipe for without in LEVERS.values())
    gains = leave_one_out(job, recipe, 16, lambda done, total: None)
    assert [gain.lever for gain in gains] == list(LEVERS)
    nothing = bare(recipe)
    assert [name for name, without in LEVERS.items() if without(nothing) != nothing] == ["ranges"]


def test_learned_rounding_stands_between_rounding_and_compensation(job: Job, recipe: Recipe) -> None:
    made = make(job, recipe, Stages())
    assert made.reconstructed is not None
    assert made.uncompensated is made.reconstructed.graph
    assert made.outcome is not None
    without = make(job, replace(recipe, reconstruction=None), Stages())
    assert without.reconstructed is None
    # Whether it was kept is decided on samples held out; the file changes just where it was.
    kept = any(block.kept for block in made.reconstructed.blocks)
    same = flatbuffer.to_bytes(made.uncompensated) == flatbuffer.to_bytes(without.uncompensated)
    assert kept is not same


def test_the_same_bytes_again(job: Job, recipe: Recipe) -> None:
    first, second = (flatbuffer.to_bytes(make(job, recipe, Stages()).graph) for _ in range(2))
    assert first == second


def test_equalization_that_does_not_help_is_dropped(job: Job, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*arguments: object) -> Equalized:
        # Another function: nothing that is lowered from it can come closer to the float graph.
        def doubled(constants: dict[str, Array]) -> None:
            constants["weights"] *= 2

        return Equalized(small.graph(doubled), changed=1)

    monkeypatch.setattr(engine, "equalize", spoiled)
    made = make(job, replace(recipe, reconstruction=None), Stages())
    assert made.reference is job.graph
    assert made.equalized is not None
    assert "does not help" in made.equalized.skipped

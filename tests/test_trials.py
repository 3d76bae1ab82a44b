"""What held-out samples decide: islands, weighted ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt import trials
from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.engine import make
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.job import Ground, Job
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Stages
from edgeqwt.quantize.islands import Islands, islands
from edgeqwt.recipes.recipe import Recipe, load
from edgeqwt.target import TargetProfile
from edgeqwt.trials import RoleChoice, Widened, weighted_ranges, wide_islands, worthwhile_islands
from tests import small
from tests.prepare import toy

LITERT = TargetProfile("tflite", "", ("reference", "xnnpack"))


def job_of(graph: Graph, data: Array, target: TargetProfile = LITERT) -> Job:
    name = graph.tensors[graph.inputs[0]].name
    spec = InputSpec(name, graph.tensors[graph.inputs[0]].shape, graph.tensors[graph.inputs[0]].dtype)
    model = ConvertedModel(graph, (Binding(spec, graph.inputs[0]),), (), lambda sample: {})
    return Job(model, prepare(graph).graph, open_samples({name: data}), target)


def start(job: Job, recipe: Recipe) -> Ground:
    return Ground(job.graph, observe(job.graph, job.feeds(job.fit))[0], recipe)


@pytest.fixture(scope="module")
def language() -> Job:
    graph = toy.outliers(toy.language(blocks=2), (3,), 20.0)
    ids = np.random.default_rng(0).integers(0, 9, (24, toy.TOKENS)).astype(np.int32)
    return job_of(graph, ids)


def test_islands_are_wide_where_they_gain(language: Job) -> None:
    ground, found, told = wide_islands(language, start(language, load("fast")), Islands())
    assert told is not None
    assert told.skipped == ""
    assert found == islands(language.graph)
    assert {w.activations for w in ground.recipe.precision.layers.values()} == {16}
    settled, told = worthwhile_islands(language, ground, Islands())
    assert [choice.role for choice in told.roles] == ["activation", "softmax", "normalization"]
    for choice in told.roles:
        assert choice.wide == (choice.gain_db >= Islands().min_gain)
    kept = {choice.role for choice in told.roles if choice.wide}
    assert kept
    names = {
        language.graph.tensors[language.graph.ops[i].outputs[0]].name
        for island in found
        if island.role in kept
        for i in island.ops
    }
    assert {*settled.recipe.precision.layers} <= names


def test_too_small_a_gain_is_no_reason(language: Job) -> None:
    before = start(language, load("fast"))
    ground, found, told = wide_islands(language, before, Islands(min_gain=99))
    assert ground is before
    assert found == ()
    assert told is not None
    assert "dB on held-out samples" in told.skipped


def test_targets_without_16_bits_have_no_islands(language: Job) -> None:
    narrow = replace(language, target=replace(LITERT, name="edgetpu", limits={"activation_bits": 8}))
    ground, _, told = wide_islands(narrow, start(narrow, load("fast")), Islands())
    assert told is not None
    assert told.skipped == "edgetpu has no 16-bit activations"
    assert ground.recipe.precision.layers == {}


def test_convolutional_networks_are_left_alone() -> None:
    job = job_of(small.graph(), small.images(16))
    _, _, told = wide_islands(job, start(job, load("balanced")), Islands())
    assert told is None


def test_weighted_ranges_are_kept_only_where_they_help(language: Job) -> None:
    pytest.importorskip("torch", reason="gradients need torch")
    recipe = load("int8-only")
    assert recipe.weighting is not None
    before = start(language, recipe)
    after, told = weighted_ranges(language, before, recipe.weighting)
    if told:
        assert after is before
        assert "dB on held-out samples" in told
    else:
        assert after.statistics is not before.statistics


def test_a_build_tells_its_islands_and_uses_their_widths(language: Job) -> None:
    recipe = replace(load("fast"), islands=Islands())
    made = make(language, recipe, Stages())
    assert made.levers.islands is not None
    assert any(choice.wide for choice in made.levers.islands.roles)
    assert made.recipe.precision.layers
    assert {"int8", "int16"} <= {tensor.dtype for tensor in made.graph.tensors}
    assert not any(tensor.is_float for tensor in made.graph.tensors)


def test_islands_that_turn_out_useless_leave_no_trace(language: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(load("fast"), islands=Islands())
    without = make(language, replace(recipe, islands=None), Stages())

    def useless(job: Job, ground: Ground, options: Islands) -> tuple[Ground, Widened]:
        return ground, Widened((RoleChoice("normalization", 1, 1, 0.0, wide=False),))

    monkeypatch.setattr(trials, "worthwhile_islands", useless)
    made = make(language, recipe, Stages())
    assert flatbuffer.to_bytes(made.graph) == flatbuffer.to_bytes(without.graph)
    assert made.levers.islands is not None
    assert not made.levers.islands.roles[0].wide

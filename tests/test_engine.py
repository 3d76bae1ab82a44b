"""The levers put together, on a small network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="learned rounding needs torch")

from edgeqwt import trials
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.engine import LEVERS, bare, leave_one_out, make
from edgeqwt.equalize.equalize import Equalized
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from edgeqwt.job import Job
from edgeqwt.progress import Stages
from edgeqwt.quantize.precision import parse
from edgeqwt.quantize.search import NoSearch
from edgeqwt.quantize.search_layers import HessianGuided
from edgeqwt.quantize.search_outputs import Lapq
from edgeqwt.quantize.weight_scales import MinMaxWeights, MseWeights, PowerOfTwoWeights
from edgeqwt.recipes.recipe import Recipe, load
from edgeqwt.reconstruct.rule import Reconstruction
from edgeqwt.target import TargetProfile
from edgeqwt.verify.layers import layer_quality
from tests import small
from tests.chain import NONE, Chain, noise

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
    searching = replace(load("balanced"), weights=MseWeights(), search=HessianGuided(samples=4, candidates=8))
    return replace(searching, precision=parse("w4a8"), reconstruction=QUICK)


def test_every_lever_can_be_left_out(job: Job, recipe: Recipe) -> None:
    assert all(without(recipe) != recipe for without in LEVERS.values())
    gains = leave_one_out(job, recipe, 16, lambda done, total: None)
    assert [gain.lever for gain in gains] == [name for name in LEVERS if name != "learned rounding"]
    nothing = bare(recipe)
    assert [name for name, without in LEVERS.items() if without(nothing) != nothing] == ["ranges"]


def test_learned_rounding_stands_between_rounding_and_compensation(job: Job, recipe: Recipe) -> None:
    made = make(job, recipe, Stages())
    assert made.levers.reconstructed is not None
    assert made.uncompensated is made.levers.reconstructed.graph
    assert made.outcome is not None
    without = make(job, replace(recipe, reconstruction=None), Stages())
    assert without.levers.reconstructed is None
    # Whether it was kept is decided on samples held out; the file changes just where it was.
    kept = any(block.kept for block in made.levers.reconstructed.blocks)
    same = flatbuffer.to_bytes(made.uncompensated) == flatbuffer.to_bytes(without.uncompensated)
    assert kept is not same


def test_the_same_bytes_again(job: Job, recipe: Recipe) -> None:
    first, second = (flatbuffer.to_bytes(make(job, recipe, Stages()).graph) for _ in range(2))
    assert first == second


def test_searched_scales_are_those_that_the_graph_has(job: Job) -> None:
    searching = replace(bare(load("plain")), precision=parse("w4a8"), search=HessianGuided())
    made = make(job, searching, Stages())
    found = made.levers.searched
    assert found is not None
    assert found.candidates == 3
    assert found.after > found.before  # min-max scales of 4 bits leave much to find
    for op in made.reference.ops:
        if op.kind in ("CONV_2D", "FULLY_CONNECTED") and op.inputs[1] in found.scales.weights:
            names = {tensor.name: tensor for tensor in made.graph.tensors}
            q = names[made.reference.tensors[op.inputs[1]].name].quantization
            assert q is not None
            np.testing.assert_array_equal(q.scale, found.scales.weights[op.inputs[1]].astype(np.float32))
    # What the search says is what the engine's own judge measures, on the same samples.
    plain = make(job, replace(searching, search=NoSearch()), Stages())
    quality = layer_quality(made.reference, {"": made.graph, "plain": plain.graph}, job.feeds(job.held_out))
    assert quality[""].worst_db == pytest.approx(found.after, abs=1e-6)
    assert quality["plain"].worst_db == pytest.approx(found.before, abs=1e-6)


def test_weight_rules_choose_weight_scales(job: Job) -> None:
    plain = replace(bare(load("plain")), precision=parse("w3a8"))
    before, after = (make(job, replace(plain, weights=rule), Stages()) for rule in (MinMaxWeights(), MseWeights()))
    for name in ("filter", "weights"):
        old, new = (
            next(t.quantization for t in made.graph.tensors if t.name == name and t.is_constant)
            for made in (before, after)
        )
        assert old is not None
        assert new is not None
        assert (new.scale <= old.scale).all()
        assert (new.scale < old.scale).any()
    shifted = make(job, replace(plain, weights=PowerOfTwoWeights()), Stages()).graph
    scales = [t.quantization.scale for t in shifted.tensors if t.name in ("filter", "weights") and t.quantization]
    assert len(scales) == 2
    assert all((np.log2(scale) % 1 == 0).all() for scale in scales)


def test_a_search_without_real_outputs_finds_nothing(job: Job) -> None:
    chain = Chain()
    x = chain.input((1, 4), "image")
    logits = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 4)), -1, keepNumDims=False, **NONE)
    best = chain.op("ARG_MAX", logits, chain.constant(np.array(1)), dtype="int64", shape=(1,), outputType="INT64")
    graph = chain.graph(best)
    spec = InputSpec("image", (1, 4), "float32")
    model = ConvertedModel(graph, (Binding(spec, x),), (), lambda sample: {})
    choosing = Job(model, graph, open_samples({"image": noise(8, 4)}), job.target)
    made = make(choosing, replace(bare(load("plain")), search=Lapq(samples=4, evaluations=4)), Stages())
    assert made.levers.searched is not None
    assert made.levers.searched.candidates == 0


def test_equalization_that_does_not_help_is_dropped(job: Job, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*arguments: object) -> Equalized:
        # Another function: nothing that is lowered from it can come closer to the float graph.
        def doubled(constants: dict[str, Array]) -> None:
            constants["weights"] *= 2

        return Equalized(small.graph(doubled), changed=1)

    monkeypatch.setattr(trials, "equalize", spoiled)
    made = make(job, replace(recipe, reconstruction=None), Stages())
    assert made.reference is job.graph
    assert made.levers.equalized is not None
    assert "it loses" in made.levers.equalized.skipped

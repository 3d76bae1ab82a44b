"""16-bit regions: where they gain, where they are taken back, and that nothing is left of them then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make, start
from edgeqwt.passes.state import State
from edgeqwt.passes.technique import Techniques
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import Npu, TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import load
from edgeqwt.techniques.ranges import MseRanges
from edgeqwt.techniques.regions16 import Regions16, Regions16Review, RoleChoice, with_regions
from edgeqwt.techniques.weighted_ranges import WeightedRanges
from edgeqwt.widths.precision import Precision
from edgeqwt.widths.regions import regions
from tests import small
from tests.prepare import toy

LITERT = TargetProfile("tflite", "", ("reference", "xnnpack"))
FAST = load("fast").techniques


def work_on(graph: Graph, data: Array, target: TargetProfile = LITERT) -> Context:
    name = graph.tensors[graph.inputs[0]].name
    spec = InputSpec(name, graph.tensors[graph.inputs[0]].shape, graph.tensors[graph.inputs[0]].dtype)
    model = ConvertedModel(graph, (Binding(spec, graph.inputs[0]),), (), lambda sample: {})
    return Context.of(model, prepare(graph).graph, open_samples({name: data}), target)


def begin(work: Context) -> State:
    return replace(start(work, Precision()), ranges=MseRanges())


def bytes_of(work: Context, techniques: Techniques) -> bytes:
    return flatbuffer.to_bytes(make(work, techniques, Precision(), Stages()).graph)


@pytest.fixture(scope="module")
def language() -> Context:
    graph = toy.outliers(toy.language(blocks=2), (3,), 20.0)
    ids = np.random.default_rng(0).integers(0, 9, (24, toy.TOKENS)).astype(np.int32)
    return work_on(graph, ids)


def test_regions_are_wide_where_they_gain(language: Context) -> None:
    wide, account = Regions16().apply(begin(language), language)
    assert account.kept
    assert wide.regions == regions(language.graph)
    assert {w.activations for w in wide.precision.layers.values()} == {16}
    settled, account = Regions16Review().apply(wide, language)
    choices = account.detail
    assert isinstance(choices, tuple)
    assert [choice.role for choice in choices] == ["softmax", "normalization"]
    for choice in choices:
        assert choice.wide == (choice.gain_db >= Regions16Review().min_gain)
    kept = {choice.role for choice in choices if choice.wide}
    assert kept
    names = {
        language.graph.tensors[language.graph.ops[i].outputs[0]].name
        for region in wide.regions
        if region.role in kept
        for i in region.ops
    }
    assert {*settled.precision.layers} <= names
    assert len(account.sentences) == len(choices)


def test_regions_that_take_longer_than_a_run_may_have_8_bits(language: Context) -> None:
    wide, _ = Regions16().apply(begin(language), language)
    free = Regions16Review().apply(wide, language)[1].detail
    assert isinstance(free, tuple)
    assert all(choice.time > 1 and f"for about {choice.time:.1f} times the time" in choice.sentence for choice in free)
    settled, account = Regions16Review(max_time=1.01).apply(wide, language)
    assert (settled.regions, account.kept) == ((), False)
    for choice in account.detail or ():
        assert choice.slow == (choice.gain_db >= Regions16Review().min_gain)
        assert choice.sentence.endswith(f", too {'slow' if choice.slow else 'little'}: they have 8")
    npu = replace(language, target=replace(LITERT, npu=Npu("u85", "", "")))
    assert [c.time for c in Regions16Review(max_time=1.01).apply(wide, npu)[1].detail or ()] == [None] * len(free)


def test_a_role_that_is_not_wide_stays_so_when_roles_are_reviewed(language: Context) -> None:
    stream = [region for region in regions(language.graph) if region.role == "normalization"]
    wide = with_regions(begin(language), stream)
    after, account = Regions16Review().apply(wide, language)
    assert [role["role"] for role in account.data["roles"]] == ["normalization"]
    assert list(after.regions) == stream


def test_too_small_a_gain_is_no_reason(language: Context) -> None:
    before = begin(language)
    after, account = Regions16(min_gain=99).apply(before, language)
    assert after is before
    assert "dB on held-out samples" in account.sentences[0]
    assert Regions16Review().apply(after, language)[0] is after


def test_targets_without_16_bits_have_no_regions(language: Context) -> None:
    narrow = replace(language, target=replace(LITERT, name="edgetpu", limits={"activation_bits": 8}))
    after, account = Regions16().apply(begin(narrow), narrow)
    assert account.data["skipped"] == "edgetpu has no 16-bit activations"
    assert after.precision.layers == {}


def test_convolutional_networks_are_left_alone() -> None:
    work = work_on(small.graph(), small.images(16))
    after, account = Regions16().apply(begin(work), work)
    assert not account.kept
    assert account.sentences == ()
    assert after.regions == ()


def test_weighted_ranges_are_kept_only_where_they_help(language: Context) -> None:
    pytest.importorskip("torch", reason="gradients need torch")
    before = begin(language)
    after, account = WeightedRanges().apply(before, language)
    assert account.kept == (after.statistics is not before.statistics)
    assert account.kept or "dB on held-out samples" in account.sentences[0]
    whole = WeightedRanges(trials=1).apply(before, language)[1]
    # Parts are tried only where the whole does not gain; each that is kept gains.
    assert account.kept >= whole.kept
    assert not account.kept or account.data["gain_db"] > 0
    assert not whole.kept or account.data["tensors"] == len(before.statistics)


def test_a_build_uses_the_widths_of_its_regions(language: Context) -> None:
    made = make(language, FAST, Precision(), Stages())
    account = made.account("regions16_review")
    assert account is not None
    assert account.kept
    assert made.state.precision.layers
    assert {"int8", "int16"} <= {tensor.dtype for tensor in made.graph.tensors}
    assert not any(tensor.is_float for tensor in made.graph.tensors)


def test_regions_that_turn_out_useless_leave_no_trace(language: Context) -> None:
    without = tuple(t for t in FAST if t.name not in ("regions16", "regions16_review"))
    useless = tuple(Regions16Review(min_gain=99) if t.name == "regions16_review" else t for t in FAST)
    assert bytes_of(language, useless) == bytes_of(language, without)
    assert bytes_of(language, FAST) != bytes_of(language, without)
    account = make(language, useless, Precision(), Stages()).account("regions16_review")
    assert account is not None
    assert not account.kept
    assert "too little: they have 8" in account.sentences[0]


def test_a_role_is_reported_with_what_it_gains() -> None:
    roles = (RoleChoice("softmax", 6, 12, 0.1, False), RoleChoice("normalization", 1, 91, 12.346, True))
    assert [role.sentence for role in roles] == [
        "softmax, 6 regions, 12 ops: 16 bits gain 0.10 dB, too little: they have 8",
        "normalization, 1 region, 91 ops: 16 bits gain 12.35 dB",
    ]

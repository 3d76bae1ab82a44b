"""Techniques one after the other, on a small network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest

pytest.importorskip("torch", reason="learned rounding needs torch")

from annotated_types import Ge

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import work as multiplications
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import Made, leave_one_out, make, start
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Techniques, Works, plain
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import load
from edgeqwt.reconstruct.reconstruct import Reconstructed
from edgeqwt.runtime.runners import LiteRT
from edgeqwt.scales.search import Found
from edgeqwt.techniques.cwac import Cwac
from edgeqwt.techniques.gptq import Gptq
from edgeqwt.techniques.hessian_guided import HessianGuided
from edgeqwt.techniques.lapq import Lapq
from edgeqwt.techniques.ranges import MinMaxRanges, PowerOfTwoRanges
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.techniques.weight_scales import MseWeightScales, PowerOfTwoWeightScales
from edgeqwt.verify.comparator import Comparator
from edgeqwt.verify.worst_samples import worst_samples
from edgeqwt.widths.precision import Precision, parse
from tests import small
from tests.chain import NONE, Chain, noise

QUICK = Reconstruction(iterations=2, finish=2, batch=4)
LITERT = TargetProfile("tflite", "", ("reference", "xnnpack"))
PRECISION = parse("w4a8")


def context(count: int = 24) -> Context:
    graph = small.graph()
    spec = InputSpec("image", (1, 8, 8, 3), "float32")
    model = ConvertedModel(graph, (Binding(spec, graph.inputs[0]),), (), lambda sample: {})
    return Context.of(model, graph, open_samples({"image": small.images(count)}), LITERT)


@pytest.fixture(scope="module")
def work() -> Context:
    return context()


@pytest.fixture(scope="module")
def everything() -> Techniques:
    recipe = load("balanced").with_technique(MseWeightScales()).with_technique(HessianGuided(samples=4, candidates=8))
    return recipe.with_technique(QUICK).techniques


def made(work: Context, techniques: Techniques, precision: Precision = PRECISION) -> Made:
    return make(work, techniques, precision, Stages())


def test_every_technique_can_be_left_out(work: Context, everything: Techniques) -> None:
    gains = leave_one_out(work, context(16), everything, PRECISION, lambda done, total: None)
    assert [gain.technique for gain in gains] == [t.name for t in everything if not t.slow and not t.part_of]
    assert [technique.name for technique in plain(everything)] == ["mse_ranges"]


def test_learned_rounding_stands_between_rounding_and_compensation(work: Context, everything: Techniques) -> None:
    names = [technique.name for technique in everything]
    assert names[-3:] == ["gptq", "reconstruction", "cwac"]
    whole = made(work, everything)
    account = whole.account("reconstruction")
    assert account is not None
    assert isinstance(account.detail, Reconstructed)
    assert (whole.uncompensated is account.detail.graph) is account.kept
    assert whole.outcome is not None
    without = made(work, tuple(t for t in everything if t.name != "reconstruction"))
    # The file changes just where it was kept.
    same = flatbuffer.to_bytes(whole.uncompensated) == flatbuffer.to_bytes(without.uncompensated)
    assert account.kept is not same


def test_the_same_bytes_again(work: Context, everything: Techniques) -> None:
    # The second time in a context that knows nothing yet.
    first, second = (flatbuffer.to_bytes(made(where, everything).graph) for where in (work, context()))
    assert first == second


def test_searched_scales_are_those_that_the_graph_has(work: Context) -> None:
    whole = made(work, (MinMaxRanges(), HessianGuided()))
    account = whole.account("hessian_guided")
    assert account is not None
    found = account.detail
    assert isinstance(found, Found)
    assert found.candidates == 3
    assert found.after > found.before  # min-max scales of 4 bits leave much to find
    for op in whole.reference.ops:
        if op.kind in ("CONV_2D", "FULLY_CONNECTED") and op.inputs[1] in found.scales.weights:
            names = {tensor.name: tensor for tensor in whole.graph.tensors}
            q = names[whole.reference.tensors[op.inputs[1]].name].quantization
            assert q is not None
            np.testing.assert_array_equal(q.scale, found.scales.weights[op.inputs[1]].astype(np.float32))
    # What the search says is what the gate measures, on the same samples.
    nothing = made(work, (MinMaxRanges(),))
    quality = work.gate.quality(whole.reference, {"": whole.graph, "plain": nothing.graph})
    assert quality[""].worst_db == pytest.approx(found.after, abs=1e-6)
    assert quality["plain"].worst_db == pytest.approx(found.before, abs=1e-6)


def test_weight_rules_choose_weight_scales(work: Context) -> None:
    three = parse("w3a8")
    before = made(work, (MinMaxRanges(),), three)
    after = made(work, (MinMaxRanges(), MseWeightScales()), three)
    for name in ("filter", "weights"):
        old, new = (
            next(t.quantization for t in one.graph.tensors if t.name == name and t.is_constant)
            for one in (before, after)
        )
        assert old is not None
        assert new is not None
        assert (new.scale <= old.scale).all()
        assert (new.scale < old.scale).any()


@pytest.mark.parametrize(
    ("behind", "stay"),
    [
        ((), True),
        ((Gptq(float_targets=True, refine=True), Cwac(gain=False, rewrite_scales=False)), True),
        ((Gptq(scales=8),), False),
        ((Cwac(gain_margin=0.0),), False),
    ],
)
def test_scales_stay_powers_of_two_where_nothing_behind_chooses_others(
    work: Context, behind: Techniques, stay: bool
) -> None:
    shifted = made(work, (PowerOfTwoRanges(), PowerOfTwoWeightScales(), *behind), parse("w3a8")).graph
    weights = [t.quantization.scale for t in shifted.tensors if t.name in ("filter", "weights") and t.quantization]
    assert len(weights) == 2
    assert all((np.log2(scale) % 1 == 0).all() for scale in weights) is stay


def test_a_search_without_real_outputs_finds_nothing() -> None:
    chain = Chain()
    x = chain.input((1, 4), "image")
    logits = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 4)), -1, keepNumDims=False, **NONE)
    graph = chain.graph(chain.op("GREATER", logits, chain.constant(noise(1, 3)), dtype="bool"))
    model = ConvertedModel(graph, (Binding(InputSpec("image", (1, 4), "float32"), x),), (), lambda sample: {})
    choosing = Context.of(model, graph, open_samples({"image": noise(8, 4)}), LITERT)
    account = made(choosing, (MinMaxRanges(), Lapq(samples=4, evaluations=4))).account("lapq")
    assert account is not None
    assert account.data["candidates"] == 0


@dataclass(frozen=True)
class Louder(Technique):
    """Makes the float graph another function, as no technique should.

    Attributes:
        times: by how much.
    """

    name = "louder"
    works = Works.FLOAT
    times: Annotated[float, Ge(1)] = 2.0

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        def changed(constants: dict[str, np.ndarray]) -> None:
            constants["weights"] *= self.times

        after = replace(state, graph=small.graph(changed))
        verdict = context.keep(state, after, 0.0)
        return (after if verdict.kept else state), Account(data={"gain_db": verdict.gain_db}, kept=verdict.kept)


def test_the_gate_refuses_what_does_not_help(work: Context) -> None:
    whole = made(work, (MinMaxRanges(), Louder()))
    account = whole.account("louder")
    assert account is not None
    assert not account.kept
    assert account.data["gain_db"] < -1
    assert whole.reference is work.graph


@dataclass(frozen=True)
class Useless(Technique):
    """Finds out that another one was of no use."""

    name = "useless"
    works = Works.FLOAT

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        return state, Account(("of no use",), withdraws=("louder", self.name))


def test_what_is_withdrawn_leaves_no_trace(work: Context) -> None:
    plain_graph = made(work, (MinMaxRanges(),)).graph
    whole = made(work, (MinMaxRanges(), Louder(), Useless()))
    assert flatbuffer.to_bytes(whole.graph) == flatbuffer.to_bytes(plain_graph)
    assert [step.technique.name for step in whole.steps] == ["useless", "minmax_ranges"]
    assert whole.steps[0].account.sentences == ("of no use",)


@dataclass(frozen=True)
class Curious(Technique):
    """Notes what a technique can see of the samples."""

    name = "curious"
    works = Works.FLOAT

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        seen = [feed[context.graph.inputs[0]].tobytes() for feed in context.fit]
        return state, Account(detail=seen)


def test_techniques_fit_on_samples_that_do_not_judge(work: Context) -> None:
    account = made(work, (Curious(),)).account("curious")
    assert account is not None
    assert isinstance(account.detail, list)
    judging = {feed[work.graph.inputs[0]].tobytes() for feed in work.gate.feeds()}
    assert len(account.detail) == 18
    assert len(judging) == 6
    assert judging.isdisjoint(account.detail)


def test_nothing_is_computed_twice(work: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeqwt.passes import context as module

    fresh, calls = context(), []
    observe = module.observe
    monkeypatch.setattr(module, "observe", lambda *a, **k: calls.append(a[0]) or observe(*a, **k))
    made(fresh, load("fast").techniques)
    made(fresh, plain(load("fast").techniques))
    assert calls == [fresh.graph]


def test_the_float_graph_is_run_once_for_all_judges_of_decisions(
    work: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    integer = made(work, plain(load("fast").techniques)).graph
    with work.gate.against(work.graph, work.gate._decision_tensors) as own:
        expected = own.noise(integer)
    assert work.gate.noise(integer) != expected  # which leaves the mean error out
    monkeypatch.setattr(Comparator, "__init__", lambda *arguments, **options: pytest.fail("it runs again"))
    for _ in range(2):  # the first look does not end what the second one needs
        with work.gate.at_decisions(work.graph) as shared:
            assert shared.noise(integer) == expected


def test_what_was_looked_at_is_not_run_again_for_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are compared on the first of 6 held-out samples; of the others the gate knows what came out."""
    work, other = context(24), context(24)
    integer = made(work, plain(load("fast").techniques)).graph
    expected = other.gate.quality(other.graph, {"": integer})[""]
    work.gate.noise(integer)
    monkeypatch.setattr("edgeqwt.verify.quality.LOOKED_AT", 1)
    monkeypatch.setattr("edgeqwt.verify.quality.LEAST", 1)
    runs: list[Graph] = []
    invoke = LiteRT._invoke

    def counted(runner: LiteRT, fed: Mapping[int, Array]) -> None:
        runs.append(runner.graph)
        invoke(runner, fed)

    monkeypatch.setattr(LiteRT, "_invoke", counted)
    found = work.gate.quality(work.graph, {"": integer})[""]
    assert sorted(map(id, runs)) == sorted(map(id, (work.graph, integer)))
    assert (found.outputs, found.decisive, found.layer_samples) == (expected.outputs, expected.decisive, 1)
    worst = [worst_samples(work.graph, integer, found, work.gate.feeds(), work.gate.remembered)]
    assert len(runs) == 2
    worst += [worst_samples(work.graph, integer, found, work.gate.feeds())]
    assert len(runs) > 2
    first, second = ([(w.number, w.share, w.wanted, w.found) for w in each] for each in worst)
    assert first == second


def test_there_must_be_samples() -> None:
    with pytest.raises(InputError, match="has no samples"):
        context(0)


def test_networks_that_multiply_much_are_fitted_and_looked_at_on_the_first_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = context(24)  # 18 to fit on, 6 held out
    each = multiplications(work.graph)
    assert [len([*work.fit.worth(n * each, least)]) for n, least in ((3, 2), (3, 5), (100, 2))] == [3, 5, 18]
    monkeypatch.setattr("edgeqwt.passes.context.WORK", 2 * each)
    monkeypatch.setattr("edgeqwt.passes.context.LEAST", 3)
    wanted = {"w8a8": 3, "w4a8": 16, "w8a16": 16, "w8-dynamic": 16}
    assert {name: len([*work.enough(start(work, parse(name)))]) for name in wanted} == wanted
    monkeypatch.setattr("edgeqwt.passes.context.LINES_WORK", 1)
    monkeypatch.setattr("edgeqwt.passes.context.LINES", 2)
    lines = {name: len([*work.enough(start(work, parse(name)), lines=True)]) for name in wanted}
    assert lines == {"w8a8": 2, "w4a8": 4, "w8a16": 4, "w8-dynamic": 4}
    monkeypatch.setattr("edgeqwt.passes.gate.WORK", 1)
    monkeypatch.setattr("edgeqwt.passes.gate.LEAST", 2)
    looked = context(24).gate
    integer = work.lowered(start(work, parse("w8a8")))
    assert looked.count == work.gate.count == 6
    with looked.at_decisions(work.graph) as some, work.gate.at_decisions(work.graph) as every:
        assert (some.count, every.count) == (2, 6)
    assert looked.quality(work.graph, {"": integer})[""].samples == 6
    monkeypatch.setattr("edgeqwt.passes.gate.FINAL_WORK", 4 * each)
    judging = context(24).gate
    assert judging.count == 6
    assert judging.quality(work.graph, {"": integer})[""].samples == len([*judging.feeds()]) == 4

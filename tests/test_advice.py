"""What helps a poor model depends on where its error is born."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeqwt.advice import added_up, advice, choices, remedies, unchanging, what_to_do, what_to_do_with
from edgeqwt.recipe import recipe
from edgeqwt.verify.metrics import Closeness, compare
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.quality import PartQuality, Quality, TensorQuality
from edgeqwt.verify.thresholds import Thresholds, coarse_outputs, shortfalls
from edgeqwt.widths.precision import parse
from tests.chain import NONE, Chain, noise

NOTHING = OwnErrors(8, (), 0)


def closeness(error: float) -> Closeness:
    """Of two samples, one value of ten being off by so much."""
    values = noise(2, 10)
    sums = [compare(v, v + error * (v == v.max()), None, varying=True) for v in values]
    return sums[0].plus(sums[1]).result()


@pytest.mark.parametrize("chosen", [True, False])
def test_places_that_are_chosen_inside_are_named(chosen: bool) -> None:
    """A codebook's row by the largest product, or that row's number itself as the output."""
    chain = Chain()
    values, axis = chain.input((1, 8), "x"), chain.constant([1])
    x = chain.op("ARG_MAX", values, axis, shape=(1,), dtype="int32", name="best", outputType="INT32")
    if chosen:
        x = chain.op("GATHER", chain.constant(noise(8, 4), "rows"), x, name="row", axis=0, batchDims=0)
    said = [*choices(chain.graph(x))]
    assert [s[:58] for s in said] == ["ARG_MAX 'best' chooses places inside the network: where va"] * chosen


@pytest.mark.parametrize("kind", ["LOG", "EXP"])
def test_a_logarithm_belongs_into_the_application(kind: str) -> None:
    chain = Chain()
    graph = chain.graph(chain.op("TANH", chain.op(kind, chain.input((1, 4)), name="power")))
    op = OpError(3, "GATHER", "table", "power", -9.5, 2.0, 0.86, 0.0, 0.14, moves=False, median_used=None)
    judged = TensorQuality("tanh1", 1, "TANH", closeness(1e-3))
    said = advice(graph, Quality(8, (), (judged,), (judged,)), OwnErrors(8, (op,), 0), recipe.load("fast"))
    assert "GATHER 'table' errs most" in said
    assert ("let the application compute the logarithm in float" in said) == (kind == "LOG")


def test_a_poor_part_gets_an_output_of_its_own() -> None:
    chain, chosen = Chain(), recipe.load("fast")
    graph = chain.graph(chain.op("TANH", chain.input((1, 10)), name="out", shape=(1, 10)))
    for error, poor in ((1.0, True), (1e-3, False)):
        parts = tuple(PartQuality(name, closeness(e), ()) for name, e in (("boxes", 1e-3), ("scores", error)))
        judged = TensorQuality("out", 0, "CONCATENATION", closeness(1e-3), parts=parts)
        said = remedies(graph, Quality(8, (), (judged,), (judged,)), NOTHING, chosen)
        assert ("--split-outputs" in said) == poor
        assert "--precision w8a16" in said


def test_where_all_was_tried_nothing_is_said() -> None:
    best = recipe.load("best")
    wide = replace(best, precision=parse("w8a16"))
    assert "--precision" in remedies(Chain().graph(), Quality(8, (), (), ()), NOTHING, best)
    assert "Nothing is left to try" in remedies(Chain().graph(), Quality(8, (), (), ()), NOTHING, wide)


@pytest.mark.parametrize(
    ("kind", "error", "named"),
    [
        ("LOGISTIC", 0.2, True),
        ("LOGISTIC", 1e-3, False),
        ("ABS", 0.2, False),
        ("LOG_SOFTMAX", 0.2, True),
        ("SOFTMAX", 0.2, False),
    ],
)
def test_a_fixed_scale_that_is_too_coarse(kind: str, error: float, named: bool) -> None:
    chain = Chain()
    logit = chain.op("MUL", chain.input((1, 10)), chain.constant(2.0), name="logit", shape=(1, 10), **NONE)
    graph = chain.graph(chain.op(kind, logit, name="score", shape=(1, 10)))
    places = TensorQuality("score", 1, kind, closeness(error)), TensorQuality("logit", 0, "MUL", closeness(1e-4))
    quality = Quality(8, (), places[:1], places[1:])
    assert coarse_outputs(graph, quality) == ({"score": kind} if named else {})
    found = shortfalls(graph, quality, Thresholds())
    assert [("fixed" in f.sentence, f.below) for f in found] == ([(True, False)] if named else [])
    said = remedies(graph, quality, NOTHING, recipe.load("fast"))
    assert ("--output-type score=int16" in said) == named


@pytest.mark.parametrize(("spread", "said"), [(1e-3, True), (1.0, False)])
def test_outputs_that_are_the_same_for_all_samples_are_named(spread: float, said: bool) -> None:
    values = [noise(10, seed=0) + spread * noise(10, seed=k) for k in (1, 2)]
    sums = [compare(v, v + 1e-3, None, varying=True) for v in values]
    judged = TensorQuality("out", 0, "CONV_2D", sums[0].plus(sums[1]).result())
    found = [*unchanging(Quality(2, (), (judged,), (judged,)))]
    assert [("'out'" in sentence, "0.1%" in sentence) for sentence in found] == ([(True, True)] if said else [])


@pytest.mark.parametrize(
    ("shares", "used", "foreign", "built"),
    [
        ((0.1, 0.8, 0.1), 20.0, "no repair mends that: build from the float file", "--ranges minmax"),
        ((0.6, 0.0, 0.4), 200.0, "edgeqwt compensate takes that away", "(--compensation)"),
        ((0.1, 0.0, 0.9), 20.0, "makes channels alike first: edgeqwt build.", "--recipe balanced"),
        ((0.1, 0.0, 0.9), 200.0, "edgeqwt build --layer y=w8a16", "Give it 16-bit activations: --layer y=w8a16"),
    ],
)
def test_what_helps_an_op_follows_from_what_its_error_is(
    shares: tuple[float, float, float], used: float, foreign: str, built: str
) -> None:
    bias, clipping, rounding = shares
    op = OpError(3, "ADD", "y", "y", 9.0, 8.0, bias, clipping, rounding, moves=False, median_used=used)
    cut = replace(op, bias=0.0, clipping=1.0, rounding=0.0)  # elsewhere: what is cut off, no compensation restores
    repaired = what_to_do_with(op, OwnErrors(8, (op,), 0), repaired=True)
    assert foreign in what_to_do_with(op, OwnErrors(8, (op,), 0), repaired=False)
    assert "compensate" not in repaired + what_to_do_with(op, OwnErrors(8, (op, cut), 0), repaired=False)
    assert built in what_to_do(op, recipe.load("plain"))
    assert "--recipe balanced" not in what_to_do(op, recipe.load("balanced"))
    assert ("half of them use at most 20 of its 256 steps" in repaired) == (used == 20.0 and clipping < rounding)


@pytest.mark.parametrize(("kind", "widened"), [("CONV_2D", True), ("ADD", False), ("INPUT", False)])
def test_a_range_that_compensation_can_widen_is_said_to_be_one(kind: str, widened: bool) -> None:
    op = OpError(3, kind, "y", "y", 9.0, 8.0, 0.0, 1.0, 0.0, moves=False, median_used=None)
    said, repaired = (what_to_do_with(op, OwnErrors(8, (op,), 0), repaired=done) for done in (False, True))
    before = replace(op, kind="INPUT")
    assert "compensate`" not in what_to_do_with(op, OwnErrors(8, (op, before), 0), repaired=False)
    assert ("`edgeqwt compensate` widens it" in said) == widened
    assert "did not widen" in repaired
    assert "`edgeqwt build`" in said
    assert "`edgeqwt build`" in repaired


@pytest.mark.parametrize(("own_db", "db", "said"), [(24.0, 15.0, True), (24.0, 22.0, False), (15.0, 12.0, False)])
def test_errors_that_add_up_are_told_from_one_bad_op(own_db: float, db: float, said: bool) -> None:
    op = OpError(3, "ADD", "y", "y", own_db, db, 0.0, 0.0, 1.0, moves=False, median_used=None)
    found = OwnErrors(8, (op, replace(op, own_db=30.0)), 0)
    built = added_up(found, db, Thresholds(), foreign=False)
    assert ("No op is poor by itself" in built) == said
    other, repaired = (added_up(found, db, Thresholds(), foreign=True, repaired=done) for done in (False, True))
    assert ["edgeqwt compensate" in text for text in (other, repaired)] == [said, False]
    assert ["w8a16" in text for text in (other, repaired)] == [said, said]


@pytest.mark.parametrize(("kind", "finer"), [("ADD", "--layer y=w8a16"), ("INPUT", "--input int16, or float")])
def test_finer_steps_that_gain_nothing_are_not_advised(kind: str, finer: str) -> None:
    op = OpError(3, kind, "y", "y", 9.0, 8.0, 0.0, 0.0, 1.0, moves=False, median_used=None)
    pays, not_ = (what_to_do(op, recipe.load("fast"), (db, 13.5)) for db in (20.0, 13.9))
    assert pays.startswith("Give ")
    assert f"{finer}; with float weights the outputs then have 20.0 dB, 13.5 without." in pays
    assert not_.startswith(f"Finer steps here alone do not pay ({finer}): ")

"""Probabilities that never fire are named and stop no build; those that vary are judged as before."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.report.document import document
from edgeqwt.report.variants import show_variants
from edgeqwt.runtime.boundary import graph_feed, real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.comparator import Comparator
from edgeqwt.verify.quality import layer_quality
from edgeqwt.verify.resolution import back_to_logistic, probable, probable_step
from tests.chain import NONE, Chain, noise

DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def detector(bias: float, size: float = 1.0, kind: str = "LOGISTIC") -> Graph:
    """Three values of some size, and a flag whose logit is about `bias`, in one output of shape (1, 4)."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    values = chain.constant(size * noise(3, 8, seed=1)), chain.constant(noise(3, seed=2))
    boxes = chain.op("FULLY_CONNECTED", x, *values, shape=(1, 3), name="boxes", **DENSE)
    weights = chain.constant(0.3 * noise(1, 8, seed=3)), chain.constant(np.array([bias], np.float32))
    logit = chain.op("FULLY_CONNECTED", x, *weights, shape=(1, 1), name="logit", **DENSE)
    flag = chain.op(kind, logit, shape=(1, 1), name="flag")
    return chain.graph(chain.op("CONCATENATION", boxes, flag, shape=(1, 4), name="found", axis=1, **NONE))


def inputs(count: int = 64) -> Array:
    return np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)


def built(folder: Path, graph: Graph, precision: str = "w8a8") -> edgeqwt.BuildResult:
    flatbuffer.write(graph, folder / "net.tflite")
    return edgeqwt.build(folder / "net.tflite", calibration=inputs(), recipe="fast", precision=precision)


@pytest.mark.parametrize(("bias", "precision", "step"), [(-12.0, "w8a8", 1 / 256), (-16.0, "w8a16", 2.0**-15)])
def test_a_flag_that_never_fires_is_named_and_stops_nothing(
    tmp_path: Path, bias: float, precision: str, step: float
) -> None:
    result = built(tmp_path, detector(bias), precision=precision)
    (output,) = result.quality[result.choice.name].outputs
    assert [part.unresolved for part in output.parts] == [None, step]
    assert output.parts[1].closeness.judged_db < 10  # what stopped it
    assert output.parts[0].closeness.judged_db > 20
    assert not result.shortfalls
    [sentence] = [w for w in result.warnings if "is not judged" in w]
    assert sentence.startswith("'flag', 3 of axis 1 of output 'found', is the same in all 16 held-out samples")
    assert "let the model return what goes into its sigmoid" in sentence
    written = document(result)["outputs"][result.choice.name][0]
    assert [part["unresolved"] for part in written["parts"]] == [None, step]
    assert written["judged_at"]["unresolved"] is None
    shown = io.StringIO()
    show_variants(Console(file=shown, width=160), result.quality, {}, {}, {})
    assert "flag, below a step: not judged" in shown.getvalue()


def test_a_flag_that_fires_at_times_is_judged(tmp_path: Path) -> None:
    result = built(tmp_path, detector(-3.0))
    (output,) = result.quality[result.choice.name].outputs
    assert [part.unresolved for part in output.parts] == [None, None]
    assert not any("is not judged" in w for w in result.warnings)


def test_a_flag_that_is_lost_in_the_steps_of_others_stops_the_build_as_before(tmp_path: Path) -> None:
    with pytest.raises(edgeqwt.QualityError, match="part 'flag' of output 'found'") as caught:
        built(tmp_path, detector(-1.0, size=1000.0))
    assert "--split-outputs" in str(caught.value.hint)


def test_a_small_value_that_is_no_probability_is_judged() -> None:
    """tanh(x) of 1e-5 may be what a model is for; `LOGISTIC` and `SOFTMAX` make what is compared with a threshold."""
    graph = detector(0.0, kind="TANH")
    assert not probable(graph, graph.outputs[0]).any()


def test_an_error_of_more_than_a_step_is_judged(tmp_path: Path) -> None:
    """The flag's float value is the same for all samples, but not the integer file's."""
    graph, wrong = detector(-12.0), detector(-2.0)
    fires = built(tmp_path, wrong).graph
    (output,) = layer_quality(graph, {"": fires}, [{graph.inputs[0]: x[None]} for x in inputs(8)])[""].outputs
    assert [part.unresolved for part in output.parts] == [None, None]


def test_where_probabilities_are_is_found_behind_what_moves_them() -> None:
    chain = Chain()
    x = chain.input((1, 3))
    classes = chain.op("SOFTMAX", x, name="classes", shape=(1, 3), beta=1.0)
    y = chain.op("CONCATENATION", classes, x, shape=(1, 6), axis=1, **NONE)
    y = chain.op("RESHAPE", y, chain.constant([1, 2, 3]), shape=(1, 2, 3), newShape=[1, 2, 3])
    graph = chain.graph(chain.op("TRANSPOSE", y, chain.constant([0, 2, 1]), shape=(1, 3, 2)))
    assert np.array_equal(probable(graph, graph.outputs[0]), [[[True, False]] * 3])
    assert probable(graph, classes).all()
    assert not probable(graph, x).any()
    assert probable_step(graph, graph.outputs[0]) == 0  # float


def test_candidates_are_not_compared_by_what_no_step_tells(tmp_path: Path) -> None:
    graph = detector(-12.0)
    integer = built(tmp_path, graph).graph

    def samples() -> Iterator[Mapping[int, Array]]:
        yield from ({graph.inputs[0]: x[None]} for x in inputs())

    with Comparator(graph, samples()) as comparator:
        noise_of_all = comparator.noise(integer)
    runner, boxes = xnnpack(graph), np.zeros((2, 64, 3))
    other = xnnpack(integer)
    for k, sample in enumerate(samples()):
        boxes[0, k] = runner.run(sample)[graph.outputs[0]][0, :3]
        fed = graph_feed(integer, {integer.inputs[0]: sample[graph.inputs[0]]})
        q = integer.tensors[integer.outputs[0]].quantization
        assert q is not None
        boxes[1, k] = real(other.run(fed)[integer.outputs[0]], q)[0, :3]
    varying = np.square(boxes[0] - boxes[0].mean(axis=0)).sum() * 64 / 63
    assert noise_of_all == pytest.approx(np.square(boxes[1] - boxes[0]).sum() / varying, rel=1e-6)


def test_probabilities_that_are_picked_lead_back_to_their_curves() -> None:
    chain = Chain()
    x, y = chain.input((1, 4)), chain.input((1, 4))
    a, b = chain.op("LOGISTIC", x, name="a"), chain.op("LOGISTIC", y, name="b")
    high = chain.op("GREATER", a, chain.constant(0.5), dtype="bool")
    picked = chain.op("SELECT_V2", high, b, a, name="picked")
    sum_of = chain.op("ADD", a, b, name="sum", **NONE)
    mixed = chain.op("SELECT_V2", high, b, sum_of, name="mixed")
    graph = chain.graph(picked, mixed, a)
    ways = [back_to_logistic(graph, t) for t in graph.outputs]
    assert ways[0][0] == picked
    assert {*ways[0]} == {picked, a, b}
    assert ways[1:] == [(), (a,)]

"""What decides in outputs: parsed, found in graphs, and worth something to the decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt import Deciding
from edgeqwt.calibration.deciding import Within, around, parse
from edgeqwt.errors import EdgeqwtError, InputError, RecipeError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.recipe.recipe import load
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.runners import xnnpack
from tests.chain import NONE, Chain

DENSE = {"weightsFormat": "DEFAULT", "keepNumDims": False, **NONE}
FEATURES, ANCHORS = 12, 40
PAIRS = ((2.0, "a"), (3.0, "b"))


def detector() -> Graph:
    """Boxes, and scores of anchors that are near 0 but for a few: logits from about -90 up to 4."""
    rng, chain = np.random.default_rng(3), Chain()
    x = chain.input((1, FEATURES), "features")
    own = np.zeros((ANCHORS, FEATURES), np.float32)
    own[np.arange(ANCHORS), np.arange(ANCHORS) % FEATURES] = rng.uniform(6, 10, ANCHORS)
    against = -np.abs(rng.normal(0, 3, own.shape)) * (own == 0)
    weights = (own + against).astype(np.float32)
    boxes = chain.op("FULLY_CONNECTED", x, chain.constant(rng.normal(size=(8, FEATURES))),
                     chain.constant(np.zeros(8)), shape=(1, 8), name="boxes", **DENSE)  # fmt: skip
    logits = chain.op("FULLY_CONNECTED", x, chain.constant(weights), chain.constant(np.full(ANCHORS, -8.0)),
                      shape=(1, ANCHORS), name="logits", **DENSE)  # fmt: skip
    return chain.graph(boxes, chain.op("LOGISTIC", logits, name="scores"))


def features(count: int, seed: int) -> Array:
    """Mostly one feature that is there, among others that hold its rivals down."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 1.0, (count, FEATURES)) * rng.choice([0.15, 1.0], (count, 1))
    found[np.arange(count), rng.integers(0, FEATURES, count)] += rng.uniform(0.5, 1.2, count)
    return found.astype(np.float32)


def scores(graph: Graph, reference: Graph, data: Array) -> Array:
    runner, found = xnnpack(graph), []
    for row in data:
        fed = feed_as(graph, reference, {reference.inputs[0]: row[None]})
        found.append(to_real(graph, graph.outputs[1], runner.run(fed)[graph.outputs[1]]))
    return np.stack(found)


def test_it_helps_the_decisions(tmp_path: Path) -> None:
    """Fewer decisions at the threshold are wrong on fresh samples, and scores above it are nearer."""
    graph, fresh = detector(), features(400, 9)
    flatbuffer.write(graph, tmp_path / "net.tflite")
    np.savez(tmp_path / "samples.npz", features=features(48, 1))
    wanted, wrong, error = scores(graph, graph, fresh), {}, {}
    above = wanted > 0.5
    assert 0.001 < above.mean() < 0.05  # nearly all are near 0
    for name, outputs in (("alike", None), ("deciding", {"scores": Deciding(above=0.5)})):
        built = edgeqwt.build(tmp_path / "net.tflite", calibration=tmp_path / "samples.npz", recipe="fast",
                              outputs=outputs, accept=True)  # fmt: skip
        found = scores(built.graph, graph, fresh)
        wrong[name] = int((above != (found > 0.5)).sum())
        error[name] = float(np.abs(found - wanted)[above].mean())
    assert wrong["deciding"] < wrong["alike"]
    assert error["deciding"] < 0.8 * error["alike"]


def test_ranges_follow_through_moves_and_curves() -> None:
    chain = Chain()
    x = chain.input((1, 6), "x")
    a, b = (
        chain.op("MUL", x, chain.constant([k]), shape=(1, 6), name=name, **NONE) for k, name in ((2.0, "a"), (3.0, "b"))
    )
    scores = chain.op("LOGISTIC", b, shape=(1, 6), name="scores")
    joined = chain.op("CONCATENATION", a, scores, shape=(1, 12), axis=1, **NONE)
    graph = chain.graph(chain.op("RESHAPE", joined, shape=(1, 12), name="y", newShape=[1, 12]), b)
    tensors = {t.name: i for i, t in enumerate(graph.tensors)}
    assert around(graph, {0: Within(0.5)}).keys() == {tensors["y"], joined, a, scores}  # b is an output itself
    columns = Within(0.5, axis=1, span=(6, 12))
    assert around(graph, {0: columns}) == {tensors["y"]: columns}  # a reshape moves columns
    alone = chain.graph(joined)
    assert around(alone, {0: columns}) == {joined: columns, scores: Within(0.5), b: Within(0.0)}
    assert around(alone, {0: Within(0.5, axis=1, span=(5, 12))}).keys() == {joined, scores, b}


def test_values_beyond_count_as_the_end_and_leave_it_room() -> None:
    values = np.array([[-50.0, -40, -30, -20, 1, 2, 4]], np.float32)
    within = Within(low=0.0)
    assert within.of(values).tolist() == [[0, 0, 0, 0, 1, 2, 4]]
    # Three values within: as many beyond, a sixteenth of 4 below the end.
    assert within.needed(values, {}).tolist() == [1, 2, 4, -0.25, -0.25, -0.25]
    assert Within(low=5.0).needed(values, {}).size == 0
    assert Within(axis=1, span=(4, 6)).of(values).tolist() == [[1, 2]]
    assert Within(high=0.0).needed(values, {}).max() == np.float32(50 / 16)


def test_columns_are_those_of_the_source() -> None:
    found = Deciding(columns="4:84", axis=1).within((1, 84, 300), (0, 2, 1))
    assert (found.axis, found.span) == (2, (4, 84))
    with pytest.raises(InputError, match="no columns 4:84 along axis -1"):
        Deciding(columns="4:84").within((1, 84, 30), None)


@pytest.mark.parametrize(
    "values", [{}, {"above": 1.0, "below": 0.5}, {"columns": "8:4"}, {"columns": "four"}, {"columns": "4:4"}]
)
def test_what_makes_no_sense_is_refused(values: dict[str, float | str]) -> None:
    with pytest.raises(RecipeError):
        Deciding(**values)  # type: ignore[arg-type]


def test_one_wording_everywhere(tmp_path: Path) -> None:
    wanted = {"scores": Deciding(above=0.5, columns="4:84", axis=1), "boxes": Deciding(below=640.0)}
    assert parse(["above=0.5 columns=4:84 axis=1 output=scores", "below=640 output=boxes"]) == wanted
    path = tmp_path / "own.toml"
    path.write_text('[outputs.scores]\nabove = 0.5\ncolumns = "4:84"\naxis = 1\n[outputs.boxes]\nbelow = 640\n')
    assert load(str(path)).outputs == wanted
    path.write_text("[outputs]\nabove = 0.5\n")
    assert load(str(path)).outputs == {"": Deciding(above=0.5)} == parse(["above=0.5"])
    path.write_text("[outputs.scores]\nthreshold = 0.5\n")
    with pytest.raises(RecipeError, match="unknown key 'threshold'"):
        load(str(path))
    for text in ("threshold=0.5", "above=half", "above"):
        with pytest.raises(InputError):
            parse([text])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"faces": Deciding(above=0.5)}, "no output 'faces'"),
        ({"scores": Deciding(columns="40:80")}, "no columns 40:80"),
        ({"scores": Deciding(above=2.0)}, "output 'scores' is nowhere above 2 in 6 samples"),
    ],
)
def test_outputs_that_have_nothing_of_it(tmp_path: Path, outputs: dict[str, Deciding], message: str) -> None:
    flatbuffer.write(detector(), tmp_path / "net.tflite")
    np.savez(tmp_path / "samples.npz", features=features(8, 1))
    with pytest.raises(EdgeqwtError) as caught:
        edgeqwt.build(tmp_path / "net.tflite", calibration=tmp_path / "samples.npz", recipe="plain", outputs=outputs)
    assert message in caught.value.message


@pytest.mark.parametrize("values", [{"above": float("nan")}, {"above": 0.5, "below": float("nan")}])
def test_what_is_no_number_decides_nothing(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"not a number \(nan\)") as error:
        Deciding(**values)
    assert "above = 0.5" in error.value.hint

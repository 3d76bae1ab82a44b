"""What is below the quality thresholds, on float graphs and on real integer models that are degraded on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import QualityError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.verify.parts import Part
from edgeqwt.verify.quality import layer_quality
from edgeqwt.verify.thresholds import Thresholds, require, shortfalls
from tests import small
from tests.chain import Chain, samples


def spoiled(graph: Graph, noise: float) -> Graph:
    """The graph with noise on the weights of the last dense layer."""
    op = next(op for op in graph.ops if op.kind == "FULLY_CONNECTED")
    t = op.inputs[1]
    weights = graph.tensors[t].data
    assert weights is not None
    changed = weights + np.random.default_rng(0).normal(scale=noise, size=weights.shape).astype(np.float32)
    tensors = [replace(x, data=changed) if i == t else x for i, x in enumerate(graph.tensors)]
    return replace(graph, tensors=tuple(tensors))


def inputs(graph: Graph, count: int = 40) -> Iterator[Mapping[int, Array]]:
    yield from samples(graph, count)


def test_what_is_good_has_no_shortfalls() -> None:
    graph = small.graph()
    quality = layer_quality(graph, {"": spoiled(graph, 1e-4)}, inputs(graph))[""]
    assert shortfalls(graph, quality, Thresholds()) == ()


@pytest.mark.parametrize(("noise", "below"), [(0.03, False), (3.0, True)])
def test_what_is_poor_is_reported_and_what_is_worse_stops(noise: float, below: bool) -> None:
    graph = small.graph()
    quality = layer_quality(graph, {"": spoiled(graph, noise)}, inputs(graph))[""]
    found = shortfalls(graph, quality, Thresholds(min_agreement=0.0))
    (only,) = found
    assert (only.output, only.below) == ("classes", below)
    assert "judged at 'logits'" in only.sentence
    if not below:
        require(found, "")
        return
    with pytest.raises(QualityError, match="below 10 dB") as error:
        require(found, "do this")
    assert error.value.exit_code == 8
    assert error.value.hint == "do this"


@pytest.mark.parametrize(("agreeing", "rows", "below"), [(30, 40, True), (7, 8, False), (36, 40, None), (0, 3, True)])
def test_few_samples_do_not_condemn_classes(agreeing: int, rows: int, below: bool | None) -> None:
    """7 of 8 are fewer than 0.9, and a file with 0.9 shows no more in 57 % of all cases; 30 of 40 in 0.4 %."""
    graph = small.graph()
    quality = layer_quality(graph, {"": graph}, inputs(graph, 4))[""]
    (judged,) = quality.outputs
    closeness = replace(judged.closeness, clear_rows=rows, clear_top1=agreeing / rows)
    found = shortfalls(graph, replace(quality, outputs=(replace(judged, closeness=closeness),)), Thresholds())
    assert [f.below for f in found] == ([] if below is None else [below])
    assert all(f"the float model's largest element in {agreeing} of {rows} rows" in f.sentence for f in found)
    assert all(f.chance == ("may be chance" in f.sentence) == (not f.below) for f in found)  # no remedy is tried then


@pytest.mark.parametrize(("reduced", "found"), [(False, 1), (True, 0)])
def test_largest_probabilities_are_no_classes(reduced: bool, found: int) -> None:
    chain = Chain()
    out = chain.op("SOFTMAX", chain.input((1, 6, 4), "logits"), beta=1.0)
    if reduced:
        out = chain.op("REDUCE_MAX", out, chain.constant(np.array([2], np.int32)), shape=(1, 6), keepDims=False)
    graph = chain.graph(out)
    quality = layer_quality(graph, {"": graph}, inputs(graph))[""]
    closeness = replace(quality.outputs[0].closeness, clear_top1=0.5, clear_rows=200)
    quality = replace(quality, outputs=(replace(quality.outputs[0], closeness=closeness),))
    assert len(shortfalls(graph, quality, Thresholds())) == found


def test_each_part_has_to_reach_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large part that is right hides a small one that is not."""
    graph = small.graph()
    parts = (Part("boxes", 1, 0, 3), Part("score", 1, 3, 4))
    monkeypatch.setattr("edgeqwt.verify.quality.parts_of", lambda graph, tensor: parts)
    logits = replace(graph, ops=graph.ops[:-1], outputs=(graph.ops[-2].outputs[0],))
    t = logits.ops[-1].inputs[1]
    weights = logits.tensors[t].data
    assert weights is not None
    tensors = [
        replace(x, data=weights * np.float32([[40], [40], [40], [1]])) if i == t else x
        for i, x in enumerate(logits.tensors)
    ]
    logits = replace(logits, tensors=tuple(tensors))
    wrong = [
        replace(x, data=x.data * np.float32([[1], [1], [1], [-1]])) if i == t and x.data is not None else x
        for i, x in enumerate(logits.tensors)
    ]
    quality = layer_quality(logits, {"": replace(logits, tensors=tuple(wrong))}, inputs(logits))[""]
    assert quality.outputs[0].closeness.varying_db is not None
    assert quality.outputs[0].closeness.varying_db > 10
    (found,) = (f for f in shortfalls(logits, quality, Thresholds(min_agreement=0.0)) if f.below)
    assert found.part == "score"
    assert "part 'score' of output 'logits'" in found.sentence


def test_a_build_below_the_bar_writes_nothing_unless_accepted(tmp_path: Path) -> None:
    flatbuffer.write(small.graph(), tmp_path / "float.tflite")
    images = {"image": small.images(48)}
    options = {"calibration": images, "recipe": "fast", "output": tmp_path / "out", "min_quality": 200.0}
    with pytest.raises(QualityError, match="output 'classes'") as error:
        edgeqwt.build(tmp_path / "float.tflite", **options)
    assert "--accept" in error.value.hint
    assert "errs most by itself" in error.value.hint
    assert "--precision w8a16" in error.value.hint
    assert not (tmp_path / "out").exists()
    result = edgeqwt.build(tmp_path / "float.tflite", accept=True, **options)
    assert [found.below for found in result.shortfalls] == [True]
    assert (tmp_path / "out" / "model.tflite").exists()
